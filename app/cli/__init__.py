"""The command line, `opcod`."""

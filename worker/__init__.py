"""The glue between the queue and the training library."""

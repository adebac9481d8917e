"""The programs of a studio: the server, its socket, and everything else that `opcod up` keeps running."""

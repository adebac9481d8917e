"""A run from the queue to its end: every change of its state, who is next, who works, and what is mended or removed."""

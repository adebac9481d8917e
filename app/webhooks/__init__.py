"""Tells other programs what happened: an outbox in SQL, filled with the fact itself, emptied over HTTP with signatures and retries."""

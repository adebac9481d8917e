"""Secrets: sealed where they must be kept, struck out wherever people read."""

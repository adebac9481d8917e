"""Sampling text from a student."""

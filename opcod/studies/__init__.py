"""Experiments over several runs, and the tables that they make."""

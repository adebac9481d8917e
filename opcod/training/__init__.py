"""Rounds, phases and steps (paper Algorithm 1), and the checkpoints between them."""

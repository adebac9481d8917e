"""What to run: single experiments and sweeps, checked before anything is stored."""

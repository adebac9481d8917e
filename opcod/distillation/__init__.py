"""The self-teacher and the losses (paper Eq. 1)."""

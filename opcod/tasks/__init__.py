"""Questions, their verifiers, and the built-in demo world."""

"""Where the time and memory of a step go, measured on the user's own configuration."""

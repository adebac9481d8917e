"""The pages: HTML routes and what they need."""

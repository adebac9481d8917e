"""What runs recorded: written once, in one place, and read in the shapes that REST, pages, exports and reports need."""

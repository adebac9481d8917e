"""A few minutes' look at what a run would find, before hours are spent: nothing is trained."""

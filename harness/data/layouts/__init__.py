"""The layouts that people's preference data have: which columns each needs, and how its rows become raw pairs."""

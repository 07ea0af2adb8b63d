"""Running the unfinished cells of a grid."""

"""Model families, nano models made on the spot, and loading of real checkpoints."""

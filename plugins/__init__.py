"""The losses shipped with the harness, one file each, through the public API only."""

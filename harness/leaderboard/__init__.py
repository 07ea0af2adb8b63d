"""Records -> Table -> pure renderers. Needs no torch."""

"""A whole run: checked, planned, computed model by model in worker processes, and reported while it works."""

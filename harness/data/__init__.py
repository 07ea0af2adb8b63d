"""Preference data: sources, the embedded simulator, tokens, batches."""

"""Hidden states to token log-probs: the hot path."""

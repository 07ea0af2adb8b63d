"""Scorers: summed log-probs of given responses, one protocol."""

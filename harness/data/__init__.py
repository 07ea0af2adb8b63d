"""Preference data: from people's files and the embedded simulator to token ids and batches."""

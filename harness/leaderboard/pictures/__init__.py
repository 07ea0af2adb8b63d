"""The pictures of a leaderboard. Imports no torch."""

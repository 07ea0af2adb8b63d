"""What a leaderboard says: records that may stand together, their evidence, estimates and words."""

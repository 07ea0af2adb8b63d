"""leaderboard.html."""

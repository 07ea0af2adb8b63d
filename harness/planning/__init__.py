"""Everything before anything computes: run file, grid, budget, trials, estimates."""

"""Metrics, intervals, rank correlations, calibration. Imports no torch."""

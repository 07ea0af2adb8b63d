"""Metrics, intervals, rank correlations, calibration, numbers of judges. Imports no torch."""

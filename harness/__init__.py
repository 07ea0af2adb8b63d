"""A benchmark harness in which the preference loss is the only thing that varies."""

__version__ = "0.1.0"

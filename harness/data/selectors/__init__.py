"""The selectors that come with the harness, behind the protocol that plugins have (`api/selection.py`)."""

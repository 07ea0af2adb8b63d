"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from harness.torchvision_guard import hide_broken_torchvision

hide_broken_torchvision()  # before any test imports transformers
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real preference data named by HARNESS_TEST_DATA; without it the test skips, in CI it fails."""
    folder = os.environ.get("HARNESS_TEST_DATA")
    if folder and Path(folder).is_dir():
        return Path(folder)
    reason = f"HARNESS_TEST_DATA is {folder!r}, expected the folder that holds alpacaeval-graded, second-real and dirty"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)

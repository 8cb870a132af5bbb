"""Fixtures of the stage tests."""

import jax
import pytest


@pytest.fixture
def float64():
    """Float64 throughout the test, so that only rounding at 1e-16 separates equal computations."""
    with jax.enable_x64(True):
        yield

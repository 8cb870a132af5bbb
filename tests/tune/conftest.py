"""Fixtures of these tests."""

from tests.stages.conftest import float64  # noqa: F401

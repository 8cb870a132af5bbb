"""What tests of several files replay with."""

import pytest

from semivit_jax.models import posemb
from tests.parity import recorded


@pytest.fixture
def recorded_tables(monkeypatch):
    """Position tables of MAE rounded to float32, as the recorded float64 runs held them (6e-8 in the latents)."""
    data = recorded.load("mae_tiny")
    tables = {48: data["pos_embed"][0], 32: data["decoder_pos_embed"][0]}
    monkeypatch.setattr(posemb, "sincos", lambda width, grid_size: tables[width])

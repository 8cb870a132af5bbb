"""`semivit models`: one row per model, with what is true of it."""

import pytest

from semivit_jax.cli import models
from semivit_jax.models import families

LOOKED_AT = ("vit_b16", "dinov2_g14_reg4", "convnext_tiny")


def test_every_model_but_those_of_tests_has_a_row(capsys, monkeypatch):
    """Needs are worked out for those alone that are looked at, since each takes half a second."""
    needs = models._needs
    monkeypatch.setattr(models, "_needs", lambda spec, *rest: needs(spec, *rest) if spec.variant in LOOKED_AT else ())
    table = {row[0]: row[1:] for row in models.rows()}
    assert table.keys() == {variant for variant in families.variants() if "_test" not in variant}
    parameters, patch, tokens, *memory, public = table["vit_b16"]
    assert (parameters, patch, tokens) == ("85.8 M", "16", "197")
    everything, last_2, lora, head = map(float, memory)
    assert head < last_2 < lora < everything
    assert "timm/vit_base_patch16_224.mae (CC BY-NC 4.0: no commercial use)" in public.splitlines()
    assert table["dinov2_g14_reg4"][2] == "261"
    assert "facebook/dinov2-with-registers-giant" in table["dinov2_g14_reg4"][-1]
    assert table["convnext_tiny"][1:7] == ("-",) * 6
    assert models.models(["--nothing"]) == 2


@pytest.mark.slow
def test_the_needs_of_every_model_are_known():
    table = list(models.rows())
    assert {len(row) for row in table} == {9}
    assert not [row for row in table if row[2] == "-" and not row[0].startswith("convnext")]

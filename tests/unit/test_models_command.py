"""`semivit models`: one row per model, with what is true of it."""

from semivit_jax.cli.models import models, rows
from semivit_jax.models import families


def test_every_model_but_those_of_tests_has_a_row(capsys):
    table = {row[0]: row[1:] for row in rows()}
    assert table.keys() == {variant for variant in families.variants() if "_test" not in variant}
    parameters, patch, tokens, *memory, public = table["vit_b16"]
    assert (parameters, patch, tokens) == ("85.8 M", "16", "197")
    everything, last_2, lora, head = map(float, memory)
    assert head < last_2 < lora < everything
    assert "timm/vit_base_patch16_224.mae (CC BY-NC 4.0: no commercial use)" in public.splitlines()
    assert table["dinov2_g14_reg4"][2] == "261"
    assert "facebook/dinov2-with-registers-giant" in table["dinov2_g14_reg4"][-1]
    assert table["convnext_tiny"][1:7] == ("-",) * 6
    assert models(["--nothing"]) == 2

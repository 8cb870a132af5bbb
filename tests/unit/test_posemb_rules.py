"""By which library's rule a ViT's position embedding is fitted to images of another size."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from semivit_jax.models import families, posemb
from semivit_jax.models.vit import VIT_SIZES
from semivit_jax.weights import layout, vit_names
from semivit_jax.weights.account import Status
from semivit_jax.weights.importing import import_weights
from tests.models import spec_of
from tests.unit.test_weight_import import hugging_face_config

TIMM, HUGGING_FACE = vit_names.TIMM, vit_names.HUGGING_FACE_DINOV2
MASK = {"mask_token": np.zeros((1, 48), np.float32)}  # what a file of DINOv2's authors has and one of timm has not
CASES = {
    # name: (table, LayerScale, registers, what lies beside, the rule, whose)
    "MAE": (TIMM, False, 0, {}, "plain", "MAE's fine-tuning"),
    "DINOv2 of its authors": (TIMM, True, 0, MASK, "offset", "DINOv2's own code"),
    "with registers": (TIMM, True, 4, MASK, "antialiased", "DINOv2's own code"),
    "DINOv2 of timm": (TIMM, True, 0, {}, "antialiased", "timm"),
    "timm, with registers": (TIMM, True, 4, {}, "antialiased", "timm"),
    "DINOv2 of transformers": (HUGGING_FACE, True, 0, {}, "plain", "transformers"),
    "transformers, with registers": (HUGGING_FACE, True, 4, {}, "antialiased", "transformers"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_table_is_resized_by_the_rule_of_its_library(tmp_path, monkeypatch, case):
    table, layer_scale, registers, beside, rule, who = CASES[case]
    size = dataclasses.replace(VIT_SIZES["vit_test2"], layer_scale=layer_scale, registers=registers)
    monkeypatch.setitem(VIT_SIZES, "rule_test", size)
    generator, spec = np.random.default_rng(0), spec_of("rule_test", image_size=32, pool="cls", num_classes=0)
    ours = {path: generator.standard_normal(shape).astype(np.float32) for path, shape in families.shapes(spec).items()}
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in layout.state_dict(ours, table).items()}
    safetensors.numpy.save_file(tensors | beside, tmp_path / "model.safetensors")
    if table is HUGGING_FACE:
        kind = "dinov2_with_registers" if registers else "dinov2"
        (tmp_path / "config.json").write_text(json.dumps(hugging_face_config(model_type=kind)))
    result = import_weights(str(tmp_path), variant="rule_test", pool=None, image_size=48, decoder=False)
    (row,) = [row for row in result.report.params if row.status is Status.RESIZED]
    assert row.note == f"resized as {who} does ({rule})"
    expected = {name: posemb.resize(jnp.asarray(ours["posemb"]), 6, name) for name in posemb.RESIZES}
    np.testing.assert_array_equal(result.weights.params["posemb"], expected.pop(rule))
    for other in expected.values():
        assert np.abs(result.weights.params["posemb"] - other).max() > 1e-2


def test_the_offset_is_a_tenth_of_a_patch():
    """A cubic with a = -0.75 at (i + 0.5) / ((new + 0.1) / old) - 0.5; columns that differ, inside of the table."""
    old, new, a = 16, 24, -0.75
    columns = np.random.default_rng(0).standard_normal(old)
    table = np.concatenate([[0.0], np.tile(columns, old)]).astype(np.float32)[None, :, None]
    found = np.asarray(posemb.resize(jnp.asarray(table), new, "offset"))[0, 1:, 0].reshape(new, new)
    away = np.abs((np.arange(new)[:, None] + 0.5) * old / (new + 0.1) - 0.5 - np.arange(old))
    near, far = (a + 2) * away**3 - (a + 3) * away**2 + 1, a * (away**3 - 5 * away**2 + 8 * away - 4)
    weights = np.where(away <= 1, near, np.where(away < 2, far, 0.0))
    inside = slice(4, new - 4)
    np.testing.assert_allclose(found[inside, inside], np.tile(weights @ columns, (new, 1))[inside, inside], atol=1e-4)

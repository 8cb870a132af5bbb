"""Which model a source is: told by its tensors and its config, asked for where they do not tell."""

import dataclasses
import json

import numpy as np
import pytest
import safetensors.numpy

from semivit_jax.cli.import_weights import import_weights as command
from semivit_jax.models.vit import VIT_SIZES
from semivit_jax.weights import convnext, vit_names
from semivit_jax.weights.folder import load_spec
from semivit_jax.weights.importing import import_weights
from tests.state_dicts import PIXELS, SIZE, arrays, google, state_dict
from tests.unit.test_weight_import import convnext_state_dict, hugging_face_config


@pytest.fixture
def found(tmp_path):
    """Stores tensors (and a config beside them); returns the model that they become without a word on which it is."""

    def save_and_import(tensors, config=None, *, name="model.safetensors", **options):
        if name.endswith(".npz"):
            np.savez(tmp_path / name, **tensors)
        else:
            safetensors.numpy.save_file(tensors, tmp_path / name)
        if config is not None:
            (tmp_path / "config.json").write_text(json.dumps(config))
        options = {"variant": None, "pool": None, "image_size": PIXELS, "decoder": False} | options
        return import_weights(str(tmp_path / name), **options).weights.spec

    return save_and_import


def test_every_layout_tells_its_model(found):
    assert found(state_dict(vit_names.TIMM)).variant == "vit_test"
    assert found(google(arrays(), names="augreg"), name="x.npz").variant == "vit_test"
    assert found(convnext_state_dict(convnext.TIMM)[0]).variant == "convnext_test"
    assert found(state_dict(vit_names.HUGGING_FACE), hugging_face_config()).variant == "vit_test"


@pytest.mark.parametrize(("key", "value"), [("num_hidden_layers", 2), ("hidden_size", 64), ("patch_size", 16)])
def test_a_config_of_another_model_is_refused(found, key, value):
    """transformers would leave out the third block, or refuse the shapes; never compute what the tensors do."""
    with pytest.raises(ValueError, match=rf"^config\.json says {key} {value}, and the tensors have \d+: one of"):
        found(state_dict(vit_names.HUGGING_FACE), hugging_face_config(**{key: value}))


def test_a_patch_may_be_told_by_both_of_its_sides(found):
    assert found(state_dict(vit_names.HUGGING_FACE), hugging_face_config(patch_size=[8, 8])).variant == "vit_test"


@pytest.fixture
def twin(monkeypatch):
    """A second model whose tensors have the same shapes: more heads."""
    monkeypatch.setitem(VIT_SIZES, "vit_twin", dataclasses.replace(SIZE, num_heads=6))


def test_the_heads_of_a_config_tell_twins_apart(found, twin):
    config = hugging_face_config(num_attention_heads=6)
    assert found(state_dict(vit_names.HUGGING_FACE), config).variant == "vit_twin"
    timm = {"pretrained_cfg": {}, "model_args": {"num_heads": 6}}
    assert found(state_dict(vit_names.TIMM), timm).variant == "vit_twin"


def test_twins_are_asked_for_in_one_line(tmp_path, twin, capsys):
    source, out = tmp_path / "weights.safetensors", tmp_path / "in"
    safetensors.numpy.save_file(state_dict(vit_names.TIMM), source)
    assert command([str(source), "--out", str(out)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "vit_test (num_heads 3), vit_twin (num_heads 6)" in line
    assert "--model says which" in line
    assert command([str(source), "--out", str(out), "--model", "vit_twin"]) == 0
    assert load_spec(out).size.num_heads == 6


def test_sizes_that_no_model_has_are_spelled_out(found):
    tensors = state_dict(vit_names.TIMM)
    tensors["patch_embed.proj.weight"] = np.zeros((SIZE.width, 3, 4, 4), np.float32)
    with pytest.raises(ValueError, match=r"patch_size 4, width 48, depth 3, mlp_dim 192; --model vit_test resizes its"):
        found(tensors)
    assert found(tensors, variant="vit_test").variant == "vit_test"
    del tensors["blocks.2.norm1.weight"]
    with pytest.raises(ValueError, match=r"lacks 1 tensor the model needs: blocks\.2\.norm1\.weight"):
        found(tensors, variant="vit_test")


def test_what_tells_nothing_is_named(found):
    tensors = state_dict(vit_names.TIMM)
    del tensors["blocks.1.mlp.fc1.bias"]
    with pytest.raises(ValueError, match=r"lacks blocks\.\*\.mlp\.fc1\.bias, without which nobody can tell"):
        found(tensors)


def test_a_model_that_contradicts_the_source_is_refused(found):
    with pytest.raises(ValueError, match=r"the source has \(3, 48\), the model \(2, 48\)"):
        found(state_dict(vit_names.TIMM), variant="vit_test2")

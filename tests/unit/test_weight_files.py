"""Where the files of a source are found: folders, split weights, the hub."""

import json
import pathlib

import numpy as np
import pytest
import safetensors.numpy

from semivit_jax.weights.importing import import_weights
from semivit_jax.weights.locate import locate
from semivit_jax.weights.preprocessing import Preprocessing, from_hugging_face, from_timm
from semivit_jax.weights.tensors import open_weights


def write(path: pathlib.Path, **tensors) -> None:
    safetensors.numpy.save_file({name: np.float32([value]) for name, value in tensors.items()}, path)


def test_weights_split_over_files_are_one_state_dict(tmp_path):
    write(tmp_path / "model-00001-of-00002.safetensors", a=1)
    write(tmp_path / "model-00002-of-00002.safetensors", b=2)
    weight_map = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    tensors = open_weights(locate(str(tmp_path)).weights).params
    assert {name: tensors.read(name)[0] for name in tensors.shapes} == {"a": 1, "b": 2}


def test_configs_of_other_files_are_not_read(tmp_path):
    write(tmp_path / "mine.safetensors", a=1)
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    assert locate(str(tmp_path / "mine.safetensors")).configs == {}


def test_a_folder_without_weights_says_what_it_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no model\.safetensors, model\.safetensors\.index\.json"):
        locate(str(tmp_path))


def test_another_suffix_is_refused(tmp_path):
    (tmp_path / "weights.npz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"weights\.npz: expected \.safetensors files or one \.pth"):
        open_weights(locate(str(tmp_path / "weights.npz")).weights)


def test_a_damaged_file_is_named(tmp_path):
    write(tmp_path / "x.safetensors", a=1)
    (tmp_path / "x.safetensors").write_bytes((tmp_path / "x.safetensors").read_bytes()[:20])
    with pytest.raises(ValueError, match=r"x\.safetensors: not a safetensors file, or a damaged one"):
        open_weights(locate(str(tmp_path / "x.safetensors")).weights)


@pytest.mark.parametrize("source", ["hf://name", "hf://org/name/more", "hf:///name"])
def test_a_hub_name_is_org_and_name(source):
    with pytest.raises(ValueError, match="hf://org/name"):
        locate(source)


def test_a_timm_config_is_read():
    config = {
        "input_size": [3, 384, 384],
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.4, 0.5, 0.6],
    }
    assert from_timm(config) == Preprocessing(384, 1.0, "bicubic", (0.5, 0.5, 0.5), (0.4, 0.5, 0.6))


@pytest.mark.parametrize(
    ("config", "size", "fraction"),
    [
        ({"size": 224}, 224, 1.0),
        ({"size": {"height": 96, "width": 96}}, 96, 1.0),
        (
            {"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}},
            224,
            0.875,
        ),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, 224, 0.875),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, 384, 1.0),
    ],
)
def test_a_hugging_face_preprocessor_is_read(config, size, fraction):
    rest = {"resample": 3, "image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1]}
    view = from_hugging_face(config | rest)
    assert (view.image_size, view.crop_fraction, view.interpolation) == (size, fraction, "bicubic")
    assert view.mean == (0.1, 0.2, 0.3)


def test_a_hugging_face_preprocessor_need_not_normalise():
    config = {"size": 224, "resample": 2, "do_normalize": False, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    view = from_hugging_face(config)
    assert (view.mean, view.std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match=r"rescale_factor 0\.5"):
        from_hugging_face(config | {"rescale_factor": 0.5})


@pytest.mark.parametrize(
    ("text", "message"),
    [('{"model_type": "vit"}', r"config\.json: lacks the key 'hidden_act'"), ("{", r"config\.json: is no JSON")],
)
def test_a_config_that_cannot_be_used_is_named(tmp_path, text, message):
    write(tmp_path / "model.safetensors", a=1)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        import_weights(str(tmp_path), variant="vit_test", pool=None, image_size=None, decoder=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 0}, "image_size 0"),
        ({"crop_fraction": 1.5}, r"crop_fraction 1\.5"),
        ({"interpolation": "lanczos"}, "'lanczos'"),
        ({"std": (0.0, 1.0, 1.0)}, "std above 0"),
    ],
)
def test_preprocessing_checks_itself(change, message):
    legal = {"image_size": 8, "crop_fraction": 1.0, "interpolation": "bicubic", "mean": (0.0,) * 3, "std": (1.0,) * 3}
    with pytest.raises(ValueError, match=message):
        Preprocessing(**(legal | change))

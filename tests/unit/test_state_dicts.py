"""Files of weights: every number is sound, or the tensor is named; what is no file of weights is told in one line."""

import numpy as np
import pytest
import safetensors.numpy

from semivit_jax.weights import vit_names
from semivit_jax.weights.importing import import_weights
from semivit_jax.weights.state_dicts import open_weights
from tests.state_dicts import state_dict


def imported(path):
    return import_weights(str(path), variant="vit_test", pool=None, image_size=None, decoder=False)


def saved(folder, tensors, suffix=".safetensors"):
    path = folder / f"weights{suffix}"
    (np.savez(path, **tensors) if suffix == ".npz" else safetensors.numpy.save_file(tensors, path))
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_names_its_tensor(tmp_path, suffix, number):
    tensors = state_dict(vit_names.TIMM)
    tensors["blocks.1.attn.qkv.weight"][3, 4] = number
    with pytest.raises(ValueError, match=rf"blocks\.1\.attn\.qkv\.weight: holds {number}, so the source is damaged"):
        imported(saved(tmp_path, tensors, suffix))


def test_what_float32_cannot_hold_is_named(tmp_path):
    tensors = {name: tensor.astype(np.float64) for name, tensor in state_dict(vit_names.TIMM).items()}
    np.testing.assert_array_equal(imported(saved(tmp_path, tensors)).weights.params["head"]["bias"],
                                  tensors["head.bias"].astype(np.float32))  # fmt: skip
    tensors["head.bias"][0] = 1e300
    with pytest.raises(ValueError, match=r"head\.bias: holds inf"):
        imported(saved(tmp_path, tensors))


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_quantised_numbers_are_refused_by_name(tmp_path, suffix):
    tensors = state_dict(vit_names.TIMM)
    tensors["blocks.0.mlp.fc1.weight"] = tensors["blocks.0.mlp.fc1.weight"].astype(np.int8)
    with pytest.raises(ValueError, match=r"blocks\.0\.mlp\.fc1\.weight holds (I8|int8): only float32"):
        imported(saved(tmp_path, tensors, suffix))


def test_a_counter_is_no_weight(tmp_path):
    report = imported(saved(tmp_path, state_dict(vit_names.TIMM) | {"n_averaged": np.int64(7)[None]})).report
    (row,) = [row for row in report.params if row.status == "left over"]
    assert (row.names, row.note) == (("n_averaged",), "counter of the training, no weight")


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth", "weights.npz", "weights.ckpt"])
def test_a_pointer_of_git_lfs_is_told(tmp_path, name):
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(ValueError, match=r"pointer of git-lfs to them: fetch them with `git lfs pull`"):
        open_weights([tmp_path / name])


@pytest.mark.parametrize("where", range(80, 140, 10))
def test_a_damaged_compressed_npz_is_one_line(tmp_path, where):
    """In the first bytes of its data, where the shape of the first array stands."""
    path = tmp_path / "model.npz"
    np.savez_compressed(path, **state_dict(vit_names.TIMM))
    content = bytearray(path.read_bytes())
    content[where] ^= 255
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged") as raised:
        imported(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "flipped", "foreign"])
def test_a_damaged_npz_is_one_line(tmp_path, damage):
    path = saved(tmp_path, state_dict(vit_names.TIMM), ".npz")
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[5000] ^= 255
    contents = {"empty": b"", "text": b"hello", "cut": content[:-100], "flipped": content}
    if damage == "foreign":
        np.savez(path, a=np.array([object()]))
    else:
        path.write_bytes(contents[damage])
    with pytest.raises(ValueError, match=r"damaged|not a layout known here") as raised:
        imported(path)
    assert "\n" not in str(raised.value)

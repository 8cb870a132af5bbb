"""Google's ViTs come in from .npz, array by array; those that compute otherwise are refused by name."""

import numpy as np
import pytest

from semivit_jax.weights import layout
from semivit_jax.weights.account import Status
from semivit_jax.weights.importing import import_weights
from tests.state_dicts import PIXELS, arrays, google


@pytest.fixture
def run(tmp_path):
    def save_and_import(tensors, *, variant="vit_test", pool=None):
        np.savez(tmp_path / "weights.npz", **tensors)
        return import_weights(str(tmp_path / "weights.npz"), variant=variant, pool=pool, image_size=None, decoder=False)

    return save_and_import


@pytest.mark.parametrize("names", ["augreg", "big_vision"])
def test_every_array_finds_its_place(run, names):
    ours = arrays()
    result = run(google(ours, names=names))
    if names == "big_vision":  # there the class token joins after the position embedding
        ours["posemb"][:, 0] = 0
    found = layout.flatten(result.weights.params)
    assert found.keys() == ours.keys()
    for path, array in ours.items():
        np.testing.assert_array_equal(found[path], array, err_msg=path)
    named = sorted(name for row in result.report.params for name in row.names)
    assert named == sorted(name.removeprefix("params/") for name in google(ours, names=names))


def test_their_view_and_activation_are_told(run):
    result = run(google(arrays(), names="augreg"))
    view = result.weights.preprocessing
    assert (view.image_size, view.mean, view.std) == (PIXELS, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert "tanh" in " ".join(result.report.notes)


def test_bfloat16_is_read(run):
    import jax.numpy as jnp

    ours = arrays()
    halved = {name: np.asarray(array, jnp.bfloat16) for name, array in google(ours, names="augreg").items()}
    found = run(halved).weights.params["head"]["bias"]
    np.testing.assert_array_equal(found, ours["head/bias"].astype(jnp.bfloat16).astype(np.float32))


def test_a_head_behind_another_layer_is_left_out(run):
    more = {"pre_logits/kernel": np.zeros((48, 48), np.float32), "pre_logits/bias": np.zeros(48, np.float32)}
    result = run(google(arrays(), names="augreg") | more)
    assert "head" not in result.weights.params
    left_over = {row.names[0] for row in result.report.params if row.status is Status.LEFT_OVER}
    assert left_over == {"head/kernel", "head/bias", *more}


def test_the_mean_over_patches_gets_a_norm_and_a_head_of_its_own(run):
    params = run(google(arrays(), names="augreg"), pool="mean").weights.params
    assert "fc_norm" in params
    assert "head" not in params


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"MAPHead_0/probe": np.zeros((1, 1, 48), np.float32)}, "MAPHead_0/probe: pools by attention"),
        ({"conv_root/kernel": np.zeros((7, 7, 3, 64), np.float32)}, "conv_root/kernel: has a ResNet"),
        ({"cls": None}, r"no class token \(cls\).* normalise before they take the mean"),
    ],
)
def test_what_computes_otherwise_is_refused_by_name(run, change, message):
    tensors = google(arrays(), names="augreg") | change
    with pytest.raises(ValueError, match=message):
        run({name: array for name, array in tensors.items() if array is not None})


def test_another_number_of_heads_is_refused(run):
    tensors = google(arrays(), names="augreg")
    for name, array in tensors.items():
        if "MultiHead" in name and name.endswith("kernel") and "out" not in name:
            tensors[name] = array.reshape(48, 4, 12)
    with pytest.raises(ValueError, match="num_heads: the source has 4, vit_test 3"):
        run(tensors)

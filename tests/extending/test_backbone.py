"""A backbone of one's own: what it computes, and that a line in `FAMILIES` and one in `EXCHANGES` are all it needs."""

import dataclasses
import math

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from semivit_jax.config import ConfigError
from semivit_jax.export import export
from semivit_jax.main import main
from semivit_jax.models import families
from semivit_jax.models.spec import PLAIN
from semivit_jax.ops.optim import by_path
from semivit_jax.weights import layout
from semivit_jax.weights.folder import load_imported, save_imported
from semivit_jax.weights.importing import import_weights
from semivit_jax.weights.preprocessing import Preprocessing, normalise
from semivit_jax.weights.weights import Weights
from tests.compiled import quick_jit
from tests.configs import small_config
from tests.jaxprs import inner_jaxprs
from tests.models import spec_of

pytestmark = pytest.mark.usefixtures("mixer")

VARIANT = "mixer_digits"
VIEW = Preprocessing(8, 0.8, "bicubic", (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), False)


def weights_of(**changes) -> Weights:
    """Drawn wide, so that logits differ from image to image."""
    spec, generator = spec_of(VARIANT, image_size=8, **changes), np.random.default_rng(0)
    flat = {
        path: ((path.endswith("scale")) + 0.3 * generator.standard_normal(shape)).astype(np.float32)
        for path, shape in families.shapes(spec).items()
    }
    return Weights(spec, layout.unflatten(flat), tuple("0123456789")[: spec.num_classes], VIEW)


def logits_of(weights: Weights, pixels: np.ndarray) -> np.ndarray:
    network = families.network(weights.spec, PLAIN, 0.0)
    images = normalise(jnp.asarray(pixels), weights.preprocessing)
    return np.asarray(quick_jit(lambda params: network.logits(params, images, None))(weights.params))


def some_pixels() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (3, 8, 8, 3), np.uint8)


def tensors_in(folder):
    return safetensors.numpy.load_file(folder / "model.safetensors")


def assert_same(found: Weights, wanted: Weights):
    jax.tree.map(np.testing.assert_array_equal, found.params, wanted.params)
    assert dataclasses.replace(found, params={}) == dataclasses.replace(wanted, params={})


# The model


def test_a_head_that_it_has_not_is_refused():
    with pytest.raises(ConfigError, match="head is 'mlp'; legal values of mixer_digits: linear"):
        small_config(**{"model.variant": VARIANT, "model.posemb": "none", "model.head": "mlp"})


def test_it_computes_what_the_paper_says_of_the_tensors_that_go_out(tmp_path):
    """Equation 1, from the tensors in timm's layout; linear layers are (out, in) there."""
    weights, pixels = weights_of(), some_pixels()
    export(tmp_path / "out", "timm", weights)
    t = tensors_in(tmp_path / "out")

    def linear(x, name):
        return x @ t[f"{name}.weight"].T + t[f"{name}.bias"]

    def norm(x, name):
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-6)
        return scaled * t[f"{name}.weight"] + t[f"{name}.bias"]

    def mlp(x, name):
        hidden = linear(x, f"{name}.fc1")
        gelu = hidden * 0.5 * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
        return linear(gelu, f"{name}.fc2")

    images = np.asarray(normalise(jnp.asarray(pixels), VIEW)).transpose(0, 3, 1, 2)
    patches = images.reshape(3, 3, 4, 2, 4, 2).transpose(0, 2, 4, 1, 3, 5).reshape(3, 16, 12)
    x = patches @ t["stem.proj.weight"].reshape(32, 12).T + t["stem.proj.bias"]
    for block in ("blocks.0", "blocks.1"):
        x = x + mlp(norm(x, f"{block}.norm1").swapaxes(1, 2), f"{block}.mlp_tokens").swapaxes(1, 2)
        x = x + mlp(norm(x, f"{block}.norm2"), f"{block}.mlp_channels")
    wanted = linear(norm(x, "norm").mean(axis=1), "head")
    np.testing.assert_allclose(logits_of(weights, pixels), wanted, atol=1e-4)


def test_its_tables_cover_every_parameter():
    network = families.network(weights_of().spec, PLAIN, 0.1)
    params = weights_of().params
    factors = layout.flatten(by_path(network.lr_scales(0.5, 3.0), params))
    decays = layout.flatten(by_path(network.weight_decays(0.05), params))
    assert factors["patch_embed/kernel"] == 0.125
    np.testing.assert_array_equal(factors["layers/norm1/scale"].ravel(), [0.25, 0.5])
    assert factors["head/bias"] == factors["norm/scale"] == 3.0
    assert {path for path, decay in decays.items() if decay} == {path for path in decays if path.endswith("kernel")}
    assert families.is_stacked("params/layers/tokens/fc1/kernel")


def test_a_dropped_branch_adds_nothing():
    weights, pixels = weights_of(), some_pixels()
    network, images = families.network(weights.spec, PLAIN, 0.1), normalise(jnp.asarray(pixels), VIEW)
    logits = quick_jit(lambda masks: network.logits(weights.params, images, masks))
    kept = np.ones((*network.drop_path_rates.shape, 3), np.float32)
    np.testing.assert_allclose(logits(kept), logits_of(weights, pixels), atol=1e-5)
    dropped = kept.copy()
    dropped[1, 0, 2] = 0  # of the last layer, over the tokens of the last image
    changed = np.abs(logits(dropped) - logits(kept)).max(axis=1)
    assert (changed[:2] < 1e-6).all()
    assert changed[2] > 1e-3


def test_its_cost_is_what_its_program_multiplies():
    spec = weights_of().spec
    network, params = families.network(spec, PLAIN, 0.0), weights_of().params
    program = jax.make_jaxpr(lambda images: network.logits(params, images, None))(np.zeros((1, 8, 8, 3), np.float32))
    cost = families.cost(spec)
    assert cost is not None
    assert products(program.jaxpr) == cost.flops.forward


def products(jaxpr) -> int:
    """FLOPs of all matrix products; what a scan repeats counts as often."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            inner = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            total += 2 * math.prod(equation.outvars[0].aval.shape) * inner
        times = equation.params["length"] if equation.primitive.name == "scan" else 1
        total += times * sum(map(products, inner_jaxprs(equation)))
    return total


# In other libraries


@pytest.mark.parametrize("format", ["timm", "hugging_face"])
def test_what_goes_out_comes_back_bit_for_bit(tmp_path, format):
    weights = weights_of(num_classes=3)
    export(tmp_path / "out", format, weights)
    back = import_weights(str(tmp_path / "out"), variant=None, pool=None, image_size=None, decoder=False)
    assert_same(back.weights, weights)
    save_imported(tmp_path / "in", back)
    assert_same(load_imported(tmp_path / "in").weights, weights)


# Refusals


def test_another_family_is_refused_by_both_names(tmp_path):
    export(tmp_path / "out", "timm", weights_of())
    with pytest.raises(ValueError, match=r"the source is a mixer \(MLP-Mixer\), vit_test is a vit"):
        import_weights(str(tmp_path / "out"), variant="vit_test", pool=None, image_size=None, decoder=False)


def test_another_number_of_tokens_is_refused(tmp_path):
    export(tmp_path / "out", "timm", weights_of())
    with pytest.raises(ValueError, match=r"layers/tokens/fc1/kernel: the source has \(2, 16, 16\), the model \(2, 36"):
        import_weights(str(tmp_path / "out"), variant=VARIANT, pool=None, image_size=12, decoder=False)
    with pytest.raises(ValueError, match="image_size 9: must be a multiple of the patch size of mixer_digits, 2"):
        import_weights(str(tmp_path / "out"), variant=VARIANT, pool=None, image_size=9, decoder=False)


def test_an_unknown_layout_is_told_what_is_known(tmp_path):
    safetensors.numpy.save_file({"x": np.zeros(1, np.float32)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"not a layout known here.*ConvNeXt, MLP-Mixer\)"):
        import_weights(str(tmp_path / "x.safetensors"), variant=VARIANT, pool=None, image_size=None, decoder=False)


def test_what_nobody_has_written_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nobody has written the ONNX graph of a mixer; stablehlo takes any model"):
        export(tmp_path / "out", "onnx", weights_of())
    assert not (tmp_path / "out").exists()


def test_an_epsilon_that_timm_does_not_have_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a mixer of timm computes with 1e-06; another one goes out as stablehlo$"):
        export(tmp_path / "out", "timm", weights_of(layer_norm_eps=0.1))


def test_it_is_offered_to_whoever_imports(capsys):
    with pytest.raises(SystemExit):
        main(["semivit", "import", "--help"])
    assert VARIANT in capsys.readouterr().out

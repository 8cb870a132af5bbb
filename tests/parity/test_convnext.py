"""ConvNeXt-T and -S against the published PyTorch model (recorded numbers, formula weights and images)."""

import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semivit_jax.models import convnext
from semivit_jax.models.convnext import CONVNEXT_SIZES
from semivit_jax.models.spec import PLAIN
from semivit_jax.weights import layout
from semivit_jax.weights.convnext import PUBLISHED
from tests.models import spec_of
from tests.parity import recorded

FLOAT64_TOLERANCE = 1e-9
FLOAT32_TOLERANCE = 2e-6  # where only the published float32 run was recorded


@pytest.fixture(scope="module")
def numbers():
    return recorded.load("convnext")


def model(name: str) -> convnext.ConvNeXt:
    return convnext.ConvNeXt(spec_of(name, num_classes=1000), PLAIN)


def slots(name: str) -> tuple[layout.Slot, ...]:
    depths = CONVNEXT_SIZES[name].depths
    return layout.slots(PUBLISHED, depth=lambda path: depths[int(path.removeprefix("stages_")[0])])


def formula_tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The recorded runs' weight: 1 is added to norm gains and 0.01 to gammas."""
    is_norm_gain = name.endswith("weight") and len(shape) == 1
    return recorded.formula(name, shape, 1.0 if is_norm_gain else 0.01 if name.endswith("gamma") else 0.0)


@functools.cache
def formula_params(name: str) -> dict:
    """Our tree, filled through the layout tables, in float64."""
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    shapes = layout.flatten(jax.eval_shape(model(name).init, jax.random.key(0), images)["params"])
    flat = {}
    for slot in slots(name):
        stand_ins = layout.split(slot, np.broadcast_to(np.float32(0), shapes[slot.path].shape))
        tensor_of = {theirs: formula_tensor(theirs, tensor.shape) for theirs, tensor in stand_ins.items()}
        flat[slot.path] = layout.join(slot, tensor_of.__getitem__).astype(np.float64)
    assert flat.keys() == shapes.keys()
    return layout.unflatten(flat)


def formula_images(size: int, offset: float) -> np.ndarray:
    b = np.arange(1, 3).reshape(2, 1, 1, 1)
    i, j, c = (np.arange(n).reshape(shape) for n, shape in ((size, (-1, 1, 1)), (size, (-1, 1)), (3, (-1,))))
    x = np.sin(0.05 * b * i + 0.03 * (c + 1) * j + 0.5 * c + offset) + 0.5 * np.cos(0.11 * (i - j) / b + offset)
    return x.astype(np.float32).astype(np.float64)


def features_and_logits(module: convnext.ConvNeXt, images: jax.Array):
    features = module.features(images)
    return features, module.head(features)


def relative_error(actual, expected) -> float:
    expected = np.asarray(expected, np.float64)
    return float(np.abs(np.asarray(actual, np.float64) - expected).max() / np.abs(expected).max())


def assert_published_outputs(name: str, numbers, features, logits):
    assert relative_error(logits, numbers[f"{name}_64_logits_f64"]) < FLOAT64_TOLERANCE
    assert relative_error(features, numbers[f"{name}_64_features"]) < FLOAT32_TOLERANCE


@pytest.mark.parametrize("name", ["convnext_tiny", pytest.param("convnext_small", marks=pytest.mark.slow)])
def test_outputs_are_the_published_ones(numbers, name):
    with jax.enable_x64(True):
        apply = jax.jit(functools.partial(model(name).apply, method=features_and_logits))
        images = formula_images(64, float(numbers["image_offset"]))
        features, logits = apply({"params": formula_params(name)}, images)
    assert_published_outputs(name, numbers, features, logits)


@pytest.mark.slow
def test_logits_at_224_pixels_are_the_published_ones(numbers):
    with jax.enable_x64(True):
        apply = jax.jit(model("convnext_tiny").apply)
        images = formula_images(224, float(numbers["image_offset"]))
        logits = apply({"params": formula_params("convnext_tiny")}, images)
    assert relative_error(logits, numbers["convnext_tiny_224_logits"]) < FLOAT32_TOLERANCE


@pytest.mark.slow  # by default its outputs, and the gradients of what it shares with the ViT in test_vit
def test_outputs_loss_and_gradient_norms_of_the_tiny_model_are_the_published_ones(numbers):
    labels = numbers["convnext_tiny_64_labels"]

    def loss(params, images):
        outputs = model("convnext_tiny").apply({"params": params}, images, method=features_and_logits)
        return -jnp.mean(jax.nn.log_softmax(outputs[1])[jnp.arange(len(labels)), labels]), outputs

    with jax.enable_x64(True):
        images = formula_images(64, float(numbers["image_offset"]))
        gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))
        (value, (features, logits)), gradients = gradient(formula_params("convnext_tiny"), images)
    assert_published_outputs("convnext_tiny", numbers, features, logits)
    flat = layout.flatten(jax.tree.map(np.asarray, gradients))
    norms = {
        theirs: np.linalg.norm(tensor)
        for slot in slots("convnext_tiny")
        for theirs, tensor in layout.split(slot, flat[slot.path]).items()
    }
    expected = dict(zip(numbers["convnext_tiny_param_names"], numbers["convnext_tiny_64_grad_norms"], strict=True))
    assert relative_error(value, numbers["convnext_tiny_64_loss"]) < FLOAT32_TOLERANCE
    assert norms.keys() == expected.keys()
    worst = max(abs(norms[name] / expected[name] - 1) for name in expected)
    assert worst < FLOAT32_TOLERANCE


def test_lr_scales_and_weight_decays_are_the_published_ones():
    published = json.loads((recorded.DATA / "layer_decay.json").read_text())
    lr_scales = convnext.lr_scales(CONVNEXT_SIZES["convnext_small"], layer_decay=0.8, head_lr_scale=1.0)
    weight_decays = convnext.weight_decays(0.05)
    ours = {}
    for slot in slots("convnext_small"):
        (lr_scale,) = [value for pattern, value in lr_scales if re.search(pattern, slot.path)]
        (weight_decay,) = [value for pattern, value in weight_decays if re.search(pattern, slot.path)]
        per_block = lr_scale if isinstance(lr_scale, list) else [lr_scale] * len(slot.names)
        for scale, (name,) in zip(per_block, slot.names, strict=True):
            ours[name] = [pytest.approx(scale, rel=1e-12), weight_decay]
    assert published["convnext_small_ld0.8_wd0.05"]["params"] == ours


def test_layer_decay_is_refused_for_the_tiny_model():
    with pytest.raises(ValueError, match=r"layer_decay 0.8 with depths \(3, 3, 9, 3\)"):
        convnext.lr_scales(CONVNEXT_SIZES["convnext_tiny"], layer_decay=0.8, head_lr_scale=1.0)


def test_drop_path_rates_are_the_published_ones():
    published = json.loads((recorded.DATA / "convnext_tiny_drop_path.json").read_text())
    rates = convnext.drop_path_rates(CONVNEXT_SIZES["convnext_tiny"], 0.1)
    assert rates == pytest.approx(np.concatenate(published), abs=1e-8)

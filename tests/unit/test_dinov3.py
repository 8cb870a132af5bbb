"""DINOv3's ViT: turns instead of a table, no bias of the keys, and the names of two libraries."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from semivit_jax.models import families
from semivit_jax.models.dinov3 import DINOV3_SIZES, turned, turns
from semivit_jax.models.spec import PLAIN
from semivit_jax.models.vit import ViTSize
from semivit_jax.ops.optim import by_path
from semivit_jax.weights import layout, vit_dinov3
from semivit_jax.weights.importing import import_weights
from tests.compiled import quick_jit
from tests.models import spec_of

SIZES = {mlp: ViTSize(8, 48, 2, 3, 96, mlp=mlp, layer_scale=True, registers=4) for mlp in ("gelu", "swiglu")}


@pytest.fixture(params=SIZES)
def spec(request, monkeypatch):
    monkeypatch.setitem(DINOV3_SIZES, "dinov3_test", SIZES[request.param])
    return spec_of("dinov3_test", image_size=16, pool="cls", num_classes=3, layer_norm_eps=1e-5)


def arrays(spec) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {path: generator.standard_normal(shape).astype(np.float32) for path, shape in families.shapes(spec).items()}


def hugging_face_config(*, gated):
    return {"model_type": "dinov3_vit", "hidden_act": "silu" if gated else "gelu", "use_gated_mlp": gated,
            "layer_norm_eps": 1e-5, "num_attention_heads": 3, "key_bias": False}  # fmt: skip


def test_patches_are_turned_and_the_others_stay():
    x = np.random.default_rng(0).standard_normal((2, 5 + 9, 3, 16)).astype(np.float32)
    out = np.asarray(turned(jnp.asarray(x), turns(3, 16)))
    np.testing.assert_array_equal(out[:, :5], x[:, :5])
    np.testing.assert_array_equal(out[:, 5 + 4], x[:, 5 + 4])  # the middle of the image: no angle
    first, second, turned_first, turned_second = x[..., :8], x[..., 8:], out[..., :8], out[..., 8:]
    np.testing.assert_allclose(turned_first**2 + turned_second**2, first**2 + second**2, rtol=1e-4)


def test_angles_are_those_of_centres_from_minus_one_to_one():
    angles = turns(2, 8)  # periods 1 and 10; centres -1/2 and 1/2
    np.testing.assert_allclose(angles[1], 2 * np.pi * np.array([-0.5, -0.05, 0.5, 0.05]), rtol=1e-6)


def test_what_is_published_has_these_sizes():
    counts = {v: sum(np.prod(s) for s in families.shapes(spec_of(v, image_size=32, num_classes=0)).values())
              for v in DINOV3_SIZES}  # fmt: skip
    rounded = {variant: round(count / 1e6) for variant, count in counts.items()}
    assert rounded == {"dinov3_s16": 22, "dinov3_s16plus": 29, "dinov3_b16": 86, "dinov3_l16": 303,
                       "dinov3_h16plus": 841}  # fmt: skip


def test_every_parameter_has_its_learning_rate_and_decay(spec):
    family, params = families.of("dinov3_test"), layout.unflatten(arrays(spec))
    by_path(family.lr_scales(spec.size, 0.5, 1.0), params)
    for path, decay in layout.flatten(by_path(family.weight_decays(0.05), params)).items():
        assert (decay > 0) == path.endswith("/kernel"), path
    assert "blocks/attn/key/bias" not in layout.flatten(params)


def test_weights_fit_images_of_any_size(spec):
    params = layout.unflatten(arrays(spec))
    for image_size in (16, 40):
        other = spec_of("dinov3_test", image_size=image_size, pool="cls", num_classes=3)
        images = jnp.ones((1, image_size, image_size, 3))
        assert quick_jit(families.network(other, PLAIN, 0.0).features)(params, images).shape == (1, 48)


@pytest.mark.parametrize("library", ["timm", "hugging_face"])
def test_the_names_of_both_libraries_are_read(tmp_path, spec, library):
    ours, gated = arrays(spec), spec.size.mlp == "swiglu"
    names = getattr(vit_dinov3, f"{library}_names")(gated=gated)
    tensors = {name: np.ascontiguousarray(t) for name, t in layout.state_dict(ours, names).items()}
    safetensors.numpy.save_file(tensors, tmp_path / "model.safetensors")
    if library == "hugging_face":
        (tmp_path / "config.json").write_text(json.dumps(hugging_face_config(gated=gated)))
    result = import_weights(str(tmp_path), variant=None, pool=None, image_size=16, decoder=False)
    assert (result.weights.spec.variant, result.pool) == ("dinov3_test", "cls")
    for path, array in layout.flatten(result.weights.params).items():
        np.testing.assert_array_equal(array, ours[path], err_msg=path)


@pytest.mark.parametrize(("key", "value"), [("rope_theta", 10.0), ("key_bias", True), ("hidden_act", "relu")])
def test_another_computation_is_refused_by_name(tmp_path, spec, key, value):
    gated = spec.size.mlp == "swiglu"
    names = vit_dinov3.hugging_face_names(gated=gated)
    tensors = {name: np.ascontiguousarray(t) for name, t in layout.state_dict(arrays(spec), names).items()}
    safetensors.numpy.save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(hugging_face_config(gated=gated) | {key: value}))
    with pytest.raises(ValueError, match=f"{key} {value!r}"):
        import_weights(str(tmp_path), variant=None, pool=None, image_size=16, decoder=False)


def test_the_gate_is_the_first_half_whatever_it_is_called():
    names = vit_dinov3.hugging_face_names(gated=True)
    assert [name.split(".")[-2] for name in names["blocks/mlp/fc1/kernel"]] == ["gate_proj", "up_proj"]
    names = vit_dinov3.timm_names(gated=True)
    assert [name.split(".")[-2] for name in names["blocks/mlp/fc1/bias"]] == ["fc1_g", "fc1_x"]


def test_a_model_without_biases_starts_with_zeros(tmp_path, spec):
    names = vit_dinov3.timm_names(gated=spec.size.mlp == "swiglu")
    tensors = {name: np.ascontiguousarray(t) for name, t in layout.state_dict(arrays(spec), names).items()}
    tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith(("q_bias", "v_bias"))}
    safetensors.numpy.save_file(tensors, tmp_path / "model.safetensors")
    result = import_weights(str(tmp_path), variant=None, pool=None, image_size=16, decoder=False)
    attention = result.weights.params["blocks"]["attn"]
    assert not attention["query"]["bias"].any()
    assert not attention["value"]["bias"].any()


def test_gradients_reach_every_parameter(spec):
    network, params = families.network(spec, PLAIN, 0.0), layout.unflatten(arrays(spec))
    images = jnp.ones((1, 16, 16, 3))
    grads = quick_jit(jax.grad(lambda p: network.logits(p, images, None).sum()))(params)
    for path, gradient in layout.flatten(grads).items():
        assert np.isfinite(gradient).all(), path
        assert np.abs(gradient).max() > 0, path

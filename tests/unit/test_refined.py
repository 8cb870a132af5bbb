"""MIM-Refiner's files, which no package holds: names from its published code, computed again in NumPy.

Not run against the authors' code.
"""

import dataclasses

import jax
import numpy as np
import pytest
import safetensors.numpy
import scipy.special

from semivit_jax.export import export
from semivit_jax.models import families
from semivit_jax.models.data2vec import DATA2VEC_SIZES
from semivit_jax.models.spec import PLAIN
from semivit_jax.models.vit import VIT_SIZES, ViTSize
from semivit_jax.ops.optim import by_path
from semivit_jax.weights import layout
from semivit_jax.weights.importing import import_weights
from tests.compiled import quick_jit
from tests.models import spec_of

WIDTH, DEPTH, HEADS, PATCH, SIDE, EPS = 48, 3, 3, 8, 4, 1e-6


def published(kind: str, scale: float = 0.3) -> dict[str, np.ndarray]:
    """Tensors under the names of `PrenormVit` ("mae") and `PostnormVit` ("data2vec") of the project's hub."""
    generator = np.random.default_rng(0)

    def drawn(*shape: int) -> np.ndarray:
        return (scale * generator.standard_normal(shape)).astype(np.float32)

    def layer(name: str, out: int, inner: int) -> dict[str, np.ndarray]:
        return {f"{name}.weight": drawn(out, inner), f"{name}.bias": drawn(out)}

    def norm(name: str) -> dict[str, np.ndarray]:
        return {f"{name}.weight": 1 + drawn(WIDTH), f"{name}.bias": drawn(WIDTH)}

    tensors = {
        "patch_embed.proj.weight": drawn(WIDTH, 3, PATCH, PATCH),
        "patch_embed.proj.bias": drawn(WIDTH),
        "pos_embed.embed": drawn(1, SIDE, SIDE, WIDTH),
        "cls_tokens.tokens": drawn(1, 1, WIDTH),
        **norm("norm" if kind == "mae" else "embed_norm"),
    }
    for block in (f"blocks.{number}" for number in range(DEPTH)):
        tensors |= norm(f"{block}.norm1") | norm(f"{block}.norm2")
        tensors |= layer(f"{block}.attn.qkv", 3 * WIDTH, WIDTH) | layer(f"{block}.attn.proj", WIDTH, WIDTH)
        tensors |= layer(f"{block}.mlp.fc1", 4 * WIDTH, WIDTH) | layer(f"{block}.mlp.fc2", WIDTH, 4 * WIDTH)
    return tensors


class Forward:
    """The class token of both models in NumPy and float64, from the tensors by their published names."""

    def __init__(self, tensors: dict[str, np.ndarray]):
        self.tensors = {name: tensor.astype(float) for name, tensor in tensors.items()}

    def layer(self, name: str, x: np.ndarray) -> np.ndarray:
        return x @ self.tensors[f"{name}.weight"].T + self.tensors[f"{name}.bias"]

    def norm(self, name: str, x: np.ndarray) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        normed = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPS)
        return normed * self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"]

    def attention(self, name: str, x: np.ndarray) -> np.ndarray:
        batch, tokens, width = x.shape
        qkv = self.layer(f"{name}.qkv", x).reshape(batch, tokens, 3, HEADS, width // HEADS)
        query, key, value = np.moveaxis(qkv, (2, 3), (0, 2))
        scores = scipy.special.softmax(query @ np.swapaxes(key, 2, 3) / np.sqrt(width // HEADS), axis=-1)
        return self.layer(f"{name}.proj", np.moveaxis(scores @ value, 1, 2).reshape(batch, tokens, width))

    def mlp(self, name: str, x: np.ndarray) -> np.ndarray:
        h = self.layer(f"{name}.fc1", x)
        return self.layer(f"{name}.fc2", h / 2 * (1 + scipy.special.erf(h / np.sqrt(2))))

    def __call__(self, images: np.ndarray) -> np.ndarray:
        batch = len(images)
        cut = (
            images.reshape(batch, SIDE, PATCH, SIDE, PATCH, 3)
            .transpose(0, 1, 3, 5, 2, 4)
            .reshape(batch, SIDE, SIDE, -1)
        )
        kernel = self.tensors["patch_embed.proj.weight"].reshape(WIDTH, -1).T
        x = cut @ kernel + self.tensors["patch_embed.proj.bias"] + self.tensors["pos_embed.embed"]
        token = np.broadcast_to(self.tensors["cls_tokens.tokens"], (batch, 1, WIDTH))
        x = np.concatenate([token, x.reshape(batch, -1, WIDTH)], axis=1)
        if "norm.weight" in self.tensors:  # norms before the branches, and a last one
            for block in (f"blocks.{number}" for number in range(DEPTH)):
                x = x + self.attention(f"{block}.attn", self.norm(f"{block}.norm1", x))
                x = x + self.mlp(f"{block}.mlp", self.norm(f"{block}.norm2", x))
            return self.norm("norm", x)[:, 0]
        x = self.norm("embed_norm", x)
        for block in (f"blocks.{number}" for number in range(DEPTH)):
            x = self.norm(f"{block}.norm1", x + self.attention(f"{block}.attn", x))
            x = self.norm(f"{block}.norm2", x + self.mlp(f"{block}.mlp", x))
        return x[:, 0]


@pytest.fixture(params=["mae", "data2vec"])
def kind(request, monkeypatch) -> str:
    size = ViTSize(PATCH, WIDTH, DEPTH, HEADS, 4 * WIDTH)
    monkeypatch.setitem(VIT_SIZES if request.param == "mae" else DATA2VEC_SIZES, "refined_test", size)
    return request.param


def imported(folder, tensors):
    safetensors.numpy.save_file(tensors, folder / "refined.safetensors")
    source = str(folder / "refined.safetensors")
    return import_weights(source, variant="refined_test", pool=None, image_size=None, decoder=False)


@pytest.mark.parametrize("scale", [0.1, 1.0])
def test_features_are_those_of_the_published_order(tmp_path, kind, scale):
    tensors = published(kind, scale)
    result = imported(tmp_path, tensors)
    spec = result.weights.spec
    assert (result.pool, spec.image_size) == ("cls", PATCH * SIDE)
    assert "MIM-Refiner" in result.report.kind
    images = np.random.default_rng(1).standard_normal((2, PATCH * SIDE, PATCH * SIDE, 3)).astype(np.float32)
    found = quick_jit(families.network(spec, PLAIN, 0.0).features)(result.weights.params, images)
    expected = Forward(tensors)(images.astype(float))
    assert np.abs(np.asarray(found) - expected).max() <= 1e-4 * np.abs(expected).max()


def test_a_head_on_it_is_exported_where_it_can_be(tmp_path, kind):
    weights = imported(tmp_path, published(kind)).weights
    head = {"kernel": np.ones((WIDTH, 2), np.float32), "bias": np.zeros(2, np.float32)}
    spec = dataclasses.replace(weights.spec, num_classes=2)
    weights = dataclasses.replace(weights, spec=spec, params={**weights.params, "head": head}, class_names=("a", "b"))
    if kind == "mae":
        export(tmp_path / "out", "timm", weights)
        back = import_weights(str(tmp_path / "out"), variant="refined_test", pool=None, image_size=None, decoder=False)
        for path, array in layout.flatten(back.weights.params).items():
            np.testing.assert_array_equal(array, layout.flatten(weights.params)[path], err_msg=path)
        return
    for format in ("timm", "hugging_face"):
        with pytest.raises(ValueError, match="no model of timm normalises after its sums; stablehlo"):
            export(tmp_path / format, format, weights)


def test_every_parameter_of_data2vec_has_its_learning_rate_and_decay():
    size = DATA2VEC_SIZES["data2vec_l16"]
    shapes = families.shapes(spec_of("data2vec_l16", image_size=32, pool="cls"))
    params = layout.unflatten({path: jax.ShapeDtypeStruct(shape, "float32") for path, shape in shapes.items()})
    family = families.of("data2vec_l16")
    scales = layout.flatten(by_path(family.lr_scales(size, 0.5, 1.0), params))
    assert (scales["norm_pre/scale"], scales["head/kernel"]) == (0.5**25, 1.0)
    for path, decay in layout.flatten(by_path(family.weight_decays(0.05), params)).items():
        assert (decay > 0) == path.endswith("/kernel"), path
    assert not any(path.startswith(("norm/", "fc_norm/")) for path in shapes)

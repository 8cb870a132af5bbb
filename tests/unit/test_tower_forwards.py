"""What the families compute, once more in NumPy and float64, from their papers; tests/interop has the libraries."""

import numpy as np
import pytest
import scipy.special

from semivit_jax.models import families
from semivit_jax.models.clip import CLIP_SIZES
from semivit_jax.models.dinov3 import DINOV3_SIZES
from semivit_jax.models.siglip import SIGLIP_SIZES
from semivit_jax.models.spec import PLAIN
from semivit_jax.models.vit import VIT_SIZES, ViTSize
from semivit_jax.weights import layout
from tests import towers
from tests.compiled import quick_jit
from tests.models import spec_of

PATCH, WIDTH, DEPTH, HEADS, HIDDEN, SIDE = 8, 48, 2, 3, 64, 3
DINO = {"layer_scale": True, "registers": 4}
CASES = {
    # family: its table of sizes, activation, what a size has besides, pools, epsilon of LayerNorm
    "dinov2": (VIT_SIZES, ("gelu", "swiglu"), DINO, ("cls",), 1e-6),
    "dinov3": (DINOV3_SIZES, ("gelu", "swiglu"), DINO, ("cls", "mean"), 1e-5),
    "clip": (CLIP_SIZES, ("gelu", "quick_gelu"), {}, ("cls",), 1e-5),
    "siglip": (SIGLIP_SIZES, ("gelu", "gelu_tanh"), {}, ("map", "mean"), 1e-6),
}
ALL = [(family, mlp, pool) for family, (_, mlps, _, pools, _) in CASES.items() for mlp in mlps for pool in pools]


def gelu_tanh(x):
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


ACTIVATIONS = {
    "gelu": lambda x: x / 2 * (1 + scipy.special.erf(x / np.sqrt(2))),
    "quick_gelu": lambda x: x * scipy.special.expit(1.702 * x),
    "gelu_tanh": gelu_tanh,
}


class Forward:
    """Images (batch, pixels, pixels, 3) -> features; parameters by their paths, those of a block along axis 0."""

    def __init__(self, family, mlp, pool, params):
        self.family, self.activation, self.pool = family, mlp, pool
        self.params = {path: array.astype(float) for path, array in params.items()}
        self.eps = CASES[family][-1]

    def layer(self, name, x, at=...):
        bias = self.params[f"{name}/bias"][at] if f"{name}/bias" in self.params else 0.0
        return x @ self.params[f"{name}/kernel"][at] + bias

    def norm(self, name, x, at=...):
        centred = x - x.mean(-1, keepdims=True)
        normed = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + self.eps)
        return normed * self.params[f"{name}/scale"][at] + self.params[f"{name}/bias"][at]

    def mlp(self, name, x, at=...):
        h = self.layer(f"{name}/fc1", x, at)
        if self.activation == "swiglu":  # Shazeer 2020, eq. 6
            h = h[..., :HIDDEN] * scipy.special.expit(h[..., :HIDDEN]) * h[..., HIDDEN:]
        else:
            h = ACTIVATIONS[self.activation](h)
        return self.layer(f"{name}/fc2", h, at)

    def heads(self, query, key, value):
        """Attention of (batch, tokens, width) arrays, head by head."""
        out, size = np.empty_like(query), WIDTH // HEADS
        for part in (slice(start, start + size) for start in range(0, WIDTH, size)):
            q, k = query[..., part], key[..., part]
            if self.family == "dinov3":
                q, k = self.turned(q), self.turned(k)
            out[..., part] = scipy.special.softmax(q @ np.swapaxes(k, 1, 2) / np.sqrt(size), -1) @ value[..., part]
        return out

    def turned(self, x):
        """RoPE with a complex number for each pair, patch by patch (Siméoni et al. 2025, section 3)."""
        size = x.shape[-1]
        frequencies = 2 * np.pi / 100.0 ** (4 * np.arange(size // 4) / size)
        numbers, first = x[..., : size // 2] + 1j * x[..., size // 2 :], x.shape[1] - SIDE**2
        for patch in range(SIDE**2):
            row, column = (2 * (place + 0.5) / SIDE - 1 for place in divmod(patch, SIDE))
            numbers[:, first + patch] *= np.exp(1j * np.concatenate([row * frequencies, column * frequencies]))
        return np.concatenate([numbers.real, numbers.imag], axis=-1)

    def attention(self, x, at):
        query, key, value = np.split(self.layer("blocks/attn/qkv", x, at), 3, axis=-1)
        if self.family == "dinov3":  # keys have no bias
            query, value = (
                y + self.params[f"blocks/attn/{part}/bias"][at] for part, y in (("query", query), ("value", value))
            )
        return self.layer("blocks/attn/proj", self.heads(query, key, value), at)

    def block(self, x, at):
        for number, branch in ((1, self.attention), (2, lambda y, at: self.mlp("blocks/mlp", y, at))):
            h = branch(self.norm(f"blocks/norm{number}", x, at), at)
            x = x + h * self.params.get(f"blocks/ls{number}/gamma", np.ones((DEPTH, 1)))[at]
        return x

    def tokens(self, images):
        batch = len(images)
        cut = images.reshape(batch, SIDE, PATCH, SIDE, PATCH, 3).transpose(0, 1, 3, 2, 4, 5).reshape(batch, SIDE**2, -1)
        kernel = self.params["patch_embed/kernel"].reshape(-1, WIDTH)
        x = cut @ kernel + self.params.get("patch_embed/bias", 0.0)
        position = self.params.get("posemb", np.zeros((1, 1 + SIDE**2, 1)))
        if self.family == "siglip":
            return x + position
        before = [self.params["cls_token"] + position[:, :1]]
        before += [self.params["register_tokens"]] if "register_tokens" in self.params else []
        x = np.concatenate([*(np.repeat(y, batch, axis=0) for y in before), x + position[:, 1:]], axis=1)
        return self.norm("norm_pre", x) if self.family == "clip" else x

    def pooled(self, x):
        """Class token, mean of the patches, or what one query attends to (Zhai et al. 2022, section 3.2)."""
        if self.pool != "map":
            return x[:, 0] if self.pool == "cls" else x[:, -(SIDE**2) :].mean(axis=1)
        probe = np.repeat(self.params["attn_pool/probe"], len(x), axis=0)
        key, value = np.split(self.layer("attn_pool/key_value", x), 2, axis=-1)
        out = self.layer("attn_pool/proj", self.heads(self.layer("attn_pool/query", probe), key, value))
        return (out + self.mlp("attn_pool/mlp", self.norm("attn_pool/norm", out)))[:, 0]

    def __call__(self, images):
        x = self.tokens(images)
        for at in range(DEPTH):
            x = self.block(x, at)
        return self.pooled(self.norm("norm", x))


@pytest.mark.parametrize(("family", "mlp", "pool"), ALL)
def test_features_are_those_of_the_papers(monkeypatch, family, mlp, pool):
    sizes, _, more, _, eps = CASES[family]
    monkeypatch.setitem(sizes, towers.VARIANT, ViTSize(PATCH, WIDTH, DEPTH, HEADS, HIDDEN, mlp=mlp, **more))
    pixels = SIDE * PATCH
    spec = spec_of(towers.VARIANT, image_size=pixels, pool=pool, num_classes=0, layer_norm_eps=eps)
    params = towers.arrays(spec, std=0.4)
    images = np.random.default_rng(1).standard_normal((2, pixels, pixels, 3)).astype(np.float32)
    found = quick_jit(families.network(spec, PLAIN, 0.0).features)(layout.unflatten(params), images)
    expected = Forward(family, mlp, pool, params)(images.astype(float))
    assert np.abs(np.asarray(found) - expected).max() <= 1e-5 * np.abs(expected).max()

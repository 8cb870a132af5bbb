"""Random weights of the small ViT under the names of other libraries."""

import numpy as np

from semivit_jax.models import families
from semivit_jax.models.vit import VIT_SIZES
from semivit_jax.weights import layout
from semivit_jax.weights.layout import Table
from tests.models import spec_of

PIXELS, SIZE = 32, VIT_SIZES["vit_test"]


def arrays(**changes) -> dict[str, np.ndarray]:
    """Our arrays by path, of a classifier of the class token; `changes` are fields of ModelSpec."""
    spec = spec_of("vit_test", **{"image_size": PIXELS, "pool": "cls", "num_classes": 5, **changes})
    generator = np.random.default_rng(0)
    return {path: generator.standard_normal(shape).astype(np.float32) for path, shape in families.shapes(spec).items()}


def state_dict(table: Table, **changes) -> dict[str, np.ndarray]:
    """The same under the names of a layout."""
    theirs = layout.state_dict(arrays(**changes), table)
    return {name: np.ascontiguousarray(tensor) for name, tensor in theirs.items()}


def google(ours: dict[str, np.ndarray], *, names: str) -> dict[str, np.ndarray]:
    """Our arrays as flax's ViTs store them, written down apart from the importer: flax has our orientation.

    Args:
      ours: by path.
      names: "augreg", which numbers all modules of a block, or "big_vision", which numbers those of a kind.
    """
    width, heads = SIZE.width, SIZE.num_heads
    attention, second_norm, mlp = (1, 2, 3) if names == "augreg" else (0, 1, 0)
    theirs = {
        "cls": ours["cls_token"],
        "embedding/kernel": ours["patch_embed/kernel"],
        "embedding/bias": ours["patch_embed/bias"],
        "Transformer/encoder_norm/scale": ours["norm/scale"],
        "Transformer/encoder_norm/bias": ours["norm/bias"],
        "head/kernel": ours["head/kernel"],
        "head/bias": ours["head/bias"],
    }
    for block in range(SIZE.depth):
        b = f"Transformer/encoderblock_{block}"
        for ours_norm, number in (("norm1", 0), ("norm2", second_norm)):
            for leaf in ("scale", "bias"):
                theirs[f"{b}/LayerNorm_{number}/{leaf}"] = ours[f"blocks/{ours_norm}/{leaf}"][block]
        for ours_dense, number in (("fc1", 0), ("fc2", 1)):
            for leaf in ("kernel", "bias"):
                theirs[f"{b}/MlpBlock_{mlp}/Dense_{number}/{leaf}"] = ours[f"blocks/mlp/{ours_dense}/{leaf}"][block]
        a = f"{b}/MultiHeadDotProductAttention_{attention}"
        for number, part in enumerate(("query", "key", "value")):
            columns = slice(number * width, (number + 1) * width)
            kernel = ours["blocks/attn/qkv/kernel"][block][:, columns]
            theirs[f"{a}/{part}/kernel"] = kernel.reshape(width, heads, width // heads)
            theirs[f"{a}/{part}/bias"] = ours["blocks/attn/qkv/bias"][block][columns].reshape(heads, width // heads)
        kernel = ours["blocks/attn/proj/kernel"][block]
        theirs[f"{a}/out/kernel"] = kernel.reshape(heads, width // heads, width)
        theirs[f"{a}/out/bias"] = ours["blocks/attn/proj/bias"][block]
    if names == "augreg":
        return theirs | {"Transformer/posembed_input/pos_embedding": ours["posemb"]}
    return {f"params/{name}": array for name, array in (theirs | {"pos_embedding": ours["posemb"][:, 1:]}).items()}

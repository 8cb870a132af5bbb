"""Recognise Google's ViTs, of vision_transformer (AugReg) and big_vision, which keep flax arrays in .npz files."""

import dataclasses
import re

import numpy as np

from semivit_jax.models.layers import LAYER_NORM_EPS
from semivit_jax.weights.layout import Table
from semivit_jax.weights.preprocessing import IMAGENET_224
from semivit_jax.weights.sources import UNSAID, Beside, Source
from semivit_jax.weights.tensors import Tensors

_SIGN = re.compile(r"Transformer/encoderblock(_\d+)?/MultiHeadDotProductAttention_(?P<attention>\d)/query/kernel")
_MEAN = _STD = (0.5, 0.5, 0.5)  # values in -1..1, of all their models (Steiner et al. 2021, section 3.2)
_NOTE = (
    "their authors' GELU is the tanh form, the one here exact, as in timm: logits differ in the third digit; "
    "mean and std 0.5 are their authors'"
)


def recognise(tensors: Tensors) -> Source | None:
    """A ViT under the names of flax; None for others.

    Raises:
      ValueError: one that computes otherwise than the models here, by name.
    """
    sign = next((found for found in map(_SIGN.fullmatch, tensors.shapes) if found), None)
    if sign is None:
        return None
    _refuse_unrepresentable(tensors, sign[0])
    table = _table(_posemb_name(tensors), int(sign["attention"]), with_head="pre_logits/kernel" not in tensors.shapes)
    return Source(
        kind="Google's ViT",
        family="vit",
        tensors=_in_pytorch_layout(tensors),
        table=table,
        decoder=None,
        decoder_num_heads=None,
        pool="cls",
        size={"num_heads": tensors.shapes[sign[0]][1]},
        image_size=None,
        beside=Beside(
            LAYER_NORM_EPS, dataclasses.replace(IMAGENET_224, mean=_MEAN, std=_STD), UNSAID[:3], None, (_NOTE,)
        ),
    )


def _refuse_unrepresentable(tensors: Tensors, query: str) -> None:
    for name in tensors.shapes:
        if "MAPHead" in name:
            raise ValueError(f"{name}: pools by attention (MAP head), the models here by mean or class token")
        if "conv_root" in name or "block1/" in name:
            raise ValueError(f"{name}: has a ResNet before the Transformer (hybrid), take the plain ViT")
    if len(tensors.shapes[query]) != 3:
        raise ValueError(f"{query}: all blocks in one array (big_vision's scan) are not read, save them apart")
    if "cls" not in tensors.shapes:
        raise ValueError(
            "no class token (cls): the models of big_vision without one normalise before they take the mean, "
            "the models here have a class token and normalise afterwards; take a ViT with class token"
        )


def _posemb_name(tensors: Tensors) -> str:
    names = ("Transformer/posembed_input/pos_embedding", "pos_embedding")
    return next((name for name in names if name in tensors.shapes), names[0])


def _table(posemb: str, attention: int, *, with_head: bool) -> Table:
    # AugReg numbers all modules of a block, big_vision those of a kind.
    block, norms, mlp = "Transformer/encoderblock_{block}", (0, 2) if attention else (0, 1), 3 if attention else 0
    attend = f"{block}/MultiHeadDotProductAttention_{attention}"
    table: dict[str, str | tuple[str, ...]] = {"cls_token": "cls", "posemb": posemb}
    for leaf in ("kernel", "bias"):
        table |= {
            f"patch_embed/{leaf}": f"embedding/{leaf}",
            f"blocks/attn/qkv/{leaf}": tuple(f"{attend}/{part}/{leaf}" for part in ("query", "key", "value")),
            f"blocks/attn/proj/{leaf}": f"{attend}/out/{leaf}",
            f"blocks/mlp/fc1/{leaf}": f"{block}/MlpBlock_{mlp}/Dense_0/{leaf}",
            f"blocks/mlp/fc2/{leaf}": f"{block}/MlpBlock_{mlp}/Dense_1/{leaf}",
        }
        if with_head:
            table[f"head/{leaf}"] = f"head/{leaf}"
    for leaf in ("scale", "bias"):
        table |= {
            f"blocks/norm1/{leaf}": f"{block}/LayerNorm_{norms[0]}/{leaf}",
            f"blocks/norm2/{leaf}": f"{block}/LayerNorm_{norms[1]}/{leaf}",
            f"norm/{leaf}": f"Transformer/encoder_norm/{leaf}",
        }
    return table


def _in_pytorch_layout(tensors: Tensors) -> Tensors:
    """Kernels with outputs first, heads joined, under the same names: what `layout` takes apart."""

    def read(name: str) -> np.ndarray:
        return _to_pytorch(name, tensors.read(name))

    shapes = {name: _to_pytorch(name, np.broadcast_to(0, shape)).shape for name, shape in tensors.shapes.items()}
    return Tensors(shapes, read)


def _to_pytorch(name: str, array: np.ndarray) -> np.ndarray:
    """(h, w, in, out) to (out, in, h, w), (in, out) to (out, in); attention has its heads apart."""
    *_, layer, leaf = ("", *name.split("/"))
    if leaf == "bias" and array.ndim == 2:  # (heads, values) of query, key and value
        return array.reshape(-1)
    if leaf != "kernel":
        return array
    if array.ndim == 3:  # (width, heads, values), or of the output (heads, values, width)
        array = array.reshape(-1, array.shape[2]) if layer == "out" else array.reshape(len(array), -1)
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T

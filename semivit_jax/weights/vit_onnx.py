"""Write the ONNX graph of a ViT."""

import numpy as np

from semivit_jax.models import vit
from semivit_jax.models.spec import ModelSpec
from semivit_jax.weights.graph import PIXELS, Params, Writer, dense, norm, under


def features(writer: Writer, x: str, params: Params, spec: ModelSpec) -> str:
    """Adds everything from normalised pixels (batch, 3, height, width) to the features (batch, width)."""
    p, width, eps = spec.size.patch_size, spec.size.width, spec.layer_norm_eps
    kernel, bias = params["patch_embed/kernel"], params["patch_embed/bias"]
    x = writer.conv(x, "patch_embed", kernel, bias, strides=[p, p])
    x = writer.node("Reshape", [x, writer.constant([0, width, -1])])
    x = writer.node("Transpose", [x], perm=[0, 2, 1])
    x = _tokens(writer, x, params, spec)
    for block in range(spec.size.depth):
        x = _block(writer, x, f"blocks.{block}", under(params, "blocks/", block), spec)
    if spec.pool == "cls":
        return writer.node("Gather", [norm(writer, x, "encoder", params, "norm", eps=eps), _zero(writer)], axis=1)
    first = 1 + spec.size.registers
    ends = (first, first + vit.grid_size(spec) ** 2, 1)
    patches = writer.node("Slice", [x, *(writer.constant([n]) for n in ends)])
    pooled = writer.node("ReduceMean", [patches, writer.constant([1])], keepdims=0)
    return norm(writer, pooled, "encoder", params, "fc_norm", eps=eps)


def _tokens(writer: Writer, patches: str, params: Params, spec: ModelSpec) -> str:
    """Class token, registers where there are any, and patches, with their positions."""
    batch, width = writer.node("Shape", [PIXELS], start=0, end=1), spec.size.width

    def of_every_image(name: str, tokens: np.ndarray) -> str:
        shape = writer.node("Concat", [batch, writer.constant([tokens.shape[1], width])], axis=0)
        return writer.node("Expand", [writer.weight(name, tokens), shape])

    token, table = params["cls_token"], params["posemb"]
    if not spec.size.registers:
        x = writer.node("Concat", [of_every_image("cls_token", token), patches], axis=1)
        return writer.node("Add", [x, writer.weight("posemb", table)])
    before = np.concatenate([token + table[:, :1], params["register_tokens"]], axis=1)
    placed = writer.node("Add", [patches, writer.weight("posemb", table[:, 1:])])
    return writer.node("Concat", [of_every_image("tokens", before), placed], axis=1)


def _zero(writer: Writer) -> str:
    """The scalar 0: gathering with it drops the axis."""
    return writer.node("Squeeze", [writer.constant([0])])


def _block(writer: Writer, x: str, name: str, params: Params, spec: ModelSpec) -> str:
    h = norm(writer, x, name, params, "norm1", eps=spec.layer_norm_eps)
    h = _scaled(writer, _attention(writer, h, name, params, spec), f"{name}.ls1", params.get("ls1/gamma"))
    x = writer.node("Add", [x, h])
    h = norm(writer, x, name, params, "norm2", eps=spec.layer_norm_eps)
    h = dense(writer, h, name, params, "mlp/fc1")
    h = _gated(writer, h, spec) if spec.size.mlp == "swiglu" else writer.node("Gelu", [h], approximate="none")
    h = _scaled(writer, dense(writer, h, name, params, "mlp/fc2"), f"{name}.ls2", params.get("ls2/gamma"))
    return writer.node("Add", [x, h])


def _scaled(writer: Writer, branch: str, name: str, gamma: np.ndarray | None) -> str:
    return branch if gamma is None else writer.node("Mul", [branch, writer.weight(name, gamma)])


def _gated(writer: Writer, x: str, spec: ModelSpec) -> str:
    """silu of the first half, times the second."""
    half = spec.size.mlp_dim
    gate, value = (
        writer.node("Slice", [x, *(writer.constant([n]) for n in (start, start + half, 2))]) for start in (0, half)
    )
    return writer.node("Mul", [writer.node("Mul", [gate, writer.node("Sigmoid", [gate])]), value])


def _attention(writer: Writer, x: str, name: str, params: Params, spec: ModelSpec) -> str:
    width, num_heads = spec.size.width, spec.size.num_heads
    head_dim = width // num_heads

    def heads(part: int) -> str:
        """Query, key or value as (batch, heads, tokens, head_dim)."""
        columns = slice(part * width, (part + 1) * width)
        kernel, bias = params["attn/qkv/kernel"][:, columns], params["attn/qkv/bias"][columns]
        y = writer.dense(x, f"{name}.attn.{'qkv'[part]}", kernel, bias)
        y = writer.node("Reshape", [y, writer.constant([0, 0, num_heads, head_dim])])
        return writer.node("Transpose", [y], perm=[0, 2, 1, 3])

    query, key, value = (heads(part) for part in range(3))
    query = writer.node("Mul", [query, writer.constant([float(head_dim**-0.5)])])
    scores = writer.node("MatMul", [query, writer.node("Transpose", [key], perm=[0, 1, 3, 2])])
    mixed = writer.node("MatMul", [writer.node("Softmax", [scores], axis=-1), value])
    mixed = writer.node("Transpose", [mixed], perm=[0, 2, 1, 3])
    mixed = writer.node("Reshape", [mixed, writer.constant([0, 0, width])])
    return dense(writer, mixed, name, params, "attn/proj")

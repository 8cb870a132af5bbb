"""ONNX: the graph of a ViT or ConvNeXt, written straight from the parameters."""

import json
import pathlib

import numpy as np
from onnx import TensorProto

from semivit_jax.export.bundle import Bundle, write_record
from semivit_jax.export.onnx_graph import GraphWriter
from semivit_jax.models.layers import LAYER_NORM_EPS
from semivit_jax.models.spec import ModelSpec
from semivit_jax.models.vit import grid_size
from semivit_jax.weights.preprocessing import Preprocessing

MODEL_FILE = "model.onnx"
WEIGHTS_FILE = "model.onnx.data"
PIXELS = "images"  # name of the input

Params = dict[str, np.ndarray]


def export_onnx(folder: pathlib.Path, bundle: Bundle) -> None:
    """Writes model.onnx with its weights beside it, and preprocessing.json.

    The input is the uint8 view (batch, size, size, 3), any batch; the graph normalises it itself.
    """
    with (folder / WEIGHTS_FILE).open("wb") as weights_file:
        writer = GraphWriter(weights_file, WEIGHTS_FILE)
        x = _normalised(writer, bundle.preprocessing)
        params = bundle.flat_params
        graph = _vit if bundle.spec.family == "vit" else _convnext
        features = graph(writer, x, params, bundle.spec)
        logits = writer.dense(features, "head", params["head/kernel"], params["head/bias"])
    writer.save(
        folder / MODEL_FILE,
        name=bundle.spec.variant,
        pixels=PIXELS,
        image_size=bundle.spec.image_size,
        logits=logits,
        num_classes=bundle.spec.num_classes,
        metadata={
            "preprocessing": json.dumps(bundle.preprocessing.to_json()),
            "class_names": json.dumps(bundle.class_names),
        },
    )
    write_record(folder, bundle)


def _normalised(writer: GraphWriter, view: Preprocessing) -> str:
    """uint8 (batch, h, w, 3) to float32 (batch, 3, h, w), normalised."""
    x = writer.node("Cast", [PIXELS], to=TensorProto.FLOAT)
    x = writer.node("Div", [x, writer.constant([255.0])])
    x = writer.node("Sub", [x, writer.constant(list(view.mean))])
    x = writer.node("Div", [x, writer.constant(list(view.std))])
    return _channels_first(writer, x)


def _channels_first(writer: GraphWriter, x: str) -> str:
    return writer.node("Transpose", [x], perm=[0, 3, 1, 2])


def _channels_last(writer: GraphWriter, x: str) -> str:
    return writer.node("Transpose", [x], perm=[0, 2, 3, 1])


def _under(params: Params, prefix: str, block: int | None = None) -> Params:
    """Parameters under a path prefix, of one block of the stack where a number is given."""
    cut = {path.removeprefix(prefix): array for path, array in params.items() if path.startswith(prefix)}
    return cut if block is None else {path: array[block] for path, array in cut.items()}


def _dense(writer: GraphWriter, x: str, name: str, params: Params, layer: str) -> str:
    return writer.dense(x, f"{name}.{layer}", params[f"{layer}/kernel"], params[f"{layer}/bias"])


def _norm(writer: GraphWriter, x: str, name: str, params: Params, layer: str, *, eps: float = LAYER_NORM_EPS) -> str:
    scale, bias = params[f"{layer}/scale"], params[f"{layer}/bias"]
    return writer.layer_norm(x, f"{name}.{layer}", scale, bias, eps=eps)


def _vit(writer: GraphWriter, x: str, params: Params, spec: ModelSpec) -> str:
    """Features (batch, width) of a ViT."""
    p, eps = spec.size.patch_size, spec.layer_norm_eps
    kernel, bias = params["patch_embed/kernel"], params["patch_embed/bias"]
    x = writer.conv(x, "patch_embed", kernel, bias, strides=[p, p])
    x = writer.node("Reshape", [x, writer.constant([0, spec.size.width, -1])])
    x = writer.node("Transpose", [x], perm=[0, 2, 1])
    batch = writer.node("Shape", [PIXELS], start=0, end=1)
    token_shape = writer.node("Concat", [batch, writer.constant([1, spec.size.width])], axis=0)
    cls_token = writer.node("Expand", [writer.weight("cls_token", params["cls_token"]), token_shape])
    x = writer.node("Concat", [cls_token, x], axis=1)
    x = writer.node("Add", [x, writer.weight("posemb", params["posemb"])])
    for block in range(spec.size.depth):
        x = _vit_block(writer, x, f"blocks.{block}", _under(params, "blocks/", block), spec)
    if spec.pool == "cls":
        return writer.node("Gather", [_norm(writer, x, "encoder", params, "norm", eps=eps), _zero(writer)], axis=1)
    patches = writer.node("Slice", [x, *(writer.constant([n]) for n in (1, grid_size(spec) ** 2 + 1, 1))])
    pooled = writer.node("ReduceMean", [patches, writer.constant([1])], keepdims=0)
    return _norm(writer, pooled, "encoder", params, "fc_norm", eps=eps)


def _zero(writer: GraphWriter) -> str:
    """The scalar 0: gathering with it drops the axis."""
    return writer.node("Squeeze", [writer.constant([0])])


def _vit_block(writer: GraphWriter, x: str, name: str, params: Params, spec: ModelSpec) -> str:
    h = _norm(writer, x, name, params, "norm1", eps=spec.layer_norm_eps)
    x = writer.node("Add", [x, _attention(writer, h, name, params, spec)])
    h = _norm(writer, x, name, params, "norm2", eps=spec.layer_norm_eps)
    h = _dense(writer, h, name, params, "mlp/fc1")
    h = writer.node("Gelu", [h], approximate="none")
    return writer.node("Add", [x, _dense(writer, h, name, params, "mlp/fc2")])


def _attention(writer: GraphWriter, x: str, name: str, params: Params, spec: ModelSpec) -> str:
    head_dim = spec.size.width // spec.size.num_heads
    width = spec.size.width

    def heads(part: int) -> str:
        """Query, key or value as (batch, heads, tokens, head_dim)."""
        columns = slice(part * width, (part + 1) * width)
        kernel, bias = params["attn/qkv/kernel"][:, columns], params["attn/qkv/bias"][columns]
        y = writer.dense(x, f"{name}.attn.{'qkv'[part]}", kernel, bias)
        y = writer.node("Reshape", [y, writer.constant([0, 0, spec.size.num_heads, head_dim])])
        return writer.node("Transpose", [y], perm=[0, 2, 1, 3])

    query, key, value = (heads(part) for part in range(3))
    query = writer.node("Mul", [query, writer.constant([float(head_dim**-0.5)])])
    scores = writer.node("MatMul", [query, writer.node("Transpose", [key], perm=[0, 1, 3, 2])])
    mixed = writer.node("MatMul", [writer.node("Softmax", [scores], axis=-1), value])
    mixed = writer.node("Transpose", [mixed], perm=[0, 2, 1, 3])
    mixed = writer.node("Reshape", [mixed, writer.constant([0, 0, width])])
    return _dense(writer, mixed, name, params, "attn/proj")


def _convnext(writer: GraphWriter, x: str, params: Params, spec: ModelSpec) -> str:
    """Features (batch, width) of a ConvNeXt; x and every stage are channels first."""
    for stage, depth in enumerate(spec.size.depths):
        x = _downsample(writer, x, stage, _under(params, f"downsample_{stage}/"))
        for block in range(depth):
            name = f"stages.{stage}.{block}"
            x = _convnext_block(writer, x, name, _under(params, f"stages_{stage}/", block))
    pooled = writer.node("ReduceMean", [x, writer.constant([2, 3])], keepdims=0)
    return _norm(writer, pooled, "encoder", params, "norm", eps=spec.layer_norm_eps)


def _downsample(writer: GraphWriter, x: str, stage: int, params: Params) -> str:
    name, stride = f"downsample.{stage}", 4 if stage == 0 else 2

    def conv(y: str) -> str:
        return writer.conv(y, f"{name}.conv", params["conv/kernel"], params["conv/bias"], strides=[stride] * 2)

    def norm(y: str) -> str:
        return _channels_first(writer, _norm(writer, _channels_last(writer, y), name, params, "norm"))

    return norm(conv(x)) if stage == 0 else conv(norm(x))


def _convnext_block(writer: GraphWriter, x: str, name: str, params: Params) -> str:
    kernel, bias = params["dwconv/kernel"], params["dwconv/bias"]
    h = writer.conv(x, f"{name}.dwconv", kernel, bias, pads=[3, 3, 3, 3], group=kernel.shape[-1])
    h = _norm(writer, _channels_last(writer, h), name, params, "norm")
    h = _dense(writer, h, name, params, "fc1")
    h = writer.node("Gelu", [h], approximate="none")
    h = _dense(writer, h, name, params, "fc2")
    h = writer.node("Mul", [h, writer.weight(f"{name}.gamma", params["gamma"])])
    return writer.node("Add", [x, _channels_first(writer, h)])

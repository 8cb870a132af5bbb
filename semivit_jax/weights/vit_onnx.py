"""Write the ONNX graph of a ViT."""

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
    batch = writer.node("Shape", [PIXELS], start=0, end=1)
    token_shape = writer.node("Concat", [batch, writer.constant([1, width])], axis=0)
    cls_token = writer.node("Expand", [writer.weight("cls_token", params["cls_token"]), token_shape])
    x = writer.node("Concat", [cls_token, x], axis=1)
    x = writer.node("Add", [x, writer.weight("posemb", params["posemb"])])
    for block in range(spec.size.depth):
        x = _block(writer, x, f"blocks.{block}", under(params, "blocks/", block), spec)
    if spec.pool == "cls":
        return writer.node("Gather", [norm(writer, x, "encoder", params, "norm", eps=eps), _zero(writer)], axis=1)
    patches = writer.node("Slice", [x, *(writer.constant([n]) for n in (1, vit.grid_size(spec) ** 2 + 1, 1))])
    pooled = writer.node("ReduceMean", [patches, writer.constant([1])], keepdims=0)
    return norm(writer, pooled, "encoder", params, "fc_norm", eps=eps)


def _zero(writer: Writer) -> str:
    """The scalar 0: gathering with it drops the axis."""
    return writer.node("Squeeze", [writer.constant([0])])


def _block(writer: Writer, x: str, name: str, params: Params, spec: ModelSpec) -> str:
    h = norm(writer, x, name, params, "norm1", eps=spec.layer_norm_eps)
    x = writer.node("Add", [x, _attention(writer, h, name, params, spec)])
    h = norm(writer, x, name, params, "norm2", eps=spec.layer_norm_eps)
    h = dense(writer, h, name, params, "mlp/fc1")
    h = writer.node("Gelu", [h], approximate="none")
    return writer.node("Add", [x, dense(writer, h, name, params, "mlp/fc2")])


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

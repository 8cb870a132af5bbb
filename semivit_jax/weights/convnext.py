"""Translate ConvNeXts from and to other libraries."""

from collections.abc import Mapping
from typing import Any

from semivit_jax.models import families
from semivit_jax.models.convnext import CONVNEXT_SIZES, STRIDE
from semivit_jax.models.layers import LAYER_NORM_EPS
from semivit_jax.models.spec import ModelSpec
from semivit_jax.weights.convnext_names import HUGGING_FACE, HUGGING_FACE_DINOV3, PUBLISHED, STAGES, TIMM
from semivit_jax.weights.exchange import HEAD, Exchange, HuggingFace, Timm, Wanted, as_they_are
from semivit_jax.weights.fill import Target
from semivit_jax.weights.graph import Params, Writer, dense, norm, under
from semivit_jax.weights.public import DINOV3_LICENCE, Public
from semivit_jax.weights.sources import Configs, Source, beside_hugging_face, beside_timm, model_type
from semivit_jax.weights.tensors import Tensors

MODEL_TYPES = ("convnext", "dinov3_convnext")
_SIZES = ("tiny", "small", "base", "large")  # timm calls the models the same

# Name of a tensor that tells a layout apart, or Hugging Face's model_type -> the layout.
_LAYOUTS = {"downsample_layers.0.0.weight": PUBLISHED, "stem.0.weight": TIMM, "convnext": HUGGING_FACE,
            "dinov3_convnext": HUGGING_FACE_DINOV3}  # fmt: skip


def recognise(tensors: Tensors, configs: Configs) -> Source | None:
    """The published names, timm's and Hugging Face's."""
    kind = model_type(configs)
    signs = {kind} if kind else tensors.shapes
    table = next((table for sign, table in _LAYOUTS.items() if sign in signs), None)
    if table is None:
        return None
    beside = beside_hugging_face(configs, activation="gelu") if kind else beside_timm(configs)
    if table is HUGGING_FACE_DINOV3:
        tensors = tensors.without_prefix("model.")
        if beside.layer_norm_eps != LAYER_NORM_EPS:
            raise ValueError(
                f"layer_norm_eps {beside.layer_norm_eps:g}: the norms of blocks have {LAYER_NORM_EPS:g} here"
            )
    return Source(
        kind=f"Hugging Face {kind}" if kind else "ConvNeXt",
        family="convnext",
        tensors=tensors.without_prefix("convnext."),
        table=table,
        decoder=None,
        decoder_num_heads=None,
        pool="mean",
        size={},
        image_size=None,
        beside=beside,
    )


def measured(shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, Any]:
    """Blocks and channels of each stage."""
    depths, widths = zip(*(shapes[f"stages_{stage}/norm/bias"] for stage in STAGES), strict=True)
    return {"depths": depths, "widths": widths}


def spec(source: Source, wanted: Wanted) -> ModelSpec:
    """The model of the wanted variant with the source's head.

    Raises:
      ValueError: another pool than 'mean', or a decoder.
    """
    if wanted.pool not in (None, "mean") or wanted.decoder:
        raise ValueError(
            f"{wanted.variant}: has pool 'mean' and no decoder, got pool {wanted.pool!r}, decoder {wanted.decoder}"
        )
    return ModelSpec(
        family="convnext",
        variant=wanted.variant,
        size=CONVNEXT_SIZES[wanted.variant],
        image_size=wanted.image_size,
        layer_norm_eps=source.beside.layer_norm_eps,
        pool="mean",
        posemb="none",
        num_classes=source.num_classes,
        decoder=None,
    )


def target(source: Source, spec: ModelSpec) -> Target:
    """Everything must fit; a head that the source lacks is drawn."""
    return Target(
        shapes=families.shapes(spec),
        table=source.table,
        resizers={},
        fresh={},
        drawn=() if spec.num_classes else HEAD,
        expendable=(),
    )


def timm(spec: ModelSpec) -> Timm:
    """ConvNeXt of timm."""
    return Timm(
        architecture=spec.variant if spec.variant.removeprefix("convnext_") in _SIZES else "convnext_tiny",
        model_args={"depths": list(spec.size.depths), "dims": list(spec.size.widths)},
        num_features=spec.size.widths[-1],
        global_pool="avg",
        fixed_input_size=False,
        pool_size=(spec.image_size // STRIDE, spec.image_size // STRIDE),
        first_conv="stem.0",
        classifier="head.fc",
        layer_norm_eps=LAYER_NORM_EPS,
        arrays=as_they_are,
    )


def hugging_face(spec: ModelSpec) -> HuggingFace:
    """ConvNextForImageClassification."""
    config = {
        "architectures": ["ConvNextForImageClassification"],
        "model_type": "convnext",
        "depths": list(spec.size.depths),
        "hidden_sizes": list(spec.size.widths),
        "num_stages": len(spec.size.depths),
        "patch_size": 4,
        "hidden_act": "gelu",
        "layer_norm_eps": spec.layer_norm_eps,  # there too of the final norm alone
        "image_size": spec.image_size,
        "num_channels": 3,
        "drop_path_rate": 0.0,
    }
    return HuggingFace(config, HUGGING_FACE, "convnext.", as_they_are)


def features(writer: Writer, x: str, params: Params, spec: ModelSpec) -> str:
    """Adds everything from normalised pixels (batch, 3, height, width) to the features; stages are channels first."""
    for stage, depth in enumerate(spec.size.depths):
        x = _downsample(writer, x, stage, under(params, f"downsample_{stage}/"))
        for block in range(depth):
            x = _block(writer, x, f"stages.{stage}.{block}", under(params, f"stages_{stage}/", block))
    pooled = writer.node("ReduceMean", [x, writer.constant([2, 3])], keepdims=0)
    return norm(writer, pooled, "encoder", params, "norm", eps=spec.layer_norm_eps)


def _downsample(writer: Writer, x: str, stage: int, params: Params) -> str:
    name, stride = f"downsample.{stage}", 4 if stage == 0 else 2

    def conv(y: str) -> str:
        return writer.conv(y, f"{name}.conv", params["conv/kernel"], params["conv/bias"], strides=[stride] * 2)

    def channel_norm(y: str) -> str:
        return _channels_first(writer, norm(writer, _channels_last(writer, y), name, params, "norm"))

    return channel_norm(conv(x)) if stage == 0 else conv(channel_norm(x))


def _block(writer: Writer, x: str, name: str, params: Params) -> str:
    kernel, bias = params["dwconv/kernel"], params["dwconv/bias"]
    h = writer.conv(x, f"{name}.dwconv", kernel, bias, pads=[3, 3, 3, 3], group=kernel.shape[-1])
    h = norm(writer, _channels_last(writer, h), name, params, "norm")
    h = dense(writer, h, name, params, "fc1")
    h = writer.node("Gelu", [h], approximate="none")
    h = dense(writer, h, name, params, "fc2")
    h = writer.node("Mul", [h, writer.weight(f"{name}.gamma", params["gamma"])])
    return writer.node("Add", [x, _channels_first(writer, h)])


def _channels_first(writer: Writer, x: str) -> str:
    return writer.node("Transpose", [x], perm=[0, 3, 1, 2])


def _channels_last(writer: Writer, x: str) -> str:
    return writer.node("Transpose", [x], perm=[0, 2, 3, 1])


def _public(size: str) -> tuple[Public, ...]:
    dinov3 = (f"facebook/dinov3-convnext-{size}-pretrain-lvd1689m", f"timm/convnext_{size}.dinov3_lvd1689m")
    return (
        Public(f"facebook/convnext-{size}-224"),
        Public(f"timm/convnext_{size}.fb_in1k"),
        *(Public(name, DINOV3_LICENCE) for name in dinov3),
    )


PUBLIC: dict[str, tuple[Public, ...]] = {f"convnext_{size}": _public(size) for size in _SIZES}
"""Variant -> what is published of it (names of the hub of Hugging Face)."""

EXCHANGE = Exchange(
    known=("DINOv3's ConvNeXt of Hugging Face", "ConvNeXt"),
    public=PUBLIC,
    model_types=MODEL_TYPES,
    recognise=recognise,
    measured=measured,
    adapted=lambda source, spec: (source.tensors, ()),
    spec=spec,
    target=target,
    names=lambda spec: TIMM,
    decoder_names=None,
    constants=lambda spec: {},
    timm=timm,
    hugging_face=hugging_face,
    onnx=features,
)

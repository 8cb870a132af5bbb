"""Recognises whose weights a state dict holds: by the config beside it, else by the names of its tensors."""

import dataclasses
from collections.abc import Mapping

from semivit_jax.models.layers import LAYER_NORM_EPS
from semivit_jax.weights import convnext, vit_names
from semivit_jax.weights.fold import fold_layer_scale
from semivit_jax.weights.layout import Table
from semivit_jax.weights.preprocessing import IMAGENET_224, Preprocessing, from_hugging_face, from_timm
from semivit_jax.weights.tensors import Tensors

PUBLISHED_DECODER_HEADS = 16  # of every published MAE decoder (He et al. 2022, table 1 and section 4)


@dataclasses.dataclass(frozen=True)
class Source:
    """A recognised state dict.

    Attributes:
      kind: what it was recognised as, for the report.
      family: "vit" or "convnext".
      tensors: without prefixes, layer scale folded.
      folded: names of the tensors that were folded into others.
      table: our path -> names.
      decoder: the same for the MAE decoder, under the paths of our decoder; None where there is none.
      fixed_tables: names of the MAE's frozen position embeddings: encoder, decoder.
      pool: what its head reads, "mean" or "cls"; encoders without a head count as "cls".
      num_heads: of the encoder; None where only the model's definition knows.
      decoder_num_heads: of the decoder; None where there is none.
      layer_norm_eps: read from its config, or what its authors compute with; of a ConvNeXt's final norm alone.
      preprocessing: read from its config, or what its authors evaluate with.
      class_names: None where they are not stored.
    """

    kind: str
    family: str
    tensors: Tensors
    folded: tuple[str, ...]
    table: Table
    decoder: Table | None
    fixed_tables: tuple[str, str]
    pool: str
    num_heads: int | None
    decoder_num_heads: int | None
    layer_norm_eps: float
    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None

    @property
    def num_classes(self) -> int:
        """Outputs of its head, 0 where it has none."""
        return self.tensors.shapes.get(str(self.table.get("head/kernel")), (0,))[0]


def recognise(tensors: Tensors, configs: Mapping[str, Mapping]) -> Source:
    """Recognises a state dict.

    Args:
      tensors: the state dict as stored.
      configs: parsed config.json and preprocessor_config.json, where they lie beside it.

    Raises:
      ValueError: a layout that is not known, or a variant the models here cannot represent, by name.
    """
    config = configs.get("config.json", {})
    if config.get("model_type", "timm_wrapper") != "timm_wrapper":
        return _hugging_face(tensors, config, configs.get("preprocessor_config.json"))
    if any("patch_embeddings" in name for name in tensors.shapes):
        raise ValueError(
            "Hugging Face weights without their config.json: give the folder or the hub name, because "
            "the number of heads and the LayerNorm eps stand there alone"
        )
    return _timm(tensors.without_prefix("timm_model."), config if "pretrained_cfg" in config else {})


def _timm(tensors: Tensors, config: Mapping) -> Source:
    """timm's names, which MAE, DINO, DINOv2, ConvNeXt and Semi-ViT share."""
    preprocessing = from_timm(config["pretrained_cfg"]) if config else IMAGENET_224
    class_names = _timm_class_names(config)
    for first, table in (
        ("downsample_layers.0.0.weight", convnext.PUBLISHED),
        ("stem.0.weight", convnext.TIMM),
    ):
        if first in tensors.shapes:
            return _convnext("ConvNeXt", tensors, table, preprocessing, class_names)
    if "patch_embed.proj.weight" not in tensors.shapes:
        raise ValueError(
            f"not a layout known here; its tensors are {', '.join(list(tensors.shapes)[:5])}, ... "
            "(known: timm, MAE, DINO, DINOv2, Semi-ViT, Hugging Face ViT, ViTMAE, Dinov2, ConvNeXt)"
        )
    _refuse_unrepresentable(tensors)
    folded = fold_layer_scale(tensors, vit_names.TIMM_LAYER_SCALE)
    has_decoder = "decoder_embed.weight" in tensors.shapes
    pool = "mean" if "fc_norm.weight" in tensors.shapes else "cls"
    stored_pool = {"avg": "mean", "token": "cls"}.get(config.get("global_pool", "token"))
    if config and stored_pool != pool:
        raise ValueError(
            f"global_pool {config['global_pool']!r} with {'fc_norm' if pool == 'mean' else 'norm'}: "
            "the models here pool 'avg' before fc_norm, or 'token' after norm"
        )
    return Source(
        kind="MAE with decoder" if has_decoder else "ViT in timm's layout",
        family="vit",
        tensors=folded,
        folded=tuple(name for name in tensors.shapes if name not in folded.shapes),
        table=vit_names.TIMM,
        decoder=vit_names.TIMM_DECODER if has_decoder else None,
        fixed_tables=("pos_embed", "decoder_pos_embed"),
        pool=pool,
        num_heads=None,
        decoder_num_heads=PUBLISHED_DECODER_HEADS if has_decoder else None,
        layer_norm_eps=LAYER_NORM_EPS,
        preprocessing=preprocessing,
        class_names=class_names,
    )


def _hugging_face(tensors: Tensors, config: Mapping, preprocessor: Mapping | None) -> Source:
    kind = config["model_type"]
    if kind not in ("vit", "vit_mae", "dinov2", "convnext"):
        raise ValueError(f"model_type {kind!r}: only vit, vit_mae, dinov2 and convnext are supported")
    if config["hidden_act"] != "gelu":
        raise ValueError(f"hidden_act {config['hidden_act']!r}: the models here use the exact 'gelu'")
    if kind == "convnext":
        tensors = tensors.without_prefix("convnext.")
        preprocessing = _hugging_face_preprocessing(config, preprocessor)
        table = convnext.HUGGING_FACE
        source = _convnext("Hugging Face convnext", tensors, table, preprocessing, _class_names(config))
        return dataclasses.replace(source, layer_norm_eps=config["layer_norm_eps"])
    tensors = tensors.without_prefix("vit.").without_prefix("dinov2.")
    _refuse_unrepresentable(tensors)
    table = vit_names.HUGGING_FACE_DINOV2 if kind == "dinov2" else vit_names.HUGGING_FACE
    folded = fold_layer_scale(tensors, vit_names.HUGGING_FACE_LAYER_SCALE)
    has_decoder = "decoder.decoder_embed.weight" in tensors.shapes
    return Source(
        kind=f"Hugging Face {kind}",
        family="vit",
        tensors=folded,
        folded=tuple(name for name in tensors.shapes if name not in folded.shapes),
        table=table,
        decoder=vit_names.HUGGING_FACE_DECODER if has_decoder else None,
        fixed_tables=("embeddings.position_embeddings", "decoder.decoder_pos_embed"),
        pool="cls",
        num_heads=config["num_attention_heads"],
        decoder_num_heads=config["decoder_num_attention_heads"] if has_decoder else None,
        layer_norm_eps=config["layer_norm_eps"],
        preprocessing=_hugging_face_preprocessing(config, preprocessor),
        class_names=_class_names(config),
    )


def _hugging_face_preprocessing(config: Mapping, preprocessor: Mapping | None) -> Preprocessing:
    """From the preprocessor beside the weights, or from timm's part of the config where that is the one."""
    if "pretrained_cfg" in config:
        return from_timm(config["pretrained_cfg"])
    if preprocessor is not None:
        return from_hugging_face(preprocessor)
    return dataclasses.replace(IMAGENET_224, image_size=config["image_size"])


def _convnext(
    kind: str,
    tensors: Tensors,
    table: Table,
    preprocessing: Preprocessing,
    class_names: tuple[str, ...] | None,
) -> Source:
    return Source(
        kind=kind,
        family="convnext",
        tensors=tensors,
        folded=(),
        table=table,
        decoder=None,
        fixed_tables=("", ""),
        pool="mean",
        num_heads=None,
        decoder_num_heads=None,
        layer_norm_eps=LAYER_NORM_EPS,
        preprocessing=preprocessing,
        class_names=class_names,
    )


def _refuse_unrepresentable(tensors: Tensors) -> None:
    """Refuses, by name, variants whose tensors would otherwise only look like left-overs."""
    for name in tensors.shapes:
        if "register_token" in name or name == "reg_token":
            raise ValueError(
                f"{name}: register tokens (DINOv2 with registers) are not supported, take the plain variant"
            )
        if any(part in name for part in ("mlp.w12", "mlp.weights_in", "mlp.fc1_g")):
            raise ValueError(f"{name}: SwiGLU MLPs (DINOv2 giant) are not supported, take the S, B or L variant")
    fc1, fc2 = (tensors.shapes.get(f"blocks.0.mlp.{layer}.weight") for layer in ("fc1", "fc2"))
    if fc1 and fc2 and fc1[0] != fc2[1]:
        raise ValueError(
            f"blocks.0.mlp: fc1 gives {fc1[0]} values and fc2 takes {fc2[1]}: gated MLPs such as SwiGLU "
            "(DINOv2 giant) are not supported, take the S, B or L variant"
        )


def _class_names(config: Mapping) -> tuple[str, ...] | None:
    labels = config.get("id2label")
    return tuple(labels[str(i)] for i in range(len(labels))) if labels else None


def _timm_class_names(config: Mapping) -> tuple[str, ...] | None:
    labels = config.get("label_names") or config.get("pretrained_cfg", {}).get("label_names")
    return tuple(labels) if labels else None

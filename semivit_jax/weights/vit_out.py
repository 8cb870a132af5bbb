"""Describe a ViT as timm and as transformers build it."""

import numpy as np

from semivit_jax.models.layers import LAYER_NORM_EPS, LAYER_SCALE_INIT
from semivit_jax.models.spec import ModelSpec
from semivit_jax.weights import vit_names
from semivit_jax.weights.exchange import Arrays, HuggingFace, Timm, as_they_are

TIMM_POOLS = {"mean": "avg", "cls": "token"}
# The architecture says which function builds the model; its sizes are spelled out in `model_args`.
_TIMM_ARCHITECTURES = {
    "vit_s16": "vit_small_patch16_224",
    "vit_b16": "vit_base_patch16_224",
    "vit_l16": "vit_large_patch16_224",
    "vit_h14": "vit_huge_patch14_224",
}
_TIMM_SWIGLU = "vit_giant_patch14_dinov2"  # no argument in JSON can name the MLP


def timm(spec: ModelSpec) -> Timm:
    """VisionTransformer of timm."""
    size, more = spec.size, {}
    architecture = _TIMM_ARCHITECTURES.get(spec.variant, "vit_base_patch16_224")
    mlp_ratio = size.mlp_dim / size.width
    if size.mlp == "swiglu":
        # It counts gate and value, and rounds down what float makes of the ratio.
        architecture, mlp_ratio = _TIMM_SWIGLU, (2 * size.mlp_dim + 0.5) / size.width
    if size.layer_scale:
        more["init_values"] = LAYER_SCALE_INIT
    elif size.mlp == "swiglu":
        more["init_values"] = None
    if size.registers:
        more |= {"reg_tokens": size.registers, "no_embed_class": True}
    return Timm(
        architecture=architecture,
        model_args={
            "img_size": spec.image_size,
            "patch_size": size.patch_size,
            "embed_dim": size.width,
            "depth": size.depth,
            "num_heads": size.num_heads,
            "mlp_ratio": mlp_ratio,
            "global_pool": TIMM_POOLS[spec.pool],
            **more,
        },
        num_features=size.width,
        global_pool=TIMM_POOLS[spec.pool],
        fixed_input_size=True,
        pool_size=None,
        first_conv="patch_embed.proj",
        classifier="head",
        layer_norm_eps=LAYER_NORM_EPS,
        arrays=_without_class_row if size.registers else as_they_are,
    )


def _without_class_row(arrays: Arrays) -> Arrays:
    """With registers, timm's position embedding is one of patches alone: the class token's is added to the token."""
    token, table = arrays["cls_token"], arrays["posemb"]
    return {**arrays, "cls_token": token + table[:, :1], "posemb": table[:, 1:]}


def hugging_face(spec: ModelSpec) -> HuggingFace | None:
    """ViTForImageClassification, or one of DINOv2's, which read the class token; a mean has no class of its own."""
    size = spec.size
    if spec.pool != "cls":
        return None
    config = {
        "architectures": ["ViTForImageClassification"],
        "model_type": "vit",
        "hidden_size": size.width,
        "num_hidden_layers": size.depth,
        "num_attention_heads": size.num_heads,
        "intermediate_size": size.mlp_dim,
        "hidden_act": "gelu",
        "layer_norm_eps": spec.layer_norm_eps,
        "qkv_bias": True,
        "image_size": spec.image_size,
        "patch_size": size.patch_size,
        "num_channels": 3,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    if (size.mlp, size.layer_scale, size.registers) == ("gelu", False, 0):
        return HuggingFace(config, vit_names.HUGGING_FACE, "vit.", as_they_are)
    return _dinov2(spec, config) if size.layer_scale else None


def _dinov2(spec: ModelSpec, config: dict) -> HuggingFace | None:
    size, is_gated = spec.size, spec.size.mlp == "swiglu"
    del config["intermediate_size"]
    config |= {
        "architectures": ["Dinov2ForImageClassification"],
        "model_type": "dinov2",
        "mlp_ratio": _dinov2_ratio(size.mlp_dim, size.width, is_gated=is_gated),
        "use_swiglu_ffn": is_gated,
        "layerscale_value": LAYER_SCALE_INIT,
        "drop_path_rate": 0.0,
    }
    if config["mlp_ratio"] is None:
        return None
    if size.registers:
        named = {"architectures": ["Dinov2WithRegistersForImageClassification"], "model_type": "dinov2_with_registers"}
        config |= named | {"num_register_tokens": size.registers}
    names = vit_names.HUGGING_FACE_DINOV2_GATED if is_gated else vit_names.HUGGING_FACE_DINOV2_CLASSIFIER
    return HuggingFace(config, names, f"{config['model_type']}.", _beside_the_mean)


def _dinov2_ratio(mlp_dim: int, width: int, *, is_gated: bool) -> int | None:
    """The whole number from which they work out the MLP; None where none gives ours."""
    ratio = round(mlp_dim * (1.5 if is_gated else 1.0) / width)
    theirs = (int(ratio * width * 2 / 3) + 7) // 8 * 8 if is_gated else ratio * width
    return ratio if theirs == mlp_dim else None


def _beside_the_mean(arrays: Arrays) -> Arrays:
    """Their classifier reads the class token and beside it the mean of the patches, which ours leaves alone."""
    kernel = arrays["head/kernel"]
    return {**arrays, "head/kernel": np.concatenate([kernel, np.zeros_like(kernel)])}

"""A folder that timm reads: `timm.create_model("local-dir:DIR", pretrained=True)`."""

import json
import pathlib

import safetensors.numpy

from semivit_jax.export.bundle import Bundle
from semivit_jax.models.layers import LAYER_NORM_EPS
from semivit_jax.weights import names

# The architecture says which function builds the model; its sizes are spelled out in `model_args`.
_ARCHITECTURES = {
    "vit_s16": "vit_small_patch16_224",
    "vit_b16": "vit_base_patch16_224",
    "vit_l16": "vit_large_patch16_224",
    "vit_h14": "vit_huge_patch14_224",
    "convnext_tiny": "convnext_tiny",
    "convnext_small": "convnext_small",
}
_POOLS = {"mean": "avg", "cls": "token"}


def export_timm(folder: pathlib.Path, bundle: Bundle) -> None:
    """Writes model.safetensors and config.json in timm's hub format."""
    safetensors.numpy.save_file(timm_tensors(bundle), folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(timm_config(bundle), indent=2) + "\n")


def timm_tensors(bundle: Bundle) -> dict:
    """The parameters under timm's names.

    Raises:
      ValueError: timm has no model that computes with these.
    """
    spec = bundle.spec
    if spec.layer_norm_eps != LAYER_NORM_EPS:
        raise ValueError(
            f"layer_norm_eps {spec.layer_norm_eps:g}: a ViT or ConvNeXt of timm computes with {LAYER_NORM_EPS:g}; "
            "onnx and stablehlo carry another one, and so does hugging_face, but for a ViT whose pool is 'mean'"
        )
    return bundle.state_dict(names.TIMM_VIT if spec.family == "vit" else names.TIMM_CONVNEXT)


def timm_config(bundle: Bundle) -> dict:
    """timm's config.json: which model to build, and how its input is prepared."""
    spec = bundle.spec
    is_vit = spec.family == "vit"
    architecture = _ARCHITECTURES.get(spec.variant, "vit_base_patch16_224" if is_vit else "convnext_tiny")
    return {
        "architecture": architecture,
        "num_classes": spec.num_classes,
        "num_features": spec.size.width if is_vit else spec.size.widths[-1],
        "global_pool": _POOLS[spec.pool] if is_vit else "avg",
        "model_args": _model_args(bundle),
        "label_names": list(bundle.class_names),
        "pretrained_cfg": {
            "architecture": architecture,
            "input_size": [3, spec.image_size, spec.image_size],
            "fixed_input_size": is_vit,
            "interpolation": bundle.preprocessing.interpolation,
            "crop_pct": bundle.preprocessing.crop_fraction,
            "crop_mode": "center",
            "mean": list(bundle.preprocessing.mean),
            "std": list(bundle.preprocessing.std),
            "num_classes": spec.num_classes,
            "pool_size": None if is_vit else [spec.image_size // 32] * 2,
            "first_conv": "patch_embed.proj" if is_vit else "stem.0",
            "classifier": "head" if is_vit else "head.fc",
        },
    }


def _model_args(bundle: Bundle) -> dict:
    spec = bundle.spec
    if spec.family != "vit":
        return {"depths": list(spec.size.depths), "dims": list(spec.size.widths)}
    return {
        "img_size": spec.image_size,
        "patch_size": spec.size.patch_size,
        "embed_dim": spec.size.width,
        "depth": spec.size.depth,
        "num_heads": spec.size.num_heads,
        "mlp_ratio": spec.size.mlp_dim / spec.size.width,
        "global_pool": _POOLS[spec.pool],
    }

"""A folder that transformers reads through AutoModelForImageClassification and AutoImageProcessor.

ViTForImageClassification reads the class token. Mean pooling has no class of its own there, so it travels
as TimmWrapperForImageClassification. ConvNeXt becomes ConvNextForImageClassification.

All of them are prepared by TimmWrapperImageProcessor, which needs timm and reads `pretrained_cfg` of
config.json. The processors of transformers itself round the corner of the centre crop differently
and so see another crop of every second odd-sized photo, which moves logits by up to 0.3.
"""

import json
import pathlib

import numpy as np
import safetensors.numpy

from semivit_jax.export.bundle import Bundle
from semivit_jax.export.timm import timm_config, timm_tensors
from semivit_jax.models.spec import ModelSpec
from semivit_jax.weights import names

_PREPROCESSOR = {"image_processor_type": "TimmWrapperImageProcessor"}


def export_hugging_face(folder: pathlib.Path, bundle: Bundle) -> None:
    """Writes model.safetensors, config.json and preprocessor_config.json."""
    if bundle.spec.family == "convnext":
        tensors, config = _convnext(bundle, bundle.spec)
    elif bundle.spec.pool == "cls":
        tensors, config = _vit(bundle, bundle.spec)
    else:
        tensors, config = _timm_wrapper(bundle)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    _write(folder / "config.json", config)
    _write(folder / "preprocessor_config.json", _PREPROCESSOR)


def _write(path: pathlib.Path, record: dict) -> None:
    path.write_text(json.dumps(record, indent=2) + "\n")


def _shared_config(bundle: Bundle) -> dict:
    return {
        "dtype": "float32",
        **_PREPROCESSOR,  # looked for here in local folders, in preprocessor_config.json on the hub
        "pretrained_cfg": timm_config(bundle)["pretrained_cfg"],
        "id2label": {str(label): name for label, name in enumerate(bundle.class_names)},
        "label2id": {name: label for label, name in enumerate(bundle.class_names)},
    }


def _vit(bundle: Bundle, spec: ModelSpec) -> tuple[dict[str, np.ndarray], dict]:
    config = {
        "architectures": ["ViTForImageClassification"],
        "model_type": "vit",
        "hidden_size": spec.size.width,
        "num_hidden_layers": spec.size.depth,
        "num_attention_heads": spec.size.num_heads,
        "intermediate_size": spec.size.mlp_dim,
        "hidden_act": "gelu",
        "layer_norm_eps": spec.layer_norm_eps,
        "qkv_bias": True,
        "image_size": spec.image_size,
        "patch_size": spec.size.patch_size,
        "num_channels": 3,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        **_shared_config(bundle),
    }
    return _prefixed(bundle.state_dict(names.HUGGING_FACE_VIT), "vit."), config


def _convnext(bundle: Bundle, spec: ModelSpec) -> tuple[dict[str, np.ndarray], dict]:
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
        **_shared_config(bundle),
    }
    return _prefixed(bundle.state_dict(names.HUGGING_FACE_CONVNEXT), "convnext."), config


def _timm_wrapper(bundle: Bundle) -> tuple[dict[str, np.ndarray], dict]:
    config = {
        **timm_config(bundle),
        "architectures": ["TimmWrapperForImageClassification"],
        "model_type": "timm_wrapper",
        "do_pooling": True,
        **_shared_config(bundle),
    }
    return {f"timm_model.{name}": tensor for name, tensor in timm_tensors(bundle).items()}, config


def _prefixed(tensors: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The backbone's names with its prefix; the classifier has none."""
    return {name if name.startswith("classifier.") else prefix + name: tensor for name, tensor in tensors.items()}

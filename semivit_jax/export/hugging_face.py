"""Write a folder that transformers reads through AutoModelForImageClassification.

What has no class of its own there, such as a ViT with mean pooling, travels as TimmWrapperForImageClassification.

All of them are prepared by TimmWrapperImageProcessor, which needs timm and reads `pretrained_cfg` of
config.json. The processors of transformers itself round the corner of the centre crop differently
and so see another crop of every second odd-sized photo, which moves logits by up to 0.3.
"""

import pathlib
from typing import Any

import numpy as np

from semivit_jax.export.timm import timm_config, timm_tensors, write, write_json
from semivit_jax.weights import layout
from semivit_jax.weights.exchange import HuggingFace
from semivit_jax.weights.exchanges import EXCHANGES, arrays_of
from semivit_jax.weights.preprocessors import READING
from semivit_jax.weights.weights import Weights

_PREPROCESSOR = {"image_processor_type": "TimmWrapperImageProcessor"}


def export_hugging_face(folder: pathlib.Path, weights: Weights) -> None:
    """Writes model.safetensors, config.json and preprocessor_config.json."""
    theirs = EXCHANGES[weights.spec.family].hugging_face(weights.spec)
    tensors, config = _timm_wrapper(weights) if theirs is None else _own_class(weights, theirs)
    write(folder, tensors, {**config, **_shared_config(weights)})
    write_json(folder / "preprocessor_config.json", _PREPROCESSOR)


def _shared_config(weights: Weights) -> dict[str, Any]:
    names, theirs = weights.output_names, timm_config(weights)
    return {
        "dtype": "float32",
        **_PREPROCESSOR,  # looked for here in local folders, in preprocessor_config.json on the hub
        "pretrained_cfg": theirs["pretrained_cfg"],
        READING: theirs[READING],
        "id2label": {str(label): name for label, name in enumerate(names)},
        "label2id": {name: label for label, name in enumerate(names)},
    }


def _own_class(weights: Weights, theirs: HuggingFace) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The backbone's names with its prefix; the classifier has none."""
    tensors = layout.state_dict(theirs.arrays(arrays_of(weights)), theirs.names)
    prefixed = {name if name.startswith("classifier.") else theirs.prefix + name: t for name, t in tensors.items()}
    return prefixed, dict(theirs.config)


def _timm_wrapper(weights: Weights) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    config = {
        **timm_config(weights),
        "architectures": ["TimmWrapperForImageClassification"],
        "model_type": "timm_wrapper",
        "do_pooling": True,
    }
    return {f"timm_model.{name}": tensor for name, tensor in timm_tensors(weights).items()}, config

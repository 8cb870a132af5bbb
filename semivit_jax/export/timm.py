"""Write a folder that timm reads: `timm.create_model("local-dir:DIR", pretrained=True)`."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy

from semivit_jax.export.record import reading
from semivit_jax.weights import layout
from semivit_jax.weights.exchanges import EXCHANGES, arrays_of
from semivit_jax.weights.preprocessors import READING
from semivit_jax.weights.weights import Weights


def export_timm(folder: pathlib.Path, weights: Weights) -> None:
    """Writes model.safetensors and config.json in timm's hub format."""
    write(folder, timm_tensors(weights), timm_config(weights))


def write(folder: pathlib.Path, tensors: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> None:
    """Makes a folder as the hub of Hugging Face has it, with tensors for PyTorch."""
    folder.mkdir(parents=True, exist_ok=True)
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    safetensors.numpy.save_file(contiguous, folder / "model.safetensors", {"format": "pt"})
    write_json(folder / "config.json", config)


def write_json(path: pathlib.Path, record: Mapping[str, Any]) -> None:
    """Writes a JSON file as the libraries write theirs."""
    path.write_text(json.dumps(record, indent=2) + "\n")


def timm_tensors(weights: Weights) -> dict[str, np.ndarray]:
    """The parameters under timm's names.

    Raises:
      ValueError: timm has no model that computes with these.
    """
    spec, exchange = weights.spec, EXCHANGES[weights.spec.family]
    theirs = exchange.timm(spec)
    if spec.layer_norm_eps != theirs.layer_norm_eps:
        others = {"stablehlo": True, "onnx": exchange.onnx, "hugging_face": exchange.hugging_face(spec)}
        raise ValueError(
            f"layer_norm_eps {spec.layer_norm_eps:g}: a {spec.family} of timm computes with {theirs.layer_norm_eps:g}; "
            f"another one goes out as {', '.join(name for name, able in others.items() if able)}"
        )
    return layout.state_dict(theirs.arrays(arrays_of(weights)), exchange.names(spec))


def timm_config(weights: Weights) -> dict[str, Any]:
    """timm's config.json: which model to build, and how its input is prepared."""
    spec, view = weights.spec, weights.preprocessing
    theirs = EXCHANGES[spec.family].timm(spec)
    return {
        "architecture": theirs.architecture,
        "num_classes": spec.num_classes,
        "num_features": theirs.num_features,
        "global_pool": theirs.global_pool,
        "model_args": theirs.model_args,
        "label_names": list(weights.output_names),
        READING: reading(view),
        "pretrained_cfg": {
            "architecture": theirs.architecture,
            "input_size": [3, spec.image_size, spec.image_size],
            "fixed_input_size": theirs.fixed_input_size,
            "interpolation": view.interpolation,
            "crop_pct": view.crop_fraction,
            "crop_mode": "center",
            "mean": list(view.mean),
            "std": list(view.std),
            "num_classes": spec.num_classes,
            "pool_size": theirs.pool_size,
            "first_conv": theirs.first_conv,
            "classifier": theirs.classifier,
        },
    }

"""A trained classifier as every export takes it."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from semivit_jax.models import posemb, vit
from semivit_jax.models.spec import ModelSpec
from semivit_jax.weights import layout
from semivit_jax.weights.names import Table
from semivit_jax.weights.preprocessing import Preprocessing
from semivit_jax.words import counted

RECORD_FILE = "preprocessing.json"


@dataclasses.dataclass(frozen=True)
class Bundle:
    """What an export needs to know.

    Attributes:
      spec: of the model; num_classes above 0.
      params: nested dict of float32 arrays in our layout.
      class_names: one per output, in order.
      preprocessing: of the evaluation view.
    """

    spec: ModelSpec
    params: Mapping[str, Any]
    class_names: tuple[str, ...]
    preprocessing: Preprocessing

    def __post_init__(self):
        if self.spec.num_classes < 1:
            raise ValueError(f"{self.spec.variant}: the model has no head, so there is no classifier to export")
        if len(self.class_names) != self.spec.num_classes:
            raise ValueError(
                f"{counted(len(self.class_names), 'class name')} for {counted(self.spec.num_classes, 'output')}"
            )
        if self.preprocessing.image_size != self.spec.image_size:
            raise ValueError(
                f"preprocessing gives {self.preprocessing.image_size} pixels, the model takes {self.spec.image_size}"
            )

    @property
    def flat_params(self) -> dict[str, np.ndarray]:
        """Parameters by "/"-joined path; a frozen position embedding is among them."""
        flat = {path: np.asarray(leaf) for path, leaf in layout.flatten(self.params).items()}
        if self.spec.posemb == "sincos":
            flat["posemb"] = posemb.sincos(self.spec.size.width, vit.grid_size(self.spec))[None].astype(np.float32)
        return flat

    def state_dict(self, table: Table) -> dict[str, np.ndarray]:
        """Tensors under the names of `table`, contiguous, in the PyTorch layout."""
        flat = self.flat_params
        table = {path: names for path, names in table.items() if path in flat}
        if self.spec.family == "vit":
            depths = {"blocks": self.spec.size.depth}
        else:
            depths = {f"stages_{stage}": depth for stage, depth in enumerate(self.spec.size.depths)}
        tensors = {}
        for slot in layout.slots(table, depths=depths):
            tensors |= layout.split(slot, flat[slot.path])
        return {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}


def normalise(pixels: jax.Array, preprocessing: Preprocessing) -> jax.Array:
    """uint8 pixels (..., 3) to the model's float32 input: scaled to 0..1, minus mean, over std."""
    scaled = pixels.astype(jnp.float32) / 255
    return (scaled - jnp.asarray(preprocessing.mean)) / jnp.asarray(preprocessing.std)


def write_record(folder: pathlib.Path, bundle: Bundle) -> None:
    """Writes preprocessing.json: how an image becomes the input of the exported graph, and the classes.

    The graph takes the view's pixels and normalises them itself.
    """
    size = bundle.spec.image_size
    record = {
        "input": {
            "name": "images",
            "dtype": "uint8",
            "shape": ["batch", size, size, 3],
            "meaning": (
                f"RGB pixels: short side resized to {bundle.preprocessing.resize_size} "
                f"({bundle.preprocessing.interpolation}, antialiased), centre crop of {size}; "
                "the graph divides by 255, subtracts the mean and divides by the std"
            ),
        },
        "output": {"name": "logits", "dtype": "float32", "shape": ["batch", bundle.spec.num_classes]},
        "preprocessing": bundle.preprocessing.to_json(),
        "class_names": list(bundle.class_names),
    }
    (folder / RECORD_FILE).write_text(json.dumps(record, indent=1) + "\n")

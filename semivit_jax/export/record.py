"""Write preprocessing.json: how an image becomes the input of an exported program, and the classes."""

import json
import pathlib

from semivit_jax.weights.graph import PIXELS
from semivit_jax.weights.weights import Weights

RECORD_FILE = "preprocessing.json"


def write_record(folder: pathlib.Path, weights: Weights) -> None:
    """Writes preprocessing.json. The program takes the view's pixels and normalises them itself."""
    size, view = weights.spec.image_size, weights.preprocessing
    record = {
        "input": {
            "name": PIXELS,
            "dtype": "uint8",
            "shape": ["batch", size, size, 3],
            "meaning": (
                f"RGB pixels: short side resized to {view.resize_size} "
                f"({view.interpolation}, antialiased), centre crop of {size}; "
                "the graph divides by 255, subtracts the mean and divides by the std"
            ),
        },
        "output": {"name": "logits", "dtype": "float32", "shape": ["batch", weights.spec.num_classes]},
        "preprocessing": view.to_json(),
        "class_names": list(weights.output_names),
    }
    (folder / RECORD_FILE).write_text(json.dumps(record, indent=1) + "\n")

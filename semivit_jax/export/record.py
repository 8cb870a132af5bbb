"""Say in exports how a photo becomes the model's input: preprocessing.json of programs, a key in others' configs."""

import json
import pathlib

from semivit_jax.weights.graph import PIXELS
from semivit_jax.weights.preprocessing import COLOURS, Preprocessing
from semivit_jax.weights.weights import Weights

RECORD_FILE = "preprocessing.json"


def reading(view: Preprocessing) -> dict:
    """What the configs of timm and Hugging Face have no word for: before a photo is resized, and after the logits."""
    fitted = {} if view.temperature == 1.0 else {"temperature": view.temperature}
    return {"exif_rotation": view.exif_rotation, "colours": COLOURS, **fitted}


def write_record(folder: pathlib.Path, weights: Weights) -> None:
    """Writes preprocessing.json. The program takes the view's pixels and normalises them itself."""
    size, view = weights.spec.image_size, weights.preprocessing
    turned = "turned as the EXIF orientation asks" if view.exif_rotation else "not turned, whatever EXIF asks"
    record = {
        "input": {
            "name": PIXELS,
            "dtype": "uint8",
            "shape": ["batch", size, size, 3],
            "meaning": (
                f"RGB pixels: {turned}; {COLOURS}; short side resized to {view.resize_size} "
                f"({view.interpolation}, antialiased), centre crop of {size}; "
                "the graph divides by 255, subtracts the mean and divides by the std"
            ),
        },
        "output": {
            "name": "logits",
            "dtype": "float32",
            "shape": ["batch", weights.spec.num_classes],
            **({} if view.temperature == 1.0 else {"meaning": "probabilities are softmax(logits / temperature)"}),
        },
        "preprocessing": view.to_json(),
        "class_names": list(weights.output_names),
    }
    (folder / RECORD_FILE).write_text(json.dumps(record, indent=1) + "\n")

"""An export format of one's own: arrays for NumPy, for those who have neither PyTorch nor jax.

One line makes it a word of `semivit export --format`: FORMATS["npz"] = export_npz.
"""

import json
import pathlib

import numpy as np

from semivit_jax.export.record import write_record
from semivit_jax.weights.exchanges import arrays_of
from semivit_jax.weights.record import to_record
from semivit_jax.weights.weights import Weights

ARRAYS_FILE, MODEL_FILE = "model.npz", "model.json"


def export_npz(folder: pathlib.Path, weights: Weights) -> None:
    """Writes model.npz, its arrays by "/"-joined path; model.json, what they belong to; and preprocessing.json."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / ARRAYS_FILE, **arrays_of(weights))  # pyright: ignore[reportArgumentType]
    (folder / MODEL_FILE).write_text(json.dumps(to_record(weights.spec), indent=1) + "\n")
    write_record(folder, weights)

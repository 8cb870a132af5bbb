"""An export format of one's own: all arrays in one NumPy file, by their "/"-joined paths.

One line makes it a word after `semivit export --format`: FORMATS["numpy"] = export_numpy.
"""

import pathlib

import numpy as np

from semivit_jax.export.record import write_record
from semivit_jax.weights import layout
from semivit_jax.weights.weights import Weights


def export_numpy(folder: pathlib.Path, weights: Weights) -> None:
    """Writes params.npz, and preprocessing.json with what must be known beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "params.npz", **layout.flatten(weights.params))
    write_record(folder, weights)

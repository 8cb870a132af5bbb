"""Weights in: published files become parameters of ours, every tensor accounted for."""

from semivit_jax.weights.folder import load_imported, save_imported
from semivit_jax.weights.importing import Imported, import_weights
from semivit_jax.weights.preprocessing import Preprocessing

__all__ = ["Imported", "Preprocessing", "import_weights", "load_imported", "save_imported"]

"""Train Vision Transformers from few labels and many unlabeled images."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from semivit_jax.inference.predict import load as load

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`semivit_jax.load`, found when first asked for: importing the package alone must stay quick."""
    if name == "load":
        return importlib.import_module("semivit_jax.inference.predict").load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

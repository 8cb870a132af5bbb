"""Define Weights: a spec with its arrays, class names and preprocessing."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from semivit_jax.models.spec import ModelSpec
from semivit_jax.weights.preprocessing import Preprocessing


@dataclasses.dataclass(frozen=True)
class Weights:
    """A model with its arrays.

    Attributes:
      spec: the model that `params` fit.
      params: nested dict of float32 arrays; without "head" where the model has no classes.
      class_names: one per output, in order; None where nobody stored them.
      preprocessing: what the model expects its images to look like.
    """

    spec: ModelSpec
    params: Mapping[str, Any]
    class_names: tuple[str, ...] | None
    preprocessing: Preprocessing

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs; their numbers where nobody stored names."""
        return self.class_names or tuple(str(label) for label in range(self.spec.num_classes))

"""List the training stages in the order in which they run: the table STAGES."""

from semivit_jax.stages import finetune, mae, semi
from semivit_jax.stages.spec import StageSpec

STAGES: dict[str, StageSpec] = {spec.name: spec for spec in (mae.SPEC, finetune.SPEC, semi.SPEC)}


def label_free() -> tuple[str, ...]:
    """The stages that need no labels."""
    return tuple(name for name, spec in STAGES.items() if not spec.score)

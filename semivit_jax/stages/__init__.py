"""List the training stages in the order in which they run: the table STAGES."""

from semivit_jax.config import Config
from semivit_jax.plan import Plan
from semivit_jax.stages import finetune, mae, semi
from semivit_jax.stages.spec import StageSpec
from semivit_jax.stages.stage import Stage

STAGES: dict[str, StageSpec] = {spec.name: spec for spec in (mae.SPEC, finetune.SPEC, semi.SPEC)}


def label_free() -> tuple[str, ...]:
    """The stages that need no labels."""
    return tuple(name for name, spec in STAGES.items() if not spec.score)


def make_stage(config: Config, plan: Plan, *, backend: str) -> Stage:
    """The stage a plan is for, closed over its model and optimizer."""
    return STAGES[plan.stage].make(config, plan, backend)

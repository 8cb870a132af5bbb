"""The training stages, as values of one contract."""

from collections.abc import Callable

from semivit_jax.config import Config
from semivit_jax.plan import Plan
from semivit_jax.stages import finetune, mae, semi
from semivit_jax.stages.spec import StageSpec
from semivit_jax.stages.stage import Stage

STAGES: dict[str, StageSpec] = {spec.name: spec for spec in (mae.SPEC, finetune.SPEC, semi.SPEC)}

_STAGES: dict[str, Callable[..., Stage]] = {
    "mae": mae.make_stage,
    "finetune": finetune.make_stage,
    "semi": semi.make_stage,
}


def make_stage(config: Config, plan: Plan, *, backend: str) -> Stage:
    """The stage a plan is for, closed over its model and optimizer."""
    return _STAGES[plan.stage](config, plan, backend=backend)

"""Count the model FLOPs of one optimizer update over its global batch."""

from typing import NamedTuple

from semivit_jax.config import Config, ConfigError
from semivit_jax.models import families
from semivit_jax.models.cost import Cost, Flops
from semivit_jax.plan import Plan
from semivit_jax.stages import STAGES


class Passed(NamedTuple):
    """A `Pass` of a stage whose cost is known."""

    cost: Cost
    per_row: int
    backward: bool


def passes(config: Config, plan: Plan) -> tuple[Passed, ...]:
    """What an update of a plan's stage passes through networks.

    Raises:
      ConfigError: nobody has counted what the model costs.
    """
    stage, known = STAGES[plan.stage], []
    for one in stage.passes(config, stage.model(config, plan.num_classes)):
        if one.cost is None:
            counted = ", ".join(families.variants(lambda family: family.cost))
            raise ConfigError(f"config.model.variant is {config.model.variant!r}; FLOPs are counted for {counted}")
        known.append(Passed(one.cost, one.per_row, one.backward))
    return tuple(known)


def per_update(config: Config, plan: Plan) -> Flops:
    """Sum over the passes of a stage; those of a teacher count forward only.

    Raises:
      ConfigError: nobody has counted what the model costs.
    """
    found = Flops(0, 0)
    for one in passes(config, plan):
        image = one.cost.flops if one.backward else Flops(one.cost.flops.forward, 0)
        found += image.times(plan.batch_size * one.per_row)
    return found

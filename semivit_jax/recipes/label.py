"""Keep the label of a recipe true: what the command line, devices or images change is told in it."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from semivit_jax.config import RUNTIME, Config
from semivit_jax.plan import Plan
from semivit_jax.recipes.keys import marks
from semivit_jax.stages import STAGES


def label(raw: Any, values: Mapping[str, Any]) -> None:
    """Adds to the recipe's label what the command line changes in it; no published accuracy is that run's.

    The seed is told beside the label, and runtime keys change nothing that is computed; of the list of labeled images
    that is true in one workdir alone, which knows its content.
    """
    beside = marks()
    changed = [k for k in values if k == "data.label_list" or (k != "seed" and RUNTIME not in beside[k])]
    if not changed:
        return
    if "log.recipe" not in values:
        raw.log.recipe = _with(raw.log.recipe, {key: values[key] for key in changed})
    raw.log.origin = "ours"
    for stage in ("finetune", "semi"):
        if raw.get(stage):
            raw[stage].published_acc1 = 0.0


def label_plans(config: Config, plans: Sequence[Plan]) -> Config:
    """The config with what devices and images change in its batches and mixing groups in its label, as `label` does."""
    changed = {}
    for plan in plans:
        section = config.stage(plan.stage)
        if plan.batch_size != section.batch_size:
            changed[f"{plan.stage}.batch_size"] = plan.batch_size
        if plan.group_size != STAGES[plan.stage].group_size(section):
            changed[f"{plan.stage}.mixup_group_size"] = plan.group_size
    if not changed:
        return config
    graded = {
        stage: dataclasses.replace(section, published_acc1=0.0)
        for stage, section in (("finetune", config.finetune), ("semi", config.semi))
        if section is not None
    }
    log = dataclasses.replace(config.log, recipe=_with(config.log.recipe, changed), origin="ours")
    return dataclasses.replace(config, log=log, **graded)


def _with(recipe: str, changed: Mapping[str, Any]) -> str:
    """The label of a recipe with further values changed in it."""
    joint = ", " if " with " in recipe else " with "
    return recipe + joint + ", ".join(f"{key}={value!r}" for key, value in changed.items())

"""Small configs for tests, made from the digits recipe with named changes."""

from configs import digits
from semivit_jax import config_check
from semivit_jax.plan import Plan


def raw_config(**changes):
    """The digits ConfigDict with changes like **{"semi.teacher": "student"}; unknown keys are errors."""
    raw = digits.get_config()
    raw.update_from_flattened_dict(changes)
    return raw


def small_config(**changes):
    return config_check.check(raw_config(**changes))


def small_plan(stage, **changes):
    """One update of one group on one device, 10 updates per epoch."""
    fields = {
        "stage": stage, "num_devices": 1, "num_classes": 10, "batch_size": 4,
        "unlabeled_ratio": 5 if stage == "semi" else 0, "recipe_accum": 1, "accum": 1, "group_size": 4,
        "micro_per_epoch": 10, "steps_per_epoch": 10, "total_steps": 20, "eval_every_steps": 10, "peak_lr": 1e-3,
        "deviations": (),
    }  # fmt: skip
    return Plan(**{**fields, **changes})

"""Where the time of the semi step goes, measured by leaving parts out.

Five programs, each without one more part than the last; a part's time is the difference. Nothing is patched:
a program that returns less is compiled without whatever only served the rest.

    full            the step as trained
    no optimizer    returns the metrics alone: gradients are needed for their norm, no state is written
    no backward     returns the losses alone
    no mixing       the same, with mixup, pseudo mixup and erasing switched off in the config
    no teacher      returns the labeled loss alone: pseudo labels are needed by nobody
"""

import dataclasses
from typing import Any

import jax

from benchmarks.cases import Case, config_of, plan_of, random_batch
from benchmarks.measure import median_seconds, shapes_of, time_state_step
from semivit_jax.config import Config
from semivit_jax.stages.semi import SemiConfig
from semivit_jax.training import sharding
from semivit_jax.training.compiled import Compiled, compile_stage, stage_key

LOSSES = ("loss", "loss_labeled", "loss_unlabeled", "mask_rate")
PROGRAMS = {
    "no optimizer": (True, (*LOSSES, "grad_norm")),
    "no backward": (True, LOSSES),
    "no mixing": (False, LOSSES),
    "no teacher": (False, ("loss_labeled",)),
}  # name -> (whether images are mixed and erased, metrics returned)


@dataclasses.dataclass(frozen=True)
class Parts:
    """Seconds of each part of one semi step."""

    case: Case
    optimizer_and_ema: float
    backward: float
    mixing_and_erasing: float
    teacher_forward: float
    student_forward: float  # with the normalisation of the images


def program(case: Case, name: str) -> tuple[Compiled, Any]:
    """(described stage, jitted (state, batch, key) -> metrics) of one reduced program; the state is not donated."""
    mixed, returned = PROGRAMS[name]
    config, mesh = config_of(case), sharding.make_mesh(1)
    compiled = compile_stage(config if mixed else unmixed(config), plan_of(config, case, num_devices=mesh.size), mesh)

    def reduced(state: Any, batch: Any, key: jax.Array) -> Any:
        found = compiled.stage.train_step(state, batch, key)[1]
        return {k: found[k] for k in returned}

    return compiled, jax.jit(reduced)


def unmixed(config: Config) -> Config:
    """The config without mixup, pseudo mixup and erasing."""
    section = config.stage("semi")
    assert isinstance(section, SemiConfig)
    plain = dataclasses.replace(section, labeled_mixup=False, pseudo_mixup="none", erase_prob=0.0)
    return config.with_stage("semi", plain)


def measure_parts(case: Case, *, steps: int) -> Parts:
    """Times the five programs on the case's batch."""
    config, mesh = config_of(case), sharding.make_mesh(1)
    compiled = compile_stage(config, plan_of(config, case, num_devices=mesh.size), mesh)
    key = jax.device_put(stage_key(config, case.stage), sharding.replicated(mesh))
    batch = sharding.put(random_batch(case, 0), sharding.train_batch(mesh))
    whole, _, state = time_state_step(lambda s: compiled.train_step(s, batch, key), compiled.init(key), steps=steps)
    seconds = [whole]
    for name in PROGRAMS:
        reduced_stage, reduced = program(case, name)
        run = reduced.lower(*shapes_of(reduced_stage, case)).compile()
        seconds.append(median_seconds(lambda r=run: r(state, batch, key), repeats=steps))
    full, no_optimizer, no_backward, no_mixing, no_teacher = seconds
    return Parts(
        case=case,
        optimizer_and_ema=full - no_optimizer,
        backward=no_optimizer - no_backward,
        mixing_and_erasing=no_backward - no_mixing,
        teacher_forward=no_mixing - no_teacher,
        student_forward=no_teacher,
    )

"""Steps of every stage on 1 and on 8 simulated devices; run as a program, since devices are simulated from the start.

python -m tests.e2e.device_steps OUT.json CASE ... writes {case: {values, collectives, moved, state_bytes,
aliased_bytes, traces}}; `collectives` as their text, `moved` as `preflight` reads it, for two slices.
"""

import dataclasses
import functools
import json
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from semivit_jax.preflight.collectives import find
from semivit_jax.training import sharding
from semivit_jax.training.compiled import Compiled, compile_stage
from tests.configs import counts_of, small_config, small_plan

SIDE, BATCH, GROUP, RATIO = 16, 64, 2, 2
SLICES = 2  # that the devices are taken for, when it is counted what crosses from one to the other

SUPERVISED = {
    "drop_path_rate": 0.3, "erase_prob": 0.5, "labeled_mixup": True, "warmup_epochs": 0.0, "ema_decay": 0.9,
}  # fmt: skip
SECTIONS = {
    "mae": {"warmup_epochs": 0.0},
    "finetune": SUPERVISED,
    "semi": SUPERVISED | {"unlabeled_ratio": RATIO, "confidence_threshold": 0.05, "pseudo_mixup": "prob"},
}


@dataclasses.dataclass(frozen=True)
class Case:
    """A stage on so many devices; `changes` are config keys."""

    stage: str
    model: str = "vit_test2"  # two blocks, of which only the MLP is large enough to be cut
    devices: int = 1
    fsdp: int = 1
    accum: int = 1
    wide: bool = True  # float64, on normalised images; else float32 on uint8 images, which are warped as well
    changes: tuple[tuple[str, object], ...] = ()
    steps: int = 2  # the second one sees moments, a moved position and donated buffers

    @property
    def tune(self) -> tuple[tuple[str, object], ...]:
        """Changes on which the state depends: what of the model is trained."""
        return tuple((key, value) for key, value in self.changes if key.startswith(("model.tune", "model.lora")))


LAST = (("model.tune", "last_2"),)
LORA = (("model.tune", "lora"), ("model.lora_rank", 48))  # a rank with which LoRA's second factors are cut

CASES = {
    "mae, 1 device": Case("mae"),
    "mae, fsdp 2, accum 4": Case("mae", devices=8, fsdp=2, accum=4),
    "finetune, 1 device": Case("finetune", "vit_test"),  # three blocks, cut in attention too
    "finetune, fsdp 4": Case("finetune", "vit_test", devices=8, fsdp=4),
    "semi, 1 device": Case("semi"),
    "semi, fsdp 1": Case("semi", devices=8),
    "semi, fsdp 2, accum 4": Case("semi", devices=8, fsdp=2, accum=4),
    "semi, fsdp 4, remat, unroll": Case(
        "semi", devices=8, fsdp=4, changes=(("model.remat", "full"), ("model.unroll", 2))
    ),
    "semi, fsdp 8, unroll": Case("semi", devices=8, fsdp=8, changes=(("model.unroll", 2),)),
    "last_2, 1 device": Case("finetune", "vit_test", changes=LAST),
    "last_2, fsdp 2": Case("finetune", "vit_test", devices=8, fsdp=2, changes=LAST),
    "lora, 1 device": Case("semi", "vit_test", changes=LORA),
    "lora, fsdp 2, accum 4": Case("semi", "vit_test", devices=8, fsdp=2, accum=4, changes=LORA),
    "semi, float32, 1 device": Case("semi", wide=False),
    "semi, float32, fsdp 1": Case("semi", devices=8, wide=False),
    "semi, float32, no mixing": Case(
        "semi",
        devices=8,
        wide=False,
        steps=0,
        changes=(("semi.pseudo_mixup", "none"), ("semi.labeled_mixup", False)),
    ),
}


def batch_of(case: Case) -> dict:
    """The same global batch for every case of a stage, cut into its micro-steps."""
    generator = np.random.default_rng(0)

    def images(rows: int) -> np.ndarray:
        if case.wide:
            return generator.normal(size=(rows, SIDE, SIDE, 3))
        return generator.integers(0, 256, (rows, SIDE, SIDE, 3), np.uint8)

    def labels(rows: int) -> np.ndarray:
        return generator.integers(0, 10, rows).astype(np.int32)

    labeled = {"image": images(BATCH), "label": labels(BATCH)}
    unlabeled = {"image": images(BATCH * RATIO), "label": labels(BATCH * RATIO)}
    batch = {"mae": {"image": labeled["image"]}, "finetune": labeled}.get(
        case.stage, {"labeled": labeled, "unlabeled": unlabeled}
    )
    return jax.tree.map(lambda x: x.reshape(case.accum, -1, *x.shape[1:]), batch)


def compile_case(case: Case) -> tuple[Compiled, jax.sharding.Mesh]:
    section = {f"{case.stage}.{key}": value for key, value in SECTIONS[case.stage].items()}
    base = {"data.image_size": SIDE, "model.variant": case.model}
    config = small_config(**(base | section | dict(case.changes)))
    plan = small_plan(
        case.stage,
        num_devices=case.devices,
        batch_size=BATCH,
        unlabeled_ratio=RATIO if case.stage == "semi" else 0,
        accum=case.accum,
        group_size=1 if case.stage == "mae" else GROUP,
        counts=counts_of(BATCH * (1 + RATIO), BATCH, BATCH * RATIO, classes=10),
    )
    mesh = sharding.make_mesh(case.fsdp, jax.devices()[: case.devices])
    return compile_stage(config, plan, mesh), mesh


@functools.cache
def initial_values(stage: str, model: str, wide: bool, tune: tuple[tuple[str, object], ...]):
    """Initial state on the host, the head random so that predictions differ, in the precision of the case."""
    state = jax.jit(compile_case(Case(stage, model, changes=tune))[0].stage.init)(jax.random.key(1))

    def widened(leaf: jax.Array) -> np.ndarray:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return np.asarray(leaf)
        return np.asarray(leaf).astype(np.float64 if wide else np.float32)

    state = jax.tree.map(widened, state)
    if stage != "mae":
        kernel = state.params["head"]["kernel"]
        state.params["head"]["kernel"] = np.random.default_rng(1).normal(size=kernel.shape).astype(kernel.dtype)
        state.ema_params["head"]["kernel"] = state.params["head"]["kernel"].copy()
    return state


def first_state(compiled: Compiled, case: Case):
    """The initial state, placed as the case asks."""
    values = initial_values(case.stage, case.model, case.wide, case.tune)
    return jax.tree.map(lambda leaf, target: jax.device_put(leaf, target.sharding), values, compiled.target)


def run(case: Case) -> dict:
    """Loss, gradient norm and params after a few steps, and what the compiled step does."""
    compiled, mesh = compile_case(case)
    state = first_state(compiled, case)
    key = jax.device_put(jax.random.key(7), sharding.replicated(mesh))
    batch = sharding.put(batch_of(case), sharding.train_batch(mesh))
    state_bytes = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(state))
    step_function, program = compiled.train_step, None
    if case.devices > 1:  # compiled once, to be looked at and to be run
        step_function = program = compiled.train_step.lower(state, batch, key).compile()
    values = {}
    for step in range(case.steps):
        state, found = step_function(state, batch, key)
        values |= {f"{name} {step}": float(np.sum(m.total) / np.sum(m.count)) for name, m in found.items()}
    trees = {"params": state.params, "ema_params": state.ema_params, "frozen": state.frozen}
    for path, leaf in jax.tree_util.tree_leaves_with_path(trees):
        values[jax.tree_util.keystr(path)] = np.asarray(leaf).reshape(-1).tolist()
    return {
        "values": values,
        "collectives": collectives(program.as_text()) if program else [],
        "moved": [dataclasses.asdict(one) for one in find(program.as_text(), slices=SLICES)] if program else [],
        "state_bytes": state_bytes,
        "aliased_bytes": program.memory_analysis().alias_size_in_bytes if program else None,
        "traces": compiled.train_step._cache_size(),
    }


def collectives(hlo: str) -> list[str]:
    """Kind and result of every operation that moves data between devices."""
    kinds = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter|collective-broadcast"
    found = re.findall(rf"= (\S.*?) ({kinds})(?:-start)?\(", hlo)
    return sorted(f"{kind} {shape}" for shape, kind in found)


if __name__ == "__main__":
    out, *names = sys.argv[1:]
    found = {}
    for name in names:
        jax.config.update("jax_enable_x64", CASES[name].wide)
        found[name] = run(CASES[name])
    Path(out).write_text(json.dumps(found))

"""Rules on 1 and on 8 simulated devices; run as a program, since devices are simulated from the start.

python -m tests.extending.rule_on_devices OUT.json RULE ... writes {rule: {case: {path: values}}} after three updates:
state and metrics. A rule may stand in one for outliers: 'energy around free'.
"""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from semivit_jax.stages.rules import RULES
from semivit_jax.training import sharding
from tests.e2e import device_steps
from tests.e2e.device_steps import Case
from tests.extending import rule


def cases_of(text: str) -> dict[str, Case]:
    outliers, _, rule_inside = text.rpartition(" around ")
    changes = (
        ("semi.pseudo_label_rule", rule_inside), ("semi.rule.prior", "model"), ("semi.outliers", outliers or "none"),
        ("semi.rule.every", 1),
    )  # fmt: skip
    return {
        "1 device": Case("semi", changes=changes),
        "8 devices, fsdp 2, accum 4": Case("semi", devices=8, fsdp=2, accum=4, changes=changes),
    }


def run(case: Case) -> dict:
    compiled, mesh = device_steps.compile_case(case)
    began = compiled.stage.init(jax.random.key(0)).policy_state
    first = device_steps.initial_values("semi", case.model, case.wide, case.tune).replace(
        policy_state=jax.tree.map(jnp.copy, began)  # rules begin with the same zeros twice; a step donates each
    )
    state = jax.tree.map(lambda leaf, target: jax.device_put(leaf, target.sharding), first, compiled.target)
    key = jax.device_put(jax.random.key(7), sharding.replicated(mesh))
    batch = device_steps.batch_of(case)
    rows = device_steps.BATCH * device_steps.RATIO
    assert rows <= compiled.plan.counts.unlabeled  # no image twice in an update
    batch["unlabeled"]["image_id"] = np.arange(rows, dtype=np.int32).reshape(case.accum, -1)
    batch = sharding.put(batch, sharding.train_batch(mesh))
    found = {}
    for _ in range(3):
        state, found = compiled.train_step(state, batch, key)
    values = {name: float(np.sum(m.total) / np.sum(m.count)) for name, m in found.items()}
    for path, leaf in jax.tree_util.tree_leaves_with_path((state.policy_state, state.params)):
        values[jax.tree_util.keystr(path)] = np.asarray(leaf).reshape(-1).tolist()
    return values


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    RULES["steady"] = rule.STEADY
    out, *texts = sys.argv[1:]
    told = {text: {name: run(case) for name, case in cases_of(text).items()} for text in texts}
    Path(out).write_text(json.dumps(told))

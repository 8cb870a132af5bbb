"""Where a stage reads on after one rollback or several."""

import dataclasses
import json
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from semivit_jax.training import rollback


@dataclasses.dataclass
class State:
    position: Any


HERE = SimpleNamespace(
    target=State(jax.ShapeDtypeStruct((), jnp.int32, sharding=jax.sharding.SingleDeviceSharding(jax.devices()[0])))
)


@pytest.mark.parametrize(
    ("step", "saved_at", "reads_on"),
    [
        (8, 8, 13),  # the checkpoint that the first rollback went back to
        (8, 24, 24),  # trained again after the second one: what it read is not read again
        (4, 4, 20),
        (12, 28, 28),
    ],
)
def test_a_restart_reads_on_after_the_batches_that_rollbacks_skipped(tmp_path, step, saved_at, reads_on):
    entries = [{"step": 8, "position": 13, "reason": "first"}, {"step": 4, "position": 20, "reason": "second"}]
    (tmp_path / "rollbacks.json").write_text(json.dumps(entries))
    state = State(jnp.int32(saved_at))
    found = rollback.skip_to(state, rollback.position_after(tmp_path, step), HERE)  # pyright: ignore
    assert int(found.position) == reads_on

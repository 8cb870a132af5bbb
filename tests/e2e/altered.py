"""`semivit` with what no config key can ask for; a program, so that several processes can be started with it.

python -m tests.e2e.altered '{"wide": true, "spoiled": [4, 6]}' train --config=... --workdir=...
"""

import dataclasses
import json
import resource
import subprocess
import sys

import jax
import jax.numpy as jnp

from semivit_jax.hosts import stopping
from semivit_jax.main import leave, main
from semivit_jax.stages import semi
from semivit_jax.training import claim, compiled, loop, summary
from tests.e2e.planned import Trouble, stage_with


def widen() -> None:
    """Everything in float64, from images to moments, so that what rounding hides in float32 shows."""
    jax.config.update("jax_enable_x64", True)
    make_stage = compiled.make_stage

    def make_wide_stage(*args, **kwargs):
        stage = make_stage(*args, **kwargs)

        def init(key):
            floating = lambda leaf: jnp.issubdtype(leaf.dtype, jnp.floating)  # noqa: E731
            return jax.tree.map(lambda leaf: leaf.astype(float) if floating(leaf) else leaf, stage.init(key))

        return dataclasses.replace(stage, init=init)

    compiled.make_stage = make_wide_stage


def spoil(positions: range) -> None:
    """The labeled images of these batches of the semi stage become NaN on their way into the step."""
    sample_draws = semi.sample_draws

    def spoiled_draws(config, plan, model, key, position):
        draws = sample_draws(config, plan, model, key, position)
        inside = (position >= positions.start) & (position < positions.stop)
        matrices = jnp.where(inside, jnp.nan, draws.labeled.matrices)
        return draws._replace(labeled=draws.labeled._replace(matrices=matrices))

    semi.sample_draws = spoiled_draws


def stand_in(trouble: Trouble) -> None:
    """The stand-in of `tests.e2e.planned` takes the place of every stage."""
    compiled.make_stage = lambda *args, **kwargs: stage_with(trouble)


def compare_with_nothing() -> None:
    """The end of a run on digits fits no classical method."""
    summary.baselines = lambda task, data: {}


def lose_writing(step: int, command: list[str]) -> None:
    """After the checkpoint of this step is safe, the command (with the checkpoints' folder last) takes writing away."""
    save = loop.Loop._save

    def save_and_lose(self, saved, state):
        save(self, saved, state)
        if saved == step:
            self.wait()
            subprocess.run([*command, str(self.run.workdir / self.plan.stage / "checkpoints")], check=True)

    loop.Loop._save = save_and_lose


def fill_disk(step: int, process: int) -> None:
    """From the save of this step on, no file of this process may grow; what was saved before is safe."""
    save = loop.Loop._save

    def save_on_a_full_disk(self, saved, state):
        if saved == step:
            self.wait()
        if saved >= step and jax.process_index() == process:
            resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        save(self, saved, state)

    loop.Loop._save = save_on_a_full_disk


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    if not asked.get("baselines", True):
        compare_with_nothing()
    if asked.get("wide"):
        widen()
    if "spoiled" in asked:
        spoil(range(*asked["spoiled"]))
    if "trouble" in asked:
        stand_in(Trouble(**{what: range(*positions) for what, positions in asked["trouble"].items()}))
    if "lose_writing" in asked:
        lose_writing(*asked["lose_writing"])
    if "fill_disk" in asked:
        fill_disk(*asked["fill_disk"])
    if "goodbye" in asked:
        stopping.GOODBYE_SECONDS = asked["goodbye"]
    if "shared_within" in asked:
        claim.SHARED_WITHIN_SECONDS = asked["shared_within"]
    leave(main(["semivit", *sys.argv[2:]]))

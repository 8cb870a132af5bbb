"""Sharded weights: what travels between devices is weights and gradients, never activations."""

import functools
import os
import subprocess
import sys
from pathlib import Path

from semivit_jax.preflight import collectives

TOKENS, WIDTH, MLP = 17, 48, 192  # vit_test on 32 x 32 images

PROGRAM = """
import sys
import jax
from semivit_jax.training import sharding
from semivit_jax.training.compiled import compile_stage
from semivit_jax.preflight import step
from tests.compiled import QUICK
from tests.configs import small_config, small_plan

config = small_config(**{"model.variant": "vit_test", "data.image_size": 32, "mesh.fsdp": 8, "model.remat": "full"})
plan = small_plan("finetune", num_devices=8, batch_size=64, group_size=1)
mesh = sharding.make_mesh(8)
compiled = compile_stage(config, plan, mesh)
key = jax.eval_shape(lambda: jax.random.key(0))
lowered = compiled.train_step.lower(compiled.target, step.describe_batch(config, plan, mesh), key)
print(lowered.compile(compiler_options=QUICK).as_text())
"""


@functools.cache
def found():
    """Collectives of the fine-tuning step on 8 simulated devices that share one copy of the weights."""
    root = Path(__file__).parents[2]
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(root)},
        cwd=root, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return collectives.find(done.stdout)


def test_only_weights_are_gathered():
    largest_weight = WIDTH * MLP * 4  # bytes of one layer's
    gathered = [c for c in found() if c.kind in ("all-gather", "all-to-all", "collective-permute")]
    assert gathered, "nothing is sharded: the test shows nothing"
    # 64 images' tokens are 209 kB; a device's own 8 are 26 kB, still less than a weight.
    assert [c for c in gathered if c.bytes > largest_weight] == []
    assert {c.kind for c in gathered} == {"all-gather"}


def test_weights_are_gathered_layer_by_layer():
    gathered = [c for c in found() if c.kind == "all-gather"]
    assert {c.bytes for c in gathered} == {WIDTH * MLP * 4, WIDTH * 3 * WIDTH * 4}
    assert {c.times for c in gathered} == {3}, "the scan over three blocks"

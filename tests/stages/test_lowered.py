"""What the lowered and compiled steps contain, and what they must not: held here because no test can time a GPU.

Everything is read off the step as training uses it (`compile_stage`), on the benchmark's own cases.
"""

import dataclasses
import functools
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from benchmarks import cases
from benchmarks.measure import describe
from tests.compiled import QUICK
from tests.jaxprs import inner_jaxprs

pytestmark = pytest.mark.xdist_group("lowered")  # programs are compiled once and shared
STAGES = pytest.mark.parametrize("stage", ["mae", "finetune", "semi"])
HOST_TRAFFIC = re.compile(r"callback|infeed|outfeed|\bsend\(|\brecv\(|S\(5\)", re.IGNORECASE)  # S(5): host memory


def case_of(stage):
    return dataclasses.replace(cases.tiny(stage), dtype="bfloat16")


@functools.cache
def program(stage):
    compiled, inputs = describe(case_of(stage))
    return compiled, compiled.train_step.lower(*inputs).compile(compiler_options=QUICK)


def nbytes(tree):
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


@STAGES
def test_nothing_leaves_the_device_inside_the_step(stage):
    assert not HOST_TRAFFIC.findall(program(stage)[1].as_text())


@STAGES
def test_every_state_buffer_is_donated(stage):
    compiled, step = program(stage)
    assert step.memory_analysis().alias_size_in_bytes == nbytes(compiled.target)


@STAGES
def test_no_step_scatters(stage):
    """Gathers by a permutation have gathers as gradients; a scatter of activations waits on atomic additions."""
    assert not [e for _, _, e in equations(stage) if e.primitive.name.startswith("scatter")]


@functools.cache
def equations(stage):
    """Every equation of the step's jaxpr, as (depth of nesting in scans, name stack, equation)."""
    compiled, (state, batch, key) = describe(case_of(stage))
    return list(_walk(jax.make_jaxpr(compiled.stage.train_step)(state, batch, key).jaxpr, 0, ""))


def _walk(jaxpr, scans, names):
    for equation in jaxpr.eqns:
        stack = f"{names}/{equation.source_info.name_stack}"
        yield scans, stack, equation
        inner = scans + (equation.primitive.name == "scan")
        for sub in inner_jaxprs(equation):
            yield from _walk(sub, inner, stack)


def dots(stage):
    return [(scans, e) for scans, _, e in equations(stage) if e.primitive.name == "dot_general"]


@STAGES
def test_blocks_multiply_bfloat16_only(stage):
    inside = [e for scans, e in dots(stage) if scans]
    assert len(inside) >= 18  # six products per block forward, twice as many backward
    for equation in inside:
        assert {str(v.aval.dtype) for v in equation.invars} == {"bfloat16"}, equation


@STAGES
def test_optimizer_and_average_stay_in_float32(stage):
    compiled, (state, batch, key) = describe(case_of(stage))
    new_state, found = jax.eval_shape(compiled.stage.train_step, state, batch, key)
    kept = jax.tree.leaves((new_state.params, new_state.opt_state, new_state.ema_params, found))
    assert "bfloat16" not in {str(leaf.dtype) for leaf in kept}


@STAGES
def test_bfloat16_appears_in_the_networks_alone(stage):
    """Outside the modules (losses, optimizer, average, views, mixing) nothing computes in bfloat16."""
    networks = re.compile(r"ViT|Mae")
    outside = [
        e
        for _, stack, e in equations(stage)
        if not networks.search(stack) and any(str(getattr(v.aval, "dtype", "")) == "bfloat16" for v in e.outvars)
    ]
    # No arithmetic: what remains is calls, and the losses' float32 cotangent handed back to the network.
    assert {e.primitive.name for e in outside} <= {"jit", "pjit", "checkpoint", "scan", "convert_element_type"}


@pytest.mark.parametrize(("stage", "forwards"), [("mae", 1), ("finetune", 1), ("semi", 2)])
def test_one_patch_embedding_per_forward(stage, forwards):
    """A student forward and, in the semi stage, a teacher forward: labeled and strong images go together."""
    values = 3 * 8 * 8  # pixels of a patch of the tiny model

    def embeds(equation):
        (left, right), _ = equation.params["dimension_numbers"]
        lhs, rhs = equation.invars
        contracted = math.prod(lhs.aval.shape[axis] for axis in left)
        return contracted == values and rhs.aval.shape == (values, 48) and list(right) == [0]

    assert sum(embeds(e) for scans, e in dots(stage) if not scans) == forwards
    assert not [e for _, _, e in equations(stage) if e.primitive.name == "conv_general_dilated"]


DEVICES = """
import dataclasses, json, re, sys
from benchmarks import cases
from benchmarks.measure import shapes_of
from semivit_jax.training import sharding
from semivit_jax.training.compiled import compile_stage
from tests.compiled import QUICK
from tests.jaxprs import inner_jaxprs

stage, fsdp, grouped = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "mixed"
case = dataclasses.replace(cases.tiny(stage), batch=16)
config, mesh = cases.config_of(case), sharding.make_mesh(fsdp)
if not grouped:
    plain = dataclasses.replace(config.stage("semi"), pseudo_mixup="none", labeled_mixup=False, erase_prob=0.0)
    config = config.with_stage("semi", plain)
compiled = compile_stage(config, cases.plan_of(config, case, num_devices=8), mesh)
text = compiled.train_step.lower(*shapes_of(compiled, case)).compile(compiler_options=QUICK).as_text()
kinds = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute|collective-broadcast"
found = re.findall(rf" = (\\S+(?: \\S+)*?) ({kinds})(?:-start)?\\(", text)
print(json.dumps([[kind, shape] for shape, kind in found]))
"""


@functools.cache
def collectives(fsdp, mixing):
    """[kind, result shape] of every collective of the semi step on 8 simulated devices."""
    root = Path(__file__).parents[2]
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, "-c", DEVICES, "semi", str(fsdp), mixing],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(root)},
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def kinds(found):
    return {kind for kind, _ in found}


CONFIDENCES = (16 * cases.UNLABELED_RATIO,)  # quantiles sort the confidences of the whole batch
SHARDED_LAYERS = {(48, 192), (192, 48)}  # one layer's MLP matrices; the others are small and replicated


def test_replicated_parameters_need_sums_only():
    """Gradients, losses and counts are summed over devices; nothing else crosses them but the confidences."""
    assert moved(1) == {CONFIDENCES}


def test_sharded_parameters_add_one_gather_per_layer_and_matrix():
    """Weights travel, layer by layer; activations and images never do."""
    assert moved(8) == {CONFIDENCES} | SHARDED_LAYERS


def test_mixing_and_joining_add_no_collective():
    assert kinds(collectives(1, "mixed")) == kinds(collectives(1, "plain")) == {"all-reduce", "all-gather"}


def moved(fsdp):
    """Shapes, without axes of length 1, that collectives other than sums carry."""
    return {shape for kind, text in collectives(fsdp, "mixed") if kind != "all-reduce" for shape in shapes(text)}


def shapes(text):
    """Shapes in an HLO type such as '(f32[2,3]{1,0}, s32[])', without axes of length 1."""
    return [
        tuple(int(n) for n in dims.split(",") if n not in ("", "1")) for dims in re.findall(r"\w+\[([\d,]*)\]", text)
    ]

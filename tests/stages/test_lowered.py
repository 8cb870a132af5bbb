"""What the lowered and compiled steps contain, and what they must not: held here because no test can time a GPU.

Everything is read off the step as training uses it (`compile_stage`), on the benchmark's own cases. What travels
between devices is looked at in `tests/e2e/test_devices.py`.
"""

import dataclasses
import functools
import math
import re

import jax
import pytest

from benchmarks import cases
from benchmarks.measure import describe
from tests.compiled import QUICK
from tests.jaxprs import inner_jaxprs

pytestmark = pytest.mark.xdist_group("lowered")  # programs are compiled once and shared
STAGES = pytest.mark.parametrize("stage", ["mae", "finetune", "semi"])
# The semi step holds all that the fine-tuning step does, and goes through the same update as MAE's.
COMPILED = pytest.mark.parametrize(
    "stage", [*(pytest.param(s, marks=pytest.mark.slow) for s in ("mae", "finetune")), "semi"]
)
HOST_TRAFFIC = re.compile(r"callback|infeed|outfeed|\bsend\(|\brecv\(|S\(5\)", re.IGNORECASE)  # S(5): host memory

# In the key of a kept program, which else may have the names of before, or is compiled anew when a line moves.
NAMES_ALONE = {
    "jax_compilation_cache_include_metadata_in_key": True,
    "jax_traceback_in_locations_limit": 0,
}


def case_of(stage):
    return dataclasses.replace(cases.tiny(stage), dtype="bfloat16")


@functools.cache
def traced(stage):
    """(compiled stage, its step traced)."""
    compiled, inputs = describe(case_of(stage))
    return compiled, compiled.train_step.trace(*inputs)


@functools.cache
def program(stage):
    compiled, step = traced(stage)
    before = {name: getattr(jax.config, name) for name in NAMES_ALONE}
    try:
        for name, value in NAMES_ALONE.items():
            jax.config.update(name, value)
        return compiled, step.lower().compile(compiler_options=QUICK)
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


def nbytes(tree):
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


@COMPILED
def test_nothing_leaves_the_device_inside_the_step(stage):
    assert not HOST_TRAFFIC.findall(program(stage)[1].as_text())


@COMPILED
def test_every_state_buffer_is_donated(stage):
    compiled, step = program(stage)
    assert step.memory_analysis().alias_size_in_bytes == nbytes(compiled.target)


SCOPES = {
    "mae": {"autoencoder", "optimizer"},
    "finetune": {"mixing", "student", "optimizer"},
    "semi": {"teacher", "mixing", "student", "optimizer"},
}


@COMPILED
def test_the_parts_of_a_step_have_names_in_a_trace(stage):
    """A profile is read by them; what is computed backwards carries them inside `transpose(jvp(...))`."""
    names = re.findall(r'op_name="([^"]*)"', program(stage)[1].as_text())
    parts = [set(re.split(r"[/()]+", name)) for name in names]
    assert {scope for scope in set().union(*SCOPES.values()) if any(scope in found for found in parts)} == SCOPES[stage]
    learning = SCOPES[stage] & {"student", "autoencoder"}
    assert any({"transpose", *learning} <= found for found in parts)
    assert not any({"transpose", "teacher"} <= found for found in parts)


@STAGES
def test_no_step_scatters(stage):
    """Gathers by a permutation have gathers as gradients; a scatter of activations waits on atomic additions."""
    assert not [e for _, _, e in equations(stage) if e.primitive.name.startswith("scatter")]


@functools.cache
def equations(stage):
    """Every equation of the step's jaxpr, as (depth of nesting in scans, name stack, equation)."""
    return list(_walk(traced(stage)[1].jaxpr.jaxpr, 0, ""))


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
    new_state, found = traced(stage)[1].out_info
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

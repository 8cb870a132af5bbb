"""Ideas change how a step computes, never what: the same losses and parameters, and the change they are named after."""

import dataclasses
import functools
from collections import Counter

import jax
import numpy as np
import pytest

from benchmarks import cases, ideas
from benchmarks.measure import describe
from tests.compiled import quick_jit
from tests.jaxprs import equations, scans

# What they are compared with is computed once. Slow: they are of the benchmark's changes, which nobody else runs, and
# every one of them empties jax's caches for all tests that follow.
pytestmark = [pytest.mark.xdist_group("ideas"), pytest.mark.slow]
STAGES = pytest.mark.parametrize("stage", ["semi", "mae"])


def case_of(stage, dtype):
    return dataclasses.replace(cases.tiny(stage), dtype=dtype)


@functools.cache
def jaxpr_of(idea, stage):
    compiled, inputs = describe(case_of(stage, "bfloat16"))
    with ideas.applied(idea):
        return jax.make_jaxpr(compiled.stage.train_step)(*inputs).jaxpr


def kept(idea, stage):
    """(dtype, shape) of what scans over the blocks keep for every layer."""
    found = Counter()
    for scan in scans(jaxpr_of(idea, stage)):
        carried = scan.params["num_carry"]
        found.update((str(v.aval.dtype), v.aval.shape[1:]) for v in scan.outvars[carried:])
    return found


@STAGES
def test_keeping_attention_keeps_arrays_of_tokens_by_tokens(stage):
    square = [key for key in kept("keep_attention", stage) if len(key[1]) == 4 and key[1][-1] == key[1][-2]]
    assert {dtype for dtype, _ in square} == {"float32", "bfloat16"}
    assert not set(square) & set(kept("", stage))


@STAGES
def test_keeping_norm_and_gelu_keeps_float32(stage):
    def wide(idea):
        return sum(n for (dtype, shape), n in kept(idea, stage).items() if dtype == "float32" and len(shape) == 3)

    assert wide("keep_norm_and_gelu") > wide("")
    assert sum(kept("keep_everything", stage).values()) > sum(kept("keep_attention", stage).values())


@STAGES
def test_the_derived_gradient_of_attention_multiplies_float32(stage):
    def float32_products(idea):
        dots = [e for e in equations(jaxpr_of(idea, stage)) if e.primitive.name == "dot_general"]
        return sum(any(v.aval.dtype == np.float32 for v in e.invars) and e.outvars[0].aval.ndim == 4 for e in dots)

    assert float32_products("float32_attention_gradient") > float32_products("") == 0


def test_the_derived_gradient_of_unshuffling_scatters():
    names = [e.primitive.name for e in equations(jaxpr_of("scattering_unshuffle", "mae"))]
    assert any(name.startswith("scatter") for name in names)


def test_three_products_make_no_array_of_three_widths():
    rows, tokens, width = 12, 17, 48

    def fused(idea):
        shapes = [v.aval.shape for e in equations(jaxpr_of(idea, "semi")) for v in e.outvars]
        return shapes.count((rows, tokens, 3 * width))

    assert fused("") > 0 == fused("three_products")


@functools.cache
def after_one_step(idea):
    compiled, _ = describe(case_of("mae", "float32"))
    key = jax.random.key(1)
    state, batch = quick_jit(compiled.stage.init)(key), cases.random_batch(case_of("mae", "float32"), 0)
    with ideas.applied(idea):
        return jax.tree.leaves(quick_jit(lambda s, b, k: compiled.stage.train_step(s, b, k))(state, batch, key))


@pytest.mark.parametrize("idea", ["three_products", "keep_everything", "float32_attention_gradient"])
def test_an_idea_computes_the_same(idea):
    for ours, theirs in zip(after_one_step(idea), after_one_step(""), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-5)


def test_an_unknown_idea_is_refused():
    with pytest.raises(ValueError, match="legal values: keep_attention"), ideas.applied("faster"):
        pass

"""The steps lowered for CUDA on a machine without one: cuDNN's attention in every pass, and nothing refused.

jax lowers for a platform that is absent, but asks the CUDA libraries for cuDNN's version and the device for its
generation first. Those three answers are given here, as an H100 with cuDNN 9.13 gives them; all else is jax's own.
"""

import dataclasses
import functools
import re
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo as fused

from benchmarks import cases
from semivit_jax.models.layers import attend
from semivit_jax.models.vit import VIT_SIZES
from semivit_jax.stages import STAGES
from tests.compiled import quick_jit
from tests.jaxprs import scans

FORWARD, BACKWARD = "__cudnn$fmhaSoftmax", "__cudnn$fmhaSoftmaxBackward"


@pytest.fixture(autouse=True)
def _hopper(monkeypatch):
    monkeypatch.setattr(fused, "check_cudnn_version", lambda: 91300)
    monkeypatch.setattr(fused, "check_compute_capability", lambda wanted: True)
    monkeypatch.setattr(fused, "is_cuda_compute_capability_equal", lambda wanted: False)


def traced(case):
    """The case's train step as it would be traced on a GPU."""
    config = cases.config_of(case)
    plan = cases.plan_of(config, case, num_devices=1)
    stage = STAGES[plan.stage].make(config, plan, "gpu")
    state = jax.eval_shape(stage.init, jax.random.key(0))
    batch = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), cases.random_batch(case, 0))
    return jax.jit(stage.train_step).trace(state, batch, jax.eval_shape(lambda: jax.random.key(0)))


def lowered(case):
    """The text of the case's train step, lowered for CUDA."""
    return traced(case).lower(lowering_platforms=("cuda",)).as_text()


@functools.cache
def calls(model, stage, remat):
    """Custom calls of the step, counted by name."""
    case = dataclasses.replace(cases.full(model, stage, 2), remat=remat)
    return Counter(re.findall(r"custom_call @([\w$]+)", lowered(case)))


@pytest.mark.parametrize(
    ("model", "stage", "remat", "forward", "backward"),
    [
        ("vit_b16", "semi", "none", 2, 1),  # teacher and student, 197 tokens, head dimension 64
        pytest.param("vit_h14", "semi", "none", 2, 1, marks=pytest.mark.slow),  # 257 tokens, 80
        ("vit_l16", "mae", "none", 2, 2),  # encoder with 50 tokens, decoder with 197 and 32
        pytest.param("vit_b16", "finetune", "none", 1, 1, marks=pytest.mark.slow),
        pytest.param("vit_b16", "finetune", "full", 2, 1, marks=pytest.mark.slow),  # the backward pass recomputes it
        ("vit_b16", "finetune", "dots", 2, 1),  # this policy too: to it the kernel is no matrix product
    ],
)
def test_attention_is_cudnns_in_every_pass(model, stage, remat, forward, backward):
    """One call per scanned stack and pass; what else is called runs on the device too."""
    found = calls(model, stage, remat)
    assert (found[FORWARD], found[BACKWARD]) == (forward, backward)
    assert not [name for name in found if "callback" in name]


def test_no_array_of_tokens_by_tokens_is_made():
    case = cases.full("vit_b16", "finetune", 2)
    arrays = {tuple(map(int, dims.split("x"))) for dims in re.findall(r"tensor<([\dx]+)x(?:bf16|f32)>", lowered(case))}
    assert not [shape for shape in arrays if shape[-2:] in ((197, 197), (198, 198))]


def test_on_several_devices_lengths_go_with_their_images():
    """Left alone they would be whole on every device, beside a piece of the batch."""
    auto = (jax.sharding.AxisType.Auto,) * 2  # as `sharding.make_mesh` has them
    mesh = jax.sharding.AbstractMesh((4, 1), ("data", "fsdp"), axis_types=auto)
    factor = jax.ShapeDtypeStruct((8, 5, 2, 64), jnp.bfloat16)
    with jax.sharding.use_abstract_mesh(mesh):
        step = jax.jit(lambda *qkv: attend(*qkv, "cudnn")).trace(factor, factor, factor)
        text = step.lower(lowering_platforms=("cuda",)).as_text()
    (constraint,) = re.findall(r"sdy.sharding_constraint .*: tensor<8xi32>", text)
    assert '{"data", "fsdp"}' in constraint


def kept_for_the_backward_pass(case):
    """(dtype, shape) of every array that a scan over the blocks keeps for each layer, student and teacher apart."""
    depth = VIT_SIZES[case.model].depth
    kept = []
    for equation in scans(traced(case).jaxpr.jaxpr):
        outputs = [v.aval for v in equation.outvars]
        if equation.params["length"] == depth:
            kept.append(Counter((str(a.dtype), a.shape[1:]) for a in outputs if a.shape[:1] == (depth,)))
    return kept


@pytest.mark.parametrize(
    ("attention", "padding", "kept"),
    [
        ("cudnn", 1, 4),  # query, key, value and output
        ("xla", 0, 3),  # no logits, no probabilities: the plain path computes them again
    ],
)
def test_blocks_keep_little_and_the_teacher_nothing(attention, padding, kept):
    """Per layer two arrays as wide as the MLP, and none of activations in float32: what is cheap is computed again."""
    case = dataclasses.replace(cases.full("vit_b16", "semi", 2), attention=attention)
    teacher, student, gradients = kept_for_the_backward_pass(case)
    rows, tokens, width = 12, 197, 768
    assert not teacher
    assert student[("bfloat16", (rows, tokens, 4 * width))] == 2
    assert student[("bfloat16", (rows, tokens, width))] == 5
    assert student[("bfloat16", (rows, tokens + padding, 12, 64))] == kept
    assert not [shape for _, shape in student if shape[-2:] == (tokens + padding,) * 2]
    assert not [entry for entry in student if entry[0] == "float32" and entry[1][-1:] == (width,)]
    assert ("float32", (width, 3 * width)) in gradients  # the last scan is the backward pass


@pytest.mark.parametrize("tokens", [4, 5])
def test_padding_to_an_even_number_changes_nothing(tokens, monkeypatch):
    """The same call with the library's plain path in cuDNN's place, which masks by lengths as cuDNN does."""
    seen = []

    def plain(query, key, value, *, implementation, **lengths):
        seen.append((implementation, query.shape[1]))
        return library(query, key, value, implementation="xla", **lengths)

    library = jax.nn.dot_product_attention
    monkeypatch.setattr(jax.nn, "dot_product_attention", plain)
    factors = np.random.default_rng(0).normal(size=(4, 3, tokens, 2, 8)).astype(np.float32)

    def loss(implementation):
        def weighted(*qkv):
            return (attend(*qkv, implementation) * factors[3]).sum()

        return quick_jit(jax.value_and_grad(weighted, (0, 1, 2)))(*factors[:3])

    for ours, expected in zip(jax.tree.leaves(loss("cudnn")), jax.tree.leaves(loss("xla")), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)
    assert set(seen) == {("cudnn", 4 if tokens == 4 else 6)}

"""Updates of stages that train a part: what is frozen stays and costs nothing, what is trained moves as in `all`."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semivit_jax.stages.state import nbytes, told
from tests.jaxprs import inner_jaxprs
from tests.stages import small
from tests.tune import tuned

pytestmark = pytest.mark.usefixtures("float64")
# The semi step holds all that the fine-tuning step does.
BY_DEFAULT = [("finetune", "head"), ("semi", "last_1"), ("semi", "lora")]
CASES = [*BY_DEFAULT, *(pytest.param("finetune", tune, marks=pytest.mark.slow) for tune in ("last_1", "lora"))]


@pytest.mark.parametrize(("stage", "tune"), CASES)
def test_what_is_frozen_stays_and_has_no_moments_and_no_average(stage, tune):
    before = tuned.state_of(stage, tune)
    step, state = tuned.program(stage, tune), before
    for _ in range(2):
        state, found = step(state, tuned.batch_of(stage), small.key())
    assert (float(found["dropped"].total.sum()), int(state.step)) == (0.0, 2)
    small.assert_equal(state.frozen, before.frozen)
    assert tuned.moved(before, state) == set(tuned.flat(before.params))
    trees = (state.opt_state.mu, state.opt_state.nu, state.ema_params)
    assert all(jax.tree.structure(tree) == jax.tree.structure(state.params) for tree in trees)


@pytest.mark.parametrize(("stage", "tune"), CASES)
def test_the_compiled_step_takes_the_trained_part_four_times_and_the_frozen_one_once(stage, tune):
    """Weights, two moments, average; counted in the program's own arguments, beside those of the batch and the key."""
    state, batch = tuned.state_of(stage, tune), tuned.batch_of(stage)
    memory = tuned.program(stage, tune).memory_analysis()
    counters = nbytes((state.step, state.position, state.opt_state.count))
    expected = 4 * nbytes(state.params) + nbytes(state.frozen) + counters
    assert memory.argument_size_in_bytes - nbytes(batch) - expected in range(0, 64), "a key and nothing else"


def kernel_gradients(jaxpr, shape, times=1):
    """Matrix products whose result is as large as a kernel, those in a scan once per iteration."""
    found = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general" and equation.outvars[0].aval.shape in (shape, shape[::-1]):
            found += times
        again = equation.params["length"] if equation.primitive.name == "scan" else 1
        found += sum(kernel_gradients(inner, shape, times * again) for inner in inner_jaxprs(equation))
    return found


@pytest.mark.parametrize(
    ("tune", "attention", "mlp"),  # kernels of qkv; of an MLP's two layers, and of the patch embedding
    [("all", 2, 2 * 2 + 1), ("head", 0, 0), ("last_1", 1, 2), ("lora", 0, 0)],
)
def test_only_what_is_trained_has_a_gradient(tune, attention, mlp):
    """Of the jaxpr of a step: no product has a frozen kernel's shape, so that none is computed and thrown away."""
    stage = tuned.stage_of("finetune", tune)[2]
    state = jax.eval_shape(stage.init, small.key())
    jaxpr = jax.make_jaxpr(stage.train_step)(state, tuned.batch_of("finetune"), small.key()).jaxpr
    assert (kernel_gradients(jaxpr, (48, 144)), kernel_gradients(jaxpr, (48, 192))) == (attention, mlp)


PLAIN = {"drop_path_rate": 0.0}  # below what is trained there is none


@pytest.mark.parametrize("tune", ["head", "last_1"])
def test_the_first_update_is_that_of_all_on_what_is_trained(tune):
    """With layer decay, weight decay, mixing and erasing: the tables are those of the whole model."""
    config = tuned.stage_of("finetune", tune, **PLAIN)[0]
    assert config.stage("finetune").layer_decay < 1 < 100 * config.stage("finetune").weight_decay
    after = {}
    for name in ("all", tune):
        state = tuned.state_of("finetune", name, **PLAIN)
        after[name], _ = tuned.compiled_step("finetune", name, **PLAIN)(state, tuned.batch_of("finetune"), small.key())
    parting = tuned.stage_of("finetune", tune, **PLAIN)[2].parting
    for tree in ("params", "ema_params"):
        expected, _ = parting.split(getattr(after["all"], tree), small.key())
        small.assert_close(getattr(after[tune], tree), expected, rtol=1e-9)


def test_a_square_lora_makes_the_update_of_all_on_its_matrices():
    """First factor the identity, second zero, alpha = rank, decay and clipping off."""
    changes = {**PLAIN, "weight_decay": 0.0, "clip_norm": 0.0, "labeled_mixup": False, "erase_prob": 0.0,
               "model.lora_rank": 48, "model.lora_alpha": 48.0}  # fmt: skip
    whole, batch = tuned.state_of("finetune", "all", **changes), tuned.batch_of("finetune")
    parts = tuned.state_of("finetune", "lora", **changes)
    for matrix in parts.params["blocks"]["attn"].values():
        matrix["lora_a"] = jnp.broadcast_to(jnp.eye(48), matrix["lora_a"].shape)
    of_all, _ = tuned.compiled_step("finetune", "all", **changes)(whole, batch, small.key())
    of_lora, _ = tuned.compiled_step("finetune", "lora", **changes)(parts, batch, small.key())
    for name, matrix in of_lora.params["blocks"]["attn"].items():
        before, after = (state.params["blocks"]["attn"][name]["kernel"] for state in (whole, of_all))
        assert np.abs(after - before).max() > 1e-5
        small.assert_close(matrix["lora_b"], after - before, rtol=1e-6)


@pytest.mark.parametrize("tune", ["all", *tuned.TUNES])
def test_a_run_says_what_it_saves(tune):
    stage = tuned.stage_of("semi", tune)[2]
    state = jax.eval_shape(stage.init, small.key())
    sentence = told(state, stage.parting)
    if tune == "all":
        assert not sentence
        return
    everything = nbytes(jax.eval_shape(stage.parting.whole, state.params, state.frozen))
    saved = 5 * everything - 5 * nbytes(state.params) - nbytes(state.frozen)
    trained, frozen = (sum(math.prod(x.shape) for x in jax.tree.leaves(t)) for t in (state.params, state.frozen))
    assert sentence == (
        f"{trained:,} parameters, {frozen:,} are frozen: {saved / 2**20:,.1f} MiB less of gradients, moments and "
        "average than if all were trained"
    )

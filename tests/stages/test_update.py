"""The shared update on a model of four numbers: averaging, clipping, dropping, counting, and the average."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semivit_jax.ops import metrics, optim
from semivit_jax.stages import stage as stage_lib
from semivit_jax.stages import state
from tests.compiled import quick_jit
from tests.stages import small

pytestmark = pytest.mark.usefixtures("float64")

EMA_DECAY = 0.9


def make_optimizer(*, clip_norm=0.0, lr=0.1, lr_scale=1.0):
    return optim.adamw(
        betas=(0.9, 0.999),
        eps=1e-8,
        clip_norm=clip_norm,
        weight_decays=((r"bias", 0.0), (r"", 0.05)),
        lr_scales=((r"", lr_scale),),
        lr=lambda step: lr + 0.0 * step,
    )


def micro_loss(params, batch, draws):
    """Squared error of a line."""
    pred = batch["x"] @ params["kernel"] + params["bias"]
    loss = jnp.square(pred - batch["y"] + draws).mean() + batch["offset"].sum()
    return loss, {"loss": metrics.of(loss)}


def initial(optimizer):
    params = {"kernel": jnp.asarray([1.0, -2.0, 3.0]), "bias": jnp.asarray(0.5)}
    return state.create(params, optimizer, keep_ema=True, policy_state=jnp.asarray(0))


def data(accum):
    generator = np.random.default_rng(0)
    x, y, draws = (generator.normal(size=shape) for shape in ((8, 3), (8,), (8,)))
    return small.micro(({"x": x, "y": y, "offset": np.zeros(8)}, draws), accum)


def update(before, batch, draws, optimizer):
    return stage_lib.update(
        before,
        batch,
        draws,
        micro_loss=micro_loss,
        optimizer=optimizer,
        ema_decay=EMA_DECAY,
        policy_state=before.policy_state + 1,  # a rule that counts updates
    )


@quick_jit
def run(before, batch, draws):
    return update(before, batch, draws, make_optimizer())


@pytest.mark.parametrize("accum", [2, 4, 8])
def test_gradients_are_averaged_over_micro_steps(accum):
    before = initial(make_optimizer())
    (one, found), (many, found_many) = run(before, *data(1)), run(before, *data(accum))
    small.assert_close(many.params, one.params)
    small.assert_close(many.opt_state.nu, one.opt_state.nu)
    np.testing.assert_allclose(metrics.compute(found_many)["loss"], metrics.compute(found)["loss"])
    assert found_many["loss"].total.shape == (accum,)
    assert (one.policy_state, many.policy_state) == (1, 1)


def test_the_state_moves_on_and_the_average_follows():
    before = initial(make_optimizer())
    after, found = run(before, *data(1))
    assert (after.step, after.position, found["dropped"].total) == (1, 1, 0)
    small.assert_close(
        after.ema_params,
        jax.tree.map(lambda e, p: EMA_DECAY * e + (1 - EMA_DECAY) * p, before.ema_params, after.params),
    )
    assert small.largest_change(after.params, before.params) > 0.01


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])  # the last one: a finite loss with an overflowing gradient
@pytest.mark.parametrize("row", [0, 5])
def test_a_bad_number_anywhere_drops_the_update(bad, row):
    batch, draws = data(4)
    x = np.asarray(batch["x"]).copy()
    x[row // 2, row % 2] = bad
    before, _ = run(initial(make_optimizer()), *data(4))
    after, found = run(before, {**batch, "x": jnp.asarray(x)}, draws)
    small.assert_equal(after.replace(step=before.step, position=before.position), before)
    assert (after.step, after.position, found["dropped"].total) == (2, 2, 1)
    again, found = run(after, batch, draws)
    assert found["dropped"].total == 0
    assert small.largest_change(again.params, after.params) > 0
    assert again.opt_state.count == 2  # Adam's own count leaves the dropped one out


@pytest.mark.parametrize("row", [0, 5])
def test_a_bad_loss_with_a_finite_gradient_drops_the_update(row):
    batch, draws = data(4)
    before = initial(make_optimizer())
    after, found = run(before, {**batch, "offset": batch["offset"].at[row // 2].set(np.inf)}, draws)
    assert np.isfinite(found["grad_norm"].total)
    small.assert_equal(after.replace(step=before.step, position=before.position), before)
    assert found["dropped"].total == 1


def test_the_average_starts_as_a_copy_so_that_both_can_be_donated():
    before = initial(make_optimizer())
    addresses = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves((before.params, before.ema_params))]
    assert len(set(addresses)) == len(addresses)
    donated = quick_jit(lambda s: s.replace(step=s.step + 1), donate_argnums=0)(before)
    assert donated.step == 1
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before.params))


def test_clipping_scales_all_gradients_by_their_common_norm():
    grads = {"a": jnp.asarray([3.0, 0.0]), "b": jnp.asarray(4.0)}  # norm 5
    clipped = optim.clip_by_norm(grads, 1.0)
    np.testing.assert_allclose(clipped["a"], [3 / (5 + 1e-6), 0.0], rtol=1e-12)
    np.testing.assert_allclose(clipped["b"], 4 / (5 + 1e-6), rtol=1e-12)
    small.assert_equal(optim.clip_by_norm(grads, 5.1), grads)


def test_the_logged_norm_is_the_one_before_clipping():
    batch, draws = data(1)
    steps = [
        quick_jit(functools.partial(update, optimizer=optimizer))
        for optimizer in (make_optimizer(), make_optimizer(clip_norm=0.1))
    ]
    (_, plain), (clipped_state, clipped) = (step(initial(make_optimizer()), batch, draws) for step in steps)
    assert plain["grad_norm"].total == clipped["grad_norm"].total > 0.1
    mu = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(clipped_state.opt_state.mu)])
    np.testing.assert_allclose(jnp.linalg.norm(mu), 0.1 * 0.1, rtol=1e-5)


@pytest.mark.parametrize("lr_scale", [1.0, 0.5])
def test_weight_decay_is_decoupled_and_scaled_by_the_learning_rate_of_the_layer(lr_scale):
    optimizer, zero = make_optimizer(lr=0.1, lr_scale=lr_scale), {"kernel": jnp.zeros(3), "bias": jnp.zeros(())}
    before = initial(optimizer)
    after = state.apply_gradients(
        before, optimizer, grads=zero, policy_state=before.policy_state, ema_decay=0.9, ok=jnp.asarray(True)
    )
    np.testing.assert_allclose(
        after.params["kernel"], before.params["kernel"] * (1 - lr_scale * 0.1 * 0.05), rtol=1e-12
    )
    assert after.params["bias"] == before.params["bias"]


def test_a_parameter_without_a_policy_is_refused():
    with pytest.raises(ValueError, match=r"no pattern matches parameter 'head/scale'; patterns: \['bias'\]"):
        optim.by_path((("bias", 0.0),), {"head": {"scale": jnp.zeros(3)}})


def test_a_table_for_another_depth_is_refused():
    with pytest.raises(ValueError, match="blocks/kernel has 2 layers, the table 3 values"):
        optim.by_path(((r"^blocks/", [0.1, 0.2, 0.3]),), {"blocks": {"kernel": jnp.zeros((2, 4))}})


def test_the_first_pattern_that_matches_decides():
    found = optim.by_path(((r"head/bias", 1), (r"head", 2), (r"", 3)), {"head": {"bias": 0.0, "k": 0.0}, "z": 0.0})
    assert found == {"head": {"bias": 1, "k": 2}, "z": 3}

"""Properties of the fine-tuning step and of the exact, padded evaluation."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semivit_jax.ops import metrics
from semivit_jax.stages import finetune, supervised
from tests.compiled import quick_jit
from tests.stages import small

pytestmark = [pytest.mark.usefixtures("float64"), pytest.mark.xdist_group("stages")]  # programs are shared


def make_stage(**changes):
    return finetune.make(small.stage_config("finetune", **changes), small.stage_plan("finetune"), backend="cpu")


@pytest.mark.slow  # by default: test_update of any micro-loss, test_draws of the draws, test_devices of all
def test_four_micro_steps_equal_one():
    """Drop path, erasing and mixup draws included."""
    state, batch = small.initial_state("finetune"), small.labeled_batch()
    one, found = small.compiled_step("finetune")(state, small.micro(batch), small.key())
    four, found_four = small.compiled_step("finetune", accum=4)(state, small.micro(batch, 4), small.key())
    small.assert_close(four.opt_state, one.opt_state)
    small.assert_close(four.params, one.params)
    small.assert_close(four.ema_params, one.ema_params)
    np.testing.assert_allclose(metrics.compute(found_four)["loss"], metrics.compute(found)["loss"], rtol=1e-9)
    np.testing.assert_allclose(found_four["grad_norm"].total, found["grad_norm"].total, rtol=1e-9)


def test_steps_and_positions_are_counted_and_decide_lr_and_draws():
    state, batch, step = small.initial_state("finetune"), small.labeled_batch(), small.compiled_step("finetune")
    batch = small.micro(batch)
    first, found = step(state, batch, small.key())
    second, _ = step(first, batch, small.key())
    assert (first.step, first.position, second.step, second.position) == (1, 1, 2, 2)
    ahead = state.replace(position=jnp.asarray(5, jnp.int32))  # as after a rollback: other data, same lr
    after, found_ahead = step(ahead, batch, small.key())
    assert (after.step, after.position) == (1, 6)
    assert found_ahead["lr"].total == found["lr"].total
    assert found_ahead["loss"].total != found["loss"].total
    later = state.replace(step=jnp.asarray(5, jnp.int32))
    _, found_later = step(later, batch, small.key())
    assert found_later["lr"].total != found["lr"].total
    assert found_later["loss"].total == found["loss"].total


def test_without_mixup_every_image_is_a_smoothed_hard_label():
    """Loss of an untrained head of zeros is log(10), whatever the smoothing; its gradient is not."""
    state, batch = small.initial_state("finetune"), small.micro(small.labeled_batch())
    off = {"labeled_mixup": False, "drop_path_rate": 0.0, "erase_prob": 0.0}
    params = state.params | {"head": jax.tree.map(jnp.zeros_like, state.params["head"])}
    after, found = small.compiled_step("finetune", **off)(state.replace(params=params), batch, small.key())
    np.testing.assert_allclose(found["loss"].total, np.log(10), rtol=1e-12)
    share = np.bincount(small.labeled_batch()["label"], minlength=10) / small.BATCH
    want = 0.1 - (0.9 * share + 0.01)  # softmax minus target
    np.testing.assert_allclose(after.opt_state.mu["head"]["bias"] / 0.1, want, atol=1e-12)


def test_evaluation_ignores_padding():
    stage, state = make_stage(), small.initial_state("finetune")
    params = state.params | {"head": {"kernel": 1e5 * state.params["head"]["kernel"], "bias": jnp.zeros(10)}}
    images, labels = small.images(8, 12), small.labels(9, 12)
    evaluate = quick_jit(stage.eval_step)
    whole = evaluate(params, {"image": images, "label": labels, "mask": np.ones(12)})
    pad = np.concatenate([images[5:], np.full_like(images[:5], 3.0)])
    parts = [
        evaluate(params, {"image": images, "label": labels, "mask": np.arange(12) < 5}),
        evaluate(params, {"image": pad, "label": np.r_[labels[5:], np.zeros(5, int)], "mask": np.arange(12) < 7}),
    ]
    total = metrics.add(*parts)
    for name in ("acc1", "acc5", "loss"):
        np.testing.assert_allclose(total[name], whole[name], rtol=1e-12)
    assert whole["loss"].count == 12
    assert 0 <= whole["acc1"].total <= whole["acc5"].total <= 12


def test_accuracies_of_known_logits():
    config = small.stage_config("finetune")
    model = supervised.build_network(config, config.stage("finetune"), small.stage_plan("finetune"), backend="cpu")
    ranked = np.tile(np.arange(10.0), (4, 1))  # class 9 first, class 5 fifth, class 4 sixth
    stub = dataclasses.replace(model, logits=lambda *_: jnp.asarray(ranked))
    batch = {"image": small.images(0, 4), "label": np.asarray([9, 5, 4, 9]), "mask": np.arange(4) < 3}
    found = supervised.make_eval_step(config, stub)(None, batch)
    assert metrics.compute(found)["acc1"] == pytest.approx(1 / 3)
    assert metrics.compute(found)["acc5"] == pytest.approx(2 / 3)


def test_an_average_is_kept_and_evaluated_only_where_asked_for():
    kept, none = (jax.eval_shape(make_stage(ema_decay=d).init, small.key()) for d in (0.9, 0.0))
    assert none.ema_params is None
    assert jax.tree.structure(kept.ema_params) == jax.tree.structure(kept.params)
    assert supervised.eval_params(kept).keys() == {"val", "val_ema"}
    assert supervised.eval_params(none).keys() == {"val"}

"""Properties of masking and of the MAE step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semivit_jax.models.mae import patchify, random_masking
from semivit_jax.ops import metrics
from semivit_jax.stages import mae
from tests.compiled import quick_jit
from tests.stages import small

pytestmark = [pytest.mark.usefixtures("float64"), pytest.mark.xdist_group("stages")]  # programs are shared


@pytest.mark.parametrize(("patches", "mask_ratio", "kept"), [(16, 0.75, 4), (9, 0.5, 4), (196, 0.75, 49)])
def test_kept_and_removed_are_all_patches(patches, mask_ratio, kept):
    noise = np.random.default_rng(0).random((5, patches))
    masking = random_masking(noise, mask_ratio)
    assert masking.keep_ids.shape == (5, kept)
    assert (masking.patch_mask.sum(axis=1) == patches - kept).all()
    for keep_ids, restore_ids, removed in zip(*masking, strict=True):
        assert sorted([*keep_ids.tolist(), *np.flatnonzero(removed).tolist()]) == list(range(patches))
        shuffled = np.argsort(restore_ids)
        assert sorted(restore_ids.tolist()) == list(range(patches))
        np.testing.assert_array_equal(shuffled[:kept], keep_ids)


def test_patches_are_row_major_with_the_channel_last():
    images = np.arange(2 * 4 * 4 * 3).reshape(2, 4, 4, 3)
    patches = patchify(images, 2)
    assert patches.shape == (2, 4, 12)
    np.testing.assert_array_equal(patches[1, 1], images[1, :2, 2:].ravel())


@pytest.fixture(scope="module")
def model():
    return mae.make_update(small.stage_config("mae"), small.stage_plan("mae"), backend="cpu")[0]


def test_removed_patches_do_not_reach_the_encoder(model):
    params, images = small.initial_state("mae").params, small.images(1, 2)
    noise = np.asarray([[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]])  # keeps the first, and the last patch
    apply = quick_jit(model.apply)
    plain = apply(params, images, noise)
    assert plain.patch_mask.tolist() == [[0, 1, 1, 1], [1, 1, 1, 0]]
    other = images.copy()
    other[0, 8:] = other[0, :8, 8:] = other[1, :8] = other[1, 8:, :8] = 9.0
    changed = apply(params, other, noise)
    small.assert_equal(changed, plain)
    other[1, 8:, 8:] = 9.0
    assert np.abs(apply(params, other, noise).latent[1] - plain.latent[1]).max() > 1e-6


@pytest.mark.slow  # by default: test_update of any micro-loss, test_draws of the draws, test_devices of all
def test_four_micro_steps_equal_one():
    """Noise is drawn per row, whatever the number of micro-steps."""
    state, batch = small.initial_state("mae"), {"image": small.images(1, small.BATCH)}
    one, found = small.compiled_step("mae")(state, small.micro(batch), small.key())
    four, found_four = small.compiled_step("mae", accum=4)(state, small.micro(batch, 4), small.key())
    small.assert_close(four.opt_state, one.opt_state)
    small.assert_close(four.params, one.params)
    np.testing.assert_allclose(metrics.compute(found_four)["loss"], metrics.compute(found)["loss"], rtol=1e-9)
    assert (one.step, one.position, four.step, four.position) == (1, 1, 1, 1)
    assert one.ema_params is None


def test_other_positions_remove_other_patches():
    state, batch = small.initial_state("mae"), small.micro({"image": small.images(1, small.BATCH)})
    step = small.compiled_step("mae")
    losses = [
        float(step(state.replace(position=jnp.asarray(p, jnp.int32)), batch, small.key())[1]["loss"].total[0])
        for p in (0, 1, 0)
    ]
    assert losses[0] == losses[2] != losses[1]


def test_mae_has_nothing_to_evaluate():
    stage = mae.make(small.stage_config("mae"), small.stage_plan("mae"), backend="cpu")
    state = jax.eval_shape(stage.init, small.key())
    assert stage.eval_params(state) == {}
    with pytest.raises(ValueError, match="no labels to evaluate"):
        stage.eval_step(state.params, {})

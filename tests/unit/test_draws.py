"""Draws of one stream: drop path, erasing, device views, and keys that belong to groups."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semivit_jax.models.vit import VIT_SIZES, drop_path_rates
from semivit_jax.ops import rng
from semivit_jax.ops.erasing import ErasingDraw, apply_erasing, sample_erasing
from semivit_jax.stages.stage import DeviceView, masks, sample_images, see
from tests.compiled import quick_jit

NUM = 4000


@pytest.fixture(scope="module")
def drop_path():
    spec = DeviceView((0.5,) * 3, (0.5,) * 3, 8, None, 0.0, drop_path_rates(VIT_SIZES["vit_test"], 0.4))
    return np.asarray(sample_images(jax.random.key(0), NUM, spec).drop_path)  # (images, depth, 2)


def test_drop_path_keeps_every_branch_on_average_and_block_0_always(drop_path):
    rates = np.asarray([0.0, 0.2, 0.4])
    assert (drop_path[:, 0] == 1).all()
    np.testing.assert_allclose(drop_path.mean(axis=0), np.ones((3, 2)), atol=0.07)  # 5 sigma of the last block
    np.testing.assert_allclose((drop_path > 0).mean(axis=0), np.stack([1 - rates] * 2, axis=1), atol=0.04)
    for layer in (1, 2):
        np.testing.assert_allclose(np.unique(drop_path[:, layer]), [0, 1 / (1 - rates[layer])], rtol=1e-6)


def test_drop_path_branches_blocks_and_images_are_drawn_independently(drop_path):
    kept = (drop_path[:, 1:].reshape(NUM, 4) > 0).astype(float)
    correlation = np.corrcoef(kept.T) - np.eye(4)
    assert np.abs(correlation).max() < 5 / np.sqrt(NUM)
    assert np.abs(np.corrcoef(kept[:-1, 0], kept[1:, 0])[0, 1]) < 5 / np.sqrt(NUM)


def test_masks_have_the_batch_axis_last(drop_path):
    spec = DeviceView((0.5,) * 3, (0.5,) * 3, 8, None, 0.0, drop_path_rates(VIT_SIZES["vit_test"], 0.4))
    draws = sample_images(jax.random.key(0), NUM, spec)
    np.testing.assert_array_equal(masks(draws)[2, 1], drop_path[:, 2, 1])


def test_a_recipe_that_draws_nothing_draws_nothing():
    spec = DeviceView((0.5,) * 3, (0.5,) * 3, 8, None, 0.0, drop_path_rates(VIT_SIZES["vit_test"], 0.0))
    assert all(leaf is None for leaf in sample_images(jax.random.key(0), 4, spec))


def test_images_are_normalised_once():
    spec = DeviceView((0.1, 0.2, 0.3), (0.5, 1.0, 2.0), 2, None, 0.0, None)
    nothing = sample_images(jax.random.key(0), 1, spec)
    image = np.full((1, 2, 2, 3), 51, np.uint8)
    np.testing.assert_allclose(see(image, nothing, spec)[0, 0, 0], [0.2, 0.0, -0.05], atol=1e-7)
    np.testing.assert_array_equal(see(image.astype(np.float32), nothing, spec), image)  # floats are taken as seen


@pytest.fixture(scope="module")
def erasing():
    return quick_jit(lambda k: sample_erasing(k, num=NUM, image_size=64, erase_prob=0.25))(jax.random.key(0))


def test_erased_boxes_follow_the_published_ranges(erasing):
    y_low, y_high, x_low, x_high = np.asarray(erasing.box).T
    height, width = y_high - y_low, x_high - x_low
    erased = height > 0
    assert erased.mean() == pytest.approx(0.25, abs=0.035)
    assert not width[~erased].any()
    assert y_low.min() >= 0
    assert x_low.min() >= 0
    assert max(y_high.max(), x_high.max()) <= 64
    area, aspect = (height * width / 64**2)[erased], (height / np.maximum(width, 1))[erased]
    assert 0.018 < area.min() < 0.03  # 1/50, up to rounding to whole pixels
    assert 0.3 < area.max() < 0.345  # 1/3
    assert 0.28 < aspect.min() < 0.4
    assert 2.5 < aspect.max() < 3.8
    assert np.log(aspect).mean() == pytest.approx(0, abs=0.1)  # log-uniform, so as often high as wide
    assert np.mean(area) == pytest.approx(0.172, abs=0.02)  # wide and high boxes that do not fit are drawn again
    for low, high in ((y_low, y_high), (x_low, x_high)):  # anywhere, borders included
        centers = ((low + high) / 2)[erased]
        assert centers.mean() == pytest.approx(32, abs=2)
        assert (low[erased] == 0).any()
        assert (high[erased] == 64).any()


@pytest.mark.parametrize(("prob", "share"), [(0.0, 0.0), (1.0, 1.0)])
def test_erasing_never_and_always(prob, share):
    sample = quick_jit(lambda k: sample_erasing(k, num=200, image_size=32, erase_prob=prob))
    box = sample(jax.random.key(0)).box
    assert (np.asarray(box[:, 1] > box[:, 0])).mean() == share


def test_erased_pixels_are_noise_and_the_others_stay():
    images = jnp.full((3, 32, 32, 3), 7.0)
    box = jnp.asarray([[2, 20, 4, 30], [0, 0, 0, 0], [0, 32, 0, 32]])
    out = np.asarray(apply_erasing(images, ErasingDraw(box, jax.random.split(jax.random.key(0), 3))))
    inside = np.zeros((32, 32), bool)
    inside[2:20, 4:30] = True
    assert (out[0][~inside] == 7).all()
    assert (out[1] == 7).all()
    for noise in (out[0][inside], out[2]):
        assert noise.mean() == pytest.approx(0, abs=5 / np.sqrt(noise.size))
        assert noise.std() == pytest.approx(1, abs=5 / np.sqrt(2 * noise.size))
    assert np.abs(np.corrcoef(out[2, ..., 0].ravel(), out[2, ..., 1].ravel())[0, 1]) < 0.16  # channels apart
    assert (out[0][inside] != out[2][inside]).all()  # images apart


def test_group_draws_do_not_depend_on_the_number_of_micro_steps():
    def grouped(accum, groups, position=3):
        sample = lambda k: jax.random.uniform(k, (2,))  # noqa: E731
        draw = quick_jit(lambda k, p: rng.grouped(sample, k, position=p, accum=accum, groups=groups))
        return draw(jax.random.key(0), jnp.asarray(position))

    whole = grouped(1, 6)
    assert whole.shape == (1, 6, 2)
    for accum, groups in ((2, 3), (3, 2), (6, 1)):
        np.testing.assert_array_equal(grouped(accum, groups).reshape(1, 6, 2), whole)
    np.testing.assert_array_equal(grouped(1, 4), whole[:, :4])  # a group's draws are its own
    assert len(np.unique(np.concatenate([whole, grouped(1, 6, position=4)]))) == 24


def test_streams_are_apart():
    keys = [rng.stream(jax.random.key(0), name) for name in ("weak", "strong", "labeled")]
    assert len({tuple(jax.random.key_data(k).tolist()) for k in keys}) == 3


def test_rows_of_groups_keep_their_order():
    draws = {"a": jnp.arange(24).reshape(2, 3, 4), "b": jnp.zeros((2, 3, 4, 5))}
    rows = rng.rows(draws)
    assert rows["b"].shape == (2, 12, 5)
    np.testing.assert_array_equal(rows["a"], np.arange(24).reshape(2, 12))

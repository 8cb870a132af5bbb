"""Random erasing against recorded boxes and statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semivit_jax.ops.erasing import ErasingDraw, apply_erasing, sample_erasing
from tests.parity.recorded import load
from tests.parity.samples import two_sample_distance

RECORDED = load("erasing")
STATS = RECORDED["erase_stats"]
SIZE = 224
SAMPLES = 20_000

# One compilation for the whole file.
_sample = jax.jit(sample_erasing, static_argnames=("num", "image_size"))
_apply = jax.jit(apply_erasing)


def sample(seed, erase_prob):
    return _sample(jax.random.key(seed), num=SAMPLES, image_size=SIZE, erase_prob=erase_prob)


@pytest.fixture(scope="module")
def boxes():
    """(y_low, y_high, x_low, x_high) of many images that are all to be erased."""
    return np.asarray(sample(seed=0, erase_prob=1.0).box)


def sides(boxes):
    return boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2]


def test_boxes_and_recorded_boxes_are_samples_of_one_distribution(boxes):
    height, width = sides(boxes)
    top, left, recorded_height, recorded_width = RECORDED["erase_boxes_ijhw"].T
    limit = 1.95 * np.sqrt(1 / SAMPLES + 1 / len(top))  # p = 0.001
    assert two_sample_distance(height * width, recorded_height * recorded_width) < limit
    assert two_sample_distance(height / width, recorded_height / recorded_width) < limit
    assert two_sample_distance(boxes[:, 0] / (SIZE - height), top / (SIZE - recorded_height)) < limit
    assert two_sample_distance(boxes[:, 2] / (SIZE - width), left / (SIZE - recorded_width)) < limit


def test_area_and_aspect_statistics(boxes):
    height, width = sides(boxes)
    area, aspect = height * width / SIZE**2, height / width
    # The recorded sample has 200 boxes: its mean area is known to 0.006.
    assert area.mean() == pytest.approx(STATS["area_mean"], abs=0.02)
    low, high = STATS["params"]["min_area"], STATS["params"]["max_area"]
    assert area.mean() == pytest.approx((low + high) / 2, abs=0.005)
    assert area.min() == pytest.approx(low, abs=0.001)
    assert area.max() == pytest.approx(high, abs=0.003)
    low, high = STATS["params"]["log_aspect"]
    assert np.log(aspect).min() == pytest.approx(low, abs=0.05)
    assert np.log(aspect).max() == pytest.approx(high, abs=0.05)
    assert np.log(aspect).mean() == pytest.approx(0.0, abs=0.03)


def test_boxes_are_strictly_smaller_than_the_image_and_inside(boxes):
    height, width = sides(boxes)
    assert height.max() < SIZE
    assert width.max() < SIZE
    assert boxes.min() >= 0
    assert boxes.max() <= SIZE
    assert (boxes[:, 1] == SIZE).any()  # the far edges can be reached
    assert (boxes[:, 3] == SIZE).any()


def test_the_share_of_erased_images_is_the_probability():
    height, _ = sides(np.asarray(sample(seed=1, erase_prob=0.25).box))
    assert (height > 0).mean() == pytest.approx(0.25, abs=5 * np.sqrt(0.25 * 0.75 / SAMPLES))
    never, _ = sides(np.asarray(sample(seed=1, erase_prob=0.0).box))
    assert (never == 0).all()


def test_only_the_box_changes_and_becomes_independent_normal_noise():
    images = jnp.full((8, 64, 64, 3), 7.0)
    box = jnp.array([[3, 40, 10, 60]] * 7 + [[5, 5, 9, 9]])
    draw = ErasingDraw(box, jax.random.split(jax.random.key(2), 8))
    erased = np.asarray(_apply(images, draw))
    inside = np.zeros((64, 64), bool)
    inside[3:40, 10:60] = True
    assert (erased[:7][:, ~inside] == 7.0).all()
    assert (erased[7] == 7.0).all()  # an empty box
    noise = erased[:7][:, inside].reshape(-1, 3)
    assert noise.mean() == pytest.approx(STATS["value_mean"], abs=0.03)
    assert noise.std() == pytest.approx(STATS["value_std"], abs=0.03)
    correlation = np.corrcoef(noise.T)[np.triu_indices(3, 1)]
    np.testing.assert_allclose(correlation, STATS["channel_corr"], atol=0.06)
    assert not np.allclose(erased[0], erased[1])  # no two images share their noise


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_dtype_and_shape_are_kept_under_jit(dtype):
    images = jnp.zeros((4, 32, 32, 3), dtype)
    draw = ErasingDraw(jnp.array([[0, 9, 0, 9]] * 4), jax.random.split(jax.random.key(0), 4))
    erased = _apply(images, draw)
    assert erased.dtype == dtype
    assert erased.shape == images.shape
    assert (np.asarray(erased, np.float32) != 0).any()


def test_the_same_key_draws_the_same_boxes():
    first, second, other = (sample(seed, erase_prob=1.0).box for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()

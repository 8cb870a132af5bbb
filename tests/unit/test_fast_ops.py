"""The arithmetic under the fast pointwise operators equals Pillow's on all values it can meet."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from semivit_jax.data.images import fast_ops

VALUES = np.arange(256, dtype=np.uint8)
BASE, VALUE = (np.repeat(plane[..., None], 3, axis=2) for plane in np.meshgrid(VALUES, VALUES, indexing="ij"))
RANDOM_FACTORS = np.random.default_rng(0).uniform(0.0, 2.0, 300)
# Products with round factors fall on whole numbers, where rounding decides; beyond 2 OpenCV's pass is not used.
ROUND_FACTORS = np.array([*np.arange(0, 201, 5) / 100, 0.19, 1.81, 1 / 3, 3.7, 10.0])


# What the colour jitter draws: never left to Pillow's slower arithmetic.
STEP_FACTORS = np.random.default_rng(1).integers(0, 2 / fast_ops.FACTOR_STEP, 300, endpoint=True) * fast_ops.FACTOR_STEP


@pytest.mark.parametrize("factors", [RANDOM_FACTORS, ROUND_FACTORS, STEP_FACTORS], ids=["random", "round", "steps"])
def test_blends_of_all_pairs_of_values(factors):
    base, value = Image.fromarray(BASE), Image.fromarray(VALUE)
    for factor in factors:
        wanted = np.asarray(Image.blend(base, value, float(factor)))
        np.testing.assert_array_equal(fast_ops.blend(BASE, VALUE, float(factor)), wanted, err_msg=str(factor))


@pytest.mark.parametrize("factors", [RANDOM_FACTORS, ROUND_FACTORS, STEP_FACTORS], ids=["random", "round", "steps"])
def test_blends_with_a_constant(factors):
    """Brightness is a blend with 0, contrast one with the mean of the grey image."""
    row = VALUE[:1]
    picture = Image.fromarray(row)
    for factor in factors[:100].tolist():
        brighter, starker = ImageEnhance.Brightness(picture), ImageEnhance.Contrast(picture)
        np.testing.assert_array_equal(fast_ops.brightness(row, factor), np.asarray(brighter.enhance(factor)))
        np.testing.assert_array_equal(fast_ops.contrast(row, factor), np.asarray(starker.enhance(factor)))


def test_grey_of_a_million_colours():
    image = np.random.default_rng(0).integers(256, size=(1000, 1000, 3)).astype(np.uint8)
    np.testing.assert_array_equal(fast_ops.grey(image), np.asarray(Image.fromarray(image).convert("L")))


def test_grey_where_the_luma_lies_halfway_between_two_levels():
    levels = np.arange(256)
    halfway = [
        (red, green, blue)
        for red in range(0, 256, 8)
        for green, blue in np.argwhere(
            (19595 * red + 38470 * levels[:, None] + 7471 * levels) % 65536 == 32768
        ).tolist()
    ]
    assert len(halfway) > 20
    image = np.array([halfway], np.uint8)
    np.testing.assert_array_equal(fast_ops.grey(image), np.asarray(Image.fromarray(image).convert("L")))

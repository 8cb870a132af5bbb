"""Colour jitter and whole views: recorded examples, distributions, and what a draw decides."""

import zlib

import numpy as np
import pytest

from semivit_jax.config import RandAugmentConfig
from semivit_jax.data.images.color_jitter import Enhancement, apply_color_jitter, sample_color_jitter
from semivit_jax.data.images.fast_ops import FACTOR_STEP
from semivit_jax.data.images.views import (
    EvalView,
    PhotoView,
    apply_views,
    eval_view,
    fill_rgb_of_mean,
    random_views,
    sample_view,
)
from tests.parity.recorded import load

RECORDED = load("views")
FACTS = RECORDED["facts"]
FAST_RESIZE_TOLERANCE = 1.2  # mean absolute difference, of 255
PUBLISHED = {
    "image_size": 224,
    "crop_scale": (0.08, 1.0),
    "flip_prob": 0.5,
    "color_jitter": 0.0,
    "randaugment": None,
    "fill_rgb": (124, 116, 104),
    "interpolation": "bicubic",
    "path": "fast",
}
RANDAUGMENT = RandAugmentConfig(num_ops=2, magnitude=9.0, magnitude_std=0.5, apply_prob=0.5)
WEAK = PhotoView(**PUBLISHED | {"color_jitter": 0.4})
STRONG = PhotoView(**PUBLISHED | {"randaugment": RANDAUGMENT})


def mean_difference(a, b):
    return np.abs(a.astype(np.float64) - b).mean()


# --- colour jitter


@pytest.mark.parametrize("path", ["pillow", "fast"])
@pytest.mark.parametrize("index", range(len(FACTS["jitter_examples"])))
def test_jitter_examples(index, path):
    example = FACTS["jitter_examples"][index]
    enhancements = [Enhancement(kind, example[kind]) for kind in example["order"]]
    ours = apply_color_jitter(RECORDED["jitter_in"], enhancements, path=path)
    assert zlib.crc32(ours.tobytes()) == RECORDED["crc32"][f"jitter_{index}_out"]


def test_jitter_factors_and_orders_are_uniform():
    generator = np.random.default_rng(0)
    draws = [sample_color_jitter(generator, strength=0.4) for _ in range(6_000)]
    recorded = FACTS["jitter_factor_stats"]
    for i, kind in enumerate(("brightness", "contrast", "saturation")):
        factors = np.array([e.factor for draw in draws for e in draw if e.kind == kind])
        low, high = recorded["range"][i]
        assert low <= factors.min() < low + 0.002
        assert high - 0.002 < factors.max() <= high
        assert factors.mean() == pytest.approx(1.0, abs=5 * 0.8 / np.sqrt(12 * len(factors)))
        assert set(factors % FACTOR_STEP) == {0}
    orders = {}
    for draw in draws:
        order = tuple(e.kind for e in draw)
        orders[order] = orders.get(order, 0) + 1
    assert len(orders) == 6
    assert max(abs(count - 1_000) for count in orders.values()) < 5 * np.sqrt(1_000)


# --- whole views


def test_a_view_is_a_function_of_its_draw():
    image = RECORDED["eval_landscape_in"]
    for view in (WEAK, STRONG):
        drawn = sample_view(np.random.default_rng(5), image_height=375, image_width=500, view=view)
        first, again = (apply_views(image, [drawn], [view])[0] for _ in range(2))
        np.testing.assert_array_equal(first, again)
        np.testing.assert_array_equal(first, random_views(image, np.random.default_rng(5), [view])[0])
        assert first.shape == (224, 224, 3)
        assert first.dtype == np.uint8


def test_both_paths_replay_the_same_draws():
    image = RECORDED["eval_landscape_in"]
    for seed in range(20):
        for view in (WEAK, PhotoView(**PUBLISHED)):
            pillow = PhotoView(**vars(view) | {"path": "pillow"})
            fast, exact = (random_views(image, np.random.default_rng(seed), [each])[0] for each in (view, pillow))
            assert mean_difference(fast, exact) <= 1.4 * FAST_RESIZE_TOLERANCE  # jitter amplifies up to 1.4


def test_flips_are_mirrors_and_half_of_the_views_have_one():
    drawn = [
        sample_view(np.random.default_rng(seed), image_height=80, image_width=90, view=WEAK) for seed in range(2_000)
    ]
    assert sum(draw.flip for draw in drawn) == pytest.approx(1_000, abs=5 * np.sqrt(500))
    image = RECORDED["eval_small_in"]
    flips = [drawn[0]._replace(flip=flip) for flip in (True, False)]
    mirrored, plain = apply_views(image, flips, [WEAK, WEAK])
    np.testing.assert_array_equal(mirrored, plain[:, ::-1])


def test_views_of_one_image_are_drawn_apart():
    alike = [PhotoView(**PUBLISHED)] * 2
    first, second = random_views(RECORDED["eval_landscape_in"], np.random.default_rng(0), alike)
    assert mean_difference(first, second) > 5


def test_several_views_are_single_views_drawn_one_after_the_other():
    image, one_by_one = RECORDED["eval_landscape_in"], np.random.default_rng(4)
    together = random_views(image, np.random.default_rng(4), [WEAK, STRONG, WEAK])
    for view, found in zip((WEAK, STRONG, WEAK), together, strict=True):
        np.testing.assert_array_equal(found, random_views(image, one_by_one, [view])[0])


@pytest.mark.parametrize("name", ["landscape", "portrait", "small"])
def test_evaluation_view_is_equal_bit_for_bit(name):
    view = EvalView(image_size=224, crop_fraction=0.875, interpolation="bicubic", max_pixels=10**8)
    ours = eval_view(RECORDED[f"eval_{name}_in"], view=view)
    assert zlib.crc32(ours.tobytes()) == RECORDED["crc32"][f"eval_{name}_out_uint8"]


def test_fill_colour_of_the_imagenet_mean():
    assert fill_rgb_of_mean((0.485, 0.456, 0.406)) == (124, 116, 104)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"image_size": 0}, "image_size.*0"),
        ({"crop_scale": (0.5, 0.1)}, "crop_scale.*0.5, 0.1"),
        ({"crop_scale": (0.0, 1.0)}, "crop_scale"),
        ({"flip_prob": 1.5}, "flip_prob.*1.5"),
        ({"color_jitter": -0.1}, "color_jitter.*-0.1"),
        ({"color_jitter": 0.4, "randaugment": RANDAUGMENT}, "not both"),
        ({"interpolation": "nearest"}, "bicubic.*nearest"),
        ({"path": "gpu"}, "pillow.*gpu"),
    ],
)
def test_a_spec_out_of_range_names_the_field_and_the_value(changed, named):
    with pytest.raises(ValueError, match=named):
        PhotoView(**PUBLISHED | changed)


@pytest.mark.parametrize("crop_fraction", [0.0, 1.1])
def test_an_evaluation_spec_out_of_range_names_the_value(crop_fraction):
    with pytest.raises(ValueError, match=f"eval_crop_fraction.*{crop_fraction}"):
        EvalView(image_size=224, crop_fraction=crop_fraction, interpolation="bicubic", max_pixels=10**8)

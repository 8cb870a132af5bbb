"""Crops, resizing and the evaluation view against recorded outputs, boxes and statistics."""

import importlib.util
import io
import os
import platform
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from semivit_jax.data.images import fast_resize
from semivit_jax.data.images.crop_resize import (
    Box,
    central_box,
    crop_and_resize,
    resize_short_side_and_crop,
    sample_crop_box,
)
from semivit_jax.data.images.decode import BadImage, decode
from semivit_jax.data.images.fast_resize import resize
from tests.parity.recorded import load
from tests.parity.samples import two_sample_distance

RECORDED = load("views")
FACTS = RECORDED["facts"]
FAST_RESIZE_TOLERANCE = 0.4  # mean absolute difference, of 255


def mean_difference(a, b):
    return np.abs(a.astype(np.float64) - b).mean()


def boxes_of(samples, **size):
    generator = np.random.default_rng(0)
    return np.array([sample_crop_box(generator, area_range=(0.08, 1.0), **size) for _ in range(samples)])


# --- crop and resize


@pytest.mark.parametrize("index", range(len(RECORDED["crop_boxes_ijhw"])))
def test_crops(index):
    box = Box(*RECORDED["crop_boxes_ijhw"][index].tolist())
    exact, fast = (
        crop_and_resize(RECORDED["eval_landscape_in"], box, image_size=224, interpolation="bicubic", path=path)
        for path in ("pillow", "fast")
    )
    assert zlib.crc32(exact.tobytes()) == RECORDED["crc32"][f"crop_{index}_out"]
    assert mean_difference(fast, exact) <= FAST_RESIZE_TOLERANCE


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("image_size", [384, 224, 160, 96, 64, 32, 16])
def test_fast_resize_stays_close_at_every_scale(image_size, interpolation):
    """From 1.7 times larger to 31 times smaller than the photo."""
    for name in ("landscape", "portrait"):
        image = RECORDED[f"eval_{name}_in"]
        box = Box(0, 0, *image.shape[:2])
        exact, fast = (
            crop_and_resize(image, box, image_size=image_size, interpolation=interpolation, path=path)
            for path in ("pillow", "fast")
        )
        assert mean_difference(fast, exact) <= FAST_RESIZE_TOLERANCE


def test_linux_on_arm_resizes_with_pillow(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setitem(sys.modules, "cykooz_resizer", None)  # not importable, as where it was not installed
    spec = importlib.util.spec_from_file_location("fast_resize_on_arm", fast_resize.__file__)
    on_arm = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(on_arm)
    assert not on_arm.AVAILABLE

    monkeypatch.setattr(fast_resize, "AVAILABLE", on_arm.AVAILABLE)
    image = RECORDED["eval_landscape_in"]
    exact, fast = (
        crop_and_resize(image, Box(3, 5, 200, 260), image_size=64, interpolation="bicubic", path=path)
        for path in ("pillow", "fast")
    )
    np.testing.assert_array_equal(fast, exact)


@pytest.mark.parametrize("trimmed", [0, 1, 2, 3])
def test_fast_resize_keeps_its_place_at_ratios_that_are_not_whole(trimmed):
    """Half a source pixel too much or too little would show at the far edge."""
    image = np.asarray(Image.fromarray(RECORDED["eval_landscape_in"]).resize((800, 600)))[:, : 800 - trimmed]
    exact = np.asarray(Image.fromarray(image).resize((100, 75), Image.Resampling.BICUBIC))
    assert mean_difference(resize(image, height=75, width=100, interpolation="bicubic"), exact) <= FAST_RESIZE_TOLERANCE


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("side", [400, 500, 900, 3000])
def test_fast_resize_is_antialiased(side, interpolation):
    """Stripes of one pixel are finer than the result can show: it must be grey, not another pattern."""
    stripes = np.zeros((side, side, 3), np.uint8)
    stripes[:, ::2] = 255
    small = resize(stripes, height=224, width=224, interpolation=interpolation)[8:-8, 8:-8].astype(np.float64)
    assert small.mean() == pytest.approx(127.5, abs=1.5)
    assert small.std() < 16  # of 127.5 without antialiasing


@given(height=st.integers(1, 90), width=st.integers(1, 900), size=st.sampled_from([1, 8, 32]))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_fast_resize_keeps_a_flat_colour_for_any_size(height, width, size):
    image = np.full((height, width, 3), (0, 255, 91), np.uint8)
    small = resize(image, height=size, width=size, interpolation="bicubic")
    np.testing.assert_array_equal(small, np.full((size, size, 3), (0, 255, 91)))


def test_crop_boxes_follow_the_recorded_distribution():
    boxes = boxes_of(20_000, image_height=375, image_width=500)
    recorded = FACTS["rrc_stats_20000"]
    area = boxes[:, 2] * boxes[:, 3] / (375 * 500)
    aspect = boxes[:, 3] / boxes[:, 2]
    assert area.mean() == pytest.approx(recorded["area_fraction_mean"], abs=0.012)
    np.testing.assert_allclose(
        np.quantile(area, [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1]),
        recorded["area_fraction_quantiles_0_5_25_50_75_95_100"],
        atol=0.02,
    )
    assert np.log(aspect).mean() == pytest.approx(recorded["log_aspect_mean"], abs=0.008)
    np.testing.assert_allclose(
        np.quantile(aspect, [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1]), recorded["aspect_quantiles"], atol=0.02
    )
    assert boxes[:, 0].mean() == pytest.approx(recorded["top_mean"], abs=2.5)
    assert boxes[:, 1].mean() == pytest.approx(recorded["left_mean"], abs=4)


@pytest.mark.parametrize("column", range(4))
def test_crop_boxes_and_recorded_boxes_are_samples_of_one_distribution(column):
    ours = boxes_of(5_000, image_height=375, image_width=500)[:, column]
    theirs = RECORDED["rrc_boxes_ijhw"][:, column]
    assert two_sample_distance(ours, theirs) < 1.95 * np.sqrt(1 / len(ours) + 1 / len(theirs))  # p = 0.001


class Drawn:
    """Stands in for a generator: gives the numbers that it was made with."""

    def __init__(self, *numbers):
        self.numbers = np.array(numbers)

    def random(self, size):
        assert size == len(self.numbers)
        return self.numbers


@pytest.mark.parametrize(("for_aspect", "aspect"), [(0.0, 3 / 4), (1.0, 4 / 3)])
def test_the_aspect_that_is_drawn_is_width_over_height(for_aspect, aspect):
    box = sample_crop_box(Drawn(0.5, for_aspect, 0.0, 0.0), image_height=600, image_width=600, area_range=(0.2, 0.4))
    assert box.width / box.height == pytest.approx(aspect, rel=0.01)
    assert box.width * box.height == pytest.approx(0.3 * 600 * 600, rel=0.01)


@pytest.mark.parametrize("example", FACTS["fallback_examples"])
def test_crops_of_very_long_images_fall_back_to_the_centre(example):
    height, width = example["image_hw"]
    assert central_box(image_height=height, image_width=width) == Box(*example["box_ijhw"])
    assert set(map(tuple, boxes_of(50, image_height=height, image_width=width))) == {tuple(example["box_ijhw"])}


@given(height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 1000))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_crop_boxes_lie_inside_images_of_any_size(height, width, seed):
    box = sample_crop_box(np.random.default_rng(seed), image_height=height, image_width=width, area_range=(0.08, 1.0))
    assert box.height >= 1
    assert box.width >= 1
    assert 0 <= box.top <= height - box.height
    assert 0 <= box.left <= width - box.width


# --- evaluation view


def eval_view(image, *, image_size, crop_fraction, max_pixels=10**8):
    return resize_short_side_and_crop(
        image, image_size=image_size, crop_fraction=crop_fraction, interpolation="bicubic", max_pixels=max_pixels
    )


def test_evaluation_view_of_a_larger_model_resizes_to_its_own_size():
    image = RECORDED["eval_landscape_in"]  # 375 x 500
    ours = eval_view(image, image_size=384, crop_fraction=1.0)
    resized = np.asarray(Image.fromarray(image).resize((512, 384), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(ours, resized[:, 64:448])


@pytest.mark.parametrize(("height", "width"), [(1, 20_000), (20_000, 1), (1, 89_000_000)])
def test_evaluation_view_refuses_images_that_resizing_would_blow_up(height, width, monkeypatch):
    monkeypatch.setattr(Image.Image, "resize", lambda *_, **__: pytest.fail("resized"))
    image = np.broadcast_to(np.zeros(3, np.uint8), (height, width, 3))  # without its memory
    with pytest.raises(
        BadImage, match=rf"^image of {width} x {height} pixels.* over config.data.max_pixels = 90000000$"
    ):
        eval_view(image, image_size=224, crop_fraction=0.875, max_pixels=90_000_000)


def test_evaluation_view_of_a_long_image_within_the_limit():
    image = np.random.default_rng(0).integers(0, 256, (4, 90, 3), np.uint8)
    resized = np.asarray(Image.fromarray(image).resize((180, 8), Image.Resampling.BICUBIC))
    ours = eval_view(image, image_size=7, crop_fraction=0.875, max_pixels=180 * 8)
    np.testing.assert_array_equal(ours, resized[0:7, 86:93])
    with pytest.raises(BadImage, match=r"180 x 8 = 1440, over"):
        eval_view(image, image_size=7, crop_fraction=0.875, max_pixels=180 * 8 - 1)


# --- real photographs


def shared_photos(count):
    """The first photographs of the shared archive, which is not part of the repository."""
    shared = Path(os.environ.get("SEMIVIT_SHARED", Path(__file__).parents[3] / "shared"))
    archive = shared / "data" / "imagenet_photos_300.zip"
    if not archive.exists():
        pytest.skip(f"{archive} is absent (set SEMIVIT_SHARED)")
    with zipfile.ZipFile(archive) as photos:
        return [photos.read(name) for name in sorted(photos.namelist())[:count]]


def test_fast_crops_of_real_photographs_stay_close():
    generator = np.random.default_rng(0)
    differences = []
    for jpeg in shared_photos(40):
        image = decode(jpeg, path="fast", exif_rotation=False, max_pixels=10**8)
        np.testing.assert_array_equal(image, np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")))
        box = sample_crop_box(
            generator, image_height=image.shape[0], image_width=image.shape[1], area_range=(0.08, 1.0)
        )
        exact, fast = (
            crop_and_resize(image, box, image_size=224, interpolation="bicubic", path=path)
            for path in ("pillow", "fast")
        )
        differences.append(mean_difference(fast, exact))
    assert np.mean(differences) <= FAST_RESIZE_TOLERANCE

"""Mixup and cutmix against recorded images, targets, lambdas and boxes."""

import jax
import numpy as np
import pytest

from semivit_jax.ops import mixup
from semivit_jax.ops.losses import smoothed_target
from semivit_jax.ops.mixup import GroupDraw, Mixing
from tests.parity import recorded

RUNS = recorded.load("mixup")["runs"]
SIDE = 32


def of_mode(*modes):
    return [i for i, run in enumerate(RUNS) if run["mode"] in modes]


def run(number):
    """Recorded arrays of one run, its float64 images, and its smoothed targets before mixing."""
    data, prefix = recorded.load("mixup"), f"run{number:02d}_"
    found = {k.removeprefix(prefix): v for k, v in data.items() if k.startswith(prefix)}
    smoothing = RUNS[number]["label_smoothing"]
    targets = smoothed_target(data["labels"], 10, smoothing, np.dtype(np.float64))
    return found, recorded.images(data["x_q"], np.float64), targets


@pytest.mark.parametrize("number", of_mode("batch"))
def test_batch_mode(number):
    with jax.enable_x64(True):
        found, images, targets = run(number)
        lam, cut = float(found["lam_drawn"]), bool(found["use_cutmix"])
        half = recorded.cut_half(lam, SIDE)
        center = recorded.box_center(found["bbox"], half, half) if cut else [0, 0]
        draw = GroupDraw(np.asarray(lam), np.asarray(cut), np.asarray(center))
        mixing = mixup.group_mixing(draw, mixup.reversed_partner(8), SIDE, SIDE)
        if cut:
            np.testing.assert_array_equal(mixing.box, np.broadcast_to(found["bbox"], (8, 4)))
        np.testing.assert_allclose(mixing.mixup_lambda, np.full(8, found["lam"]), rtol=0, atol=1e-12)
        np.testing.assert_allclose(mixup.mix_images(images, mixing), found["x"], rtol=0, atol=2e-6)
        np.testing.assert_allclose(mixup.mix_targets(targets, mixing), found["target"], rtol=0, atol=2e-6)


@pytest.mark.parametrize("number", of_mode("pair", "elem"))
def test_a_lambda_and_box_of_each_image(number):
    """The product draws one lambda per group; recorded modes with one per image or pair test the mixing itself."""
    with jax.enable_x64(True):
        found, images, targets = run(number)
        keys = ("lam", "use_cutmix", "bbox")
        lam, cut, box = (found[k] for k in keys)
        if RUNS[number]["mode"] == "pair":  # the same draw both ways
            lam, cut, box = (np.concatenate([v, v[::-1]]) for v in (lam, cut, box))
        mixing = Mixing(mixup.reversed_partner(8), lam, cut, box)
        np.testing.assert_allclose(mixup.mix_images(images, mixing), found["x"], rtol=0, atol=2e-6)
        np.testing.assert_allclose(mixup.mix_targets(targets, mixing), found["target"], rtol=0, atol=2e-6)


@pytest.mark.parametrize("number", of_mode("elem"))
def test_boxes_and_corrected_lambdas_of_each_image(number):
    with jax.enable_x64(True):
        found, _, _ = run(number)
        lam, cut = found["lam_drawn"].astype(np.float64), found["use_cutmix"]
        centers = recorded.box_centers(found["bbox"], lam, cut, SIDE)
        for i in np.flatnonzero(cut & (lam < 1)):  # a lambda of 1 leaves the image alone
            draw = GroupDraw(lam[i], np.asarray(True), centers[i])
            mixing = mixup.group_mixing(draw, mixup.reversed_partner(2), SIDE, SIDE)
            np.testing.assert_array_equal(mixing.box[0], found["bbox"][i])
            np.testing.assert_allclose(mixing.mixup_lambda[0], found["lam"][i], rtol=0, atol=2e-6)

"""Probabilistic pseudo mixup against recorded images, targets, lambdas, boxes and confidences."""

import jax
import numpy as np
import pytest

from semivit_jax.ops import mixup
from semivit_jax.ops.mixup import ProbDraw
from semivit_jax.stages.pseudo_label import PseudoLabels
from semivit_jax.stages.pseudo_mixup import mix_pseudo
from tests.parity import recorded

SIDE = 32
THRESHOLD = 0.7  # within the recorded confidences, so that some images take their partner's mask


def run(number):
    data, prefix = recorded.load("pseudo_mixup"), f"run{number}_"
    found = {k.removeprefix(prefix): v for k, v in data.items() if k.startswith(prefix)}
    lam = found["lam_before"].astype(np.float64)
    centers = recorded.box_centers(found["bbox"], lam, found["use_cutmix"], SIDE)
    draw = ProbDraw(found["perm"], found["use_cutmix"], centers)
    return found, draw, found["max_probs"].astype(np.float64), recorded.images(data["x_q"], np.float64)


@pytest.mark.parametrize("number", range(6))
def test_lambdas_and_boxes(number):
    with jax.enable_x64(True):
        found, draw, confidence, _ = run(number)
        plain = draw._replace(use_cutmix=np.zeros(8, bool))
        before = mixup.prob_mixing(plain, confidence, SIDE, SIDE).mixup_lambda
        np.testing.assert_allclose(before, found["lam_before"], rtol=0, atol=2e-6)
        mixing = mixup.prob_mixing(draw, confidence, SIDE, SIDE)
        np.testing.assert_allclose(mixing.mixup_lambda, found["lam_after"], rtol=0, atol=2e-6)
        cut = found["use_cutmix"]
        np.testing.assert_array_equal(mixing.box[cut], found["bbox"][cut])


@pytest.mark.parametrize("number", range(6))
def test_images_targets_and_mask(number):
    with jax.enable_x64(True):
        found, draw, confidence, images = run(number)
        target, weight = np.eye(10)[found["pseudo_targets"]], (confidence >= THRESHOLD).astype(float)
        pseudo = PseudoLabels(target, confidence, weight, strength=confidence)
        one_group = jax.tree.map(lambda x: x[None], draw)
        mixed = mix_pseudo(images, pseudo, one_group, kind="prob", label_smoothing=0.1, group_size=8)
        np.testing.assert_allclose(mixed.images, found["x"], rtol=0, atol=2e-6)
        np.testing.assert_allclose(mixed.targets, found["target"], rtol=0, atol=2e-6)
        np.testing.assert_array_equal(mixed.confidence_mask, found["new_prob"] >= THRESHOLD)
        np.testing.assert_allclose(np.maximum(confidence, confidence[draw.partner]), found["new_prob"], atol=1e-7)

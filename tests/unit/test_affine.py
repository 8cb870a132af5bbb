"""Affine views: what known matrices do to an image, and the ranges drawn matrices keep."""

import jax
import numpy as np
import pytest

from semivit_jax.ops.affine import apply_affine, sample_affine
from tests.compiled import quick_jit

SIDE = 8
warp = quick_jit(apply_affine)


@pytest.fixture
def images():
    return np.random.default_rng(0).random((3, SIDE, SIDE, 2), np.float32)


def matrices(rows, num=3):
    return np.broadcast_to(np.asarray(rows, np.float32), (num, 2, 3))


def sample(num=2000, **ranges):
    still = {"degrees": 0.0, "shift": 0.0, "scale": (1.0, 1.0), "shear": 0.0}
    return np.asarray(sample_affine(jax.random.key(0), **{**still, **ranges}, num=num))


def test_identity(images):
    np.testing.assert_allclose(warp(images, matrices([[1, 0, 0], [0, 1, 0]])), images, atol=1e-6)


def test_a_quarter_turn(images):
    """The matrix maps output to input coordinates, so it turns the drawing the other way."""
    turned = warp(images, matrices([[0, 1, 0], [-1, 0, 0]]))
    np.testing.assert_allclose(turned, np.rot90(images, 1, axes=(1, 2)), atol=1e-5)


def test_a_shift_moves_the_content_and_lets_zeros_in(images):
    moved = warp(images, matrices([[1, 0, 0.25], [0, 1, -0.125]]))  # two pixels up, one to the right
    np.testing.assert_allclose(moved[:, :-2, 1:], images[:, 2:, :-1], atol=1e-5)
    assert np.abs(moved[:, -2:]).max() < 1e-5
    assert np.abs(moved[:, :, 0]).max() < 1e-5


def test_half_a_pixel_is_interpolated(images):
    moved = warp(images, matrices([[1, 0, 0.5 / SIDE], [0, 1, 0]]))
    np.testing.assert_allclose(moved[:, :-1], (images[:, :-1] + images[:, 1:]) / 2, atol=1e-5)


def test_each_image_has_its_own_matrix(images):
    mixed = np.concatenate([matrices([[1, 0, 0], [0, 1, 0]], 2), matrices([[0, 1, 0], [-1, 0, 0]], 1)])
    out = warp(images, mixed)
    np.testing.assert_allclose(out[:2], images[:2], atol=1e-6)
    np.testing.assert_allclose(out[2], np.rot90(images[2]), atol=1e-5)


def test_no_range_draws_the_identity():
    np.testing.assert_allclose(sample(num=4), matrices([[1, 0, 0], [0, 1, 0]], 4), atol=1e-6)


def test_rotations_keep_lengths_and_their_range():
    drawn = sample(degrees=20.0)[..., :2]
    np.testing.assert_allclose(drawn @ drawn.transpose(0, 2, 1), np.broadcast_to(np.eye(2), drawn.shape), atol=1e-5)
    angles = np.rad2deg(np.arctan2(drawn[:, 0, 1], drawn[:, 0, 0]))
    assert -20 <= angles.min() < -19
    assert 19 < angles.max() <= 20


def test_scales_are_factors_of_the_drawing():
    drawn = sample(scale=(0.5, 2.0))
    factors = 1 / drawn[:, 0, 0]
    assert 0.5 <= factors.min() < 0.55
    assert 1.9 < factors.max() <= 2.0
    dot = np.zeros((1, 9, 9, 1), np.float32)
    dot[0, 3:6, 3:6] = 1  # three pixels wide
    twice = warp(dot, matrices([[0.5, 0, 0], [0, 0.5, 0]], 1))
    assert twice.sum() == pytest.approx(4 * dot.sum(), rel=0.05)


def test_shears_are_horizontal():
    drawn = sample(shear=0.3)
    np.testing.assert_allclose(drawn[:, 0], np.broadcast_to([1, 0, 0], (len(drawn), 3)), atol=1e-6)
    assert 0.28 < drawn[:, 1, 0].max() <= 0.3
    assert -0.3 <= drawn[:, 1, 0].min() < -0.28


def test_shifts_are_drawn_for_each_direction():
    drawn = sample(shift=0.2)[..., 2]
    assert (np.abs(drawn) <= 0.2).all()
    assert (drawn.max(axis=0) > 0.19).all()
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.12

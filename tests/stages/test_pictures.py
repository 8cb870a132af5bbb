"""What a stage shows of its images is what it makes of them in training."""

import jax
import numpy as np
import pytest

from semivit_jax.models.patches import patchify, unpatchify
from semivit_jax.stages import STAGES
from semivit_jax.stages.pictures import HIDDEN, PICTURES
from tests.compiled import quick_jit
from tests.stages import small

pytestmark = [pytest.mark.usefixtures("float64"), pytest.mark.xdist_group("stages")]  # programs are shared


def shown(stage, batch, **changes):
    config, plan = small.stage_config(stage, **changes), small.stage_plan(stage)
    state = small.initial_state(stage, teacher_scale=1e4)
    params = state.params if state.ema_params is None else state.ema_params
    return config, PICTURES[stage](config, plan, params, small.micro(batch), small.key(), quick_jit)


def pixels(images):
    """uint8 images as the stage test's batches have them: normalised floats."""
    data = small.stage_config("mae").data
    return np.clip(np.round(255 * (images * np.asarray(data.std) + np.asarray(data.mean))), 0, 255).astype(np.uint8)


def test_images_are_what_their_patches_were():
    images = np.random.default_rng(0).normal(size=(2, 6, 9, 3))
    np.testing.assert_array_equal(unpatchify(patchify(images, 3), 3), images)


def test_patches_that_the_autoencoder_sees_stay_and_others_are_guessed():
    images = small.images(1, small.BATCH)
    _, (own, seen, guessed) = shown("mae", {"image": images})
    np.testing.assert_array_equal(own.images, pixels(images))
    grey = round(255 * HIDDEN)
    blocks = [patchify(panel.images.astype(int), 8) for panel in (own, seen, guessed)]
    hidden = (np.abs(np.asarray(blocks[1]) - grey) <= 1).all(axis=-1)
    assert (hidden.sum(axis=1) == 3).all()  # of four
    np.testing.assert_array_equal(blocks[2][~hidden], blocks[0][~hidden])
    assert (blocks[2][hidden] != blocks[0][hidden]).any()


def test_labeled_images_are_shown_with_their_label_and_mixed_with_shares_of_two():
    batch = small.labeled_batch()
    _, (view, mixed) = shown("finetune", batch)
    np.testing.assert_array_equal(view.targets.argmax(axis=1), batch["label"])
    np.testing.assert_allclose(mixed.targets.sum(axis=1), 1)
    assert view.images.dtype == mixed.images.dtype == np.uint8
    assert len(shown("finetune", batch, labeled_mixup=False)[1]) == 1


def test_unlabeled_images_are_shown_with_what_the_student_learns_of_them():
    batch = small.semi_batch()
    _, (weak, strong, mixed) = shown("semi", batch)
    np.testing.assert_array_equal(weak.images, pixels(batch["unlabeled"]["weak"]))
    np.testing.assert_allclose(weak.targets.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(mixed.targets.sum(axis=1), 1, atol=1e-6)
    assert set(np.unique(mixed.weights)) <= {0.0, 1.0}
    assert strong.images.shape == mixed.images.shape
    assert (strong.images != mixed.images).any()


def test_every_stage_with_a_row_is_a_stage():
    assert PICTURES.keys() <= STAGES.keys()
    assert jax.config.jax_enable_x64

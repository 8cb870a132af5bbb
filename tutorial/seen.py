"""Show what training makes of photos: views, masks and mixtures, by the code that training runs."""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_sample_images

from semivit_jax.config import Config
from semivit_jax.configs import own_folder
from semivit_jax.data.images.decode import decode
from semivit_jax.data.images.views import eval_view_of, views_of
from semivit_jax.models.mae import random_masking
from semivit_jax.ops import mixup
from semivit_jax.recipes.check import check

GREY = 216  # what a hidden patch is drawn in
PATCHES_ACROSS = 7  # fewer than a ViT's 14, so that one sees them


def recipe() -> Config:
    """The recipe whose views are shown."""
    return check(own_folder.get_config().to_dict())


def sample_photos() -> list[np.ndarray]:
    """The two sample photos of scikit-learn, a temple and a flower; uint8 [height, width, 3]."""
    return list(load_sample_images().images)


def read_photos(folder: Path, most: int) -> list[np.ndarray]:
    """Photos of a folder, spread over all of it, so that they are of several classes; uint8 [height, width, 3].

    Args:
      folder: photos in any nesting.
      most: how many to read.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    chosen = paths[:: max(1, len(paths) // most)][:most]
    limit = recipe().data.max_pixels
    return [
        decode(path.read_bytes(), path="pillow", exif_rotation=True, max_pixels=limit, tell=print) for path in chosen
    ]


class Views(NamedTuple):
    """One photo as evaluation sees it, and a weak and a strong view; uint8 [224, 224, 3] each."""

    photo: np.ndarray
    weak: np.ndarray
    strong: np.ndarray


def views(photo: np.ndarray, seed: int) -> Views:
    """The views of a photo that a seed draws."""
    data = recipe().data
    made = views_of(data, (("weak", "weak"), ("strong", "strong")))(photo, np.random.default_rng(seed))
    return Views(eval_view_of(data)(photo), made["weak"], made["strong"])


def masked(photo: np.ndarray, seed: int) -> np.ndarray:
    """A square photo with the patches in grey that MAE hides; as the photo's shape."""
    mask_ratio: float = getattr(recipe().stage("mae"), "mask_ratio")  # noqa: B009, of that stage's section alone
    noise = jax.random.uniform(jax.random.key(seed), (1, PATCHES_ACROSS**2))
    hidden = np.asarray(random_masking(noise, mask_ratio).patch_mask).reshape(PATCHES_ACROSS, PATCHES_ACROSS) > 0
    side = photo.shape[0] // PATCHES_ACROSS
    return np.where(hidden.repeat(side, 0).repeat(side, 1)[..., None], np.uint8(GREY), photo)


class Mixed(NamedTuple):
    """Two photos mixed as probabilistic pseudo mixup does: by weight, and by a box; the weight of the first."""

    blended: np.ndarray
    boxed: np.ndarray
    share: float


def mixed(first: np.ndarray, second: np.ndarray, confidences: tuple[float, float]) -> Mixed:
    """Mixes two square photos, uint8, by the confidences of their pseudo labels."""
    images = jnp.stack([first, second]).astype(jnp.float32)
    size = images.shape[1]
    strength = jnp.asarray(confidences)

    def one(*, use_cutmix: bool) -> tuple[np.ndarray, mixup.Mixing]:
        center = jnp.full((2, 2), size // 2)
        draw = mixup.ProbDraw(jnp.asarray([1, 0]), jnp.full(2, use_cutmix), center)
        mixing = mixup.prob_mixing(draw, strength, size, size)
        return np.asarray(mixup.mix_images(images, mixing)[0]).round().astype(np.uint8), mixing

    blended, mixing = one(use_cutmix=False)
    return Mixed(blended, one(use_cutmix=True)[0], float(mixing.mixup_lambda[0]))

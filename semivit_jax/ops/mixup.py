"""Draw and apply mixup, cutmix and the pseudo mixups within one mixing group.

A group is the published code's per-GPU batch; groups are an axis of their own to `vmap` over, so nothing crosses them.
Shapes are those of one group, images (size, h, w, c), but for the functions at the end, which take whole batches.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Chances(NamedTuple):
    """Values of a stage that its mixups are drawn with; see `sample_group`."""

    mixup_alpha: float
    cutmix_alpha: float
    mixup_prob: float
    cutmix_switch_prob: float


class GroupDraw(NamedTuple):
    """One draw for a whole group (mixup in batch mode, Zhang et al. 2018; cutmix, Yun et al. 2019).

    Attributes:
      mixup_lambda: scalar in [0, 1], before the cutmix correction; 1 leaves the images alone.
      use_cutmix: scalar bool.
      center: int (2,), row and column of the box centre.
    """

    mixup_lambda: jax.Array
    use_cutmix: jax.Array
    center: jax.Array


class ProbDraw(NamedTuple):
    """Draws of probabilistic pseudo mixup (Cai et al. 2022, section 3.3), one entry per image.

    Attributes:
      partner: int (size,), a permutation of the group; fixed points are allowed.
      use_cutmix: bool (size,).
      center: int (size, 2), row and column of the box centre.
    """

    partner: jax.Array
    use_cutmix: jax.Array
    center: jax.Array


class Mixing(NamedTuple):
    """How a group is mixed: each image with its partner, by weight or by box.

    Attributes:
      partner: int (size,).
      mixup_lambda: (size,), weight of the image itself; after the cutmix correction.
      use_cutmix: bool (size,).
      box: int (size, 4), (y_low, y_high, x_low, x_high), high side exclusive; pasted from the partner.
    """

    partner: jax.Array
    mixup_lambda: jax.Array
    use_cutmix: jax.Array
    box: jax.Array


def sample_group(
    key: jax.Array,
    *,
    image_size: int,
    mixup_alpha: float,
    cutmix_alpha: float,
    mixup_prob: float,
    cutmix_switch_prob: float,
) -> GroupDraw:
    """Draws for mixup and cutmix in batch mode: lambda ~ Beta(alpha, alpha) of the method chosen.

    With one alpha at 0 the other method is always chosen; both at 0 is refused by the config.
    """
    key_apply, key_switch, key_mixup, key_cutmix, key_center = jax.random.split(key, 5)
    only_one = float(cutmix_alpha > 0) if not (mixup_alpha > 0 and cutmix_alpha > 0) else cutmix_switch_prob
    use_cutmix = jax.random.bernoulli(key_switch, only_one)
    # What is never chosen is drawn with the other's alpha, since there is no Beta(0, 0).
    mixup_alpha, cutmix_alpha = mixup_alpha or cutmix_alpha, cutmix_alpha or mixup_alpha
    lam_mixup = jax.random.beta(key_mixup, mixup_alpha, mixup_alpha)
    lam_cutmix = jax.random.beta(key_cutmix, cutmix_alpha, cutmix_alpha)
    lam = jnp.where(use_cutmix, lam_cutmix, lam_mixup)
    lam = jnp.where(jax.random.bernoulli(key_apply, mixup_prob), lam, 1.0)
    return GroupDraw(lam, use_cutmix, jax.random.randint(key_center, (2,), 0, image_size))


def sample_prob(key: jax.Array, *, size: int, image_size: int, cutmix_switch_prob: float) -> ProbDraw:
    """Draws for probabilistic pseudo mixup of a group of `size` images."""
    key_partner, key_switch, key_center = jax.random.split(key, 3)
    return ProbDraw(
        jax.random.permutation(key_partner, size),
        jax.random.bernoulli(key_switch, cutmix_switch_prob, (size,)),
        jax.random.randint(key_center, (size, 2), 0, image_size),
    )


def cutmix_box(mixup_lambda: jax.Array, center: jax.Array, height: int, width: int) -> jax.Array:
    """Box of share 1 - lambda around the centre, clipped to the image; (...), (..., 2) -> int (..., 4)."""
    side = jnp.sqrt(1.0 - mixup_lambda)
    cut_h, cut_w = (side * height).astype(jnp.int32), (side * width).astype(jnp.int32)
    y, x = center[..., 0], center[..., 1]
    low_high = [
        jnp.clip(y - cut_h // 2, 0, height),
        jnp.clip(y + cut_h // 2, 0, height),
        jnp.clip(x - cut_w // 2, 0, width),
        jnp.clip(x + cut_w // 2, 0, width),
    ]
    return jnp.stack(low_high, axis=-1)


def group_mixing(draw: GroupDraw, partner: jax.Array, height: int, width: int) -> Mixing:
    """One lambda, one box and one method for every image of the group."""
    size = partner.shape[0]
    lam = jnp.broadcast_to(draw.mixup_lambda, (size,))
    center = jnp.broadcast_to(draw.center, (size, 2))
    return _corrected(partner, lam, jnp.broadcast_to(draw.use_cutmix, (size,)), center, height, width)


def prob_mixing(draw: ProbDraw, strength: jax.Array, height: int, width: int) -> Mixing:
    """lambda_i = s_i / (s_i + s_j): the stronger image dominates (Cai et al. 2022, eq. 6, where s is the confidence).

    Two images without any strength mix half and half.
    """
    total = strength + strength[draw.partner]
    lam = jnp.where(total > 0, strength / total, 0.5)
    return _corrected(draw.partner, lam, draw.use_cutmix, draw.center, height, width)


def _corrected(
    partner: jax.Array, lam: jax.Array, use_cutmix: jax.Array, center: jax.Array, height: int, width: int
) -> Mixing:
    """Replaces lambda by the exact area share where cutmix is used."""
    box = cutmix_box(lam, center, height, width)
    area = (box[:, 1] - box[:, 0]) * (box[:, 3] - box[:, 2])
    return Mixing(partner, jnp.where(use_cutmix, 1.0 - area / (height * width), lam), use_cutmix, box)


def reversed_partner(size: int) -> jax.Array:
    """Partner of image i is image size - 1 - i."""
    return jnp.arange(size)[::-1]


def confident_partner(kept: jax.Array) -> jax.Array:
    """Reversed order among the kept images (an odd middle one meets itself); the others keep themselves.

    Args:
      kept: bool (size,).

    Returns:
      int (size,).
    """
    size = kept.shape[0]
    first_kept = jnp.argsort(~kept, stable=True)  # kept images in order, then the others
    rank = jnp.cumsum(kept) - 1
    mirrored = first_kept[jnp.clip(kept.sum() - 1 - rank, 0, size - 1)]
    return jnp.where(kept, mirrored, jnp.arange(size))


def mix_images(images: jax.Array, mixing: Mixing) -> jax.Array:
    """x_i lambda_i + x_j (1 - lambda_i), or x_i with the box of x_j; partners are the unmixed images."""
    height, width = images.shape[1:3]
    y, x = jnp.arange(height)[None, :, None], jnp.arange(width)[None, None, :]
    y_low, y_high, x_low, x_high = (mixing.box[:, i, None, None] for i in range(4))
    inside = (y >= y_low) & (y < y_high) & (x >= x_low) & (x < x_high)
    lam = mixing.mixup_lambda[:, None, None].astype(images.dtype)
    own = jnp.where(mixing.use_cutmix[:, None, None], (~inside).astype(images.dtype), lam)[..., None]
    return images * own + images[mixing.partner] * (1 - own)


def mix_targets(targets: jax.Array, mixing: Mixing) -> jax.Array:
    """Targets (size, classes) mixed by the same weights."""
    lam = mixing.mixup_lambda[:, None]
    return targets * lam + targets[mixing.partner] * (1 - lam)


def split(x: jax.Array, group_size: int) -> jax.Array:
    """(rows, ...) -> (groups, group_size, ...): rows [g*size, (g+1)*size) of a batch are group g."""
    return x.reshape(-1, group_size, *x.shape[1:])


def join(x: jax.Array) -> jax.Array:
    """(groups, size, ...) -> (rows, ...)."""
    return x.reshape(-1, *x.shape[2:])


def mix_labeled(images: jax.Array, targets: jax.Array, draw: GroupDraw | None, group_size: int):
    """Mixes labeled images (rows, h, w, c) and targets (rows, classes) inside their groups."""
    if draw is None:
        return images, targets
    height, width = images.shape[1:3]
    partner = reversed_partner(group_size)
    mixing = jax.vmap(lambda d: group_mixing(d, partner, height, width))(draw)
    return mix_groups(images, targets, mixing, group_size)


def mix_groups(images: jax.Array, targets: jax.Array, mixing: Mixing, group_size: int):
    """Applies per-group mixings, leaves (groups, size, ...), to rows."""
    images = jax.vmap(mix_images)(split(images, group_size), mixing)
    targets = jax.vmap(mix_targets)(split(targets, group_size), mixing)
    return join(images), join(targets)

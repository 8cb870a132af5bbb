"""Pass the images of two streams through a network at once."""

import jax
import jax.numpy as jnp

from semivit_jax.models.families import Network
from semivit_jax.ops.mixup import join, split
from semivit_jax.stages.stage import ImageDraws, PyTree, masks

Pair = tuple[jax.Array, jax.Array]


def forward_together(
    network: Network,
    params: PyTree,
    images: Pair,
    drop_path: tuple[jax.Array | None, jax.Array | None],
    *,
    groups: tuple[int, int],
) -> Pair:
    """Logits of both, by one pass over them, joined group by group so nothing moves.

    Args:
      network: with its stochastic depth.
      params: of the whole model.
      images: of the two streams, (rows, h, w, 3) each.
      drop_path: their keep masks, as in `ImageDraws`; None without.
      groups: rows of each stream that stand together.
    """
    first, second = groups
    rows = jnp.concatenate([split(images[0], first), split(images[1], second)], axis=1)
    kept = None
    if drop_path[0] is not None and drop_path[1] is not None:
        parts = [split(drop_path[0], first), split(drop_path[1], second)]
        kept = masks(ImageDraws(drop_path=join(jnp.concatenate(parts, axis=1))))
    logits = split(network.logits(params, join(rows), kept), first + second)
    return join(logits[:, :first]), join(logits[:, first:])

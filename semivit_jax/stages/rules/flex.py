"""Lower the threshold of classes that few images are surely of: FlexMatch (Zhang et al. 2021)."""

import jax
import jax.numpy as jnp

from semivit_jax.stages.pseudo_label import Evidence, Known, PseudoLabelRule, PseudoLabels, PyTree, RuleConfig
from semivit_jax.stages.rules.fixed import by_class


def flex(threshold: float, keys: RuleConfig, known: Known) -> PseudoLabelRule:
    """Keeps c >= tau a_y / (2 - a_y), a_k how well class k is learned so far (Zhang et al. 2021, section 3).

    n_k counts the unlabeled images whose latest sure label (c >= tau) is k, its last entry those that had none yet.
    a_k = n_k / max_j n_j, with the last entry among the j where `flex_warmup` is on. A label counts from the next
    update on.

    Its state: last (num_unlabeled,) int32, the latest sure label of each image, K where it had none; counts (K + 1,)
    int32 of them; learned (K,), a. No image comes twice in an update, so `last` is written without a tie.
    """
    classes, tau = known.num_classes, threshold

    def init() -> PyTree:
        counts = jnp.zeros(classes + 1, jnp.int32).at[classes].set(known.num_unlabeled)
        last = jnp.full(known.num_unlabeled, classes, jnp.int32)
        return {"last": last, "counts": counts, "learned": jnp.zeros(classes)}

    def assign(state: PyTree, evidence: Evidence) -> tuple[PyTree, PseudoLabels]:
        learned = state["learned"]
        pseudo = by_class(jax.nn.softmax(evidence.logits), tau * (learned / (2 - learned)))
        before = state["last"][evidence.image_id]
        label = pseudo.target.argmax(axis=-1).astype(jnp.int32)
        after = jnp.where(pseudo.confidence >= tau, label, before)
        counts = state["counts"] + (_counted(after) - _counted(before))
        last = state["last"].at[evidence.image_id].set(after)
        return {"last": last, "counts": counts, "learned": _learned(counts, learned)}, pseudo

    def _counted(labels: jax.Array) -> jax.Array:
        return jax.nn.one_hot(labels, classes + 1, dtype=jnp.int32).sum(axis=0, dtype=jnp.int32)

    def _learned(counts: jax.Array, before: jax.Array) -> jax.Array:
        """As it was where all images are of one kind, which tells nothing of the classes."""
        most = (counts if keys.flex_warmup else counts[:classes]).max()
        found = (counts[:classes] / jnp.maximum(most, 1)).astype(before.dtype)
        return jnp.where(counts.max() < known.num_unlabeled, found, before)

    return PseudoLabelRule(init, assign)

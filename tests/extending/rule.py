"""A pseudo-label rule of one's own: leave out an image of which the teacher says another class than the last time.

One line makes it a legal value of config.semi.pseudo_label_rule: RULES["steady"] = STEADY.
"""

import jax
import jax.numpy as jnp

from semivit_jax.stages.pseudo_label import Known, PseudoLabelRule, Row, RuleConfig
from semivit_jax.stages.rules.fixed import fixed
from semivit_jax.stages.rules.running import blend

NOTHING_YET = -1


def steady(confidence_threshold: float, keys: RuleConfig, known: Known) -> PseudoLabelRule:
    """Keeps an image, new or of an unchanged label, if the teacher is as sure as where it is right on labeled images.

    Its state: last, int32 (num_unlabeled,), the label of each image when it was last seen; bar, the running mean of
    the confidences in labeled images of which the teacher says the true class. The threshold is the lower one of the
    bar and config.semi.confidence_threshold.

    Args:
      confidence_threshold: config.semi.confidence_threshold.
      keys: config.semi.rule, of which it reads `window`.
      known: what stays the same throughout the stage.
    """
    keep_all = fixed(0.0, keys, known)

    def init():
        return {"last": jnp.full(known.num_unlabeled, NOTHING_YET, jnp.int32), "bar": jnp.zeros(())}

    def assign(state, evidence):
        _, pseudo = keep_all.assign((), evidence)
        bar = raised(state["bar"], jax.nn.softmax(evidence.labeled_logits), evidence.labels)
        label = pseudo.target.argmax(axis=-1).astype(jnp.int32)
        before = state["last"][evidence.image_id]
        unchanged = (before == NOTHING_YET) | (before == label)
        sure = pseudo.confidence >= jnp.minimum(bar, confidence_threshold)
        state = {"last": state["last"].at[evidence.image_id].set(label), "bar": bar}
        return state, pseudo._replace(weight=(unchanged & sure).astype(pseudo.weight.dtype))

    def raised(bar, probs, labels):
        right = probs.argmax(axis=-1) == labels
        mean = (probs.max(axis=-1) * right).sum() / jnp.maximum(right.sum(), 1)
        return jnp.where(right.any(), blend(bar, mean, len(labels), keys.window), bar)

    return PseudoLabelRule(init, assign)


STEADY = Row(needs=frozenset({"teacher", "labeled", "image_id"}), make=steady)

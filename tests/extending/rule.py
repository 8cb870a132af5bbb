"""A pseudo-label rule of one's own: leave out an image of which the teacher says another class than the last time.

One line makes it a legal value of config.semi.pseudo_label_rule: RULES["steady"] = STEADY.
"""

import jax
import jax.numpy as jnp

from semivit_jax.stages.pseudo_label import Known, PseudoLabelRule, Row, RuleConfig
from semivit_jax.stages.rules.fixed import fixed
from semivit_jax.stages.rules.running import running_mean

NOTHING_YET = -1


def steady(confidence_threshold: float, keys: RuleConfig, known: Known) -> PseudoLabelRule:
    """Keeps an image, new or of an unchanged label, where the teacher is as sure as it is right on labeled images.

    Its state: last, int32 (num_unlabeled,), the label of each image when it was last seen; bar, the running mean of
    the probability that the teacher gives to the true class of a labeled image. The threshold is the lower one of the
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
        label = pseudo.target.argmax(axis=-1).astype(jnp.int32)
        true_class = jax.nn.one_hot(evidence.labels, known.num_classes)
        right = (jax.nn.softmax(evidence.labeled_logits) * true_class).sum(axis=-1)
        bar = running_mean(state["bar"], right, keys.window)
        before = state["last"][evidence.image_id]
        steady = (before == NOTHING_YET) | (before == label)
        sure = pseudo.confidence >= jnp.minimum(bar, confidence_threshold)
        state = {"last": state["last"].at[evidence.image_id].set(label), "bar": bar}
        return state, pseudo._replace(weight=(steady & sure).astype(pseudo.weight.dtype))

    return PseudoLabelRule(init, assign)


STEADY = Row(needs=frozenset({"teacher", "labeled", "image_id"}), make=steady)

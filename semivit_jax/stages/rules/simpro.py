"""Find out how often each class comes among the unlabeled images, and allow for it: SimPro (Du et al. 2024).

"SimPro: A Simple Probabilistic Framework Towards Realistic Long-Tailed Semi-Supervised Learning". Its two strong views
are one here.
"""

import jax
import jax.numpy as jnp

from semivit_jax.config import ConfigError
from semivit_jax.stages.pseudo_label import Evidence, Known, PseudoLabelRule, PseudoLabels, PyTree, RuleConfig
from semivit_jax.stages.rules.running import blend

LEAST_SHARE = 0.1  # of equal shares: rarer classes are taken for so rare, since one without a share would never get any


def simpro(threshold: float, keys: RuleConfig, known: Known) -> PseudoLabelRule:
    """Learns p' = softmax(z + a log u) where its largest entry is at least the threshold, a = `simpro_tau`.

    The E-step and the M-step of Du et al. 2024: u are the shares of the classes among the unlabeled images, v those
    among all images that the student sees. Its loss takes z + a log v, of labeled images too, so that z itself is a
    classifier for classes that are equally frequent, and a posterior for the unlabeled images is got by their shares.

    u and v change after every `every` updates, 0: an epoch of them, to running means of what these updates had. **All
    images of these count, by p' as it is, kept or not**, unlike in the published code: sure images are of common
    classes more often than the others, and with them alone u would leave the rare ones out ever more.

    Its state: u (K,), begins with equal shares; v (K,), with those of the labeled images; sum (K,), of the means of p'
    in this period; step () int32, updates so far.
    """
    every, ratio = keys.every or known.steps_per_epoch, known.unlabeled_ratio

    def init() -> PyTree:
        zeros = jnp.zeros(known.num_classes)
        begun = {"u": zeros + 1 / known.num_classes, "v": zeros + known.label_prior}
        return {**begun, "sum": zeros, "step": jnp.zeros((), jnp.int32)}

    def assign(state: PyTree, evidence: Evidence) -> tuple[PyTree, PseudoLabels]:
        images, found = every * len(evidence.logits), state["sum"] / every
        begins = (state["step"] > 0) & (state["step"] % every == 0)  # a period, by what the one before it had
        seen = (known.label_prior + ratio * found) / (1 + ratio)
        u = jnp.where(begins, blend(state["u"], found, images, keys.window), state["u"])
        v = jnp.where(begins, blend(state["v"], seen, images, keys.window), state["v"])
        target = jax.nn.softmax(evidence.logits + margin(u))
        confidence = target.max(axis=-1)
        total = jnp.where(begins, 0, state["sum"]) + target.mean(axis=0)
        after = {"u": u, "v": v, "sum": total.astype(u.dtype), "step": state["step"] + 1}
        weight = (confidence >= threshold).astype(target.dtype)
        return after, PseudoLabels(target, confidence, weight, strength=confidence)

    def margin(shares: jax.Array) -> jax.Array:
        return keys.simpro_tau * jnp.log(jnp.maximum(shares, LEAST_SHARE / known.num_classes))

    def asked(state: PyTree) -> jax.Array:
        return margin(state["v"])

    return PseudoLabelRule(init, assign, offset=asked, labeled_offset=asked)


def check_labeled(labeled_loss: str, balanced_order: bool) -> None:
    """Raises ConfigError where something besides the rule allows for the classes' shares among the labeled images."""
    key, value = ("labeled_loss", labeled_loss) if labeled_loss != "plain" else ("balanced_order", balanced_order)
    if value not in ("plain", False):
        raise ConfigError(
            f"config.semi.pseudo_label_rule 'simpro' allows for the classes' shares among the labeled images by itself "
            f"and config.semi.{key} is {value!r}, which would favour rare classes twice; "
            "use labeled_loss='plain' and balanced_order=False"
        )

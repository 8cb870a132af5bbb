"""Give little weight to images that are likely of no class: those that look less like any class than labeled ones do.

The score is the energy of Liu et al. 2020 ("Energy-based Out-of-distribution Detection"); that pseudo labels go by it
is the idea of InPL (Yu et al. 2023), whose limit is a number that one finds for each model and asks at every visit.
Here the limit follows the labeled images, and the first visit decides.
"""

import jax
import jax.numpy as jnp

from semivit_jax.stages.pseudo_label import Evidence, Known, PseudoLabelRule, PseudoLabels, PyTree, RuleConfig
from semivit_jax.stages.rules.around import around
from semivit_jax.stages.rules.running import blend

LEAST_VARIANCE = 1e-6
NOT_SEEN = -1.0


def energy(rule: PseudoLabelRule, keys: RuleConfig, known: Known) -> PseudoLabelRule:
    """Weighs `rule`'s pseudo labels by exp(-max(E - mu, 0)^2 / (2 v s^2)), E = -log sum_k exp(logits_k).

    E is the energy (Liu et al. 2020, eq. 4, temperature 1), low for images of a class; mu and v are running mean and
    variance of it over labeled images; s is `outlier_sigmas`. So an image that looks as much like a class as labeled
    ones do on the mean keeps its weight, and one that is s standard deviations above has 0.61 of it. Its strength
    falls alike, so that in mixing an outlier does not dominate.

    An image keeps the factor of its first visit. A few outsiders always pass; the student learns a class for them, and
    soon gives all that look alike as low an energy as labeled images, so that later visits tell nothing.

    Its state: rule, that of `rule`, which sees all images; mu () and v (), updated before they are used; inlier
    (num_unlabeled,), the factor of each image, -1 where it was not seen.
    """

    def init() -> PyTree:
        zero, inlier = jnp.zeros(()), jnp.full(known.num_unlabeled, NOT_SEEN)
        return {"rule": rule.init(), "mu": zero, "v": zero, "inlier": inlier}

    def assign(state: PyTree, evidence: Evidence) -> tuple[PyTree, PseudoLabels]:
        inner, pseudo = rule.assign(state["rule"], evidence)
        labeled, images = energies(evidence.labeled_logits), len(evidence.logits)
        mu = blend(state["mu"], labeled.mean(), images, keys.window)
        v = blend(state["v"], labeled.var(), images, keys.window)
        above = jnp.maximum(energies(evidence.logits) - mu, 0)
        now = jnp.exp(-(above**2) / (2 * jnp.maximum(v, LEAST_VARIANCE) * keys.outlier_sigmas**2))
        before = state["inlier"][evidence.image_id]
        inlier = jnp.where(before == NOT_SEEN, now.astype(before.dtype), before)
        after = {"rule": inner, "mu": mu, "v": v, "inlier": state["inlier"].at[evidence.image_id].set(inlier)}
        factor = inlier.astype(pseudo.weight.dtype)
        strength = pseudo.strength * jnp.maximum(factor, 1e-3)
        return after, pseudo._replace(weight=pseudo.weight * factor, strength=strength, inlier=factor)

    return around(rule, init, assign)


def energies(logits: jax.Array) -> jax.Array:
    """-log sum_k exp(logits_k), (b, K) -> (b,): the higher, the less an image looks like any class."""
    return -jax.nn.logsumexp(logits, axis=-1)

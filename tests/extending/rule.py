"""Pseudo-label rules of one's own: FreeMatch's threshold, and distribution alignment around any rule.

One line makes a rule a legal name of config.semi.pseudo_label_rule: RULES["aligned(free)"] = ALIGNED_FREE.
"""

import jax
import jax.numpy as jnp

from semivit_jax.stages.pseudo_label import Known, PseudoLabelRule, Row, fixed

WINDOW = 8192.0  # images that a statistic remembers


def free(known: Known, *, window: float, start: float) -> PseudoLabelRule:
    """FreeMatch's self-adaptive threshold: one for all classes, lowered for the rarer ones (Wang et al. 2023).

    Its state is running means: tau () of the confidences, g (K,) of the probabilities, h (K,) of the pseudo labels.

    Args:
      known: of the stage.
      window: images that a running mean remembers.
      start: what each entry begins with: 1 / K as published; 0 begins with the means of the first batch.
    """
    keep_all = fixed(0.0, None, known)

    def init():
        return {"tau": jnp.full((), start), **{name: jnp.full(known.num_classes, start) for name in ("g", "h")}}

    def assign(state, evidence):
        _, pseudo = keep_all.assign((), evidence)
        batch = {"tau": pseudo.confidence, "g": jax.nn.softmax(evidence.logits), "h": pseudo.target}
        state = {name: running_mean(state[name], batch[name], window) for name in state}
        threshold = class_thresholds(state)[pseudo.target.argmax(axis=-1)]
        weight = (pseudo.confidence >= threshold).astype(pseudo.weight.dtype)
        return state, pseudo._replace(weight=weight, strength=pseudo.confidence / jnp.maximum(threshold, 1e-3))

    return PseudoLabelRule(init, assign)


def class_thresholds(state):
    """tau_k = tau g_k / max_j g_j, (K,)."""
    return state["tau"] * (state["g"] / state["g"].max())


def aligned(
    rule: PseudoLabelRule, known: Known, *, prior: str, window: float, own_target: bool = False
) -> PseudoLabelRule:
    """Distribution alignment: `rule` sees logits + log(r / q), so that on the whole classes come as often as r says.

    Its state is q (K,), the running mean of the teacher's probabilities, and that of `rule`.

    Args:
      rule: what assigns the pseudo labels.
      known: of the stage.
      prior: 'labels', r is the share of each class among the labeled images (Berthelot et al. 2020); 'model', r is the
        running mean of the teacher's probabilities of labeled images (Berthelot et al. 2022), which needs 'labeled'.
      window: images that a running mean remembers; it begins with the mean of the first batch.
      own_target: the target stays the class that the teacher itself finds most probable (Chen et al. 2023).
    """
    means = {"labels": ("q",), "model": ("q", "r")}[prior]

    def init():
        return {"rule": rule.init(), **{name: jnp.zeros(known.num_classes) for name in means}}

    def assign(state, evidence):
        seen = {"q": evidence.logits, "r": evidence.labeled_logits}
        state = state | {name: running_mean(state[name], jax.nn.softmax(seen[name]), window) for name in means}
        wanted = state["r"] if prior == "model" else known.label_prior
        logits = evidence.logits + jnp.log((wanted + 1e-6) / (state["q"] + 1e-6))
        inner, pseudo = rule.assign(state["rule"], evidence._replace(logits=logits))
        if own_target:
            own = jax.nn.one_hot(evidence.logits.argmax(axis=-1), known.num_classes, dtype=pseudo.target.dtype)
            pseudo = pseudo._replace(target=own)
        return state | {"rule": inner}, pseudo

    return PseudoLabelRule(init, assign)


def counted(rule: PseudoLabelRule, known: Known) -> PseudoLabelRule:
    """`rule`, and in its state how often each unlabeled image was kept, int32 (num_unlabeled,); needs 'image_id'."""

    def init():
        return {"rule": rule.init(), "kept": jnp.zeros(known.num_unlabeled, jnp.int32)}

    def assign(state, evidence):
        inner, pseudo = rule.assign(state["rule"], evidence)
        kept = state["kept"].at[evidence.image_id].add((pseudo.weight > 0).astype(jnp.int32))
        return {"rule": inner, "kept": kept}, pseudo

    return PseudoLabelRule(init, assign)


def running_mean(old: jax.Array, rows: jax.Array, window: float) -> jax.Array:
    """m old + (1 - m) mean of the rows, m = exp(-rows / window): it remembers images, however many come at a time.

    An old one of zeros remembers nothing, and gives way.
    """
    memory = jnp.where(old.any(), jnp.exp(-len(rows) / window), 0.0).astype(old.dtype)
    return memory * old + (1 - memory) * rows.mean(axis=0)


ALIGNED_FREE = Row(
    needs=frozenset({"teacher"}),
    keys=None,
    make=lambda threshold, keys, known: aligned(
        free(known, window=WINDOW, start=0.0), known, prior="labels", window=WINDOW
    ),
)
COUNTED = Row(
    needs=frozenset({"teacher", "labeled", "image_id"}),
    keys=None,
    make=lambda threshold, keys, known: counted(
        aligned(free(known, window=WINDOW, start=0.0), known, prior="model", window=WINDOW), known
    ),
)

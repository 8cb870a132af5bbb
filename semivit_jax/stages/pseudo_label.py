"""Choose target, weight and strength of each unlabeled image by the teacher: the table RULES.

A rule is a value: what it remembers, and one pure function of that and of the evidence of one whole update. Thresholds
that adapt therefore count updates and images, never micro-steps. A rule of one's own is a row of `RULES`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from semivit_jax.ops import metrics
from semivit_jax.ops.metrics import Mean, Metrics

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Known:
    """What stays the same throughout the stage."""

    num_classes: int
    num_unlabeled: int
    steps_per_epoch: int
    label_prior: np.ndarray  # (num_classes,), shares of the classes among the labeled images


class Evidence(NamedTuple):
    """What a rule may go by in one update, rows in the order of the batch. What its row does not need is None.

    Attributes:
      logits: (b, K), the teacher's on the weak views, at least float32.
      image_id: int32 (b,), the image's place among the unlabeled ones.
      labeled_logits: (l, K), the teacher's on weak views of the labeled images.
      labels: int (l,), of the labeled images.
    """

    logits: Any = None
    image_id: Any = None
    labeled_logits: Any = None
    labels: Any = None


class PseudoLabels(NamedTuple):
    """What the student learns of each unlabeled image; leaves [b, ...].

    Attributes:
      target: (b, K), rows sum to 1; a hard label is one-hot, since smoothing is the step's.
      confidence: (b,), the largest probability, for the metrics.
      weight: (b,), share with which the image counts in the loss, 0 to 1.
      strength: (b,), what pseudo mixup weighs partners by: the confidence, or confidence / max(threshold of its
        class, 1e-3), so that an image that is rejected never dominates one that is kept.
    """

    target: jax.Array
    confidence: jax.Array
    weight: jax.Array
    strength: jax.Array


@dataclasses.dataclass(frozen=True)
class PseudoLabelRule:
    """A rule of one stage. Nothing it returns passes a gradient on.

    Attributes:
      init: () -> its state, a few replicated arrays that are saved with the run; () where it remembers nothing.
      assign: (state, evidence of one update) -> (state after it, pseudo labels). A dropped update keeps the old state.
    """

    init: Callable[[], PyTree]
    assign: Callable[[PyTree, Evidence], tuple[PyTree, PseudoLabels]]


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of `RULES`.

    Attributes:
      needs: fields of the evidence to fill: 'teacher' for `logits`, 'image_id', and 'labeled' for `labeled_logits`
        and `labels`, which costs a weak view and a teacher's pass of the labeled images.
      keys: dataclass of the rule's own keys; None where the threshold is all it takes.
      make: (confidence_threshold, keys, known) -> the rule.
    """

    needs: frozenset[str]
    keys: type | None
    make: Callable[[float, Any, Known], PseudoLabelRule]


def fixed(confidence_threshold: float, keys: None, known: Known) -> PseudoLabelRule:
    """Keeps an image where its confidence is at least the threshold (Sohn et al. 2020, eq. 4)."""
    del keys

    def assign(policy_state: PyTree, evidence: Evidence) -> tuple[PyTree, PseudoLabels]:
        probs = jax.nn.softmax(evidence.logits)
        confidence = probs.max(axis=-1)
        target = jax.nn.one_hot(probs.argmax(axis=-1), known.num_classes, dtype=probs.dtype)
        weight = (confidence >= confidence_threshold).astype(probs.dtype)
        return policy_state, PseudoLabels(target, confidence, weight, strength=confidence)

    return PseudoLabelRule(tuple, assign)


RULES: dict[str, Row] = {"fixed": Row(needs=frozenset({"teacher"}), keys=None, make=fixed)}


def rule_of(name: str, confidence_threshold: float, known: Known) -> PseudoLabelRule:
    """The rule of that name."""
    row = RULES[name]
    assert row.keys is None, "the section config.semi.rule comes with the first rule that has keys of its own"
    return row.make(confidence_threshold, None, known)


def pseudo_label_metrics(pseudo: PseudoLabels, confidence_mask: jax.Array, label: jax.Array) -> Metrics:
    """Share kept, confidence quantiles and, where true labels are known (>= 0), how right the labels are.

    Accuracy always refers to an image's own, unmixed pseudo label; the mask may come from its partner.
    """
    dtype = confidence_mask.dtype
    known = (label >= 0).astype(dtype)
    right = (pseudo.target.argmax(axis=-1) == label).astype(dtype) * known
    low, middle, high = jnp.quantile(pseudo.confidence, jnp.asarray([0.1, 0.5, 0.9]))
    return {
        "mask_rate": metrics.of(confidence_mask.mean()),
        "teacher_acc": Mean(right.sum(), known.sum()),
        "pseudo_label_acc": metrics.over(right, confidence_mask * known),
        "pseudo_label_recall": metrics.over(confidence_mask, right),
        "confidence_q10": metrics.of(low),
        "confidence_q50": metrics.of(middle),
        "confidence_q90": metrics.of(high),
    }

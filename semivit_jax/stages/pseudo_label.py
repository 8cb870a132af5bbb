"""Say what a pseudo-label rule is: what it may go by, what it gives, and the numbers that rules share.

A rule is a value: what it remembers, and one pure function of that and of the evidence of one whole update. Thresholds
that adapt therefore count updates and images, never micro-steps. The rules themselves are rows of `rules.RULES`.
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np

from semivit_jax.config import NOT_NEGATIVE, POSITIVE, SHARE
from semivit_jax.ops.losses import promote

PyTree = Any


@dataclasses.dataclass(frozen=True)
class RuleConfig:
    """Numbers of the pseudo-label rules (docs/rules.md). A rule reads those that concern it; `fixed` reads none."""

    # Running means remember about this many unlabeled images: b of them leave exp(-b / window) of what was there.
    window: Annotated[float, POSITIVE]
    # What running means begin with: the 'first' batch, or what was 'published' with 'free', 'soft_gauss' and 'aligned'.
    start: Annotated[str, ("first", "published")]
    quantile: Annotated[float, SHARE]  # 'free': its threshold follows this quantile of the confidences; 0: their mean
    clip: Annotated[float, SHARE]  # 'free': its threshold goes no higher
    flex_warmup: bool  # 'flex': thresholds stay low while most images have had no sure label
    sigmas: Annotated[float, POSITIVE]  # 'soft_gauss': the larger, the faster weights fall off below the mean
    cutoff: Annotated[float, SHARE]  # 'class_mean': smaller confidences do not count; also its first thresholds
    scale: Annotated[float, SHARE]  # 'class_mean': threshold of a class, as a share of its mean confidence
    # 'class_mean' and 'simpro': updates between changes of thresholds, or of shares; 0: an epoch of them.
    every: Annotated[int, NOT_NEGATIVE]
    lowest: Annotated[float, SHARE]  # 'class_mean': its thresholds go no lower
    highest: Annotated[float, SHARE]  # 'class_mean': its thresholds go no higher
    sharpening: Annotated[float, POSITIVE]  # 'soft': temperature of its targets, below 1 sharpens them
    # 'aligned': shares of the classes that pseudo labels are led to: as among the labeled images, equal ones, or what
    # the teacher says of labeled images ('model', which costs a pass of them).
    prior: Annotated[str, ("labels", "uniform", "model")]
    own_target: bool  # 'aligned': leads the weights alone, and the target stays what the teacher says
    temperature: Annotated[float, POSITIVE]  # 'tempered': the rule inside sees the teacher's logits divided by it
    # 'debiased': how much of the classes' shares is taken out of the logits (lambda); 0 changes nothing.
    debias: Annotated[float, NOT_NEGATIVE]
    # 'simpro': how much of the classes' shares goes into the logits (tau); 1 is by Bayes' rule, 0 changes nothing.
    simpro_tau: Annotated[float, NOT_NEGATIVE]
    # 'free': of its fairness term beside the loss of the unlabeled images; 0 has none. It wants unmixed images.
    fairness: Annotated[float, NOT_NEGATIVE]
    # 'free': kept images per class without which an update has no fairness term, since most classes are absent then.
    fairness_images: Annotated[float, NOT_NEGATIVE]
    # outliers = 'energy': images of that many standard deviations above the labeled ones' mean energy weigh 0.61.
    outlier_sigmas: Annotated[float, POSITIVE]


@dataclasses.dataclass(frozen=True)
class Known:
    """What stays the same throughout the stage."""

    num_classes: int
    num_unlabeled: int
    steps_per_epoch: int
    label_prior: np.ndarray  # (num_classes,), shares of the classes among the labeled images
    unlabeled_ratio: int  # unlabeled images beside each labeled one


class Banked(NamedTuple):
    """Rows of a bank (data/bank.py): (b, k) classes, -1 where there is none, and their probabilities."""

    classes: jax.Array
    probs: jax.Array


class Evidence(NamedTuple):
    """What a rule may go by in one update, rows in the order of the batch. What its row does not need is None.

    Attributes:
      logits: (b, K), the teacher's on the weak views, at least float32.
      image_id: int32 (b,), the image's place among the unlabeled ones.
      labeled_logits: (l, K), the teacher's on weak views of the labeled images.
      labels: int (l,), of the labeled images.
      bank: `Banked`, what a file says of the images.
    """

    logits: Any = None
    image_id: Any = None
    labeled_logits: Any = None
    labels: Any = None
    bank: Any = None


class PseudoLabels(NamedTuple):
    """What the student learns of each unlabeled image; leaves [b, ...].

    Attributes:
      target: (b, K), rows sum to 1; a hard label is one-hot, since smoothing is the step's.
      confidence: (b,), the largest probability, for the metrics.
      weight: (b,), share with which the image counts in the loss, 0 to 1.
      strength: (b,), what pseudo mixup weighs partners by: the confidence, or confidence / max(threshold of its
        class, 1e-3), so that an image that is rejected never dominates one that is kept.
      thresholds: (K,), the confidence that each class had to reach, for the metrics; None where that is no news.
      inlier: (b,), the factor in `weight` that asks whether the image is of any class at all, for the metrics; None
        where nothing asks.
    """

    target: jax.Array
    confidence: jax.Array
    weight: jax.Array
    strength: jax.Array
    thresholds: jax.Array | None = None
    inlier: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class PseudoLabelRule:
    """A rule of one stage. Nothing that `assign` returns passes a gradient on.

    Attributes:
      init: () -> its state, a few replicated arrays that are saved with the run; () where it remembers nothing.
      assign: (state, evidence of one update) -> (state after it, pseudo labels). A dropped update keeps the old state.
      offset: state after the update -> (K,), added to the student's logits of unlabeled images in the loss; None: 0.
      labeled_offset: the same of labeled images: `Row.adjusts_labeled` says so to the checks.
      penalty: (state after the update, the student's probabilities (b, K) on the strong views, weights (b,) of them) ->
        number that stands beside the loss of the unlabeled images; None: 0. The views are unmixed and all of the
        update, since it need not be a mean over images: `Row.is_penalised` says so to the checks.
    """

    init: Callable[[], PyTree]
    assign: Callable[[PyTree, Evidence], tuple[PyTree, PseudoLabels]]
    offset: Callable[[PyTree], jax.Array] | None = None
    labeled_offset: Callable[[PyTree], jax.Array] | None = None
    penalty: Callable[[PyTree, jax.Array, jax.Array], jax.Array] | None = None


def shifted(logits: jax.Array, offset: Callable[[PyTree], jax.Array] | None, state: PyTree) -> jax.Array:
    """The student's logits (b, K) as its loss takes them: with the offset of a rule that has one, at least float32."""
    return logits if offset is None else promote(logits) + offset(state)


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of `rules.RULES`.

    Attributes:
      needs: fields of the evidence to fill: 'teacher' for `logits`, 'image_id', 'bank', and 'labeled' for
        `labeled_logits` and `labels`, which costs a weak view and a teacher's pass of the labeled images.
      make: (confidence_threshold, keys, known) -> the rule.
      by_threshold: whether confidence_threshold decides what is kept.
      is_penalised: keys -> whether the rule has a penalty.
      adjusts_labeled: whether it takes the classes' shares out of the labeled images' loss.
    """

    needs: frozenset[str]
    make: Callable[[float, RuleConfig, Known], PseudoLabelRule]
    by_threshold: bool = False
    is_penalised: Callable[[RuleConfig], bool] = lambda keys: False
    adjusts_labeled: bool = False


@dataclasses.dataclass(frozen=True)
class Wrapper:
    """A row of `rules.WRAPPERS`: what may stand around a rule, as in 'aligned(free)'.

    Attributes:
      needs: keys -> fields of the evidence to fill besides those of the rule inside.
      make: (rule inside, keys, known) -> the rule.
    """

    needs: Callable[[RuleConfig], frozenset[str]]
    make: Callable[[PseudoLabelRule, RuleConfig, Known], PseudoLabelRule]

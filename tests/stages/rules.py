"""Every pseudo-label rule with what it is tried on; its tests share this."""

import dataclasses
import functools

import jax
import numpy as np
import scipy.special

from semivit_jax.config import ConfigError
from semivit_jax.stages.pseudo_label import Banked, Evidence, Known
from semivit_jax.stages.rules import RULES, WRAPPERS, written
from tests.compiled import quick_jit
from tests.configs import small_config

THRESHOLD = 0.5
PROBS = np.asarray([[0.90, 0.06, 0.04], [0.20, 0.70, 0.10], [0.50, 0.30, 0.20], [0.10, 0.15, 0.75]])
RATIO = 3
POINT_NINE = 4 / -np.log(0.9)  # the window whose memory is 0.9 at four images

FAIR = {"fairness": 0.1, "fairness_images": 0.0}

# Text of a rule and keys of semi.rule, with semi.outliers: every row of the tables, every word and switch of the keys.
EVERY_RULE = {
    **{text: (text, {}) for text in RULES},
    **{f"{name}(fixed)": (f"{name}(fixed)", {"temperature": 2.0}) for name in WRAPPERS},
    "free, as published": ("free", {"start": "published"}),
    "free, quantile and clip": ("free", {"quantile": 0.8, "clip": 0.6}),
    "flex, cold": ("flex", {"flex_warmup": False}),
    "soft_gauss, as published": (
        "aligned(soft_gauss)",
        {"start": "published", "prior": "uniform", "own_target": True},
    ),
    "free, fair": ("free", FAIR),
    "debiased, as published": ("debiased(fixed)", {"start": "published"}),
    "debiased(aligned(free)), fair": ("debiased(aligned(free))", FAIR),
    "energy": ("fixed", {"outliers": "energy"}),
    "energy around aligned(flex)": ("aligned(flex)", {"outliers": "energy"}),
    "class_mean, every update": ("class_mean", {"every": 1, "scale": 0.9}),
    "relative, as published": ("aligned(relative)", {"prior": "model", "start": "published"}),
    "simpro, every update": ("simpro", {"every": 1, "simpro_tau": 2.0}),
    "energy around tempered(simpro)": ("tempered(simpro)", {"outliers": "energy", "every": 1, "temperature": 2.0}),
    "aligned(soft)": ("aligned(soft)", {}),
    "aligned(soft), own target": ("aligned(soft)", {"own_target": True}),
    "tempered(aligned(flex))": ("tempered(aligned(flex))", {"temperature": 0.5}),
}


def known_of(prior, *, num_unlabeled=50):
    prior = np.asarray(prior, np.float64)
    return Known(len(prior), num_unlabeled, steps_per_epoch=3, label_prior=prior / prior.sum(), unlabeled_ratio=RATIO)


def keys_of(**changes):
    """Section semi.rule of the recipes; a short memory unless told."""
    return dataclasses.replace(small_config().stage("semi").rule, **{"window": 100.0, **changes})


_made = {}


def made(text, known=None, *, threshold=THRESHOLD, outliers="none", **changes):
    """The same rule for the same words, so that tests share its program."""
    known = known or known_of([1, 1, 1])
    rows = tuple((RULES | WRAPPERS)[name] for name in written.names(text))
    facts = (value.tobytes() if isinstance(value, np.ndarray) else value for value in vars(known).values())
    words = (text, rows, threshold, outliers, *sorted(changes.items()), *facts, jax.config.jax_enable_x64)
    if words not in _made:
        _made[words] = written.forgetting(written.maker(text, outliers)(threshold, keys_of(**changes), known))
    return _made[words]


def needs_of(text, keys):
    """What a row of EVERY_RULE needs."""
    of_rule = {name: value for name, value in keys.items() if name != "outliers"}
    return written.needs_of(text, keys.get("outliers", "none"), keys_of(**of_rule))


def evidence_of(logits, *, labeled=None, image_id=None):
    logits = np.asarray(logits)
    labeled = logits[: max(1, len(logits) // 2)] if labeled is None else np.asarray(labeled)
    image_id = np.arange(len(logits)) if image_id is None else np.asarray(image_id)
    labels = np.zeros(len(labeled), np.int32)
    return Evidence(logits, image_id.astype(np.int32), labeled, labels, banked(logits))


def banked(logits):
    """A bank of the two surest classes by the logits, with nothing on an image that they have no number for."""
    sound = np.isfinite(logits).all(axis=-1, keepdims=True)
    probs = scipy.special.softmax(np.where(sound, logits.astype(float), 0), axis=-1)
    classes = np.argsort(-probs, axis=-1, kind="stable")[:, :2]
    found = np.where(sound, np.take_along_axis(probs, classes, axis=-1), 0)
    return Banked(np.where(sound, classes, -1).astype(np.int32), found.astype(logits.dtype))


def random_logits(rows=12, classes=3, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, classes)) * 3


@functools.cache
def program_of(rule):
    """All of `assign` at once: operation by operation, most of the time goes into loading them."""
    return quick_jit(rule.assign)


def assign(rule, *batches, state=None):
    """(state, pseudo labels of the last batch), in NumPy."""
    state, pseudo = rule.init() if state is None else state, None
    for logits in batches:
        evidence = logits if isinstance(logits, Evidence) else evidence_of(logits)
        state, pseudo = jax.device_get(program_of(rule)(state, evidence))
    return state, pseudo


def refused(text):
    """What a text is refused with; '' where it is a rule."""
    try:
        written.names(text)
    except ConfigError as error:
        return str(error)
    return ""

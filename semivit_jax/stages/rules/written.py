"""Read a rule as configs write it, 'aligned(free)', and make it, with what is done about outliers."""

import dataclasses
import difflib
from collections.abc import Callable

import jax
import jax.numpy as jnp

from semivit_jax.config import ConfigError
from semivit_jax.stages.pseudo_label import Evidence, Known, PseudoLabelRule, PseudoLabels, PyTree, RuleConfig, Wrapper
from semivit_jax.stages.rules import EVENING, OUTLIERS, RULES, WRAPPERS
from semivit_jax.words import counted

Make = Callable[[float, RuleConfig, Known], PseudoLabelRule]
KEY = "config.semi.pseudo_label_rule"


def names(text: str) -> tuple[str, ...]:
    """('aligned', 'free') of 'aligned(free)': wrappers from outside in, last the rule.

    Raises:
      ConfigError: no such rule, not nested so, or a bracket too few or too many.
    """
    *wrappers, rule = found = text.rstrip(")").split("(")
    closed = len(text) - len(text.rstrip(")"))
    for name in found:
        if name not in RULES and name not in WRAPPERS:
            raise ConfigError(f"{KEY} is {text!r}: {_unknown(name)}")
    if closed != len(wrappers):
        raise ConfigError(f"{KEY} is {text!r}: it opens {counted(len(wrappers), 'bracket')} and closes {closed}")
    if rule in WRAPPERS:
        raise ConfigError(f"{KEY} is {text!r}: {rule!r} stands around a rule, as in '{rule}(fixed)'; {_legal()}")
    if wrappers and "teacher" not in RULES[rule].needs:
        raise ConfigError(f"{KEY} is {text!r}: {rule!r} asks no teacher, and nothing stands around it")
    for name in wrappers:
        if name in RULES:
            raise ConfigError(f"{KEY} is {text!r}: {name!r} is a rule, and nothing stands inside one; {_legal()}")
        if wrappers.count(name) > 1:
            raise ConfigError(f"{KEY} is {text!r}: {name!r} stands in it twice")
    return tuple(found)


def _unknown(name: str) -> str:
    if not name:
        return f"a name is missing; {_legal()}"
    if name.replace(".", "").isdigit():
        return f"its numbers are keys of config.semi.rule; {_legal()}"
    close = difflib.get_close_matches(name, [*RULES, *WRAPPERS], n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"there is no rule {name!r}; {hint}{_legal()}"


def _legal() -> str:
    around = ", ".join(f"{name}(...)" for name in WRAPPERS)
    return f"legal rules: {', '.join(RULES)}; around a rule: {around}"


def needs_of(text: str, outliers: str, keys: RuleConfig) -> frozenset[str]:
    """What the rule needs to be told of an update, with all that stands around it."""
    return RULES[names(text)[-1]].needs.union(*(wrapper.needs(keys) for wrapper in _wrappers(text, outliers)))


def is_by_threshold(text: str) -> bool:
    """Whether confidence_threshold decides what the rule of that text keeps."""
    return RULES[names(text)[-1]].by_threshold


def is_penalised(text: str, keys: RuleConfig) -> bool:
    """Whether the rule of that text has a penalty."""
    return RULES[names(text)[-1]].is_penalised(keys)


def adjusts_labeled(text: str) -> bool:
    """Whether the rule of that text takes the classes' shares out of the labeled images' loss."""
    return RULES[names(text)[-1]].adjusts_labeled


def evened_by(text: str) -> str:
    """What to change where the rule of that text leaves classes out."""
    if "teacher" not in RULES[names(text)[-1]].needs:
        return ""
    if EVENING.intersection(names(text)):
        return "lower config.semi.unlabeled_weight, or label more images of these classes"
    return (
        f"{KEY} = 'free' asks less of classes that come seldom, "
        f"'aligned({text})' leads to the classes' shares among the labeled images"
    )


def maker(text: str, outliers: str) -> Make:
    """What makes the rule of that text from (confidence_threshold, keys, known), inside that row of OUTLIERS."""
    make = RULES[names(text)[-1]].make
    for wrapper in reversed(_wrappers(text, outliers)):
        make = _around(wrapper, make)
    return make


def _wrappers(text: str, outliers: str) -> tuple[Wrapper, ...]:
    """What stands around the rule, from outside in."""
    outermost = OUTLIERS[outliers]
    return (*(() if outermost is None else (outermost,)), *(WRAPPERS[name] for name in names(text)[:-1]))


def _around(wrapper: Wrapper, inner: Make) -> Make:
    return lambda threshold, keys, known: wrapper.make(inner(threshold, keys, known), keys, known)


def forgetting(rule: PseudoLabelRule) -> PseudoLabelRule:
    """`rule`, whose state stays as it was where a logit is not finite, and which gives such an image no weight.

    A rule that needs no teacher has no logits to go by; those of labeled images count all the same.

    One such image would stay in running means for ever, and no image be kept again, although its own loss is masked
    and the update goes through. A rule that remembers nothing is given back as it is.
    """
    if not jax.tree.leaves(jax.eval_shape(rule.init)):
        return rule

    def assign(state: PyTree, evidence: Evidence) -> tuple[PyTree, PseudoLabels]:
        sound, logits = jnp.array(True), evidence.logits
        if logits is not None:
            sound = jnp.isfinite(logits).all(axis=-1)
            logits = jnp.where(sound[:, None], logits, 0)
        labeled_sound = evidence.labeled_logits is None or jnp.isfinite(evidence.labeled_logits).all()
        after, pseudo = rule.assign(state, evidence._replace(logits=logits))
        weight = jnp.where(sound & labeled_sound, pseudo.weight, 0)
        whole = sound.all() & labeled_sound
        return jax.tree.map(lambda a, b: jnp.where(whole, a, b), after, state), pseudo._replace(weight=weight)

    return dataclasses.replace(rule, assign=assign)

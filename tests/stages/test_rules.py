"""What every pseudo-label rule keeps to, whatever its formula; and how a rule is written."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semivit_jax.ops.mixup import ProbDraw
from semivit_jax.stages.pseudo_label import Evidence, PseudoLabelRule, PseudoLabels
from semivit_jax.stages.pseudo_mixup import mix_pseudo
from semivit_jax.stages.rules import OUTLIERS, RULES, WRAPPERS, written
from tests.compiled import quick_jit
from tests.stages import small
from tests.stages.rules import (
    EVERY_RULE,
    THRESHOLD,
    assign,
    evidence_of,
    known_of,
    made,
    needs_of,
    random_logits,
    refused,
)

pytestmark = pytest.mark.usefixtures("float64")

PARAMETRISED = pytest.mark.parametrize(("text", "keys"), EVERY_RULE.values(), ids=EVERY_RULE.keys())
CASES = {
    "random": random_logits(),
    "all equal": np.zeros((12, 3)),
    "certain": 1e4 * np.eye(3)[np.arange(12) % 3],
    "large": 1e4 * random_logits(),
}
SMALL_CASES = {"two classes": random_logits(classes=2), "one image": random_logits(rows=1)}


def test_every_row_is_tried():
    tried = {name for text, _ in EVERY_RULE.values() for name in written.names(text)}
    assert tried == RULES.keys() | WRAPPERS.keys()
    assert {keys.get("outliers", "none") for _, keys in EVERY_RULE.values()} == OUTLIERS.keys()


@PARAMETRISED
def test_pseudo_labels_have_the_right_form(text, keys):
    for logits in (*CASES.values(), *SMALL_CASES.values()):
        assert_right_form(text, keys, logits, to=1e-12)


@PARAMETRISED
@pytest.mark.parametrize(("dtype", "to"), [(jnp.float32, 1e-6), (jnp.bfloat16, 0.02)], ids=["float32", "bfloat16"])
def test_pseudo_labels_have_the_right_form_in_fewer_bits(text, keys, dtype, to):
    for logits in CASES.values():
        assert_right_form(text, keys, logits.astype(dtype), to=to)


def assert_right_form(text, keys, logits, *, to):
    rows, classes = logits.shape
    state, pseudo = assign(made(text, known_of(range(1, classes + 1)), **keys), logits, logits)
    assert [x.shape for x in pseudo[:4]] == [(rows, classes), (rows,), (rows,), (rows,)]
    assert pseudo.thresholds is None or pseudo.thresholds.shape == (classes,)
    assert all(np.isfinite(leaf.astype(float)).all() for leaf in jax.tree.leaves((state, pseudo)))
    np.testing.assert_allclose(pseudo.target.astype(float).sum(axis=1), 1, rtol=to)
    assert ((pseudo.weight >= 0) & (pseudo.weight <= 1)).all()
    assert (pseudo.strength > 0).all()


@PARAMETRISED
def test_a_state_keeps_its_form(text, keys):
    """A checkpoint written after any update is read into the state of the first."""
    for wide in (True, False):
        with jax.enable_x64(wide):
            rule = made(text, known_of([1, 2, 3]), **keys)
            first = jax.eval_shape(rule.init)
            state, _ = jax.eval_shape(rule.assign, first, evidence_of(random_logits()))
            forms = [jax.tree.map(lambda x: (x.shape, x.dtype), s) for s in (state, first)]
            assert forms[0] == forms[1]


@PARAMETRISED
def test_float64_is_used_where_it_is_on(text, keys):
    """Nothing is narrowed on the way: in float32 the same numbers are further off."""
    wide = assign(made(text, known_of([1, 2, 3]), **keys), *[random_logits(seed=s) for s in range(3)])
    floats = [leaf for leaf in jax.tree.leaves(wide) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    assert {leaf.dtype for leaf in floats} == {jnp.dtype("float64")}


@PARAMETRISED
def test_the_order_of_classes_does_not_matter(text, keys):
    order, prior = np.asarray([2, 0, 1]), np.asarray([1, 2, 3])
    state, pseudo = assign(made(text, known_of(prior), **keys), random_logits(), random_logits(seed=1))
    permuted = [random_logits(seed=s)[:, order] for s in (0, 1)]
    other_state, other = assign(made(text, known_of(prior[order]), **keys), *permuted)
    small.assert_close(other.target, pseudo.target[:, order], rtol=1e-12)
    small.assert_close(other[1:4], pseudo[1:4])

    def reordered(path, leaf):
        if leaf.shape == (3,):
            return leaf[order]
        if leaf.shape == (4,):  # flex counts images without a label last
            return leaf[np.append(order, 3)]
        if leaf.dtype == jnp.int32 and leaf.ndim:  # classes by image
            return np.append(np.argsort(order), 3)[leaf]
        return leaf

    small.assert_close(other_state, jax.tree_util.tree_map_with_path(reordered, state))


@PARAMETRISED
def test_the_order_of_images_does_not_matter(text, keys):
    order, rule = np.random.default_rng(3).permutation(12), made(text, known_of([1, 2, 3]), **keys)
    first = evidence_of(random_logits())
    evidence = evidence_of(random_logits(seed=1), labeled=random_logits(rows=6, seed=2))
    of_images = ("logits", "image_id", "bank")
    shuffled = evidence._replace(
        **{name: jax.tree.map(lambda x: x[order], getattr(evidence, name)) for name in of_images}
    )
    (state, pseudo), (other_state, other) = assign(rule, first, evidence), assign(rule, first, shuffled)
    small.assert_close(other_state, state)
    small.assert_close(other[:4], jax.tree.map(lambda x: x[order], pseudo[:4]))


@pytest.mark.parametrize(("labeled", "counts"), [(None, 1), (np.ones((2, 3)), 1), (np.full((2, 3), np.nan), 0)])
def test_a_rule_that_remembers_needs_no_teacher(labeled, counts):
    """What an image's number says is enough; labeled logits that are not finite leave the state as it was."""

    def assign(state, evidence):
        zero = jnp.zeros(len(evidence.image_id))
        return {"seen": state["seen"] + 1}, PseudoLabels(jnp.eye(3)[evidence.image_id % 3], zero, zero + 1, zero)

    rule = written.forgetting(PseudoLabelRule(lambda: {"seen": jnp.zeros((), jnp.int32)}, assign))
    after, pseudo = rule.assign(rule.init(), Evidence(image_id=np.arange(4), labeled_logits=labeled))
    assert after["seen"] == counts
    np.testing.assert_array_equal(pseudo.weight, np.full(4, counts))


@PARAMETRISED
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_image_that_the_teacher_has_no_number_for_is_forgotten(text, keys, bad):
    rule, logits = made(text, known_of([1, 2, 3]), **keys), random_logits(seed=1)
    before, _ = assign(rule, random_logits())
    logits[2, 1] = bad
    after, pseudo = assign(rule, logits, state=before)
    small.assert_equal(after, before)
    assert pseudo.weight[2] == 0
    assert ((pseudo.weight >= 0) & (pseudo.weight <= 1)).all()
    labeled = evidence_of(random_logits(seed=1), labeled=logits[:6])
    if "labeled" in needs_of(text, keys):
        after, pseudo = assign(rule, labeled, state=before)
        small.assert_equal(after, before)
        np.testing.assert_array_equal(pseudo.weight, 0)


@quick_jit
def mixed(images, pseudo, draw):
    return mix_pseudo(images, pseudo, draw, kind="prob", label_smoothing=0.1, group_size=12)


# A rule whose threshold cannot move is the fixed one: (text, keys, thresholds that the state must hold).
STILL = {
    "free": ("free", {"window": np.inf, "start": "published"}, {"tau": THRESHOLD}),
    "flex": ("flex", {}, {"learned": np.ones(4)}),
    "class_mean": ("class_mean", {"every": 10**9, "cutoff": THRESHOLD}, {}),
    "class_mean, every update": ("class_mean", {"every": 1, "lowest": THRESHOLD, "highest": THRESHOLD}, {}),
    "tempered": ("tempered(fixed)", {"temperature": 1.0}, {}),
    "debiased": ("debiased(fixed)", {"debias": 0.0}, {}),
    "energy": ("fixed", {"outliers": "energy", "outlier_sigmas": 1e9}, {}),
    "tempered(class_mean)": ("tempered(class_mean)", {"cutoff": THRESHOLD}, {}),
}


@pytest.mark.parametrize(("text", "keys", "fixed_state"), STILL.values(), ids=STILL.keys())
def test_a_threshold_that_stays_reproduces_the_fixed_one_through_mixup(text, keys, fixed_state):
    known, logits = known_of([1] * 4), random_logits(classes=4)
    rule = made(text, known, **keys)
    state = rule.init()
    if fixed_state:
        state = state | {name: np.asarray(value, state[name].dtype) for name, value in fixed_state.items()}
    _, adaptive = assign(rule, logits, state=state)
    _, plain = assign(made("fixed", known), logits)
    generator = np.random.default_rng(0)
    partner, center = generator.permutation(12)[None], generator.integers(0, 4, (1, 12, 2))
    draw = ProbDraw(partner, generator.random((1, 12)) < 0.5, center)
    images = generator.normal(size=(12, 4, 4, 3))
    both = [mixed(images, pseudo, draw) for pseudo in (adaptive, plain)]
    assert 0 < plain.weight.mean() < 1
    np.testing.assert_array_equal(adaptive.weight, plain.weight)
    np.testing.assert_array_equal(both[0].confidence_mask, both[1].confidence_mask)
    small.assert_close(both[0], both[1], rtol=1e-12)


# How a rule is written


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("fre", "there is no rule 'fre'; did you mean 'free'? legal rules: fixed, "),
        ("alined(free)", "there is no rule 'alined'; did you mean 'aligned'?"),
        ("xyz", "there is no rule 'xyz'; legal rules: fixed, free, flex, "),
        ("aligned", "'aligned' stands around a rule, as in 'aligned(fixed)'; legal rules"),
        ("fixed(free)", "'fixed' is a rule, and nothing stands inside one; legal rules"),
        ("aligned(free", "it opens 1 bracket and closes 0"),
        ("aligned(free))", "it opens 1 bracket and closes 2"),
        ("free)", "it opens 0 brackets and closes 1"),
        ("aligned()", "a name is missing; legal rules"),
        ("", "a name is missing; legal rules"),
        ("soft(0.5)", "its numbers are keys of config.semi.rule; legal rules"),
        ("aligned(tempered(aligned(free)))", "'aligned' stands in it twice"),
        ("tempered(bank)", "'bank' asks no teacher, and nothing stands around it"),
        ("aligned(free, fixed)", "there is no rule 'free, fixed'; did you mean 'fixed'? "),
    ],
)
def test_a_text_that_is_no_rule_is_refused_in_a_line(text, told):
    found = refused(text)
    assert found.startswith(f"config.semi.pseudo_label_rule is {text!r}: {told}")
    assert "\n" not in found
    if "legal rules" in told:
        assert all(name in found for name in (*RULES, "around a rule: aligned(...), tempered(...)"))


def test_wrappers_stand_around_from_outside_in():
    assert written.names("tempered(aligned(free))") == ("tempered", "aligned", "free")
    inside, outside = (made(text, temperature=2.0) for text in ("aligned(tempered(fixed))", "tempered(aligned(fixed))"))
    logits = random_logits()
    np.testing.assert_allclose(assign(inside, logits)[0]["q"], jax.nn.softmax(logits).mean(axis=0))
    np.testing.assert_allclose(assign(outside, logits)[0]["q"], jax.nn.softmax(logits / 2).mean(axis=0))


@pytest.mark.parametrize(
    ("text", "keys", "needs"),
    [
        ("fixed", {}, {"teacher"}),
        ("flex", {}, {"teacher", "image_id"}),
        ("relative", {}, {"teacher", "labeled"}),
        ("bank", {}, {"bank"}),
        ("aligned(flex)", {}, {"teacher", "image_id"}),
        ("tempered(aligned(flex))", {"prior": "model"}, {"teacher", "image_id", "labeled"}),
        ("debiased(free)", {}, {"teacher"}),
        ("debiased(free)", {"outliers": "energy"}, {"teacher", "image_id", "labeled"}),
    ],
)
def test_a_rule_needs_what_its_parts_need(text, keys, needs):
    assert needs_of(text, keys) == needs

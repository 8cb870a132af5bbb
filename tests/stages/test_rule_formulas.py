"""The formulas of the pseudo-label rules, with numbers that were worked out by hand or by a program of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semivit_jax.stages.pseudo_label import Banked, Evidence, PseudoLabelRule
from semivit_jax.stages.rules.aligned import aligned
from semivit_jax.stages.rules.fixed import fixed
from tests.stages import small
from tests.stages.rules import POINT_NINE, PROBS, assign, evidence_of, keys_of, known_of, made, random_logits

pytestmark = pytest.mark.usefixtures("float64")

LOGITS = np.log(PROBS)
CONFIDENCE = PROBS.max(axis=1)
PUBLISHED = {"start": "published", "window": POINT_NINE}  # memory 0.9


def with_confidences(*rows):
    """Logits of images: (class, confidence) of three classes, the rest shared equally."""
    probs = [np.full(3, (1 - c) / 2) + np.eye(3)[k] * (c - (1 - c) / 2) for k, c in rows]
    return np.log(probs)


# fixed


def test_fixed_keeps_fewer_the_higher_its_threshold():
    kept = [assign(made("fixed", threshold=tau), LOGITS)[1].weight.sum() for tau in (0.0, 0.5, 0.6, 0.72, 1.0)]
    assert kept == [4, 4, 3, 2, 0]


# free


def test_free_by_hand():
    state, pseudo = assign(made("free", **PUBLISHED), LOGITS)
    np.testing.assert_allclose(state["tau"], 0.37125, atol=1e-6)
    np.testing.assert_allclose(state["g"], [0.3425, 0.33025, 0.32725], atol=1e-6)
    np.testing.assert_allclose(pseudo.thresholds, [0.37125, 0.357972, 0.354720], atol=1e-6)
    np.testing.assert_array_equal(pseudo.weight, 1)
    np.testing.assert_allclose(pseudo.strength, CONFIDENCE / pseudo.thresholds[PROBS.argmax(axis=1)])


def test_free_approaches_a_constant_confidence_as_its_memory_fades():
    rule, tau = made("free", **PUBLISHED), []
    state = rule.init()
    for _ in range(5):
        state, _ = assign(rule, LOGITS[[0, 0, 0, 0]], state=state)
        tau.append(state["tau"] - 0.9)
    np.testing.assert_allclose(tau, (1 / 3 - 0.9) * 0.9 ** np.arange(1, 6), rtol=1e-9)


def test_the_highest_threshold_of_free_is_tau():
    state, pseudo = assign(made("free"), random_logits(), random_logits(seed=1))
    assert pseudo.thresholds.max() == state["tau"]
    assert (pseudo.thresholds > 0).all()


def test_free_begins_with_the_first_batch_unless_told():
    state, _ = assign(made("free"), LOGITS)
    np.testing.assert_allclose(state["tau"], CONFIDENCE.mean(), rtol=1e-12)
    np.testing.assert_allclose(state["g"], PROBS.mean(axis=0), rtol=1e-12)


def test_free_may_follow_a_quantile_up_to_a_limit():
    state, _ = assign(made("free", quantile=0.8), LOGITS)
    np.testing.assert_allclose(state["tau"], np.quantile(CONFIDENCE, 0.8), rtol=1e-12)
    state, _ = assign(made("free", quantile=0.8, clip=0.6), LOGITS)
    assert state["tau"] == 0.6


# flex


def flex_after(*labels, num_unlabeled=10, **keys):
    """State of flex when so many images of each class have had a sure label, of ten; then thresholds."""
    rule = made("flex", known_of([1, 1, 1], num_unlabeled=num_unlabeled), threshold=0.95, **keys)
    ids = np.arange(len(labels))
    state, first = assign(rule, evidence_of(with_confidences(*[(k, 0.97) for k in labels]), image_id=ids))
    _, pseudo = assign(rule, evidence_of(LOGITS[:1], image_id=[9]), state=state)
    return rule, state, first, pseudo.thresholds


def test_flex_by_hand():
    _, state, first, thresholds = flex_after(0, 0, 0, 0, 1)
    np.testing.assert_array_equal(state["counts"], [4, 1, 0, 5])
    np.testing.assert_allclose(state["learned"], [0.8, 0.2, 0], atol=1e-12)
    np.testing.assert_allclose(thresholds, [0.633333, 0.105556, 0], atol=1e-6)
    np.testing.assert_array_equal(first.thresholds, 0)  # a label counts from the next update on
    np.testing.assert_array_equal(first.weight, 1)
    _, state, _, thresholds = flex_after(0, 0, 0, 0, 1, flex_warmup=False)
    np.testing.assert_allclose(state["learned"], [1, 0.25, 0], atol=1e-12)
    np.testing.assert_allclose(thresholds, [0.95, 0.135714, 0], atol=1e-6)


def test_flex_forgets_no_label_over_an_unsure_visit():
    rule, state, *_ = flex_after(0, 1)
    after, _ = assign(rule, evidence_of(with_confidences((2, 0.9), (2, 0.97)), image_id=[0, 1]), state=state)
    assert after["last"][:2].tolist() == [0, 2]
    assert after["last"][2:].tolist() == [3] * 8


def test_flex_counts_what_its_images_say():
    """Counts are kept up to date; they are those of all images at any time."""
    rule = made("flex", threshold=0.6)
    state, generator = rule.init(), np.random.default_rng(0)
    for seed in range(6):
        ids = generator.permutation(50)[:12]
        state, _ = assign(rule, evidence_of(random_logits(seed=seed), image_id=ids), state=state)
        np.testing.assert_array_equal(state["counts"], np.bincount(state["last"], minlength=4))
    assert (state["counts"] > 0).all()


def test_flex_learns_nothing_from_images_of_one_kind():
    for keys in ({}, {"flex_warmup": False}):
        _, state, *_ = flex_after(0, 0, 1, **keys)
        _, alike, *_ = flex_after(2, 2, 2, num_unlabeled=3, **keys)
        assert state["learned"][0] > 0
        np.testing.assert_array_equal(alike["learned"], 0)


# soft_gauss


def test_soft_gauss_by_hand():
    state, pseudo = assign(made("soft_gauss", **PUBLISHED), LOGITS)
    np.testing.assert_allclose(state["mu"], 0.37125, atol=1e-6)
    np.testing.assert_allclose(state["v"], 0.902729, atol=1e-6)
    np.testing.assert_array_equal(pseudo.weight, 1)
    rule = made("soft_gauss", window=np.inf)
    given = {"mu": jnp.asarray(0.75), "v": jnp.asarray(0.01)}
    _, pseudo = assign(rule, LOGITS, state=given)
    np.testing.assert_allclose(pseudo.weight, [1, 0.606531, 3.7e-6, 1], atol=1e-6)


def test_weights_of_soft_gauss_rise_to_the_mean():
    state = {"mu": jnp.asarray(0.7), "v": jnp.asarray(0.01)}
    ladder = with_confidences(*[(0, c) for c in np.linspace(0.4, 0.98, 12)])
    _, pseudo = assign(made("soft_gauss", window=np.inf), ladder, state=state)
    weight, above = np.asarray(pseudo.weight), np.asarray(pseudo.confidence) >= 0.7
    assert (np.diff(weight) >= 0).all()
    np.testing.assert_array_equal(weight == 1, above)
    one_sigma = with_confidences(*[(0, 0.6)] * 12)
    np.testing.assert_allclose(assign(made("soft_gauss", window=np.inf), one_sigma, state=state)[1].weight, np.exp(-2))


def test_soft_gauss_has_the_fixed_threshold_and_plain_labels_as_limits():
    state = {"mu": jnp.asarray(0.72), "v": jnp.asarray(0.0)}
    _, hard = assign(made("soft_gauss", window=np.inf, sigmas=1e3), LOGITS, state=state)
    np.testing.assert_array_equal(hard.weight, assign(made("fixed", threshold=0.72), LOGITS)[1].weight)
    _, plain = assign(made("soft_gauss", sigmas=1e-9), LOGITS)
    np.testing.assert_array_equal(plain.weight, 1)


# class_mean


def test_class_mean_by_hand():
    batch = with_confidences((0, 0.9), (0, 0.8), (0, 0.4), (1, 0.7), (1, 0.55), (2, 0.36))
    state, pseudo = assign(made("class_mean", every=1), batch)
    np.testing.assert_allclose(state["tau"], [0.85, 0.625, 0.5], atol=1e-6)
    np.testing.assert_array_equal(pseudo.weight, [1, 1, 0, 1, 1, 0])  # judged by what was before


def test_class_mean_changes_its_thresholds_every_so_many_updates():
    for keys, every in (({"every": 2}, 2), ({"every": 0}, 3)):  # an epoch has three updates
        rule, seen = made("class_mean", **keys), []
        state = rule.init()
        for seed in range(7):
            state, pseudo = assign(rule, random_logits(seed=seed), state=state)
            seen.append(np.asarray(pseudo.thresholds).tolist())
        changed = [step for step in range(1, 7) if seen[step] != seen[step - 1]]
        assert changed == list(range(every, 7, every))
        probs = np.asarray(jax.nn.softmax(np.stack([random_logits(seed=s) for s in range(every)]))).reshape(-1, 3)
        of_class = [probs.max(axis=1)[(probs.argmax(axis=1) == k) & (probs.max(axis=1) >= 0.5)] for k in range(3)]
        np.testing.assert_allclose(seen[every], np.clip([c.mean() for c in of_class], 0.3, 0.95), rtol=1e-9)


def test_thresholds_of_class_mean_stay_between_their_limits():
    batch = with_confidences((0, 0.999), (1, 0.51))
    state, _ = assign(made("class_mean", every=1, scale=0.5, highest=0.49), batch)
    np.testing.assert_allclose(state["tau"], [0.49, 0.3, 0.5], rtol=1e-9)
    _, all_kept = assign(made("class_mean", every=1, scale=0.0, lowest=0.0, cutoff=0.0), batch, batch)
    np.testing.assert_array_equal(all_kept.weight, 1)


# relative


def test_relative_asks_a_share_of_what_is_reached_on_labeled_images():
    evidence = evidence_of(LOGITS, labeled=with_confidences((0, 0.95), (2, 0.65)))
    _, pseudo = assign(made("relative", threshold=0.9), evidence)
    np.testing.assert_allclose(pseudo.thresholds, 0.9 * 0.8, rtol=1e-12)
    np.testing.assert_array_equal(pseudo.weight, [1, 0, 0, 1])


# soft, tempered


def test_soft_gives_sharpened_probabilities():
    _, pseudo = assign(made("soft", sharpening=0.5), LOGITS)
    wanted = PROBS**2 / (PROBS**2).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(pseudo.target, wanted, rtol=1e-12)
    np.testing.assert_array_equal(pseudo.weight, 1)
    np.testing.assert_allclose(pseudo.confidence, CONFIDENCE)


def test_tempered_asks_its_rule_at_another_temperature():
    evidence = evidence_of(LOGITS, labeled=LOGITS)
    halved = evidence_of(LOGITS / 2, labeled=LOGITS / 2)
    for text in ("fixed", "relative", "soft"):
        found = assign(made(f"tempered({text})", temperature=2.0), evidence)
        small.assert_close(found, assign(made(text), halved), rtol=1e-12)


# aligned


def seen(shares, *logits, **keys):
    """State of an aligned rule, and the probabilities that the rule inside sees at last: it remembers them."""
    known = known_of(shares)
    plain = fixed(0.5, keys_of(), known)

    def look(state, evidence):
        del state
        return jax.nn.softmax(evidence.logits), plain.assign((), evidence)[1]

    state, _ = assign(aligned(PseudoLabelRule(tuple, look), keys_of(window=POINT_NINE, **keys), known), *logits)
    return state, state["rule"]


def test_alignment_by_hand():
    state, probs = seen([1, 1, 1], LOGITS)
    np.testing.assert_allclose(state["q"], [0.425, 0.3025, 0.2725], atol=1e-6)
    np.testing.assert_allclose(probs[0], [0.859859, 0.080538, 0.059603], atol=1e-6)
    _, probs = seen([0.2, 0.3, 0.5], LOGITS)
    np.testing.assert_allclose(probs[2], [0.261500, 0.330657, 0.407843], atol=1e-6)  # label 0 becomes 2
    np.testing.assert_allclose(probs[3], [0.029936, 0.094633, 0.875430], atol=1e-6)
    _, uniform = seen([0.2, 0.3, 0.5], LOGITS, prior="uniform")
    np.testing.assert_allclose(uniform[0], [0.859859, 0.080538, 0.059603], atol=1e-6)


def test_alignment_to_what_is_there_changes_nothing():
    _, probs = seen(PROBS.mean(axis=0), LOGITS)
    np.testing.assert_allclose(probs, PROBS, atol=1e-6)


def test_equal_images_are_given_the_prior():
    _, probs = seen([0.2, 0.3, 0.5], LOGITS[[0, 0]])
    np.testing.assert_allclose(probs, [[0.2, 0.3, 0.5]] * 2, atol=2e-5)


def test_the_running_mean_has_a_closed_form():
    batches = [random_logits(rows=4, seed=s) for s in range(6)]
    state, _ = seen([1, 1, 1], *batches)
    means = np.stack([jax.nn.softmax(b).mean(axis=0) for b in batches])
    weights = 0.9 ** np.arange(5, -1, -1) * np.asarray([1.0] + [0.1] * 5)
    np.testing.assert_allclose(state["q"], weights @ means, rtol=1e-9)


def test_a_running_mean_counts_images_and_not_updates():
    one, two = made("free", window=50.0), made("free", window=50.0)
    first, (a, b) = random_logits(), np.split(random_logits(seed=1)[[0] * 12], 2)
    wanted, _ = assign(one, first, np.concatenate([a, b]))
    found, _ = assign(two, first, a, b)
    small.assert_close(found, wanted, rtol=1e-12)


def test_a_prior_of_the_model_is_what_the_teacher_says_of_labeled_images():
    evidence = evidence_of(LOGITS, labeled=LOGITS[:2])
    state, probs = seen([1, 1, 1], evidence, prior="model")
    wanted = PROBS[:2].mean(axis=0)
    np.testing.assert_allclose(state["r"], wanted, rtol=1e-9)
    changed = PROBS * wanted / PROBS.mean(axis=0)
    np.testing.assert_allclose(probs, changed / changed.sum(axis=1, keepdims=True), atol=2e-5)
    state, _ = seen([1, 1, 1], evidence, prior="model", start="published")
    np.testing.assert_allclose(state["r"], 0.9 / 3 + 0.1 * wanted, rtol=1e-9)


def test_the_target_may_stay_the_teachers_own():
    known = known_of([0.2, 0.3, 0.5])
    targets = [
        assign(made("aligned(fixed)", known, own_target=own), LOGITS)[1].target.argmax(axis=1).tolist()
        for own in (False, True)
    ]
    assert targets == [[0, 1, 2, 2], [0, 1, 0, 2]]
    _, own = assign(made("aligned(soft)", known, own_target=True), LOGITS)
    np.testing.assert_allclose(own.target, assign(made("soft", known), LOGITS)[1].target, rtol=1e-12)


# bank


def from_bank(classes, probs):
    """Pseudo labels of the rule 'bank' over three classes."""
    rule, evidence = made("bank"), Evidence(bank=Banked(jnp.asarray(classes), jnp.asarray(probs)))
    return assign(rule, evidence)[1]


def test_a_bank_of_all_classes_gives_back_its_probabilities():
    pseudo = from_bank([[2, 0, 1], [0, 1, 2]], [[0.7, 0.2, 0.1], [0.4, 0.35, 0.25]])
    np.testing.assert_allclose(pseudo.target, [[0.2, 0.1, 0.7], [0.4, 0.35, 0.25]])
    np.testing.assert_allclose(pseudo.weight, [0.7, 0.4])
    np.testing.assert_allclose(pseudo.strength, pseudo.weight)


def test_what_a_bank_leaves_over_is_spread_over_the_classes_that_it_does_not_name():
    pseudo = from_bank([[1], [2]], [[0.8], [0.5]])
    np.testing.assert_allclose(pseudo.target, [[0.1, 0.8, 0.1], [0.25, 0.25, 0.5]])


def test_true_labels_as_a_bank_are_labels_of_full_weight():
    pseudo = from_bank([[1], [0]], [[1.0], [1.0]])
    np.testing.assert_array_equal(pseudo.target, [[0, 1, 0], [1, 0, 0]])
    np.testing.assert_array_equal(pseudo.weight, 1)


def test_an_image_that_the_bank_has_nothing_on_has_no_weight():
    pseudo = from_bank([[-1, -1], [0, 2]], [[0.0, 0.0], [0.6, 0.4]])
    np.testing.assert_array_equal(pseudo.weight, [0, 0.6])
    np.testing.assert_allclose(pseudo.target[1], [0.6, 0, 0.4], atol=1e-12)

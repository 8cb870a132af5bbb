"""What each pseudo mixup does to images, targets and mask, and that groups never mix with each other."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semivit_jax.ops import mixup
from semivit_jax.ops.mixup import GroupDraw, ProbDraw
from semivit_jax.stages import semi
from semivit_jax.stages.pseudo_label import Evidence, PseudoLabels
from semivit_jax.stages.pseudo_mixup import PSEUDO_MIXUPS, PseudoMixup, mix_pseudo
from tests.compiled import quick_jit
from tests.configs import small_config, small_plan

pytestmark = [pytest.mark.usefixtures("float64"), pytest.mark.xdist_group("stages")]  # programs are shared

SIZE, GROUPS = 6, 2
TARGETS = np.eye(10)[np.arange(12) % 10]
CONFIDENCE = np.asarray([0.9, 0.2, 0.8, 0.95, 0.3, 0.1, 0.7, 0.6, 0.4, 0.9, 0.2, 0.99])
WEIGHT = (CONFIDENCE >= 0.5).astype(np.float64)
LAMBDA = 0.75


def mix(kind, images, *, weight=WEIGHT, strength=CONFIDENCE):
    pseudo, draw = PseudoLabels(TARGETS, CONFIDENCE, weight, strength), None
    if kind == "prob":
        partner = np.asarray([[1, 0, 2, 5, 3, 4], [3, 4, 5, 0, 1, 2]])
        draw = ProbDraw(partner, np.zeros((GROUPS, SIZE), bool), np.zeros((GROUPS, SIZE, 2), int))
    elif kind != "none":
        draw = GroupDraw(np.full(GROUPS, LAMBDA), np.zeros(GROUPS, bool), np.zeros((GROUPS, 2), int))
    return jax.device_get(program(kind)(images, pseudo, draw))


@functools.cache
def program(kind):
    return quick_jit(functools.partial(mix_pseudo, kind=kind, label_smoothing=0.1, group_size=SIZE))


confident_partner = quick_jit(mixup.confident_partner)


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(SIZE * GROUPS, 4, 4, 3))


def test_a_confidence_at_the_threshold_is_kept():
    never = -np.inf
    logits = jnp.asarray([[0.0, 0.0, never, never], [0.0, 0.0, 0.0, never], [never, never, 0.0, never]])
    section = small_config(**{"semi.confidence_threshold": 0.5}).stage("semi")
    rule = semi.make_rule(section, small_plan("semi", num_classes=4))
    policy_state, pseudo = rule.assign(rule.init(), Evidence(logits=logits))
    assert pseudo.weight.tolist() == [1, 0, 1]
    assert pseudo.target.tolist() == [[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0]]
    np.testing.assert_allclose(pseudo.confidence, [1 / 2, 1 / 3, 1])
    assert policy_state == ()


def test_none_learns_hard_labels_from_unmixed_images(images):
    mixed = mix("none", images)
    np.testing.assert_array_equal(mixed.images, images)
    np.testing.assert_array_equal(mixed.targets, TARGETS)
    np.testing.assert_array_equal(mixed.confidence_mask, WEIGHT)


def smoothed(label):
    return 0.9 * np.eye(10)[label % 10] + 0.01


def test_mixup_pairs_reversed_rows_and_keeps_each_own_mask(images):
    mixed = mix("mixup", images)
    for i in range(12):
        j = i // SIZE * SIZE + SIZE - 1 - i % SIZE
        np.testing.assert_allclose(mixed.images[i], LAMBDA * images[i] + (1 - LAMBDA) * images[j])
        np.testing.assert_allclose(mixed.targets[i], LAMBDA * smoothed(i) + (1 - LAMBDA) * smoothed(j))
    np.testing.assert_array_equal(mixed.confidence_mask, WEIGHT)


@pytest.mark.parametrize(
    ("kept", "partner"),
    [
        ([1, 0, 1, 1, 0, 0], [3, 1, 2, 0, 4, 5]),  # an odd middle one meets itself
        ([1, 1, 0, 1, 0, 1], [5, 3, 2, 1, 4, 0]),
        ([1, 1, 1, 1, 1, 1], [5, 4, 3, 2, 1, 0]),
        ([0, 0, 0, 0, 0, 0], [0, 1, 2, 3, 4, 5]),
        ([0, 0, 0, 1, 0, 0], [0, 1, 2, 3, 4, 5]),
    ],
)
def test_confident_partners(kept, partner):
    np.testing.assert_array_equal(confident_partner(np.asarray(kept, bool)), partner)


def test_mixup_confident_leaves_the_others_alone_and_unlearned(images):
    mixed = mix("mixup_confident", images)
    partner = np.asarray([3, 1, 2, 0, 4, 5, 11, 9, 8, 7, 10, 6])  # kept: 0, 2, 3 and 6, 7, 9, 11
    np.testing.assert_allclose(mixed.images, LAMBDA * images + (1 - LAMBDA) * images[partner])
    unmixed = partner == np.arange(12)
    np.testing.assert_allclose(mixed.images[unmixed], images[unmixed])
    np.testing.assert_array_equal(mixed.confidence_mask, WEIGHT)
    assert not mixed.confidence_mask[unmixed & (np.arange(12) != 2)].any()  # 2 is the odd middle one


def test_prob_takes_lambda_and_mask_from_the_confidences(images):
    mixed = mix("prob", images)
    partner = np.asarray([1, 0, 2, 5, 3, 4, 9, 10, 11, 6, 7, 8])
    lam = CONFIDENCE / (CONFIDENCE + CONFIDENCE[partner])
    want = lam[:, None, None, None] * images + (1 - lam)[:, None, None, None] * images[partner]
    np.testing.assert_allclose(mixed.images, want, rtol=1e-12)
    smooth = np.stack([smoothed(i) for i in range(12)])
    np.testing.assert_allclose(mixed.targets, lam[:, None] * smooth + (1 - lam)[:, None] * smooth[partner], rtol=1e-12)
    stronger = np.maximum(CONFIDENCE, CONFIDENCE[partner])
    np.testing.assert_array_equal(mixed.confidence_mask, stronger >= 0.5)
    assert (mixed.confidence_mask != WEIGHT).any()


def test_prob_weighs_partners_by_strength_and_takes_the_larger_weight(images):
    """An image of confidence .8 below its threshold .9 does not dominate one of .6 above .5, and learns from it."""
    confidence, threshold = np.asarray([0.8, 0.6] * 6), np.asarray([0.9, 0.5] * 6)
    mixed = mix("prob", images, weight=(confidence >= threshold) * 1.0, strength=confidence / threshold)
    lam = (0.8 / 0.9) / (0.8 / 0.9 + 0.6 / 0.5)
    assert lam == pytest.approx(0.43, abs=0.005)
    np.testing.assert_allclose(mixed.images[0], lam * images[0] + (1 - lam) * images[1], rtol=1e-12)
    assert mixed.confidence_mask[0] == mixed.confidence_mask[1] == 1


def test_prob_halves_images_without_any_strength(images):
    mixed = mix("prob", images, strength=np.zeros(12))
    np.testing.assert_allclose(mixed.images[0], (images[0] + images[1]) / 2, rtol=1e-12)


@pytest.mark.parametrize("kind", ["none", "mixup", "mixup_confident", "prob"])
def test_groups_do_not_mix_with_each_other(kind, images):
    """Changing every image, strength and weight of group 0 changes nothing in group 1."""
    plain = mix(kind, images)
    other, strength, weight = images.copy(), CONFIDENCE.copy(), WEIGHT.copy()
    other[:SIZE], strength[:SIZE], weight[:SIZE] = 5.0, 0.55, 1.0
    changed = mix(kind, other, strength=strength, weight=weight)
    for a, b in zip(plain, changed, strict=True):
        np.testing.assert_array_equal(a[SIZE:], b[SIZE:])
    assert np.abs(plain.images[:SIZE] - changed.images[:SIZE]).max() > 1


def test_labeled_groups_do_not_mix_with_each_other(images):
    draw = GroupDraw(jnp.asarray([0.4, 0.6]), jnp.asarray([True, False]), jnp.asarray([[1, 2], [0, 0]]))
    targets, other = jnp.eye(12), images.copy()
    other[:SIZE] = 5.0
    mixed, mixed_targets = mixup.mix_labeled(images, targets, draw, SIZE)
    changed, _ = mixup.mix_labeled(other, targets, draw, SIZE)
    np.testing.assert_array_equal(mixed[SIZE:], changed[SIZE:])
    assert not mixed_targets[:SIZE, SIZE:].any()
    assert not mixed_targets[SIZE:, :SIZE].any()
    np.testing.assert_allclose(mixed_targets[SIZE], 0.6 * np.eye(12)[SIZE] + 0.4 * np.eye(12)[11])


def test_draws_of_mixup_follow_their_distributions():
    """Beta(0.8, 0.8), Beta(1, 1), switch and mix probabilities, by mean and variance of 4,000 draws."""
    keys = jax.random.split(jax.random.key(0), 4000)
    options = {"image_size": 8, "mixup_alpha": 0.8, "cutmix_alpha": 1.0, "mixup_prob": 0.75, "cutmix_switch_prob": 0.25}
    draw = quick_jit(jax.vmap(lambda k: mixup.sample_group(k, **options)))(keys)
    lam, cut = np.asarray(draw.mixup_lambda), np.asarray(draw.use_cutmix)
    assert cut.mean() == pytest.approx(0.25, abs=0.035)
    assert (lam < 1).mean() == pytest.approx(0.75, abs=0.035)
    for chosen, alpha in ((lam[~cut & (lam < 1)], 0.8), (lam[cut & (lam < 1)], 1.0)):
        assert chosen.mean() == pytest.approx(0.5, abs=0.06)
        assert chosen.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), abs=0.012)
    assert np.unique(draw.center).tolist() == list(range(8))


@pytest.mark.parametrize(("mixup_alpha", "cutmix_alpha", "cutmix"), [(0.8, 0.0, False), (0.0, 1.0, True)])
def test_an_alpha_of_zero_leaves_the_other_method_alone(mixup_alpha, cutmix_alpha, cutmix):
    options = {"image_size": 8, "mixup_prob": 1.0, "cutmix_switch_prob": 0.5}
    keys = jax.random.split(jax.random.key(0), 50)
    alphas = {"mixup_alpha": mixup_alpha, "cutmix_alpha": cutmix_alpha}
    draw = quick_jit(jax.vmap(lambda k: mixup.sample_group(k, **options, **alphas)))(keys)
    assert (draw.use_cutmix == cutmix).all()
    assert (draw.mixup_lambda < 1).all()


def test_draws_of_prob_mixup():
    keys = jax.random.split(jax.random.key(1), 2000)
    sample = quick_jit(jax.vmap(lambda k: mixup.sample_prob(k, size=5, image_size=8, cutmix_switch_prob=0.3)))
    draw = sample(keys)
    assert (np.sort(draw.partner, axis=1) == np.arange(5)).all()
    assert (draw.partner == np.arange(5)).mean() == pytest.approx(1 / 5, abs=0.02)  # fixed points are allowed
    assert draw.use_cutmix.mean() == pytest.approx(0.3, abs=0.03)
    assert (draw.use_cutmix != draw.use_cutmix[:, :1]).mean() > 0  # each image on its own


def test_a_pseudo_mixup_of_ones_own_is_one_row(images, monkeypatch):
    """The config takes its name, and the step draws and mixes with it."""

    def sample(key, size, image_size, chances):
        del key, image_size, chances
        return jnp.roll(jnp.arange(size), 1)

    def mix_half(partner, strength, weight, height, width):
        del strength, height, width
        half, box = jnp.full(partner.shape, 0.5), jnp.zeros((*partner.shape, 4), int)
        return mixup.Mixing(partner, half, jnp.zeros(partner.shape, bool), box), 0 * weight

    monkeypatch.setitem(PSEUDO_MIXUPS, "mine", PseudoMixup(sample, mix_half, uses_alphas=False, by_rejection=False))
    kind = small_config(**{"semi.pseudo_mixup": "mine"}).stage("semi").pseudo_mixup
    pseudo = PseudoLabels(*(jnp.asarray(x) for x in (TARGETS, CONFIDENCE, WEIGHT, CONFIDENCE)))
    partner = jnp.stack([sample(None, SIZE, 4, None)] * GROUPS)
    mixed = mix_pseudo(images, pseudo, partner, kind=kind, label_smoothing=0.1, group_size=SIZE)
    neighbours = np.roll(images.reshape(GROUPS, SIZE, 4, 4, 3), 1, axis=1).reshape(images.shape)
    np.testing.assert_allclose(mixed.images, (images + neighbours) / 2)
    assert not np.any(mixed.confidence_mask)

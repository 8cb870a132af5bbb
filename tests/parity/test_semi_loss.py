"""The semi-supervised loss in all recorded cases: masks, losses, gradients and logged metrics.

The stage's own update runs with a classifier that returns recorded logits. Its params are the student's
logits, so the gradients it finds are those of the logits; they are read from Adam's first moment.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semivit_jax.models.families import Network
from semivit_jax.models.parting import WHOLE
from semivit_jax.ops import metrics
from semivit_jax.ops.losses import cross_entropy
from semivit_jax.ops.mixup import GroupDraw, ProbDraw
from semivit_jax.stages import semi, state, supervised
from semivit_jax.stages.pseudo_label import Evidence
from semivit_jax.stages.pseudo_metrics import pseudo_label_metrics
from semivit_jax.stages.pseudo_mixup import mix_pseudo
from semivit_jax.stages.stage import ImageDraws
from tests.compiled import quick_jit
from tests.configs import small_config, small_plan
from tests.parity import recorded

CASES = {
    "plain": {"semi.pseudo_mixup": "none", "semi.labeled_mixup": False},
    "plain_xmixup": {"semi.pseudo_mixup": "none", "semi.labeled_mixup": True},
    "mixup": {"semi.pseudo_mixup": "mixup", "semi.labeled_mixup": True},
    "prob": {"semi.pseudo_mixup": "prob", "semi.labeled_mixup": True},
    "prob_noxmixup": {"semi.pseudo_mixup": "prob", "semi.labeled_mixup": False},
}
SIDE = 16
NUM_LABELED, NUM_UNLABELED = 4, 20
CASE = pytest.mark.parametrize("case", CASES)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def config_of(case):
    return small_config(**CASES[case], **{"semi.confidence_threshold": 0.5, "semi.unlabeled_weight": 5.0})


def pseudo_labels(data):
    rule = semi.make_rule(config_of("plain").stage("semi"), small_plan("semi"))
    return rule.assign(rule.init(), Evidence(logits=data["teacher_logits_u_w"].astype(np.float64)))[1]


def plain_mixup(lam):
    """Mixup of one group, no cutmix: recorded targets are mixed by this lambda whatever the images do."""
    return GroupDraw(np.asarray([lam]), np.asarray([False]), np.zeros((1, 2), int))


def draws_of(case, data):
    labeled = plain_mixup(data[f"{case}_lam_x"]) if CASES[case]["semi.labeled_mixup"] else None
    pseudo = None
    if case == "mixup":
        pseudo = plain_mixup(data["mixup_lam_u"])
    if case.startswith("prob"):
        confidence, partner = np.asarray(pseudo_labels(data).confidence), data[f"{case}_perm"]
        lam, use_cutmix = confidence / (confidence + confidence[partner]), data[f"{case}_use_cutmix"]
        centers = recorded.box_centers(data[f"{case}_bbox"], lam, use_cutmix, SIDE)
        pseudo = ProbDraw(partner[None], use_cutmix[None], centers[None])
    return semi.SemiDraws(ImageDraws(), ImageDraws(), ImageDraws(), labeled, pseudo)


def images(rows):
    return np.zeros((rows, SIDE, SIDE, 3))


def test_pseudo_labels_and_confidences():
    data = recorded.load("semi_loss")
    pseudo = pseudo_labels(data)
    np.testing.assert_array_equal(pseudo.target.argmax(axis=-1), data["pseudo_labels"])
    np.testing.assert_allclose(pseudo.confidence, data["max_probs"], rtol=0, atol=2e-6)
    np.testing.assert_array_equal(pseudo.weight, data["plain_mask"])


@CASE
def test_mask_targets_and_losses_of_each_image(case):
    data, config = recorded.load("semi_loss"), config_of(case)
    pseudo = pseudo_labels(data)
    mixed = mix_pseudo(
        images(NUM_UNLABELED),
        pseudo,
        draws_of(case, data).pseudo_mix,
        kind=config.stage("semi").pseudo_mixup,
        label_smoothing=config.stage("semi").label_smoothing,
        group_size=NUM_UNLABELED,
    )
    np.testing.assert_array_equal(mixed.confidence_mask, data[f"{case}_mask"])
    if f"{case}_targets_u" in data:
        np.testing.assert_allclose(mixed.targets, data[f"{case}_targets_u"], rtol=0, atol=2e-6)
    losses = cross_entropy(data["student_logits_u_s"], mixed.targets)
    np.testing.assert_allclose(losses, data[f"{case}_loss_per_sample"], rtol=2e-6, atol=2e-6)


@CASE
def test_pseudo_label_metrics(case):
    data = recorded.load("semi_loss")
    found = pseudo_label_metrics(pseudo_labels(data), data[f"{case}_mask"], data["true_labels_u"])
    found = metrics.compute(found)
    np.testing.assert_allclose(found["teacher_acc"], data[f"{case}_class_acc_u"], rtol=0, atol=2e-6)
    np.testing.assert_allclose(found["pseudo_label_acc"], data[f"{case}_pseudo_acc"], rtol=0, atol=2e-6)
    np.testing.assert_allclose(found["pseudo_label_recall"], data[f"{case}_pseudo_recall"], rtol=0, atol=2e-6)
    np.testing.assert_allclose(found["mask_rate"], data[f"{case}_mask"].mean(), rtol=0, atol=2e-6)
    quantiles = [found[f"confidence_q{q}"] for q in (10, 50, 90)]
    np.testing.assert_allclose(quantiles, np.quantile(data["max_probs"], [0.1, 0.5, 0.9]), rtol=0, atol=2e-6)


def recorded_logits(data):
    """A classifier whose params are the student's logits; the EMA's hold the teacher's as well."""

    def logits(params, images, drop_path_masks):
        if images.shape[0] == NUM_UNLABELED:  # the weak view
            return params["teacher"]
        return jnp.concatenate([params["labeled"], params["strong"]])

    names = {"labeled": "logits_x", "strong": "student_logits_u_s", "teacher": "teacher_logits_u_w"}
    params = {k: jnp.asarray(data[v].astype(np.float64)) for k, v in names.items()}
    everything = lambda value: lambda *_: ((r"", value),)  # noqa: E731
    stub = Network(
        init=lambda key: params,
        logits=logits,
        features=lambda *_: None,
        classify=lambda *_: None,
        drop_path_rates=np.zeros((1, 2)),
        lr_scales=everything(1.0),
        weight_decays=everything(0.0),
        parting=WHOLE,
    )
    return stub, params


@pytest.mark.parametrize(
    "case",
    [
        "plain",
        "mixup",
        "prob",
        *(pytest.param(case, marks=pytest.mark.slow) for case in ("plain_xmixup", "prob_noxmixup")),
    ],
)
def test_losses_and_gradients_through_the_update(case, monkeypatch):
    data, config, plan = recorded.load("semi_loss"), config_of(case), small_plan("semi")
    stub, params = recorded_logits(data)
    monkeypatch.setattr(supervised, "build_network", lambda *args, **kwargs: stub)
    _, optimizer, update = semi.make_update(config, plan, backend="cpu")
    batch = {
        "labeled": {"image": images(NUM_LABELED), "label": data["labels_x"]},
        "unlabeled": {
            "weak": images(NUM_UNLABELED),
            "strong": images(NUM_UNLABELED),
            "label": data["true_labels_u"],
        },
    }
    batch, draws = jax.tree.map(lambda x: jnp.asarray(x)[None], (batch, draws_of(case, data)))
    before = state.create(params, optimizer, keep_ema=True)
    after, found = quick_jit(update)(before, batch, draws)
    logged = metrics.compute(found)
    for ours, theirs in (("loss", "loss"), ("loss_labeled", "loss_x"), ("loss_unlabeled", "loss_u")):
        np.testing.assert_allclose(logged[ours], data[f"{case}_{theirs}"], rtol=2e-6, err_msg=ours)
    grads = jax.tree.map(lambda mu: mu / (1 - config.stage("semi").betas[0]), after.opt_state.mu)
    np.testing.assert_allclose(grads["labeled"], data[f"{case}_grad_logits_x"], rtol=0, atol=2e-6)
    np.testing.assert_allclose(grads["strong"], data[f"{case}_grad_logits_u"], rtol=0, atol=2e-6)
    assert np.abs(grads["teacher"]).max() == 0

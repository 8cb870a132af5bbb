"""Properties of the semi-supervised update: what the teacher, the labels and the rows may influence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semivit_jax.ops import metrics, mixup
from semivit_jax.ops.losses import cross_entropy, smoothed_target
from semivit_jax.stages import finetune, semi, supervised
from semivit_jax.stages.pseudo_label import Evidence, PseudoLabelRule, PseudoLabels, Row
from semivit_jax.stages.pseudo_metrics import pseudo_label_metrics
from semivit_jax.stages.pseudo_mixup import mix_pseudo
from semivit_jax.stages.rules import RULES
from semivit_jax.stages.stage import masks, see, see_view
from tests.compiled import quick_jit
from tests.stages import small

pytestmark = [pytest.mark.usefixtures("float64"), pytest.mark.xdist_group("stages")]  # programs are shared

CONFIDENT = 1.5e4  # head scale at which the random teacher keeps a part of the images


def test_no_gradient_reaches_ema_params():
    state, batch, draws = small.initial_state("semi", teacher_scale=CONFIDENT), small.semi_batch(), small.semi_draws()
    update = small.MAKE_UPDATE["semi"](small.stage_config("semi"), small.stage_plan("semi"), backend="cpu")[2]

    def loss(ema_params, params):
        _, found = update(state.replace(ema_params=ema_params, params=params), small.micro(batch), draws)
        return found["loss_unlabeled"].total.sum(), found["mask_rate"].total.sum()

    gradient = quick_jit(jax.grad(loss, argnums=(0, 1), has_aux=True))
    (of_teacher, of_student), mask_rate = jax.device_get(gradient(state.ema_params, state.params))
    assert mask_rate > 0.1  # the teacher's labels do count
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(of_teacher))
    assert any((leaf != 0).any() for leaf in jax.tree.leaves(of_student))


def without_drop_path(draws):
    """The same draws with every branch kept, which is how a teacher passes in evaluation mode."""
    kept = {k: getattr(draws, k) for k in ("labeled", "weak", "strong")}
    ones = {k: v._replace(drop_path=jnp.ones_like(v.drop_path)) for k, v in kept.items() if v.drop_path is not None}
    return draws._replace(**ones)


def test_no_gradient_flows_through_a_student_that_teaches():
    """The student as its own teacher learns exactly what an equal EMA would have taught it."""
    state = small.initial_state("semi", teacher_scale=CONFIDENT)
    state = state.replace(params=jax.tree.map(jnp.copy, state.ema_params))
    draws, batch = without_drop_path(small.semi_draws()), small.micro(small.semi_batch())
    weak = draws.weak._replace(drop_path=jnp.ones((1, small.BATCH * small.RATIO, 2, 2)))
    taught, found = small.compiled_update("semi")(state, batch, draws)
    own, own_found = small.compiled_update("semi", teacher="student")(state, batch, draws._replace(weak=weak))
    assert found["mask_rate"].total.sum() > 0.1
    small.assert_close(own.opt_state.mu, taught.opt_state.mu)
    small.assert_close(own_found["loss"], found["loss"])


def test_a_student_that_teaches_passes_in_training_mode():
    state = small.initial_state("semi", teacher_scale=CONFIDENT)
    state = state.replace(params=jax.tree.map(jnp.copy, state.ema_params))
    draws, batch = small.semi_draws(), small.micro(small.semi_batch())
    mask = jnp.ones((1, small.BATCH * small.RATIO, 2, 2))
    update = small.compiled_update("semi", teacher="student")
    found = [
        update(state, batch, draws._replace(weak=draws.weak._replace(drop_path=m)))[1]["confidence_q50"].total
        for m in (mask, mask.at[:, :, 1].set(0.0))
    ]
    assert abs(found[0] - found[1]) > 1e-6


def test_an_unreachable_threshold_gives_the_supervised_step():
    semi_state, state = small.initial_state("semi"), small.initial_state("finetune")  # no confidence above 0.2
    batch, draws = small.semi_batch(), small.semi_draws()
    after, found = small.compiled_update("semi")(semi_state, small.micro(batch), draws)
    assert found["mask_rate"].total.sum() == 0
    labeled = finetune.FinetuneDraws(draws.labeled, draws.labeled_mix)
    alone, found_alone = small.compiled_update("finetune")(state, small.micro(batch["labeled"]), labeled)
    small.assert_close(after.params, alone.params, rtol=1e-7)
    small.assert_close(after.opt_state.mu, alone.opt_state.mu)
    np.testing.assert_allclose(found["loss"].total, found_alone["loss"].total, rtol=1e-9)


def test_true_labels_of_unlabeled_images_change_metrics_only():
    state, draws = small.initial_state("semi", teacher_scale=CONFIDENT), small.semi_draws()
    batch, other = small.semi_batch(), small.semi_batch()
    other["unlabeled"]["label"] = np.where(np.arange(small.BATCH * small.RATIO) % 2, 3, -1)
    update = small.compiled_update("semi")
    (after, found), (after_other, found_other) = (update(state, small.micro(b), draws) for b in (batch, other))
    small.assert_equal(after, after_other)
    differ = {k for k in found if not np.array_equal(found[k], found_other[k])}
    assert differ == {"teacher_acc", "pseudo_label_acc", "pseudo_label_recall"}


def test_unknown_labels_are_left_out_of_the_metrics():
    confidence = jnp.asarray([0.9, 0.8, 0.7, 0.6])
    pseudo = PseudoLabels(jax.nn.one_hot(jnp.asarray([1, 2, 3, 4]), 10), confidence, jnp.ones(4), confidence)
    known = pseudo_label_metrics(pseudo, jnp.asarray([1.0, 1.0, 0.0, 1.0]), jnp.asarray([1, -1, 3, 0]))
    found = metrics.compute(known)
    assert found["teacher_acc"] == pytest.approx(2 / 3)
    assert found["pseudo_label_acc"] == pytest.approx(1 / 2)
    assert found["pseudo_label_recall"] == pytest.approx(1 / 2)
    assert found["mask_rate"] == pytest.approx(3 / 4)
    unknown = pseudo_label_metrics(pseudo, jnp.ones(4), jnp.full(4, -1))
    assert unknown["teacher_acc"].count == 0
    assert metrics.compute(unknown)["pseudo_label_acc"] == 0


def test_the_average_follows_the_params_after_the_update():
    state = small.initial_state("semi", teacher_scale=CONFIDENT)
    after, _ = small.compiled_update("semi")(state, small.micro(small.semi_batch()), small.semi_draws())
    assert small.largest_change(after.params, state.params) > 1e-5
    found, old, new = jax.device_get((after.ema_params, state.ema_params, after.params))
    small.assert_close(found, jax.tree.map(lambda e, p: 0.9 * e + 0.1 * p, old, new))


@pytest.mark.slow  # by default: test_update of any micro-loss, test_draws of the draws, test_devices of all
def test_four_micro_steps_equal_one():
    """Draws included: they belong to groups, not to micro-steps."""
    state, batch = small.initial_state("semi", teacher_scale=CONFIDENT), small.semi_batch()
    one, found = small.compiled_update("semi")(state, small.micro(batch), small.semi_draws())
    four, found_four = small.compiled_step("semi", accum=4)(state, small.micro(batch, 4), small.key())
    small.assert_close(four.opt_state, one.opt_state)
    small.assert_close(four.params, one.params)
    found, found_four = metrics.compute(found), metrics.compute(found_four)
    assert 0.1 < found["mask_rate"] < 0.95
    for name in found.keys() - {"confidence_q10", "confidence_q50", "confidence_q90"}:  # quantiles do not add
        np.testing.assert_allclose(found_four[name], found[name], rtol=1e-9, err_msg=name)


def test_every_position_draws_anew():
    first, second, again = (small.semi_draws(position=p) for p in (0, 1, 0))
    first, second, again = (jax.tree.map(plain, draws) for draws in (first, second, again))
    small.assert_equal(first, again)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        assert a.dtype == bool or (a != b).any()  # four coins may well fall alike twice


def plain(leaf):
    """Keys as numbers."""
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def test_one_bad_micro_step_drops_the_whole_update():
    state, batch = small.initial_state("semi", teacher_scale=CONFIDENT), small.semi_batch()
    batch["labeled"]["image"][2 * small.GROUP + 1, 0, 0, 0] = np.nan  # an image of the third micro-step
    after, found = small.compiled_step("semi", accum=4)(state, small.micro(batch, 4), small.key())
    kept = after.replace(step=state.step, position=state.position)
    small.assert_equal(kept, state)
    assert (after.step, after.position, found["dropped"].total) == (1, 1, 1)
    assert np.isfinite(found["loss"].total).tolist() == [True, True, False, True]


def both_views(unlabeled, draws, specs):
    return [see_view(k, unlabeled, getattr(draws, k), getattr(specs, k)) for k in ("weak", "strong")]


def test_joined_forward_equals_separate_forwards():
    """With drop path on: labeled and strong images keep their own masks inside the joined batch."""
    config, plan = small.stage_config("semi"), small.stage_plan("semi")
    section, group = config.stage("semi"), small.GROUP * small.RATIO
    model = supervised.build_network(config, section, plan, backend="cpu")
    specs = semi._specs(config, section, model)
    state = small.initial_state("semi", teacher_scale=CONFIDENT)
    batch, draws = small.semi_batch(), small.semi_draws()
    _, found = small.compiled_update("semi")(state, small.micro(batch), draws)

    @quick_jit
    def separate(state, batch, draws):
        labeled = see(batch["labeled"]["image"], draws.labeled, specs.labeled)
        weak, strong = both_views(batch["unlabeled"], draws, specs)
        rule = semi.make_rule(section, plan)
        _, pseudo = rule.assign((), Evidence(logits=model.logits(state.ema_params, weak, None)))
        targets = smoothed_target(batch["labeled"]["label"], 10, section.label_smoothing, labeled.dtype)
        labeled, targets = mixup.mix_labeled(labeled, targets, draws.labeled_mix, small.GROUP)
        mixing = {"kind": section.pseudo_mixup, "label_smoothing": section.label_smoothing, "group_size": group}
        mixed = mix_pseudo(strong, pseudo, draws.pseudo_mix, **mixing)
        logits = model.logits(state.params, labeled, masks(draws.labeled))
        strong_logits = model.logits(state.params, mixed.images, masks(draws.strong))
        unlabeled = mixed.confidence_mask * cross_entropy(strong_logits, mixed.targets)
        return cross_entropy(logits, targets).mean(), unlabeled.mean()

    loss_labeled, loss_unlabeled = separate(state, batch, jax.tree.map(lambda x: x[0], draws))
    np.testing.assert_allclose(found["loss_labeled"].total[0], loss_labeled, rtol=1e-9)
    np.testing.assert_allclose(found["loss_unlabeled"].total[0], loss_unlabeled, rtol=1e-9)
    total = loss_labeled + section.unlabeled_weight * loss_unlabeled
    np.testing.assert_allclose(found["loss"].total[0], total, rtol=1e-9)


def running_threshold(threshold, keys, known):
    """Keeps what is above the running mean confidence; its state is (mean, updates seen)."""
    del keys

    def init():
        return {"mean": jnp.asarray(threshold, jnp.float64), "seen": jnp.asarray(0, jnp.int32)}

    def assign(policy_state, evidence):
        probs = jax.nn.softmax(evidence.logits)
        confidence = probs.max(axis=-1)
        mean = 0.5 * policy_state["mean"] + 0.5 * confidence.mean()
        weight = (confidence >= mean).astype(probs.dtype)
        target = jax.nn.one_hot(probs.argmax(axis=-1), known.num_classes, dtype=probs.dtype)
        return {"mean": mean, "seen": policy_state["seen"] + 1}, PseudoLabels(target, confidence, weight, confidence)

    return PseudoLabelRule(init, assign)


RUNNING = Row(needs=frozenset({"teacher"}), make=running_threshold)


def test_a_rule_with_a_state_counts_updates(monkeypatch):
    """Once per update on the teacher's logits of all micro-steps, whatever the accumulation."""
    monkeypatch.setitem(RULES, "running", RUNNING)
    rule = {"pseudo_label_rule": "running", "drop_path_rate": 0.0, "erase_prob": 0.0,
            "pseudo_mixup": "none", "labeled_mixup": False}  # fmt: skip
    state = small.initial_state("semi", teacher_scale=CONFIDENT)
    section = small.stage_config("semi", **rule).stage("semi")
    state = state.replace(policy_state=semi.make_rule(section, small.stage_plan("semi")).init())
    batch, step = small.semi_batch(), small.compiled_step("semi", accum=4, **rule)
    after, found = step(state, small.micro(batch, 4), small.key())
    assert after.policy_state["seen"] == 1
    logits = quick_jit(teacher_logits)(state.ema_params, batch["unlabeled"]["weak"])
    confidence = jax.nn.softmax(logits).max(axis=-1)
    want = 0.5 * section.confidence_threshold + 0.5 * confidence.mean()
    np.testing.assert_allclose(after.policy_state["mean"], want, rtol=1e-9)
    kept = (confidence >= want).reshape(4, -1).mean(axis=1)  # one threshold for all micro-steps
    np.testing.assert_array_equal(found["mask_rate"].total, kept)
    batch["labeled"]["image"][0] = np.nan
    dropped, _ = step(after, small.micro(batch, 4), small.key())
    small.assert_equal(dropped.policy_state, after.policy_state)


def teacher_logits(ema_params, weak):
    config, plan = small.stage_config("semi"), small.stage_plan("semi")
    return supervised.build_network(config, config.stage("semi"), plan, backend="cpu").logits(ema_params, weak, None)


def test_a_stage_starts_with_the_state_of_its_rule(monkeypatch):
    monkeypatch.setitem(RULES, "running", RUNNING)
    config = small.stage_config("semi", pseudo_label_rule="running")
    stage = semi.make(config, small.stage_plan("semi"), backend="cpu")
    described = jax.eval_shape(stage.init, small.key())
    assert set(described.policy_state) == {"mean", "seen"}
    fixed = semi.make(small.stage_config("semi"), small.stage_plan("semi"), backend="cpu")
    assert jax.eval_shape(fixed.init, small.key()).policy_state == ()


def test_weak_and_strong_views_of_one_image():
    """One travelling image gives two device views; two travelling images are taken as they are."""
    config = small.stage_config("semi")
    model = supervised.build_network(config, config.stage("semi"), small.stage_plan("semi"), backend="cpu")
    specs = semi._specs(config, config.stage("semi"), model)
    draws = jax.tree.map(lambda x: x[0], small.semi_draws())
    image = np.random.default_rng(0).integers(0, 256, (small.BATCH * small.RATIO, 16, 16, 3)).astype(np.uint8)
    views = quick_jit(lambda unlabeled: both_views(unlabeled, draws, specs))
    weak, strong = views({"image": image})
    assert np.abs(weak - strong).max() > 0.1
    both = views({"weak": image, "strong": image[::-1]})
    np.testing.assert_array_equal(both[0], weak)
    assert np.abs(both[1] - strong).max() > 0.1

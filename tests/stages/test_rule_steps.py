"""Every pseudo-label rule in the real step: it costs no more, counts updates, and is idle where it teaches nothing."""

import dataclasses

import jax
import numpy as np
import pytest

from semivit_jax.plan import ImageCounts
from semivit_jax.stages import semi
from semivit_jax.stages.rules import written
from tests.compiled import quick_jit
from tests.stages import small
from tests.stages.rules import EVERY_RULE, banked, needs_of, random_logits
from tests.stages.test_semi import CONFIDENT

pytestmark = [pytest.mark.usefixtures("float64"), pytest.mark.xdist_group("stages")]  # programs are shared

BY_DEFAULT = "tempered(aligned(flex))"  # it needs ids, and has a state within a state
RULES_HERE = [pytest.param(*row, id=name, marks=() if name == BY_DEFAULT else pytest.mark.slow)
              for name, row in EVERY_RULE.items()]  # fmt: skip
PARAMETRISED = pytest.mark.parametrize(("text", "keys"), RULES_HERE)


def changes_of(text, keys):
    file = {"bank": "some.bank"} if text == "bank" else {}
    unmixed = {"pseudo_mixup": "none"} if "fairness" in keys else {}
    of_rule = {name if name == "outliers" else f"rule.{name}": value for name, value in keys.items()}
    return {"pseudo_label_rule": text, **file, **unmixed, **of_rule}


def state_of(changes):
    section = small.stage_config("semi", **changes).stage("semi")
    rule = semi.make_rule(section, small.stage_plan("semi"))
    return small.initial_state("semi", teacher_scale=CONFIDENT).replace(policy_state=rule.init())


def batch_of():
    """With all that a rule may need."""
    batch = small.semi_batch()
    batch["labeled"]["weak"] = small.images(6, small.BATCH)
    images = small.BATCH * small.RATIO
    batch["unlabeled"]["image_id"] = np.arange(images, dtype=np.int32)[::-1].copy()
    found = banked(random_logits(rows=images, classes=10))
    batch["unlabeled"] |= {"bank_class": np.asarray(found.classes, np.int32), "bank_prob": np.asarray(found.probs)}
    return batch


def flops(changes):
    """XLA's count of the lowered step."""
    step = small.compiled_step("semi", **changes)
    return step.lower(state_of(changes), small.micro(batch_of()), small.key()).cost_analysis()["flops"]


@pytest.mark.parametrize(("text", "keys"), [p for p in RULES_HERE if {"teacher"} == needs_of(
    *p.values) - {"image_id"}])  # fmt: skip
def test_a_rule_that_needs_the_teacher_alone_costs_no_more_than_the_fixed_one(text, keys):
    assert flops(changes_of(text, keys)) == pytest.approx(flops({}), rel=0.01)


@pytest.mark.parametrize(("text", "keys"), [p for p in RULES_HERE if "fairness" not in p.values[1]])  # refused
def test_four_micro_steps_equal_one(text, keys):
    changes = changes_of(text, keys)
    one, found = small.compiled_step("semi", **changes)(state_of(changes), small.micro(batch_of()), small.key())
    four, found_four = small.compiled_step("semi", accum=4, **changes)(
        state_of(changes), small.micro(batch_of(), 4), small.key()
    )
    small.assert_close(four.policy_state, one.policy_state)
    small.assert_close(four.params, one.params)
    told = [name for name in found if name in ("mean_weight", "class_kept_min") or name.startswith("threshold")]
    small.assert_close([found_four[name] for name in told], [found[name] for name in told])


@pytest.mark.slow  # by default: the loss is a sum with that factor, tests/stages/test_semi.py
@pytest.mark.parametrize(("text", "keys"), [p for p in RULES_HERE if not written.adjusts_labeled(p.values[0])])
def test_a_rule_is_idle_where_unlabeled_images_have_no_weight(text, keys):
    changes = {**changes_of(text, keys), "unlabeled_weight": 0.0}
    after, _ = small.compiled_step("semi", **changes)(state_of(changes), small.micro(batch_of()), small.key())
    plain, _ = small.compiled_step("semi", unlabeled_weight=0.0)(state_of({}), small.micro(batch_of()), small.key())
    small.assert_close(after.params, plain.params)
    assert jax.tree.structure(after.policy_state) == jax.tree.structure(state_of(changes).policy_state)


@pytest.mark.slow  # as above
def test_simpro_without_unlabeled_images_adjusts_the_labeled_ones_alone():
    """By the shares that they have: the logit-adjusted loss."""
    counts = ImageCounts(135, 55, 80, tuple(range(1, 11)))
    plan = dataclasses.replace(small.stage_plan("semi"), counts=counts)
    after = []
    for changes in ({"pseudo_label_rule": "simpro"}, {"labeled_loss": "logit_adjusted"}):
        config = small.stage_config("semi", unlabeled_weight=0.0, **changes)
        stage = semi.make(config, plan, backend="cpu")
        rule = semi.make_rule(config.stage("semi"), plan)
        state = small.initial_state("semi", **changes).replace(policy_state=rule.init())
        after.append(quick_jit(stage.train_step)(state, small.micro(batch_of()), small.key())[0].params)
    small.assert_close(*after)
    assert small.largest_change(after[0], small.initial_state("semi").params) > 0

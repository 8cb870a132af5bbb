"""Bytes of the state, and the roofline."""

import dataclasses
import math

import jax
import pytest

from benchmarks import plan_convnext, plan_ideas, plan_table
from semivit_jax.config import ConfigError
from semivit_jax.configs import imagenet_mae, imagenet_semi
from semivit_jax.preflight import estimate, flops, memory, step
from semivit_jax.preflight.batch import image_counts, with_legal_batch
from semivit_jax.preflight.chips import CHIPS, GIB
from semivit_jax.preflight.search import Setting
from semivit_jax.recipes.check import check
from semivit_jax.recipes.planning import make_plan
from tests.configs import counts_of

IMAGENET = counts_of(1_281_167, 12_811, 1_268_356, 1_000)


def published(stage, *, devices=8, model="vit_b16", **changes):
    recipe = imagenet_mae if stage == "mae" else imagenet_semi
    raw = recipe.get_config(f"model={model}")
    raw.update_from_flattened_dict(changes)
    config = check(raw)
    return config, make_plan(config, stage, IMAGENET, num_devices=devices, stored_group_size=None)


def test_state_bytes_are_those_of_the_arrays():
    config, plan = published("semi")
    state = step.describe_state(config, plan)
    found = memory.state_bytes(state)
    assert found.params == found.total_params == 4 * sum(math.prod(x.shape) for x in jax.tree.leaves(state.params))
    assert found.params == 4 * 86_567_656  # ViT-B/16 with 1,000 classes
    assert found.ema_params == found.params
    assert found.optimizer == pytest.approx(2 * found.params, abs=16)
    assert found.total == pytest.approx(4 * found.params, abs=16)  # weights, average, two moments


def test_sharding_divides_the_state_but_for_small_arrays():
    config, plan = published("semi", **{"mesh.fsdp": 8})
    found = memory.state_bytes(step.describe_state(config, plan))
    assert found.total_params / 8 < found.params < found.total_params / 8 * 1.01


def test_fsdp_must_divide_the_devices():
    config, plan = published("semi", **{"mesh.fsdp": 3})
    with pytest.raises(ConfigError, match="fsdp is 3"):
        step.describe_state(config, plan)


def test_mae_keeps_no_average():
    config, plan = published("mae")
    assert memory.state_bytes(step.describe_state(config, plan)).ema_params == 0


def compiled_rows():
    """The table of docs/scaling.md: for every case, the temporaries that the TPU compiler reported."""
    return [
        pytest.param(case, row, id="-".join(dataclasses.astuple(case)))
        for case, row in plan_table.read_rows(plan_table.RESULTS).items()
    ]


@pytest.mark.parametrize(("case", "row"), compiled_rows())
def test_estimated_temporaries_are_near_the_compilers(case, row):
    """Within 15 %; MAE, which is laid out in more ways, within 25 %, and 40 % where gradients are summed."""
    config = Setting(row["remat"], row["fsdp"], row["images_per_device"]).applied_to(plan_table.load_config(case))
    config, _ = with_legal_batch(config, case.stage, row["devices"])
    counts = image_counts(config, plan_table.WORKED_OUT)
    plan = make_plan(config, case.stage, counts, num_devices=row["devices"], stored_group_size=None)
    assert plan.accum == row["micro_steps"]
    found = memory.estimated_temporaries(config, plan, memory.state_bytes(step.describe_state(config, plan)))
    tolerance = 0.15 if case.stage != "mae" else 0.25 if plan.accum == 1 else 0.40
    assert row["memory"]["source"] == "compiler"
    assert found == pytest.approx(row["memory"]["activations"], rel=tolerance)


@pytest.mark.parametrize(
    ("row", "case", "remat"),
    [pytest.param(row, *key, id=f"{key[0].model}-{key[0].stage}-{key[1]}")
     for key, row in plan_convnext.read_rows(plan_convnext.RESULTS).items()],
)  # fmt: skip
def test_estimated_temporaries_of_convnext_are_near_the_compilers(row, case, remat):
    """As near as a ViT's, but where everything is computed again: there it is half as much again too high."""
    config, plan = plan_convnext.planned(case, remat)
    found = memory.estimated_temporaries(config, plan, memory.state_bytes(step.describe_state(config, plan)))
    low, high = (0.85, 1.15) if remat == "none" else (1.0, 1.6)
    assert low < found / row["temporary_bytes"] < high


# The same step with each policy, as the TPU compiler reported it (benchmarks/results/plan_ideas.jsonl).
@pytest.mark.parametrize("change", ["as it is", "remat=dots", "remat=full"])
def test_what_rematerialisation_leaves_is_near_the_compilers(change):
    row = plan_ideas.read_rows(plan_ideas.RESULTS)["vit_b16", "semi", "v5e:4x4", change]
    config, plan = published(
        "semi", devices=16, **{"model.remat": change.removeprefix("remat=").replace("as it is", "none")}
    )
    state = memory.state_bytes(step.describe_state(config, plan))
    assert memory.estimated_temporaries(config, plan, state) == pytest.approx(row["temporary_bytes"], rel=0.15)


def estimated(stage="semi", devices=8, sent_bytes=1e9, **changes):
    config, plan = published(stage, devices=devices, **changes)
    state = memory.state_bytes(step.describe_state(config, plan))
    return plan, estimate.roofline(config, plan, CHIPS["H100"], state, sent_bytes=sent_bytes)


def test_the_slowest_of_three_decides():
    plan, found = estimated(sent_bytes=1e12)
    assert (found.bound_by, found.step_seconds) == ("links", 1e12 / 450e9)
    assert found.step_seconds_serial > found.step_seconds
    assert found.images_per_second == pytest.approx(128 * 6 / found.step_seconds)
    assert found.hours == pytest.approx(plan.total_steps * found.step_seconds / 3600)


def test_arithmetic_is_counted_once_and_shared_by_all_devices():
    config, plan = published("semi")
    _, found = estimated()
    assert found.compute_seconds == pytest.approx(flops.per_update(config, plan).total / 8 / 989e12)


def test_full_rematerialisation_adds_the_students_forward_pass():
    config, plan = published("semi", **{"model.remat": "full"})
    student_images = 128 * 6
    again = estimate.executed_flops(config, plan) - flops.per_update(config, plan).total
    forward = flops.passes(config, plan)[0].cost.flops.forward
    assert again == pytest.approx(student_images * forward, rel=0.01)


def test_bytes_sent_stay_bounded_as_devices_grow():
    sent = []
    for devices in (8, 64, 1024):
        config, plan = published("mae", devices=devices, **{"mae.batch_size": 64 * devices})
        state = memory.state_bytes(step.describe_state(config, plan))
        sent.append(estimate.expected_sent_bytes(config, plan, state))
    limit = 2 * state.total_params / 2  # a ring sends everything less than twice, in bfloat16
    assert sent == sorted(sent)
    assert sent[-1] < limit < sent[0] * 8 / 7 * 1.001


def test_sharding_sends_no_more_than_gathers_and_sums():
    plain, shared = (
        estimate.expected_sent_bytes(config, plan, memory.state_bytes(step.describe_state(config, plan)))
        for config, plan in (published("semi"), published("semi", **{"mesh.fsdp": 8}))
    )
    assert plain < shared < 3 * plain
    assert shared < 2 * GIB

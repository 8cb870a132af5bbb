"""What `semivit plan` says of a stage that trains a part."""

import pytest

from semivit_jax.preflight import estimate, memory, show, step
from semivit_jax.preflight.answer import plan_one
from semivit_jax.preflight.topology import parse
from tests.preflight.test_estimate import IMAGENET, published

HEAD = 4 * (768 * 1000 + 1000)
BLOCK = 4 * (12 * 768 * 768 + 13 * 768)  # a block of ViT-B: kernels, their biases, two norms
TRAINED = {
    "head": HEAD,
    "last_2": HEAD + 2 * BLOCK + 4 * 2 * 768,
    "lora": HEAD + 4 * 12 * 8 * (768 + 3 * 768 + 768 + 768),
}


@pytest.mark.parametrize("tune", TRAINED)
def test_the_state_is_what_is_trained_and_one_copy_of_the_rest(tune):
    (config, plan), (whole, _) = published("semi", **{"model.tune": tune}), published("semi")
    found = memory.state_bytes(step.describe_state(config, plan))
    every = memory.state_bytes(step.describe_state(whole, plan))
    assert found.params == found.ema_params == found.total_trained == TRAINED[tune]
    assert found.optimizer == pytest.approx(2 * TRAINED[tune], abs=16)
    assert found.frozen + (0 if tune == "lora" else found.params) == every.params - (HEAD if tune == "lora" else 0)
    assert memory.estimated_temporaries(config, plan, found) < memory.estimated_temporaries(whole, plan, every)
    assert estimate.executed_flops(config, plan) < estimate.executed_flops(whole, plan)
    assert estimate.moved_bytes(config, plan, found) < estimate.moved_bytes(whole, plan, every)


def test_a_plan_tells_what_is_trained_and_what_it_saves():
    config, _ = published("semi", **{"model.tune": "last_2"})
    answer = plan_one(
        config, "semi", parse("gpu:8xH100", slices=1), IMAGENET, devices=None, note="no compiler", tries=0
    )
    rows = dict(show.rows(answer))
    trained, frozen = TRAINED["last_2"], answer.memory.frozen
    assert rows["trained"] == (
        f"{trained // 4:,} parameters, {frozen // 4:,} are frozen: {4 * frozen / 2**30:.2f} GiB less of gradients, "
        "moments and average than if all were trained"
    )
    assert "frozen" in rows


def test_a_plan_of_all_tells_nothing_of_it():
    config, _ = published("semi")
    answer = plan_one(
        config, "semi", parse("gpu:8xH100", slices=1), IMAGENET, devices=None, note="no compiler", tries=0
    )
    assert not {"trained", "frozen"} & dict(show.rows(answer)).keys()

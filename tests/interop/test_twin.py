"""The PyTorch twin does the same work: same losses as ours from the same float32 inputs, draws and weights."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import cases
from semivit_jax.models.vit import VIT_SIZES
from semivit_jax.ops.mixup import GroupDraw, ProbDraw
from semivit_jax.stages import semi, state
from semivit_jax.stages.stage import ImageDraws
from tests.compiled import quick_jit
from tests.parity import recorded

pytestmark = pytest.mark.interop

STEPS = 3
CASE = dataclasses.replace(cases.tiny("semi"), batch=4)
GROUPS, SIZE = 2, 2  # labeled images mix in pairs


def config():
    whole = cases.config_of(CASE)
    section = dataclasses.replace(
        whole.stage("semi"), erase_prob=0.0, drop_path_rate=0.0, lr_rule="absolute", base_lr=1e-3, min_lr=1e-3,
        warmup_epochs=0.0, confidence_threshold=0.3, ema_decay=0.9, mixup_group_size=SIZE,
    )  # fmt: skip
    model = dataclasses.replace(whole.model, head_init_std=0.3)  # spreads the confidences around the threshold
    return dataclasses.replace(whole.with_stage("semi", section), model=model)


def random_inputs(generator):
    """One step's images (normalised floats), labels and draws, as numpy."""

    def images(rows):
        return generator.standard_normal((rows, 32, 32, 3)).astype(np.float32)

    unlabeled, strong_size = CASE.unlabeled, SIZE * cases.UNLABELED_RATIO
    arrays = {
        "labeled": images(CASE.batch), "label": generator.integers(0, 10, CASE.batch),
        "weak": images(unlabeled), "strong": images(unlabeled),
    }  # fmt: skip
    draws = {
        "labeled_lambda": generator.uniform(0.2, 0.8, GROUPS).astype(np.float32),
        "labeled_cutmix": np.asarray([True, False]),
        "labeled_center": generator.integers(0, 32, (GROUPS, 2)),
        "partner": np.stack([generator.permutation(strong_size) for _ in range(GROUPS)]),
        "cutmix": generator.random((GROUPS, strong_size)) < 0.5,
        "center": generator.integers(0, 32, (GROUPS, strong_size, 2)),
    }
    return arrays, draws


@pytest.fixture(scope="module")
def ours():
    """(parameters at the start, inputs of every step, our metrics of every step)."""
    whole = config()
    plan = cases.plan_of(whole, CASE, num_devices=1)
    model, optimizer, update = semi.make_update(whole, plan, backend="cpu")
    params = model.init(jax.random.key(0))
    generator = np.random.default_rng(0)
    inputs = [random_inputs(generator) for _ in range(STEPS)]
    train_state, step, logged = state.create(params, optimizer, keep_ema=True), quick_jit(update), []
    for arrays, drawn in inputs:
        rows = jax.tree.map(lambda x: jnp.asarray(x)[None], {"arrays": arrays, "draws": drawn})
        arrays, drawn, none = rows["arrays"], rows["draws"], ImageDraws()
        batch = {
            "labeled": {"image": arrays["labeled"], "label": arrays["label"]},
            "unlabeled": {"weak": arrays["weak"], "strong": arrays["strong"], "label": -jnp.ones((1, 20), int)},
        }
        labeled_mix = GroupDraw(drawn["labeled_lambda"], drawn["labeled_cutmix"], drawn["labeled_center"])
        pseudo_mix = ProbDraw(drawn["partner"], drawn["cutmix"], drawn["center"])
        draws = semi.SemiDraws(none, none, none, labeled_mix, pseudo_mix)
        train_state, found = step(train_state, batch, draws)
        logged.append({k: float(np.sum(m.total) / np.sum(m.count)) for k, m in found.items()})
    return params, inputs, logged


@pytest.mark.parametrize("kind", ["as_usual", "tuned"])
def test_losses_of_three_steps_agree(kind, ours):
    torch = pytest.importorskip("torch")
    pytest.importorskip("timm")
    from benchmarks import torch_twin

    params, inputs, logged = ours
    section = config().stage("semi")
    settings = torch_twin.Settings(
        **{name: getattr(section, name) for name in ("label_smoothing", "confidence_threshold", "unlabeled_weight",
           "ema_decay", "betas", "eps", "weight_decay", "layer_decay")},
        num_classes=10, lr=section.base_lr, mean=(0.0,) * 3, std=(1.0,) * 3, amp_dtype=None,
    )  # fmt: skip
    model = torch_twin.make_model(VIT_SIZES[CASE.model], image_size=32, num_classes=10, drop_path_rate=0.0)
    named = {name: torch.from_numpy(np.array(value)) for name, value in recorded.unbuild(params).items()}
    model.load_state_dict(named, strict=True)
    if kind == "as_usual":
        twin = torch_twin.AsUsual(model, settings, "cpu")
    else:
        twin = torch_twin.Tuned(model, settings, "cpu", compiled=False)
    masks = set()
    for (arrays, drawn), want in zip(inputs, logged, strict=True):
        batch = torch_twin.Batch(**{k: torch.from_numpy(v) for k, v in arrays.items()})
        got = twin.step(batch, torch_twin.Draws(**drawn))
        for name in ("loss", "loss_labeled", "loss_unlabeled", "mask_rate"):
            assert float(got[name]) == pytest.approx(want[name], rel=1e-4, abs=1e-6), name
        masks.add(float(got["mask_rate"]))
    assert masks - {0.0, 1.0}  # the threshold decided something

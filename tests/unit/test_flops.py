"""Counted model FLOPs: against XLA's own count of the compiled step, and against published totals."""

import dataclasses

import pytest

from benchmarks import cases, parts
from benchmarks.measure import describe, shapes_of
from semivit_jax.config import ConfigError
from semivit_jax.models import families, vit
from semivit_jax.models.vit import ViTSize
from semivit_jax.preflight import flops
from tests.compiled import QUICK
from tests.models import spec_of

# Wide, shallow and short: what is no matrix product weighs little, and it compiles in seconds.
WIDE = ViTSize(patch_size=16, width=768, depth=2, num_heads=12, mlp_dim=3072)
BATCHES = {"mae": 64, "finetune": 16, "semi": 4}  # enough rows that the optimizer weighs little too


@pytest.fixture
def wide(monkeypatch):
    monkeypatch.setitem(vit.VIT_SIZES, "vit_wide", WIDE)
    monkeypatch.setitem(cases.TINY_DECODER, "decoder_width", 512)


def image_of(variant, **changes):
    found = families.cost(spec_of(variant, **changes))
    assert found is not None
    return found.flops


def wide_case(stage):
    return cases.Case("vit_wide", stage, BATCHES[stage], 96, num_classes=100, dtype="float32", unroll=2)


SLOW = pytest.mark.slow  # a minute of compilation each; MAE, with encoder and decoder, stays


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("stage", ["mae", pytest.param("finetune", marks=SLOW), pytest.param("semi", marks=SLOW)])
def test_count_agrees_with_xla_on_the_unrolled_step(stage):
    compiled, inputs = describe(wide_case(stage))
    cost = compiled.train_step.lower(*inputs).compile(compiler_options=QUICK).cost_analysis()
    counted = flops.per_update(cases.config_of(wide_case(stage)), compiled.plan).total
    assert cost["flops"] == pytest.approx(counted, rel=0.02)


@pytest.mark.usefixtures("wide")
def test_parts_of_the_semi_step_leave_out_what_they_say():
    """Each reduced program lacks exactly the products of the part it leaves out."""
    case = wide_case("semi")

    def cost(name):
        compiled, reduced = parts.program(case, name)
        return reduced.lower(*shapes_of(compiled, case)).compile(compiler_options=QUICK).cost_analysis()["flops"]

    rows = case.labeled + case.unlabeled
    image = image_of("vit_wide", image_size=case.image_size, num_classes=case.num_classes)
    no_backward, no_mixing, no_teacher = (cost(n) for n in ("no backward", "no mixing", "no teacher"))
    assert no_teacher == pytest.approx(rows * image.forward, rel=0.02)
    assert no_mixing - no_teacher == pytest.approx(case.unlabeled * image.forward, rel=0.02)
    assert 0 < no_backward - no_mixing < 0.02 * no_mixing  # mixing and erasing multiply no matrices


def test_vit_b16_forward_is_the_published_count():
    # 17.6 GFLOPs as multiply-adds counted once (Touvron et al. 2021, table 5: 17.6 for DeiT-B).
    image = image_of("vit_b16", image_size=224, num_classes=1000)
    assert image.forward / 2 == pytest.approx(17.6e9, rel=0.01)


def test_semi_step_adds_one_teacher_forward_per_unlabeled_image():
    case = cases.full("vit_b16", "semi", 8)
    config = cases.config_of(case)
    image = image_of("vit_b16", image_size=224, num_classes=1000)
    update = flops.per_update(config, cases.plan_of(config, case, num_devices=1))
    assert update.total == 8 * image.total + 40 * (image.total + image.forward)
    assert update.backward == 48 * image.backward


@pytest.mark.parametrize(
    ("variant", "published"),
    [("convnext_tiny", 4.5e9), ("convnext_small", 8.7e9), ("convnext_base", 15.4e9), ("convnext_large", 34.4e9)],
)
def test_convnext_forward_is_the_published_count(variant, published):
    """Multiply-adds, to the digits of the paper's table 1 (Liu et al. 2022)."""
    image = image_of(variant, image_size=224, num_classes=1000)
    assert round(image.forward / 2 / 1e8) == round(published / 1e8)
    stem = 2 * 56**2 * 48 * families.of(variant).sizes[variant].widths[0]
    assert image.backward == 2 * image.forward - stem


def test_a_model_without_a_count_is_refused(monkeypatch):
    case = cases.tiny("finetune")
    config, plan = cases.config_of(case), cases.plan_of(cases.config_of(case), case, num_devices=1)
    model = dataclasses.replace(config.model, variant="convnext_tiny")
    monkeypatch.setitem(families.FAMILIES, "convnext", dataclasses.replace(families.of("convnext_tiny"), cost=None))
    with pytest.raises(ConfigError, match=r"config.model.variant is 'convnext_tiny'"):
        flops.per_update(dataclasses.replace(config, model=model), plan)

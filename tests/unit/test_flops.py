"""Counted model FLOPs: against XLA's own count of the compiled step, and against published totals."""

import jax
import pytest

from benchmarks import cases
from benchmarks.measure import describe
from semivit_jax import flops
from semivit_jax.models import variants
from semivit_jax.models.variants import VIT_SIZES, ViTSize

# Wide, shallow and short: what is no matrix product weighs little, and it compiles in seconds.
WIDE = ViTSize(patch_size=16, width=1024, depth=2, num_heads=8, mlp_dim=4096)


@pytest.fixture
def wide(monkeypatch):
    monkeypatch.setitem(variants.VIT_SIZES, "vit_wide", WIDE)
    monkeypatch.setitem(cases.TINY_DECODER, "decoder_width", 512)


@pytest.mark.parametrize("stage", ["mae", "finetune", "semi"])
def test_count_agrees_with_xla_on_the_unrolled_step(stage, wide):
    case = cases.Case("vit_wide", stage, 4, image_size=96, num_classes=100, dtype="float32", unroll=2)
    compiled, inputs = describe(case)
    cost = compiled.train_step.lower(*inputs).compile().cost_analysis()
    counted = flops.per_update(cases.config_of(case), compiled.plan).total
    assert cost["flops"] == pytest.approx(counted, rel=0.02)


def test_vit_b16_forward_is_the_published_count():
    # 17.6 GFLOPs as multiply-adds counted once (Touvron et al. 2021, table 5: 17.6 for DeiT-B).
    image = flops.classifier(VIT_SIZES["vit_b16"], image_size=224, num_classes=1000)
    assert image.forward / 2 == pytest.approx(17.6e9, rel=0.01)


def test_semi_step_adds_one_teacher_forward_per_unlabeled_image():
    case = cases.full("vit_b16", "semi", 8)
    config = cases.config_of(case)
    image = flops.classifier(VIT_SIZES["vit_b16"], image_size=224, num_classes=1000)
    update = flops.per_update(config, cases.plan_of(config, case, num_devices=1))
    assert update.total == 8 * image.total + 40 * (image.total + image.forward)
    assert jax.tree.leaves(update.backward) == [48 * image.backward]

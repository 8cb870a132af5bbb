"""Twenty recorded optimizer steps of every stage, through the stage's own update."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semivit_jax.ops.mixup import GroupDraw, ProbDraw
from semivit_jax.stages import finetune, mae, semi, state
from semivit_jax.stages.stage import ImageDraws
from tests.compiled import quick_jit
from tests.configs import small_config, small_plan
from tests.parity import recorded

TOLERANCE = {np.float64: 1e-10, np.float32: 1e-5}
GRAD_NORM_TOLERANCE = {np.float64: 1e-10, np.float32: 2e-6}  # where an error of the bias correction shows most
SIDE = 32


# By default the other variants hold what these do: clipping and accumulation in accum2 and C, steps without mixing.
SLOW = ("clip_on", "betas95", "B", "norm_pix_accum2")


def in_precisions(variants):
    """Each variant in float64, and in float32, whose bound is far wider: by default that of one semi step alone."""
    cases = []
    for variant in variants:
        for dtype in (np.float64, np.float32):
            slow = variant in SLOW or (dtype == np.float32 and variant != "A")
            marks = [pytest.mark.slow] if slow else []
            cases.append(pytest.param(variant, dtype, id=f"{variant}-{dtype.__name__}", marks=marks))
    return pytest.mark.parametrize(("variant", "dtype"), cases)


def group_draw(lam, use_cutmix, box):
    """A draw that leads to the recorded, already corrected lambda and box."""
    if not use_cutmix:
        return GroupDraw(np.asarray([lam]), np.asarray([False]), np.zeros((1, 2), np.int32))
    y_low, y_high, x_low, x_high = (int(v) for v in box)
    half = max((y_high - y_low + 1) // 2, (x_high - x_low + 1) // 2)
    lam = 1 - ((2 * half + 0.5) / SIDE) ** 2
    center = recorded.box_center(box, half, half)
    return GroupDraw(np.asarray([lam]), np.asarray([True]), np.asarray([center], np.int32))


def prob_draw(data, variant, s):
    lam = data[f"{variant}_u_lam_before_f64"][s]
    use_cutmix = data[f"{variant}_u_cutmix"][s]
    centers = recorded.box_centers(data[f"{variant}_u_bbox"][s], lam, use_cutmix, SIDE)
    return ProbDraw(data[f"{variant}_u_perm"][s][None], use_cutmix[None], centers[None])


def stacked(items, dtype):
    """Micro-steps along a leading axis, floats in the run's precision."""

    def stack(*leaves):
        array = np.stack(leaves)
        return jnp.asarray(array.astype(dtype) if array.dtype.kind == "f" else array)

    return jax.tree.map(stack, *items)


def per_iteration(found, key):
    total, count = (np.asarray(v, np.float64) for v in found[key])
    return total / np.where(count == 0, 1, count)


def run(data, variant, *, accum, make, batch_at, draws_at, params, keep_ema, dtype):
    """Replays the trajectory; returns the final state and {metric: value per iteration or update}."""
    _, optimizer, update = make
    train_state = quick_jit(lambda p: state.create(p, optimizer, keep_ema=keep_ema))(params)
    step = quick_jit(update)
    logged = {}

    def log(key, values):
        logged.setdefault(key, []).extend(np.ravel(values))

    for first in range(0, 20, accum):
        iterations = range(first, first + accum)
        batch = stacked([batch_at(s) for s in iterations], dtype)
        train_state, found = step(train_state, batch, stacked([draws_at(s) for s in iterations], dtype))
        for key in found:
            log(key, per_iteration(found, key))
        for name, tree in (("param", train_state.params), ("ema", train_state.ema_params)):
            leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tree)]
            log(f"{name}_sum", sum(leaf.sum() for leaf in leaves))
            log(f"{name}_sumsq", sum((leaf**2).sum() for leaf in leaves))
    return train_state, {k: np.asarray(v) for k, v in logged.items()}


def compare(data, variant, logged, names, *, accum, dtype):
    for ours, theirs in names.items():
        rtol = (GRAD_NORM_TOLERANCE if ours == "grad_norm" else TOLERANCE)[dtype]
        want, got = data[f"{variant}_{theirs}_f64"], logged[ours]
        if len(got) < len(want):  # logged per update here, per iteration there
            want = want[accum - 1 :: accum] if theirs != "lr" else want[::accum]
        # Metrics recorded after rounding to float32 carry 1e-7; sums of parameters cancel.
        rounded = theirs in ("mask", "class_acc_u", "pseudo_acc", "pseudo_recall")
        atol = 2e-3 * rtol * np.abs(want).max() + (1e-7 if rounded else 0)
        if theirs.endswith("_sum"):
            atol = rtol * np.sqrt(data[f"{variant}_{theirs}sq_f64"].max())
        np.testing.assert_allclose(got, want, rtol=rtol, atol=atol, err_msg=f"{variant} {ours}")


def compare_final(data, prefix, tree, dtype):
    named = recorded.unbuild(tree)
    for name, value in named.items():
        want = data[f"{prefix}/{name}"]
        atol = TOLERANCE[dtype] * max(1.0, np.abs(want).max())  # Adam inflates near-zero gradients
        if name.endswith("attn.qkv.bias"):  # the key part has no gradient but rounding noise
            third = len(value) // 3
            np.testing.assert_allclose(value[third : 2 * third], want[third : 2 * third], atol=5e-5)
            value, want = (
                np.delete(value, np.s_[third : 2 * third]),
                np.delete(want, np.s_[third : 2 * third]),
            )
        np.testing.assert_allclose(value, want, rtol=0, atol=atol, err_msg=name)


def vit_params(dtype, pool, head_scale, model):
    data = recorded.load("vit_tiny")
    mode = {"mean": "gap", "cls": "cls"}[pool]
    names = (data[f"{mode}_{k}"] for k in ("param_names", "param_shapes", "one_plus"))
    weights = recorded.named_formula(*names, np.float32)
    head = recorded.formula_float64("head.weight", weights["head.weight"].shape) * head_scale
    weights["head.weight"] = head.astype(np.float32)
    template = jax.eval_shape(model.init, jax.random.key(0))
    return recorded.build({k: v.astype(dtype) for k, v in weights.items()}, template)


def supervised(stage, **changes):
    shared = {"data.image_size": 32, "model.variant": "vit_test", f"{stage}.epochs": 2.0,
              f"{stage}.warmup_epochs": 1.0, f"{stage}.min_lr": 1e-6, f"{stage}.layer_decay": 0.75,
              f"{stage}.ema_decay": 0.99}  # fmt: skip
    return small_config(**shared, **changes)


FINETUNE = {
    "clip_off": {},
    "clip_on": {"finetune.clip_norm": 0.5},
    "nomix_cls": {"finetune.labeled_mixup": False, "model.pool": "cls"},
    "accum2": {"finetune.clip_norm": 0.5},
    "betas95": {"finetune.labeled_mixup": False, "finetune.betas": (0.9, 0.95)},
}


@in_precisions(FINETUNE)
def test_finetune(variant, dtype):
    accum = 2 if variant == "accum2" else 1
    with jax.enable_x64(dtype == np.float64):
        data, config = recorded.load("finetune_trajectory"), supervised("finetune", **FINETUNE[variant])
        plan = small_plan("finetune", batch_size=16 * accum, group_size=16, accum=accum, recipe_accum=accum,
                          steps_per_epoch=10 // accum)  # fmt: skip
        make = finetune.make_update(config, plan, backend="cpu")
        mixes = config.stage("finetune").labeled_mixup

        def draws_at(s):
            keys = ("x_lam_f64", "x_cutmix", "x_bbox")
            mix = group_draw(*(data[f"{variant}_{k}"][s] for k in keys)) if mixes else None
            return finetune.FinetuneDraws(ImageDraws(), mix)

        final, logged = run(
            data,
            variant,
            accum=accum,
            make=make,
            batch_at=lambda s: {"image": recorded.images(data["x_q"][s], dtype), "label": data["labels"][s]},
            draws_at=draws_at,
            params=vit_params(dtype, config.model.pool, 1.0, make[0]),
            keep_ema=True,
            dtype=dtype,
        )
        names = {k: k for k in ("loss", "lr", "grad_norm", "param_sum", "param_sumsq", "ema_sum", "ema_sumsq")}
        compare(data, variant, logged, names, accum=accum, dtype=dtype)
        if variant == "clip_off":
            compare_final(data, "clip_off_final_f64", final.params, dtype)


SEMI = {
    "A": {"semi.pseudo_mixup": "prob", "semi.labeled_mixup": True},
    "B": {"semi.pseudo_mixup": "none", "semi.labeled_mixup": False},
    "C": {"semi.pseudo_mixup": "prob", "semi.labeled_mixup": False, "semi.clip_norm": 1.0},
    "D": {"semi.pseudo_mixup": "mixup", "semi.labeled_mixup": True, "semi.teacher": "student"},
}


@in_precisions(SEMI)
def test_semi(variant, dtype):
    accum = 2 if variant == "C" else 1
    with jax.enable_x64(dtype == np.float64):
        data = recorded.load("semi_trajectory")
        config = supervised("semi", **SEMI[variant], **{"semi.confidence_threshold": 0.3})
        plan = small_plan("semi", batch_size=4 * accum, accum=accum, recipe_accum=accum, steps_per_epoch=10 // accum)
        make = semi.make_update(config, plan, backend="cpu")

        def batch_at(s):
            cycled = (s % 10) % 4
            labeled = {
                "image": recorded.images(data["x_q"][cycled], dtype),
                "label": data["x_labels"][cycled],
            }
            views = {
                "weak": recorded.images(data["uw_q"][s], dtype),
                "strong": recorded.images(data["us_q"][s], dtype),
            }
            return {"labeled": labeled, "unlabeled": {**views, "label": data["u_labels"][s]}}

        def draws_at(s):
            none, labeled_mix, pseudo_mix = ImageDraws(), None, None
            if config.stage("semi").labeled_mixup:
                labeled_mix = group_draw(*(data[f"{variant}_{k}"][s] for k in ("x_lam_f64", "x_cutmix", "x_bbox")))
            if config.stage("semi").pseudo_mixup == "prob":
                pseudo_mix = prob_draw(data, variant, s)
            if config.stage("semi").pseudo_mixup == "mixup":
                pseudo_mix = group_draw(*(data[f"D_{k}"][s] for k in ("u_lam_after_f64", "u_cutmix", "u_bbox")))
            return semi.SemiDraws(none, none, none, labeled_mix, pseudo_mix)

        final, logged = run(
            data,
            variant,
            accum=accum,
            make=make,
            batch_at=batch_at,
            draws_at=draws_at,
            params=vit_params(dtype, "mean", 6.0, make[0]),
            keep_ema=True,
            dtype=dtype,
        )
        names = {k: k for k in ("loss", "lr", "grad_norm", "param_sum", "param_sumsq", "ema_sum", "ema_sumsq")}
        names |= {"loss_labeled": "loss_x", "loss_unlabeled": "loss_u", "mask_rate": "mask",
                  "teacher_acc": "class_acc_u", "pseudo_label_acc": "pseudo_acc",
                  "pseudo_label_recall": "pseudo_recall"}  # fmt: skip
        compare(data, variant, logged, names, accum=accum, dtype=dtype)
        if variant == "A":
            compare_final(data, "A_final_f64", final.params, dtype)
            compare_final(data, "A_ema_final_f64", final.ema_params, dtype)


@in_precisions(["norm_pix", "raw_pix", "norm_pix_accum2"])
@pytest.mark.usefixtures("recorded_tables")
def test_mae(variant, dtype):
    accum = 2 if variant.endswith("accum2") else 1
    with jax.enable_x64(dtype == np.float64):
        data, tiny = recorded.load("mae_trajectory"), recorded.load("mae_tiny")
        changes = {"data.image_size": 32, "model.variant": "vit_test2", "mae.epochs": 2.0, "mae.warmup_epochs": 1.0,
                   "mae.norm_pix_loss": variant.startswith("norm")}  # fmt: skip
        plan = small_plan("mae", batch_size=8 * accum, group_size=1, accum=accum, recipe_accum=accum,
                          steps_per_epoch=10 // accum)  # fmt: skip
        make = mae.make_update(small_config(**changes), plan, backend="cpu")
        names = (tiny[k] for k in ("param_names", "param_shapes", "one_plus"))
        template = jax.eval_shape(make[0].init, jax.random.key(0))
        params = recorded.build(recorded.named_formula(*names, dtype), template)
        final, logged = run(
            data,
            variant,
            accum=accum,
            make=make,
            batch_at=lambda s: {"image": recorded.images(data["x_q"][s], dtype)},
            draws_at=lambda s: mae.MaeDraws(ImageDraws(), data["noise"][s]),
            params=params,
            keep_ema=False,
            dtype=dtype,
        )
        names = {k: k for k in ("loss", "lr", "grad_norm", "param_sum", "param_sumsq")}
        compare(data, variant, logged, names, accum=accum, dtype=dtype)
        if variant == "norm_pix":
            compare_final(data, "norm_pix_final_f64", final.params, dtype)

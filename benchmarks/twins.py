"""Our semi step beside its PyTorch twins, alternating in one run: same shapes, same device, ratio of medians."""

import dataclasses
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks.cases import UNLABELED_RATIO, Case, config_of, plan_of, random_batch
from benchmarks.measure import WARMUP_STEPS
from semivit_jax.models.vit import VIT_SIZES
from semivit_jax.training import sharding
from semivit_jax.training.compiled import compile_stage, stage_key

NEEDED = ("torch", "timm")


@dataclasses.dataclass(frozen=True)
class TwinRatio:
    """`kind` 'as usual' (a), 'tuned' (b) or 'tuned, not compiled'; ratio above 1 means that ours is faster."""

    case: Case
    kind: str
    our_seconds: float
    twin_seconds: float
    ratio: float


def missing() -> list[str]:
    """Packages a twin needs and this machine lacks."""
    return [name for name in NEEDED if importlib.util.find_spec(name) is None]


def release_cached_memory() -> None:
    """Gives back what PyTorch keeps for later, where it has been used: jax cannot take that."""
    if torch := sys.modules.get("torch"):
        torch.cuda.empty_cache()


def compare(case: Case, kind: str, *, steps: int) -> TwinRatio:
    """Alternates single steps of both, each waited for, so that clocks and heat are shared."""
    ours, theirs = _our_step(case), _twin_step(case, kind)
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for i in range(WARMUP_STEPS + steps):
        for name, step in (("ours", ours), ("theirs", theirs)):
            started = time.perf_counter()
            step()
            if i >= WARMUP_STEPS:
                seconds[name].append(time.perf_counter() - started)
    mine, twin = (statistics.median(seconds[name]) for name in ("ours", "theirs"))
    return TwinRatio(case, kind, mine, twin, twin / mine)


def _our_step(case: Case) -> Callable[[], None]:
    config, mesh = config_of(case), sharding.make_mesh(1)
    assert config.semi is not None
    config = dataclasses.replace(config, semi=dataclasses.replace(config.semi, erase_prob=0.0))
    compiled = compile_stage(config, plan_of(config, case, num_devices=mesh.size), mesh)
    key = jax.device_put(stage_key(config, case.stage), sharding.replicated(mesh))
    batch = sharding.put(random_batch(case, 0), sharding.train_batch(mesh))
    held = [compiled.init(key)]

    def step() -> None:
        held[0], found = compiled.train_step(held[0], batch, key)
        jax.block_until_ready(found)

    return step


def _twin_step(case: Case, kind: str) -> Callable[[], None]:
    import torch

    from benchmarks import torch_twin

    section = config_of(case).semi
    assert section is not None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    amp = {"float32": None, "bfloat16": torch.bfloat16}[case.dtype]
    data = config_of(case).data
    settings = torch_twin.Settings(
        case.num_classes, section.label_smoothing, section.confidence_threshold, section.unlabeled_weight,
        section.ema_decay, section.betas, section.eps, 1e-4, section.weight_decay, section.layer_decay,
        data.mean, data.std, amp,
    )  # fmt: skip
    model = torch_twin.make_model(
        VIT_SIZES[case.model],
        image_size=case.image_size,
        num_classes=case.num_classes,
        drop_path_rate=section.drop_path_rate,
    )
    twin: Any
    if kind == "as usual":
        twin = torch_twin.AsUsual(model, settings, device)
    else:
        twin = torch_twin.Tuned(model, settings, device, compiled=kind == "tuned")
    host = random_batch(case, 0)
    rows = (host["labeled"]["image"], host["labeled"]["label"], host["unlabeled"]["weak"], host["unlabeled"]["strong"])
    tensors = [torch.from_numpy(np.ascontiguousarray(a[0])).to(device) for a in rows]
    batch = torch_twin.Batch(tensors[0], tensors[1].long(), *tensors[2:])
    generator = np.random.default_rng(0)

    def step() -> None:
        twin.step(batch, random_draws(case, section.mixup_group_size, generator))
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def random_draws(case: Case, group_size: int, generator: np.random.Generator) -> Any:
    """Fresh draws of one step, on the host as PyTorch users draw them."""
    from benchmarks import torch_twin

    groups, size, side = case.batch // group_size, group_size * UNLABELED_RATIO, case.image_size
    return torch_twin.Draws(
        labeled_lambda=generator.beta(0.8, 0.8, groups),
        labeled_cutmix=generator.random(groups) < 0.5,
        labeled_center=generator.integers(0, side, (groups, 2)),
        partner=np.stack([generator.permutation(size) for _ in range(groups)]),
        cutmix=generator.random((groups, size)) < 0.5,
        center=generator.integers(0, side, (groups, size, 2)),
    )

"""Read configs that runs have stored, also those of earlier versions."""

from collections.abc import Mapping
from typing import Any

from semivit_jax.config import Config
from semivit_jax.models.convnext import CONVNEXT_SIZES
from semivit_jax.recipes.check import check
from semivit_jax.stages import STAGES

_RULE = {  # what was before this section, or one of its keys, reads none of it
    "window": 8192.0, "start": "first", "quantile": 0.0, "clip": 1.0, "flex_warmup": True, "sigmas": 2.0,
    "cutoff": 0.5, "scale": 1.0, "every": 0, "lowest": 0.3, "highest": 0.95, "sharpening": 0.5, "prior": "labels",
    "own_target": False, "temperature": 1.0, "debias": 0.4, "simpro_tau": 1.0, "fairness": 0.0,
    "fairness_images": 4.0, "outlier_sigmas": 0.5,
}  # fmt: skip
YOUNGER: dict[str, dict[str, Any]] = {  # section -> keys that came to it later, with what held before
    "model": {
        "head_init": "random",  # there was no other
        "tune": "all", "lora_rank": 8, "lora_alpha": 16.0, "lora_matrices": "attention",  # the last three not read
        "head": "linear", "lora_kind": "low_rank", "bottleneck_scale": 0.1,  # there were no others
    },
    "data": {
        "renamed": "",  # no class had another name
        "keep_none": False,  # a class might be called -none-; what images there are the listing's hash tells
        "cache_features": 0,  # no features were kept
    },
    "train": {
        "lower_batch_to_fit": False,  # batches that images do not fill were refused
        "hang_minutes": 0.0,  # no hang was told of
    },
    "log": {"profile_at": 0, "profile_steps": 5, "report": False},  # there were no profiles, and no report
    **{stage: {"min_updates": 0} for stage in STAGES},  # there was no floor
}  # fmt: skip
_ALIKE = {
    "labeled_loss": "plain",
    "balance_beta": 0.999,
    "adjust_tau": 1.0,
    "balanced_order": False,
}  # numbers not read
YOUNGER["finetune"] = {**_ALIKE, **YOUNGER["finetune"]}
YOUNGER["semi"] = {"bank": "", "outliers": "none", **_ALIKE, **YOUNGER["semi"]}


def check_stored(raw: Mapping[str, Any]) -> Config:
    """`check` of a config that a run has stored, with what earlier versions wrote otherwise brought up to date."""
    found = dict(raw)
    for section, change in CHANGES.items():
        if isinstance(found.get(section), Mapping):  # a section that a run does not have is null
            found[section] = change(found[section])
    for section, younger in YOUNGER.items():
        if isinstance(found.get(section), Mapping):
            found[section] = {**younger, **found[section]}
    return check(found)


def _model(section: Mapping[str, Any]) -> dict[str, Any]:
    """The epsilon was null, and before that no key at all, and both meant 1e-6; ConvNeXts read neither of two keys."""
    found = {**section, "layer_norm_eps": section.get("layer_norm_eps") or 1e-6}
    if found.get("variant") in CONVNEXT_SIZES:
        found |= {"pool": "mean", "attention": "auto" if found.get("attention") == "cudnn" else found.get("attention")}
    return found


def _log(section: Mapping[str, Any]) -> dict[str, Any]:
    """Loggers were these two, the second where it was asked for."""
    writers = ("jsonl", "tensorboard") if section.get("tensorboard") else ("jsonl",)
    return {"writers": writers, **section}


def _mae(section: Mapping[str, Any]) -> dict[str, Any]:
    """Two keys were there that pre-training never read."""
    return {key: value for key, value in section.items() if key not in ("layer_decay", "drop_path_rate")}


def _semi(section: Mapping[str, Any]) -> dict[str, Any]:
    """Rules had fewer numbers, and at first none."""
    return {**section, "rule": {**_RULE, **(section.get("rule") or {})}}


CHANGES = {"model": _model, "log": _log, "mae": _mae, "semi": _semi}

"""Read configs that runs have stored, also those of earlier versions."""

from collections.abc import Mapping
from typing import Any

from semivit_jax.config import Config
from semivit_jax.models.convnext import CONVNEXT_SIZES
from semivit_jax.recipes.check import check

# With these numbers the recipes got their section semi.rule; the rule that was before it reads none of them.
_RULE = {
    "window": 8192.0, "start": "first", "quantile": 0.0, "clip": 1.0, "flex_warmup": True, "sigmas": 2.0,
    "cutoff": 0.5, "scale": 1.0, "every": 0, "lowest": 0.3, "highest": 0.95, "sharpening": 0.5, "prior": "labels",
    "own_target": False, "temperature": 1.0,
}  # fmt: skip


def check_stored(raw: Mapping[str, Any]) -> Config:
    """`check` of a config that a run has stored, with what earlier versions wrote otherwise brought up to date."""
    model = raw.get("model")
    # The epsilon was null, and before that no key at all; both meant this.
    if isinstance(model, Mapping) and model.get("layer_norm_eps") is None:
        raw = {**raw, "model": {**model, "layer_norm_eps": 1e-6}}
    model = raw.get("model")
    if isinstance(model, Mapping) and model.get("variant") in CONVNEXT_SIZES:  # which read neither
        attention = "auto" if model.get("attention") == "cudnn" else model.get("attention")
        raw = {**raw, "model": {**model, "pool": "mean", "attention": attention}}
    data = raw.get("data")
    if isinstance(data, Mapping):  # no class had another name
        raw = {**raw, "data": {"renamed": "", **data}}
    train = raw.get("train")
    if isinstance(train, Mapping):  # batches that images do not fill were refused
        raw = {**raw, "train": {"lower_batch_to_fit": False, **train}}
    semi = raw.get("semi")
    if isinstance(semi, Mapping):
        raw = {**raw, "semi": {"rule": _RULE, **semi}}
    mae = raw.get("mae")
    if isinstance(mae, Mapping):  # two keys that pre-training never read
        raw = {**raw, "mae": {k: v for k, v in mae.items() if k not in ("layer_decay", "drop_path_rate")}}
    return check(raw)

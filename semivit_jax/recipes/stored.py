"""Read configs that runs have stored, also those of earlier versions."""

from collections.abc import Mapping
from typing import Any

from semivit_jax.config import Config
from semivit_jax.models.convnext import CONVNEXT_SIZES
from semivit_jax.recipes.check import check
from semivit_jax.stages import STAGES


def check_stored(raw: Mapping[str, Any]) -> Config:
    """`check` of a config that a run has stored, with what earlier versions wrote otherwise brought up to date."""
    model = raw.get("model")
    # The epsilon was null, and before that no key at all; both meant this.
    if isinstance(model, Mapping) and model.get("layer_norm_eps") is None:
        raw = {**raw, "model": {**model, "layer_norm_eps": 1e-6}}
    model = raw.get("model")
    if isinstance(model, Mapping):  # there was no other
        raw = {**raw, "model": {"head_init": "random", **model}}
    model = raw.get("model")
    if isinstance(model, Mapping) and model.get("variant") in CONVNEXT_SIZES:  # which read neither
        attention = "auto" if model.get("attention") == "cudnn" else model.get("attention")
        raw = {**raw, "model": {**model, "pool": "mean", "attention": attention}}
    model = raw.get("model")
    if isinstance(model, Mapping):  # everything was trained
        lora = {"lora_rank": 8, "lora_alpha": 16.0, "lora_matrices": "attention"}  # not read
        raw = {**raw, "model": {"tune": "all", **lora, **model}}
    data = raw.get("data")
    if isinstance(data, Mapping):  # no class had another name
        raw = {**raw, "data": {"renamed": "", **data}}
    train = raw.get("train")
    if isinstance(train, Mapping):  # batches that images do not fill were refused, and no hang was told of
        raw = {**raw, "train": {"lower_batch_to_fit": False, "hang_minutes": 0.0, **train}}
    log = raw.get("log")
    if isinstance(log, Mapping):  # loggers were these two, the second where it was asked for; there were no profiles
        writers = ("jsonl", "tensorboard") if log.get("tensorboard") else ("jsonl",)
        raw = {**raw, "log": {"writers": writers, "profile_at": 0, "profile_steps": 5, **log}}
    mae = raw.get("mae")
    if isinstance(mae, Mapping):  # two keys that pre-training never read
        raw = {**raw, "mae": {k: v for k, v in mae.items() if k not in ("layer_decay", "drop_path_rate")}}
    for stage in STAGES:
        section = raw.get(stage)
        if isinstance(section, Mapping):  # there was no floor
            raw = {**raw, stage: {"min_updates": 0, **section}}
    return check(raw)

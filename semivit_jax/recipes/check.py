"""Check a raw config and turn it into a Config, or raise a ConfigError that names the key."""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

from semivit_jax.config import (
    POSITIVE,
    AffineViewsConfig,
    Config,
    ConfigError,
    DataConfig,
    Mark,
    ModelConfig,
    Range,
    StageConfig,
    flatten,
)
from semivit_jax.models import families, tuning
from semivit_jax.ops.optim import SCHEDULES
from semivit_jax.recipes import keys
from semivit_jax.stages import STAGES
from semivit_jax.stages.supervised import SupervisedConfig


def check(raw: Mapping[str, Any]) -> Config:
    """Converts a ConfigDict (or nested dict) to a `Config`, or raises `ConfigError` naming the key."""
    config = _build(Config, raw, "config")
    _check_values(config)
    return config


def check_keys(raw: Mapping[str, Any]) -> None:
    """Raises `ConfigError` where a key is missing, unknown or of the wrong type; values may still change."""
    _build(Config, raw, "config")


def _build(cls: type, raw: Any, path: str) -> Any:
    known = keys.of_section(cls)
    if not isinstance(raw, Mapping) and not hasattr(raw, "items"):
        raise ConfigError(f"{path} is {raw!r}; it must be a section with the keys {', '.join(known)}")
    given = dict(raw.items())
    for key in given:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ConfigError(f"unknown key {path}.{key}; {hint}legal keys: {', '.join(known)}")
    missing = [key for key in known if key not in given and not _optional(known[key].kind)]
    if missing:
        raise ConfigError(f"{path} lacks the keys {', '.join(missing)}")
    values = {key: _convert(known[key].kind, given.get(key), f"{path}.{key}") for key in known}
    if cls is Config:
        values["sections"] = {stage: values.pop(stage) for stage in STAGES}
    return cls(**values)


def _optional(kind: Any) -> bool:
    return isinstance(kind, types.UnionType) and type(None) in kind.__args__


def _convert(kind: Any, value: Any, path: str) -> Any:
    if _optional(kind):
        if value is None:
            return None
        (kind,) = (k for k in kind.__args__ if k is not type(None))
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _build(kind, value, path)
    if typing.get_origin(kind) is tuple:
        return _convert_tuple(typing.get_args(kind), value, path)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    assert isinstance(kind, type)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"{path} is {value!r}; it must be of type {kind.__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{path} is {value!r}; it must be finite")
    return value


def _convert_tuple(args: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{path} is {value!r}; it must be a tuple")
    kinds = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
    if len(kinds) != len(value):
        raise ConfigError(f"{path} is {value!r}; it must have {len(kinds)} values")
    return tuple(_convert(k, v, f"{path}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))


def _check_values(c: Config) -> None:
    """Numbers out of range, closed sets of words, and values that are legal alone but not together."""
    beside = keys.marks()
    for key, value in flatten(c).items():
        _check_marks(f"config.{key}", value, beside.get(key, ()))  # an absent section has none
    for stage in c.stages:
        _one_of("config.stages", stage, tuple(STAGES))
        if c.sections[stage] is None:
            raise ConfigError(f"config.stages names {stage!r}, but the section config.{stage} is absent")
    if not c.stages or list(c.stages) != [s for s in STAGES if s in c.stages]:
        raise ConfigError(f"config.stages is {c.stages}; it must be one or more of {tuple(STAGES)}, in this order")
    _one_of("config.model.variant", c.model.variant, families.variants())
    _check_family(c.model)
    tuning.check(c.model)
    if c.model.head == "mlp" and c.model.head_init == "probe":
        raise ConfigError(
            "config.model.head is 'mlp', and what config.model.head_init='probe' fits is linear; use head_init='random'"
        )
    _check_data(c.data)
    if c.data.cache_features:
        _check_kept_features(c)
    for stage, section in c.sections.items():
        if section is not None:
            _check_stage(stage, section)
            STAGES[stage].check(section)


def _check_marks(path: str, value: Any, marks: tuple[Any, ...]) -> None:
    """Every number of the value within its range, and every word among the legal ones."""
    for mark in marks:
        if isinstance(mark, Range):
            for number in value if isinstance(value, tuple) else (value,):
                _between(path, number, mark)
        elif not isinstance(mark, Mark):
            _one_of(path, value, tuple(mark))


def _check_family(model: ModelConfig) -> None:
    """Words that mean something to one family and nothing to another are told as its own."""
    for key, legal in families.of(model.variant).legal.items():
        value = getattr(model, key)
        known = any(value in family.legal[key] for family in families.FAMILIES.values())
        if known and value not in legal:
            choice = ", ".join(legal)
            raise ConfigError(f"config.model.{key} is {value!r}; legal values of {model.variant}: {choice}")
        _one_of(f"config.model.{key}", value, legal)


def _check_data(data: DataConfig) -> None:
    if (data.photo_views is None) == (data.affine_views is None):
        raise ConfigError("exactly one of config.data.photo_views and config.data.affine_views must be given")
    chosen = [data.labels_per_class > 0, data.label_fraction > 0, bool(data.label_list)]
    if data.dataset != "own_folder" and sum(chosen) != 1:
        raise ConfigError(
            "exactly one of config.data.labels_per_class, label_fraction and label_list must be set; got "
            f"{data.labels_per_class}, {data.label_fraction} and {data.label_list!r}"
        )
    if sum(chosen) > 1:
        raise ConfigError(
            "at most one of config.data.labels_per_class, label_fraction and label_list may be set (none: every label "
            f"is used); got {data.labels_per_class}, {data.label_fraction} and {data.label_list!r}"
        )
    if not data.eval_split and not data.validation_share:
        raise ConfigError("config.data.eval_split is empty: config.data.validation_share must then be above 0")
    for key in ("crop_scale", "mae_crop_scale"):
        if data.photo_views is not None and (scale := getattr(data.photo_views, key))[0] > scale[1]:
            raise ConfigError(f"config.data.photo_views.{key} is {scale}; the smaller share comes first")
    for view in (field.name for field in dataclasses.fields(AffineViewsConfig)):
        if data.affine_views is not None and (scale := getattr(data.affine_views, view).scale)[0] > scale[1]:
            raise ConfigError(f"config.data.affine_views.{view}.scale is {scale}; the smaller factor comes first")


def _check_kept_features(c: Config) -> None:
    """What is computed once must not change, and what has no pixels any more can be mixed by mixup alone."""
    asked = f"config.data.cache_features is {c.data.cache_features}"
    if c.model.tune != "head":
        raise ConfigError(
            f"{asked} and config.model.tune {c.model.tune!r}: with tune='head' alone, features stay the same; 0 keeps"
            " none"
        )
    for stage in c.stages:
        section = c.stage(stage)
        if isinstance(section, SupervisedConfig) and section.cutmix_alpha > 0 and not section.mixup_alpha > 0:
            raise ConfigError(f"config.{stage}.mixup_alpha is 0 and {asked}: features have no pixels for cutmix to cut")


def _check_stage(name: str, s: StageConfig) -> None:
    path = f"config.{name}"
    _one_of(f"{path}.schedule", s.schedule, tuple(SCHEDULES))
    if s.batch_size % s.accum:
        raise ConfigError(f"{path}.batch_size {s.batch_size} is not divisible by {path}.accum {s.accum}")
    if s.epochs <= 0 or not 0 <= s.warmup_epochs <= s.epochs:
        raise ConfigError(f"{path}: epochs {s.epochs} must be positive, warmup_epochs {s.warmup_epochs} within")


def _one_of(path: str, value: Any, legal: tuple[str, ...]) -> None:
    if value not in legal:
        raise ConfigError(f"{path} is {value!r}; legal values: {', '.join(legal)}")


def _between(path: str, value: float, legal: Range) -> None:
    if legal.low <= value <= legal.high:
        return
    if legal == POSITIVE:
        raise ConfigError(f"{path} is {value}; it must be above 0")
    wanted = f"at least {legal.low:g}" if math.isinf(legal.high) else f"between {legal.low} and {legal.high}"
    raise ConfigError(f"{path} is {value}; it must be {wanted}")

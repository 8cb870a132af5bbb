"""The border of a run: raw config in, `config.Config` out, or a `ConfigError` that names the key."""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

from semivit_jax.config import (
    POSITIVE,
    STAGES,
    AffineViewsConfig,
    Config,
    ConfigError,
    DataConfig,
    FinetuneConfig,
    Mark,
    ModelConfig,
    Range,
    SemiConfig,
    StageConfig,
    flatten,
)
from semivit_jax.models.convnext import CONVNEXT_SIZES
from semivit_jax.models.vit import VIT_SIZES
from semivit_jax.recipes.keys import marks
from semivit_jax.stages.pseudo_label import RULES
from semivit_jax.stages.pseudo_mixup import PSEUDO_MIXUPS


def check(raw: Mapping[str, Any]) -> Config:
    """Converts a ConfigDict (or nested dict) to a `Config`, or raises `ConfigError` naming the key."""
    config = _build(Config, raw, "config")
    _check_values(config)
    return config


def check_keys(raw: Mapping[str, Any]) -> None:
    """Raises `ConfigError` where a key is missing, unknown or of the wrong type; values may still change."""
    _build(Config, raw, "config")


def _build(cls: type, raw: Any, path: str) -> Any:
    if not isinstance(raw, Mapping) and not hasattr(raw, "items"):
        raise ConfigError(f"{path} is {raw!r}; it must be a section with the keys {_names(cls)}")
    given = dict(raw.items())
    hints = typing.get_type_hints(cls)
    for key in given:
        if key not in hints:
            close = difflib.get_close_matches(key, hints, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ConfigError(f"unknown key {path}.{key}; {hint}legal keys: {_names(cls)}")
    missing = [key for key, hint in hints.items() if key not in given and not _optional(hint)]
    if missing:
        raise ConfigError(f"{path} lacks the keys {', '.join(missing)}")
    return cls(**{key: _convert(hint, given.get(key), f"{path}.{key}") for key, hint in hints.items()})


def _names(cls: type) -> str:
    return ", ".join(field.name for field in dataclasses.fields(cls))


def _optional(hint: Any) -> bool:
    return isinstance(hint, types.UnionType) and type(None) in hint.__args__


def _convert(hint: Any, value: Any, path: str) -> Any:
    if _optional(hint):
        if value is None:
            return None
        (hint,) = (h for h in hint.__args__ if h is not type(None))
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _build(hint, value, path)
    if typing.get_origin(hint) is tuple:
        return _convert_tuple(typing.get_args(hint), value, path)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    assert isinstance(hint, type)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"{path} is {value!r}; it must be of type {hint.__name__}")
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
    beside = marks()
    for key, value in flatten(c).items():
        _check_marks(f"config.{key}", value, beside.get(key, ()))  # an absent section has none
    for stage in c.stages:
        _one_of("config.stages", stage, STAGES)
        if getattr(c, stage) is None:
            raise ConfigError(f"config.stages names {stage!r}, but the section config.{stage} is absent")
    if not c.stages or list(c.stages) != [s for s in STAGES if s in c.stages]:
        raise ConfigError(f"config.stages is {c.stages}; it must be one or more of {STAGES}, in this order")
    _one_of("config.model.variant", c.model.variant, (*VIT_SIZES, *CONVNEXT_SIZES))
    _one_of("config.model.pool", c.model.pool, ("mean", "cls"))
    _check_convnext(c.model)
    _one_of("config.model.attention", c.model.attention, ("auto", "xla", "cudnn"))
    _check_data(c.data)
    for stage in STAGES:
        if (section := getattr(c, stage)) is not None:
            _check_stage(stage, section)


def _check_marks(path: str, value: Any, marks: tuple[Any, ...]) -> None:
    """Every number of the value within its range, and every word among the legal ones."""
    for mark in marks:
        if isinstance(mark, Range):
            for number in value if isinstance(value, tuple) else (value,):
                _between(path, number, mark)
        elif not isinstance(mark, Mark):
            _one_of(path, value, tuple(mark))


def _check_convnext(model: ModelConfig) -> None:
    """A ConvNeXt pools its last feature map, and has neither position embedding nor attention."""
    if model.variant not in CONVNEXT_SIZES:
        _one_of("config.model.posemb", model.posemb, ("learned", "sincos"))
        return
    for key, legal in (("pool", ("mean",)), ("posemb", ("none",)), ("attention", ("auto", "xla"))):
        if (value := getattr(model, key)) not in legal:
            choice = ", ".join(legal)
            raise ConfigError(f"config.model.{key} is {value!r}; legal values of {model.variant}: {choice}")


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


def _check_stage(name: str, s: StageConfig) -> None:
    path = f"config.{name}"
    if s.batch_size % s.accum:
        raise ConfigError(f"{path}.batch_size {s.batch_size} is not divisible by {path}.accum {s.accum}")
    if s.epochs <= 0 or not 0 <= s.warmup_epochs <= s.epochs:
        raise ConfigError(f"{path}: epochs {s.epochs} must be positive, warmup_epochs {s.warmup_epochs} within")
    if isinstance(s, FinetuneConfig):
        if s.labeled_mixup and s.mixup_alpha <= 0 and s.cutmix_alpha <= 0:
            raise ConfigError(f"{path}.labeled_mixup is on: mixup_alpha or cutmix_alpha must be above 0")
        if s.mixup_group_size < 2 or s.mixup_group_size % 2:
            raise ConfigError(f"{path}.mixup_group_size is {s.mixup_group_size}; it must be even and at least 2")
        if s.labeled_mixup and s.batch_size // s.accum % 2:
            raise ConfigError(f"{path}: labeled_mixup needs an even micro-batch, got {s.batch_size // s.accum}")
    if isinstance(s, SemiConfig):
        _one_of(f"{path}.pseudo_mixup", s.pseudo_mixup, tuple(PSEUDO_MIXUPS))
        kind = PSEUDO_MIXUPS[s.pseudo_mixup]
        if kind is not None and kind.uses_alphas and s.mixup_alpha <= 0 and s.cutmix_alpha <= 0:
            raise ConfigError(f"{path}.pseudo_mixup is {s.pseudo_mixup!r}: mixup_alpha or cutmix_alpha must be above 0")
        _one_of(f"{path}.pseudo_label_rule", s.pseudo_label_rule, tuple(RULES))
        if s.ema_decay == 0:
            raise ConfigError(f"{path}.ema_decay is 0; the semi-supervised stage always tracks an EMA")


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

"""Keys of a config by their dotted names: what is marked beside each, and in which of them two configs differ."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Annotated, Any

from semivit_jax.config import RUNTIME, Config, Mark, flatten


def marks() -> dict[str, tuple[Any, ...]]:
    """{'data.threads': (NOT_NEGATIVE, RUNTIME, HOST), ...}: marks of each key there is, with those of its sections."""
    return _marks(Config, "", ())


def unmarked(config: Config, mark: Mark) -> dict[str, Any]:
    """The flattened config without the keys that carry a mark."""
    beside = marks()
    return {k: v for k, v in flatten(config).items() if mark not in beside.get(k, ())}  # an absent section has none


def identity(config: Config) -> dict[str, Any]:
    """The flattened keys that make two runs the same experiment: a workdir goes on with no others."""
    return unmarked(config, RUNTIME)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Readable lines for keys of two flattened configs that differ."""
    absent = "absent"
    keys = sorted(old.keys() | new.keys())
    return [
        f"{k}: {old.get(k, absent)!r} -> {new.get(k, absent)!r}"
        for k in keys
        if _plain(old.get(k, absent)) != _plain(new.get(k, absent))
    ]


def _marks(section: type, prefix: str, inherited: tuple[Any, ...]) -> dict[str, tuple[Any, ...]]:
    found = {}
    for name, hint in typing.get_type_hints(section, include_extras=True).items():
        kind, *own = typing.get_args(hint) if typing.get_origin(hint) is Annotated else (hint,)
        beside = (*inherited, *own)
        inner = [h for h in (kind, *typing.get_args(kind)) if isinstance(h, type) and dataclasses.is_dataclass(h)]
        found |= _marks(inner[0], f"{prefix}{name}.", beside) if inner else {prefix + name: beside}
    return found


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value

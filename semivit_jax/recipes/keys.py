"""List a config's keys by dotted name, with their marks, and tell where two configs differ."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from semivit_jax.config import RUNTIME, Config, Mark, flatten
from semivit_jax.stages import STAGES


class Key(NamedTuple):
    """Type of a key, and what is marked beside it."""

    kind: Any
    marks: tuple[Any, ...]


def of_section(section: type) -> dict[str, Key]:
    """Keys of a section by name; those of a whole run are its sections, with one for every stage."""
    found = {}
    for name, hint in typing.get_type_hints(section, include_extras=True).items():
        if (section, name) == (Config, "sections"):
            found |= {stage: Key(spec.section | None, ()) for stage, spec in STAGES.items()}
            continue
        kind, *marks = typing.get_args(hint) if typing.get_origin(hint) is Annotated else (hint,)
        found[name] = Key(kind, tuple(marks))
    return found


def marks() -> dict[str, tuple[Any, ...]]:
    """{'data.threads': (NOT_NEGATIVE, RUNTIME, HOST), ...}: marks of each key there is, with those of its sections."""
    return _marks(Config, "", ())


def kind(key: str) -> Any:
    """Type of a key by its dotted name; of one in a section that a config may lack, that of the key itself."""
    section, *rest = key.split(".")
    found = of_section(Config)[section].kind
    for name in rest:
        found = of_section(_sections(found)[0])[name].kind
    return found


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
    for name, key in of_section(section).items():
        beside, inner = (*inherited, *key.marks), _sections(key.kind)
        found |= _marks(inner[0], f"{prefix}{name}.", beside) if inner else {prefix + name: beside}
    return found


def _sections(kind: Any) -> list[type]:
    """The section that a type is, or may be; none where it is a value's."""
    return [k for k in (kind, *typing.get_args(kind)) if isinstance(k, type) and dataclasses.is_dataclass(k)]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value

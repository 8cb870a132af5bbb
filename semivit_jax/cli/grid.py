"""Read the grid of a sweep: `--set KEY=VALUE,VALUE ...`, of which each combination is a member, a run of its own."""

import itertools
import re
import typing
from collections.abc import Sequence
from typing import Any, NamedTuple

from absl import flags

from semivit_jax.cli import overrides
from semivit_jax.cli.flags import read_config
from semivit_jax.config import Config, ConfigError, flatten
from semivit_jax.files import Path
from semivit_jax.recipes import keys

_LONGEST_NAME = 120  # signs; file systems take 255
_OPENING, _CLOSING = "([{", ")]}"


class Axis(NamedTuple):
    """A key, and the values it takes one after the other, as they were typed."""

    key: str
    values: tuple[str, ...]


class Member(NamedTuple):
    """One run of a sweep.

    Attributes:
      number: its place, from 0.
      name: of its folder, told from its number and values.
      values: of the keys that vary, by key.
      arguments: of `semivit train`, but for the workdir.
      config: what these arguments mean.
    """

    number: int
    name: str
    values: dict[str, Any]
    arguments: list[str]
    config: Config


def read_axes(given: Sequence[str], arguments: Sequence[str]) -> list[Axis]:
    """The axes of a grid, in the order they were given.

    Args:
      given: each KEY=VALUE,VALUE. A comma in brackets or quotation marks divides nothing.
      arguments: that name the config and override its keys.

    Raises:
      flags.Error: what is malformed, or there twice. ConfigError: a key that is none.
    """
    axes = [_axis(text) for text in given]
    overrides.check_keys([f"--config.{axis.key}" for axis in axes])
    names, overridden = [axis.key for axis in axes], [a.lstrip("-").partition("=")[0] for a in arguments]
    for place, axis in enumerate(axes):
        if names.count(axis.key) > 1:
            raise flags.Error(f"--set {axis.key} is given twice; put all its values behind one")
        if f"config.{axis.key}" in overridden:
            raise flags.Error(f"{axis.key} has values by --set and one by --config.{axis.key}; leave one of them out")
        if typing.get_origin(keys.kind(axis.key)) is tuple:
            _check_tuples(axis)
        else:
            axes[place] = Axis(axis.key, tuple(re.sub(r"""^(['"])(.*)\1$""", r"\2", value) for value in axis.values))
    return axes


def members(arguments: Sequence[str], axes: Sequence[Axis], root: Path) -> list[Member]:
    """All combinations, the last axis varying first, each with its config, checked.

    Args:
      arguments: that name the config and override its keys, in all members alike.
      axes: of the grid.
      root: folder of the sweep.

    Raises:
      flags.Error, ConfigError: a value that cannot be, or two that are the same.
    """
    combinations = list(itertools.product(*(axis.values for axis in axes)))
    found: list[Member] = []
    for number, texts in enumerate(combinations):
        name = _name(number, len(combinations), axes, texts)
        set_here = [f"--config.{axis.key}={text}" for axis, text in zip(axes, texts, strict=True)]
        config, _ = read_config("sweep", [*arguments, *set_here], root / name)
        flat = flatten(config)
        values = {axis.key: flat[axis.key] for axis in axes}
        if same := [other for other in found if other.values == values]:
            raise flags.Error(f"members {same[0].number} and {number} are the same: a value of --set is there twice")
        found.append(Member(number, name, values, [*arguments, *set_here], config))
    return found


def divided(text: str) -> list[str]:
    """The values between commas, but for those in brackets or quotation marks.

    Raises:
      ValueError: a bracket or a quotation mark that is not closed.
    """
    parts, open_brackets, quote = [""], "", ""
    for sign in text:
        if sign == "," and not open_brackets and not quote:
            parts.append("")
            continue
        parts[-1] += sign
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"":
            quote = sign
        elif sign in _OPENING:
            open_brackets += sign
        elif sign in _CLOSING:
            if open_brackets[-1:] != _OPENING[_CLOSING.index(sign)]:
                raise ValueError(f"{sign} closes nothing")
            open_brackets = open_brackets[:-1]
    if quote or open_brackets:
        raise ValueError(f"{quote or open_brackets[-1]} is not closed")
    return [part.strip() for part in parts]


def _axis(text: str) -> Axis:
    key, equals, values = text.partition("=")
    if not key or not equals:
        raise flags.Error(f"--set {text}: legal is KEY=VALUE,VALUE, as in --set seed=0,1,2")
    try:
        found = divided(values)
    except ValueError as error:
        raise flags.Error(f"--set {text}: {error}") from error
    if "" in found:
        raise flags.Error(f"--set {text}: a value is empty; for an empty text write ''")
    return Axis(key, tuple(found))


def _check_tuples(axis: Axis) -> None:
    for value in axis.values:
        if not re.fullmatch(r"\(.*\)", value):
            raise flags.Error(
                f"--set {axis.key}: {value} is no tuple; each value is one in brackets, as in --set "
                f'"{axis.key}=(1,2),(3,4)"'
            )


def _name(number: int, count: int, axes: Sequence[Axis], texts: Sequence[str]) -> str:
    """Name of a member's folder, such as '03_base_lr=0.001_seed=1'."""
    last = [axis.key.rpartition(".")[2] for axis in axes]
    short = [name if last.count(name) == 1 else axis.key for axis, name in zip(axes, last, strict=True)]
    values = "_".join(f"{name}={_plain(text)}" for name, text in zip(short, texts, strict=True))
    # Signs that no shell, file system or bucket takes for something else.
    readable = re.sub(r"[^\w.=+-]+", "-", values)[:_LONGEST_NAME].strip("-")
    return f"{number:0{len(str(count - 1))}d}_{readable}"


def _plain(text: str) -> str:
    """A number as it is written shortest, so that 1e-3 and 0.001 have one name; other values as they are."""
    try:
        return str(int(text))
    except ValueError:
        pass
    try:
        return f"{float(text):g}"
    except ValueError:
        return text


def check_same(root: Path, axes: Sequence[Axis], stored: Any) -> None:
    """Raises ConfigError where a folder holds the sweep of another grid."""
    given = as_stored(axes)
    if stored != given:
        raise ConfigError(f"{root} holds another sweep: {_told(stored)}, not {_told(given)}; give another --workdir")


def as_stored(axes: Sequence[Axis]) -> dict[str, list[str]]:
    """What sweep.json says of a grid."""
    return {axis.key: [_plain(value) for value in axis.values] for axis in axes}


def _told(stored: dict[str, list[str]]) -> str:
    return " ".join(f"--set {key}={','.join(values)}" for key, values in stored.items())

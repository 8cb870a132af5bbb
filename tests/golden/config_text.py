"""Flattened configs as text: what all recipes of a file share, then what each one changes."""

from semivit_jax.config import flatten
from tests.golden.recipes import RECIPES, load


def config_text(file: str) -> str:
    """Every key of every recipe of `configs/<file>.py`, once where all agree, else per recipe."""
    flat = {arguments: flatten(load(file, arguments)) for arguments in RECIPES[file]}
    keys = list(dict.fromkeys(key for values in flat.values() for key in values))
    shared = {k for k in keys if len({repr(values.get(k, "absent")) for values in flat.values()}) == 1}
    sections = [f"# configs/{file}.py, flattened.", _section("all recipes", next(iter(flat.values())), keys, shared)]
    varying = set(keys) - shared
    sections += [_section(arguments or "no arguments", values, keys, varying) for arguments, values in flat.items()]
    return "\n\n".join(sections) + "\n"


def _section(title: str, values: dict[str, object], keys: list[str], wanted: set[str]) -> str:
    lines = [f"{key} = {values[key]!r}" for key in keys if key in wanted and key in values]
    return "\n".join([f"[{title}]", *lines])

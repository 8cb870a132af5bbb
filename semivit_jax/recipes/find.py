"""Find the recipe files installed with the package, and print what `--help` says of one."""

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from absl import flags

from semivit_jax import files
from semivit_jax.config import flatten

CONFIGS = Path(__file__).parents[1] / "configs"
FLAG = "--config="


def installed() -> dict[str, Path]:
    """Recipes of the package by name."""
    return {p.stem: p for p in sorted(CONFIGS.glob("*.py")) if not p.stem.startswith("_")}


def with_paths(argv: Sequence[str]) -> list[str]:
    """The arguments, with --config=NAME and --config NAME as --config=FILE; see `recipe_file`."""
    rest, found = iter(argv), []
    for argument in rest:
        if argument == FLAG.removesuffix("="):
            value = next(rest, "")
            if not value or value.startswith("-"):
                raise flags.Error("--config needs a recipe, as in --config=digits")
            argument = FLAG + value
        if argument.startswith(FLAG):
            name, colon, args = argument.removeprefix(FLAG).partition(":")
            argument = f"{FLAG}{recipe_file(name)}{colon}{args}"
        found.append(argument)
    return found


def recipe_file(name: str) -> Path:
    """The file that a name means: an installed recipe by its bare name, else a path.

    The path `configs/NAME.py`, as it stands in the documentation, means the installed recipe where there is no such
    file, and that is said.

    Raises:
      FileNotFoundError: there is no such file; an installed recipe that is called alike is named, not taken.
      IsADirectoryError: it is a folder. OSError: see `files.expanded`.
    """
    recipes, path = installed(), Path(files.expanded(name))
    told = ", ".join(recipes)
    if name in recipes:
        return recipes[name]
    if path.is_dir():
        raise IsADirectoryError(f"--config={name} is a folder; a config is a Python file, or one of: {told}")
    if path.exists():
        return path
    found = recipes.get(path.stem)
    if found is None:
        raise FileNotFoundError(f"there is no config {name!r}; a path, or one of: {told}")
    if path != Path("configs", f"{path.stem}.py"):
        raise FileNotFoundError(f"there is no config {name!r}; for the installed recipe give --config={path.stem}")
    print(f"semivit: {name} is not in {os.getcwd()}; taking the installed recipe {path.stem}", file=sys.stderr)
    return found


def argument_names(argv: Sequence[str]) -> frozenset[str]:
    """Names of the arguments that a command line gives to its recipe, as in --config=FILE:NAME=VALUE,NAME=VALUE."""
    given = [a.removeprefix(FLAG).partition(":")[2] for a in argv if a.startswith(FLAG)]
    return frozenset(part.partition("=")[0] for text in given for part in text.split(",") if part)


def asks_for_help(argv: Sequence[str]) -> bool:
    """Whether a command line has a help flag."""
    return any(argument in ("-h", "-help", "--help") for argument in argv)


def help_text(usage: str, argv: Sequence[str]) -> str:
    """What a command that takes a config says of itself, and of the recipe where one is named.

    Raises:
      FileNotFoundError: there is no such config.
      flags.Error: the file makes no config of these arguments.
    """
    lines = [f"usage: semivit {usage} [--config.KEY=VALUE ...]", ""]
    for argument in with_paths(argv):
        if argument.startswith(FLAG):
            path, _, args = argument.removeprefix(FLAG).partition(":")
            return "\n".join([*lines, *_of_recipe(Path(path), args)])
    lines.append("--config takes a file, or one of these recipes; ARGS are name=value, separated by commas:")
    lines += [f"  {name:<18} {_first_line(path)}" for name, path in installed().items()]
    lines += ["", "With --config=... --help: what that recipe is for, its arguments, and all keys with their values."]
    return "\n".join(lines)


def _first_line(path: Path) -> str:
    return (_load(path).__doc__ or "").strip().partition("\n")[0]


def _of_recipe(path: Path, args: str) -> list[str]:
    from semivit_jax.recipes import check  # loads jax, which a command line that names no recipe need not wait for

    module = _load(path)
    if not hasattr(module, "get_config"):
        raise flags.Error(f"{path} has no function get_config")
    try:
        raw = module.get_config(args) if args else module.get_config()
    except ValueError as error:
        raise flags.Error(str(error)) from error
    keys = [f"  --config.{key}={value!r}" for key, value in flatten(check.check(raw)).items()]
    return [(module.__doc__ or "").strip(), "", "Keys and their values:", *keys]


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise flags.Error(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

"""Know a stage to the services that keep runs: one run of theirs per stage, and the same one after a restart."""

import secrets
from typing import Any, NamedTuple

from semivit_jax.config import flatten
from semivit_jax.files import Path, read_json, write_json
from semivit_jax.recipes.stored import check_stored

PROJECT = "semivit_jax"  # what a service calls all runs of this package, unless its own variable names another
_LONGEST = 128  # signs of a group that all of them take


class Known(NamedTuple):
    """What a service is told of a stage.

    Attributes:
      name: of its run there, the workdir's name and the stage.
      group: what the stages of one workdir share: its place, the end of a long one.
      config: of the run, by dotted key.
    """

    name: str
    group: str
    config: dict[str, Any]


def known(folder: Path) -> Known:
    """What is to be told of the stage of that folder."""
    workdir = folder.parent
    config = flatten(check_stored(read_json(workdir / "config.json")))
    return Known(f"{workdir.name}/{folder.name}", str(workdir)[-_LONGEST:], config)


def kept_id(folder: Path, service: str) -> str | None:
    """Under which id the service knows the stage; None where it does not yet."""
    file = _file(folder, service)
    return read_json(file)["id"] if file.exists() else None


def keep_id(folder: Path, service: str, found: str) -> None:
    """Remembers the id for the next start."""
    write_json(_file(folder, service), {"id": found})


def new_id() -> str:
    """An id that no other run has."""
    return secrets.token_hex(8)


def _file(folder: Path, service: str) -> Path:
    return folder / f"{service}.json"

"""Keep the run folder: claim it for one run, refuse a second, and mark what is finished.

config.json summary.json DONE, and what data/record.py keeps there of the images
STAGE/{checkpoints/,metrics.jsonl,tb/,report.json,DONE}
"""

import json
from typing import Any

from semivit_jax import files
from semivit_jax.checkpoints import manifest
from semivit_jax.config import Config, ConfigError, flatten, to_dict
from semivit_jax.data import record
from semivit_jax.files import Path, read_json, write_json
from semivit_jax.recipes import stored
from semivit_jax.recipes.keys import differences, identity
from semivit_jax.stages import STAGES


def claim(workdir: Path, config: Config, *, first_host: bool, say: Any) -> None:
    """Makes the folder this run's, or checks that it already is.

    Raises:
      ConfigError: the folder belongs to another config; lists the keys that differ.
    """
    path = workdir / "config.json"
    if path.exists():
        before = load_config(workdir)
        different = differences(identity(before), identity(config))
        if different:
            raise ConfigError(
                f"{workdir} belongs to a run with another config; use another --workdir, or set back:\n  "
                + "\n  ".join(different)
            )
        if before != config:
            say("changed since the last start: " + "; ".join(differences(flatten(before), flatten(config))))
    if first_host:
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(path, to_dict(config))


def release(workdir: Path) -> None:
    """Takes back a claim, and what was worked out from the data, before any stage has begun."""
    for path in (workdir / name for name in ("config.json", *record.FILES)):
        if path.exists():  # removing what is not there is an error on a read-only file system
            path.unlink()


def load_config(workdir: Path) -> Config:
    """The config stored in a workdir.

    Raises:
      ConfigError: there is none, or it is no run's, as that of a Hugging Face folder.
    """
    path = workdir / "config.json"
    if not path.exists():
        raise ConfigError(f"{workdir} is not a run folder: it has no config.json")
    try:
        return stored.check_stored(read_json(path))
    except (ConfigError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path} is no run's config that this version can read: {error}") from error


def is_done(folder: Path) -> bool:
    """Whether a run, or a stage by its own folder, is finished."""
    return (folder / "DONE").exists()


def mark_done(folder: Path) -> None:
    """Marks a run or a stage as finished."""
    (folder / "DONE").touch()


def has_checkpoint(stage_folder: Path) -> bool:
    """Whether a stage has, or had, a checkpoint of its own to go on from."""
    checkpoints = stage_folder / "checkpoints"
    if checkpoints.with_suffix(".json").exists() or is_done(stage_folder):
        return True
    return any(files.matching(step, "manifest.*.json") for step in files.matching(checkpoints, "*"))


def latest_stage(workdir: Path) -> str:
    """Latest stage that has written a checkpoint."""
    found = [s for s in STAGES if any(map(manifest.is_sealed, files.matching(workdir / s / "checkpoints", "*")))]
    if not found:
        raise ConfigError(f"{workdir} holds no finished checkpoint of any stage yet")
    return found[-1]

"""Keep the temperatures of a stage's last checkpoint beside its folder of checkpoints, in temperature.json."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from semivit_jax.checkpoints import manifest
from semivit_jax.files import Path, read_json, write_json
from semivit_jax.ops.temperature import Temperature

FILE = "temperature.json"


def keep(stage_folder: Path, checkpoint: Path, found: Mapping[str, Temperature]) -> None:
    """Writes what was fitted for each tree of a checkpoint, with the hash of the checkpoint that it belongs to."""
    trees = {tree: one._asdict() for tree, one in found.items()}
    write_json(stage_folder / FILE, {"step": int(checkpoint.name), "checkpoint": _hash(checkpoint), "trees": trees})


def belong_to(checkpoint: Path) -> bool:
    """Whether temperatures are kept that were fitted for this checkpoint, and no other."""
    return _of(checkpoint) is not None


def of(checkpoint: Path, tree: str) -> float:
    """What the logits of a tree of a checkpoint are divided by; 1 where nothing was fitted for it."""
    found = _of(checkpoint)
    return 1.0 if found is None else found[tree]["value"]


def _of(checkpoint: Path) -> dict[str, Any] | None:
    path = checkpoint.parent.parent / FILE
    kept: dict[str, Any] = read_json(path) if path.exists() else {"checkpoint": ""}
    return kept["trees"] if kept["checkpoint"] == _hash(checkpoint) else None


def _hash(checkpoint: Path) -> str:
    """Of its manifest, which holds the checksum of every file."""
    return hashlib.sha256(json.dumps(manifest.sealed(checkpoint), sort_keys=True).encode()).hexdigest()

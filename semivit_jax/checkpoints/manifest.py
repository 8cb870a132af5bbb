"""Seal a checkpoint with size and checksum of every file, and tell whether they still match.

Orbax restores a checkpoint with a flipped bit without a word; a manifest that matches is what makes a
checkpoint good here.
"""

import re
from collections.abc import Mapping

from semivit_jax import files
from semivit_jax.files import File, Path

Described = dict[str, list[int | str]]  # file -> its bytes, and its checksum (`files.checksum`)
MANIFEST = "MANIFEST.json"
_PART = "manifest.{}-of-{}.json"


def write_part(directory: Path, process_index: int, process_count: int) -> None:
    """Records the files this process wrote; called by every process once the checkpoint is committed."""
    part = _described({name: file for name, file in _files(directory).items() if _writer(name) == process_index})
    files.write_json(directory / _PART.format(process_index, process_count), part)


def has_part(directory: Path, process_index: int, process_count: int) -> bool:
    """Whether a process of so many has recorded what it wrote."""
    return (directory / _PART.format(process_index, process_count)).exists()


def seal(directory: Path) -> bool:
    """Joins the parts of all processes into the manifest; False while some part is missing."""
    parts = files.matching(directory, _PART.format("*", "*"))
    if not parts or len(parts) < int(parts[0].stem.rpartition("-")[2]):
        return False
    described: Described = {}
    for part in parts:
        described |= files.read_json(part)
    files.write_json(directory / MANIFEST, described)
    return True


def checksums(directory: Path) -> Described:
    """{file: [bytes, checksum]} of a folder that has no manifest."""
    return _described(_files(directory))


def sealed(directory: Path) -> Described:
    """The same as a checkpoint's manifest has it."""
    return files.read_json(directory / MANIFEST)


def is_sealed(directory: Path) -> bool:
    """Whether a checkpoint was completed; `problems` says whether it is still good."""
    return (directory / MANIFEST).exists()


def problems(directory: Path) -> list[str]:
    """What is wrong with a checkpoint, one line per file; empty when it is good."""
    if not is_sealed(directory):
        return ["it was never completed (no manifest)"]
    try:
        described = sealed(directory)
    except ValueError as error:
        return [f"its manifest cannot be read: {error}"]
    found = []
    there = files.inventory(directory)
    for name, (size, checksum) in described.items():
        if name not in there:
            found.append(f"{name} is missing")
        elif there[name].size != size:
            found.append(f"{name} has {there[name].size} bytes instead of {size}")
        elif not files.matches(there[name], checksum):
            found.append(f"{name} does not match its checksum")
    return found


def _described(chosen: Mapping[str, File]) -> Described:
    return {name: [file.size, files.checksum(file)] for name, file in chosen.items()}


def _files(directory: Path) -> dict[str, File]:
    """All files but those of this module, which may be under way."""
    own = r"^\.?(MANIFEST|manifest\.\d+-of-\d+)\.json"
    return {name: file for name, file in files.inventory(directory).items() if not re.match(own, file.place.name)}


def _writer(name: str) -> int:
    """The process that wrote a file: orbax names each process's own folder; process 0 wrote the rest."""
    match = re.search(r"ocdbt\.process_(\d+)", name)
    return int(match.group(1)) if match else 0

"""Manifest of a checkpoint: size and checksum of every file, written last, so that its presence seals it.

Orbax restores a checkpoint with a flipped bit without a word; a manifest that matches is what makes a
checkpoint good here.
"""

import json
import re
import zlib
from pathlib import Path

from semivit_jax.files import write_json

MANIFEST = "MANIFEST.json"
_PART = "manifest.{}-of-{}.json"
_CHUNK = 1 << 22  # bytes read at a time


def write_part(directory: Path, process_index: int, process_count: int) -> None:
    """Records the files this process wrote; called by every process once the checkpoint is committed."""
    part = _described(directory, [f for f in _files(directory) if _writer(f) == process_index])
    write_json(directory / _PART.format(process_index, process_count), part)


def has_part(directory: Path, process_index: int, process_count: int) -> bool:
    """Whether a process of so many has recorded what it wrote."""
    return (directory / _PART.format(process_index, process_count)).exists()


def seal(directory: Path) -> bool:
    """Joins the parts of all processes into the manifest; False while some part is missing."""
    parts = sorted(directory.glob(_PART.format("*", "*")))
    if not parts or len(parts) < int(parts[0].stem.rpartition("-")[2]):
        return False
    files: dict[str, list[int]] = {}
    for part in parts:
        files |= json.loads(part.read_text())
    write_json(directory / MANIFEST, files)
    return True


def checksums(directory: Path) -> dict[str, list[int]]:
    """{file: [bytes, checksum]} of a folder that has no manifest."""
    return _described(directory, _files(directory))


def sealed(directory: Path) -> dict[str, list[int]]:
    """The same as a checkpoint's manifest has it."""
    return json.loads((directory / MANIFEST).read_text())


def is_sealed(directory: Path) -> bool:
    """Whether a checkpoint was completed; `problems` says whether it is still good."""
    return (directory / MANIFEST).exists()


def problems(directory: Path) -> list[str]:
    """What is wrong with a checkpoint, one line per file; empty when it is good."""
    if not is_sealed(directory):
        return ["it was never completed (no manifest)"]
    try:
        files = sealed(directory)
    except ValueError as error:
        return [f"its manifest cannot be read: {error}"]
    found = []
    for name, (size, checksum) in files.items():
        path = directory / name
        if not path.is_file():
            found.append(f"{name} is missing")
        elif path.stat().st_size != size:
            found.append(f"{name} has {path.stat().st_size} bytes instead of {size}")
        elif _checksum(path) != checksum:
            found.append(f"{name} does not match its checksum")
    return found


def _described(directory: Path, files: list[Path]) -> dict[str, list[int]]:
    return {str(f): [(directory / f).stat().st_size, _checksum(directory / f)] for f in files}


def _files(directory: Path) -> list[Path]:
    paths = (p.relative_to(directory) for p in sorted(directory.rglob("*")) if p.is_file())
    return [p for p in paths if not re.match(r"^\.?(MANIFEST|manifest\.\d+-of-\d+)\.json", p.name)]


def _writer(file: Path) -> int:
    """The process that wrote a file: orbax names each process's own folder; process 0 wrote the rest."""
    match = re.search(r"ocdbt\.process_(\d+)", str(file))
    return int(match.group(1)) if match else 0


def _checksum(path: Path) -> int:
    """CRC-32: finds every single flipped bit and every burst of up to 32."""
    value = 0
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            value = zlib.crc32(chunk, value)
    return value

"""The photographs that the input benchmarks read."""

import zipfile
from pathlib import Path


def load_jpegs(path: Path) -> list[bytes]:
    """The JPEG files of a folder (any depth) or a zip file, in the order of their names."""
    if path.is_dir():
        names = sorted(p for p in path.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))
        jpegs = [p.read_bytes() for p in names]
    else:
        with zipfile.ZipFile(path) as archive:
            names = sorted(n for n in archive.namelist() if n.lower().endswith((".jpg", ".jpeg")))
            jpegs = [archive.read(n) for n in names]
    if not jpegs:
        raise SystemExit(f"{path} holds no .jpg or .jpeg file")
    return jpegs

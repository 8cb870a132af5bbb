"""Write files so that a reader never sees half of one."""

import json
import os
from pathlib import Path


def write_json(path: Path, value: object) -> None:
    """Writes JSON under a temporary name, flushes it to disk and renames it, so a reader never sees half."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "w") as file:
        json.dump(value, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)

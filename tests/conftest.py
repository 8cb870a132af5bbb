"""One cache of compiled programs for all tests: for every worker, for the processes they start, and for later runs.

A program that is found there is loaded in a tenth of the time that compiling it takes. It lies in the user's cache
folder, or where JAX_COMPILATION_CACHE_DIR says; an entry that cannot be read is compiled anew, with a warning.
"""

import hashlib
import importlib.metadata
import os
import time
from pathlib import Path

from tests.caching import KEEPS_EVERYTHING

KEPT_SECONDS = 30 * 24 * 3600.0  # since an entry was last read


def cache_folder() -> Path:
    """A folder of its own for every version of jaxlib and kind of processor: programs hold its instructions."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    processor = "".join(next((line for line in lines if line.startswith(("flags", "Features"))), ""))
    kind = hashlib.sha256(processor.encode()).hexdigest()[:8]
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return user / "semivit_jax" / "compiled_tests" / f"jaxlib-{importlib.metadata.version('jaxlib')}-{kind}"


# Read when jax is imported, here and in the processes that tests start.
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(cache_folder())
for variable, value in KEEPS_EVERYTHING.items():
    os.environ.setdefault(variable, value)


def pytest_sessionstart(session) -> None:
    """Removes what no test has read for long, such as programs of code that has changed since."""
    if hasattr(session.config, "workerinput") or os.environ["JAX_COMPILATION_CACHE_DIR"] != str(cache_folder()):
        return
    for entry in cache_folder().glob("*-cache"):
        found = entry.stat()
        if max(found.st_atime, found.st_mtime) < time.time() - KEPT_SECONDS:
            entry.unlink(missing_ok=True)

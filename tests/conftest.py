"""What makes the tests quick: programs and modules are compiled once, and what tests of a file share is made once.

All workers, the processes they start, and later runs share one cache of compiled programs. One that is found there is
loaded in a tenth of the time that compiling it takes. It lies in the user's cache folder, or where
JAX_COMPILATION_CACHE_DIR says; an entry that cannot be read is compiled anew, with a warning.
"""

import atexit
import gc
import hashlib
import importlib.metadata
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.caching import KEEPS_EVERYTHING

SELDOM = (50_000, 20, 100)  # objects until the youngest are looked at, and rounds until older ones are
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


# Modules of this tree are compiled once as well: tests start some fifty processes, and each would compile all of them.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_sessionstart(session) -> None:
    """Removes what no test has read for long, such as programs of code that has changed since."""
    if hasattr(session.config, "workerinput") or os.environ["JAX_COMPILATION_CACHE_DIR"] != str(cache_folder()):
        return
    for entry in cache_folder().glob("*-cache"):
        found = entry.stat()
        if max(found.st_atime, found.st_mtime) < time.time() - KEPT_SECONDS:
            entry.unlink(missing_ok=True)


gc.disable()  # until all is imported and collected, which leaves no garbage to speak of


def pytest_collection_finish() -> None:
    """Spares the garbage collector what was imported and collected: it stays, and is a million objects.

    Tracing makes many objects that live as long as their program, so it looks more seldom than usual.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*SELDOM)
    gc.enable()


def pytest_configure(config) -> None:
    """Gives each worker a core where there is one for each, which spares 5 % of the time; lets it end at once.

    A worker reports all before it ends; freeing its programs one by one would take seconds.
    """
    if not hasattr(config, "workerinput"):
        return
    atexit.register(os._exit, 0)  # the first to be registered is the last to be called
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) == config.workerinput["workercount"]:
            os.sched_setaffinity(0, {cores[int(config.workerinput["workerid"].removeprefix("gw"))]})


def pytest_unconfigure(config) -> None:
    """And without jax's own goodbye, which frees them too."""
    if hasattr(config, "workerinput"):
        from jax._src import api

        atexit.unregister(api.clean_up)


@pytest.fixture
def given_up_writes():
    """Collects what a failed save of orbax gives up while its own test ignores that; else a later one would be told."""
    yield
    gc.collect()


@pytest.fixture
def signals_heard():
    """Signals as a terminal leaves them: `nohup` and a shell's background ignore two, which processes inherit."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    ignored = [number for number in usual if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, usual[number])
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Lets one worker run all tests of a file or a group, so that their fixtures and programs are made once."""
    from xdist.scheduler import LoadGroupScheduling

    class ByFileOrGroup(LoadGroupScheduling):
        def _split_scope(self, nodeid):
            scope = super()._split_scope(nodeid)
            return scope if scope != nodeid else nodeid.partition("::")[0]

    return ByFileOrGroup(config, log) if config.getvalue("dist") == "loadgroup" else None

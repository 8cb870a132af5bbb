"""Killing a run at random moments until it is done."""

import random
import signal
import time
from pathlib import Path

from semivit_jax import files
from tests.e2e.runs import Machine, Started


def kill_once(
    machine: Machine,
    workdir: Path,
    chance: random.Random,
    *,
    while_saving: bool,
    within: float = 1.5,
    processes: int = 1,
    **options,
) -> bool:
    """Starts the run and kills one of its processes with SIGKILL; the others then end as a launcher would end them.

    Args:
      machine: starts the run.
      workdir: of the run.
      chance: when, and which process.
      while_saving: while a checkpoint is being written, instead of at any moment of the training.
      within: seconds after the first step, of which it waits a random part; 0 where the run itself takes no time.
      processes: of the run.
      options: further ones of `Machine.start`.

    Returns:
      False where the run ended by itself first.
    """
    started = machine.start(workdir, processes=processes, **options)
    try:
        # Not before the first step: then every start makes some way, and twenty kills end.
        if not started.until(started.says("began after")):
            return _finished(started)
        pause = time.monotonic() + chance.uniform(0.0, within)
        if not started.until(lambda: time.monotonic() > pause):
            return _finished(started)
        if while_saving and not started.until(lambda: _saving(workdir)):
            return _finished(started)
        started.send(signal.SIGKILL, only=chance.randrange(processes))
        return True
    finally:
        started.kill()


def _finished(started: Started) -> bool:
    codes = started.wait()
    assert set(codes) == {0}, started.output()
    return False


def saving(stage: files.Path) -> bool:
    """Whether a checkpoint of a stage's folder is being written, or is committed and not sealed yet."""
    folders = files.matching(stage / "checkpoints", "[0-9]*")
    return any("tmp" in f.name or not (f / "MANIFEST.json").exists() for f in folders)


def sealed(stage: files.Path) -> bool:
    """Whether a stage's folder has a checkpoint to go on from."""
    return any((f / "MANIFEST.json").exists() for f in files.matching(stage / "checkpoints", "[0-9]*"))


def _saving(workdir: Path) -> bool:
    return any(saving(stage) for stage in files.matching(files.path(workdir), "*"))

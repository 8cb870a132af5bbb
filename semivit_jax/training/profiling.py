"""Trace a few updates of a stage for a profile: where config.log.profile_at says, or when `semivit profile` asks.

A request is a small file in the workdir, which the first host looks for at its log lines, in a thread: a store that
is away keeps no update waiting. In a bucket a trace is written on this machine, and brought there in a thread too.
"""

import contextlib
import logging
import threading
import time
from typing import Any

import jax

from semivit_jax import console, files
from semivit_jax.config import LogConfig
from semivit_jax.files import Path, read_json, write_json

REQUEST = ".profile.json"
FOLDER = "profile"  # of a stage; jax makes one inside for each trace, with its time as name
LOOK_SECONDS = 5.0  # between two looks for a request; each costs a bucket an answer
BRING_SECONDS = 60.0  # for which the end of a stage waits until a trace is in its bucket
_log = logging.getLogger(__name__)


def ask(workdir: Path, steps: int) -> None:
    """Asks the run that trains there for a trace of so many updates."""
    write_json(workdir / REQUEST, {"steps": steps})


class Profiler:
    """Traces updates of one stage, on the first host; what goes wrong with a trace is said, and hurts nothing else."""

    def __init__(self, folder: Path, log: LogConfig, *, active: bool):
        """Args: folder, of the stage; active, whether this is the first host."""
        self._folder, self._log, self._active = folder, log, active
        self._wanted = 0  # updates that were asked for
        self._until = 0  # update that ends the trace; 0: there is none
        self._opened = contextlib.ExitStack()
        self._looking, self._bringing, self._looked = threading.Thread(), threading.Thread(), 0.0

    def before_update(self, done: int, state: Any) -> None:
        """Begins or ends a trace between two updates, where one is due.

        Args:
          done: updates so far.
          state: after them; waited for, so that a trace holds whole updates.
        """
        if self._until and done >= self._until:
            self._end(state)
        if not self._active or self._until:
            return
        steps = self._log.profile_steps if done + 1 == self._log.profile_at else self._wanted
        if steps > 0:
            self._wanted = 0
            self._begin(done, steps, state)

    def look(self) -> None:
        """Looks for a request, if the last look is a while ago; what it finds is known a moment later."""
        if not self._active or self._looking.is_alive() or time.monotonic() < self._looked + LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        self._looking = threading.Thread(target=self._look, daemon=True)
        self._looking.start()

    def close(self) -> None:
        """Ends a trace that the stage's end or an error cuts short, and waits until it is where it belongs."""
        if self._until:
            self._end(())
        if self._bringing.is_alive():
            self._bringing.join(BRING_SECONDS)

    def _look(self) -> None:
        request = self._folder.parent / REQUEST
        try:
            if request.exists():
                steps = int(read_json(request)["steps"])
                request.unlink()
                self._wanted = steps
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("%s cannot be read, so no profile is made: %s", request, error)

    def _begin(self, done: int, steps: int, state: Any) -> None:
        try:
            local = self._opened.enter_context(files.filling(self._folder / FOLDER))
            jax.block_until_ready(state)
            jax.profiler.start_trace(local)
        except (OSError, RuntimeError) as error:
            self._failed(error)
            self._opened.close()
            return
        self._until = done + steps
        console.say(f"{self._folder.name}: profile of updates {done + 1} to {self._until} ...")

    def _end(self, state: Any) -> None:
        self._until = 0
        try:
            jax.block_until_ready(state)
            jax.profiler.stop_trace()
        except (OSError, RuntimeError) as error:
            self._failed(error)
        self._bringing = threading.Thread(target=self._bring, args=(self._opened.pop_all(),), daemon=True)
        self._bringing.start()

    def _bring(self, opened: contextlib.ExitStack) -> None:
        try:
            opened.close()
            console.say(f"{self._folder.name}: profile in {self._folder / FOLDER}")
        except OSError as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        _log.warning("%s: no profile (%s); training goes on", self._folder.name, error)

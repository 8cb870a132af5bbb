"""Write a stage's checkpoints in the background, seal them with a manifest, and prune old ones.

A checkpoint is a folder `<directory>/<step>` with two items: `state`, arrays under flat names such as
`params.blocks.attn.qkv.kernel`, and `facts`, JSON: what the numbers belong to. `<directory>.json` remembers the
step sealed last, so that lost checkpoints are noticed (`recovery`).
"""

import logging
import time
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import orbax.checkpoint as ocp

from semivit_jax import files
from semivit_jax.checkpoints import manifest
from semivit_jax.checkpoints.reading import CheckpointError, Facts, PyTree, flat, memory, sealed_steps
from semivit_jax.files import Path
from semivit_jax.hosts import agreement


class _ShortOrbax(logging.Filter):
    """What orbax logs, without what buries our own lines.

    Each of its threads prints the stack of a save that failed, 200 lines in all; the error itself comes up as
    `CheckpointError`, so here their first lines are enough.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if "orbax" in record.pathname:
            record.exc_info = None
        return True


logging.getLogger("absl").addFilter(_ShortOrbax())


class Saver:
    """Writes the checkpoints of one stage into one folder.

    `save` returns at once; `poll`, called every step, seals what has been committed since and removes old
    checkpoints, never one of the `keep` newest good ones. A checkpoint that an earlier start left at the step being
    saved, or beyond it, belongs to a history that this one has replaced: it goes too (best weights, whose step
    a restart trains again and may find better). A save that fails on one process ends the run on all:
    `poll` raises where there is one process; several tell each other in `save`, `wait` and `close`, which are
    collective, or ask for `failure` in between.
    """

    def __init__(self, directory: Path, *, keep: int):
        """Args: directory, created if absent; keep, good checkpoints to keep. Collective.

        Raises:
          CheckpointError: the folder cannot be written to; told now, not hours later at the first save.
        """
        self._directory, self._keep = files.absolute(directory), keep
        agreement.together(lambda: _check_writable(self._directory), errors=(CheckpointError,))
        self._unsealed: dict[int, Future[bool] | None] = {}
        self._beside: dict[int, Callable[[], None]] = {}  # what must be kept before a step is sealed
        self._written: Future[None] = Future()  # of the latest save, with its error
        self._written.set_result(None)
        self._saved: set[int] = set()  # steps, since this start
        self._failure: Exception | None = None
        self._sealer, self._waiter = ThreadPoolExecutor(max_workers=1), ThreadPoolExecutor(max_workers=1)
        # Two folders are written at the same time; their hosts must not take each other's barriers for theirs.
        prefix = f"{directory.parent.name}_{directory.name}"
        self._writer = ocp.AsyncCheckpointer(
            ocp.CompositeCheckpointHandler(),
            multiprocessing_options=ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=prefix),
        )

    @property
    def pending(self) -> bool:
        """Whether a save of this process is not sealed yet."""
        return bool(self._unsealed)

    @property
    def failure(self) -> Exception | None:
        """The error of a save of this process, which ends the run once the others know."""
        return self._failure

    def save(self, step: int, state: PyTree, facts: Facts, *, beside: Callable[[], None] = lambda: None) -> None:
        """Starts writing, once an earlier save is written; the state may be donated as soon as this returns.

        Args:
          step: of the state.
          state: arrays to write.
          facts: JSON to write.
          beside: returns once what belongs to the checkpoint is kept elsewhere; called in a thread, before sealing.
        """
        self._wait_until_written()
        self._make_room(step)
        args = ocp.args.Composite(state=ocp.args.PyTreeSave(flat(state)), facts=ocp.args.JsonSave(facts))
        self._note(lambda: self._writer.save(self._directory / str(step), args=args))
        self._written = self._waiter.submit(self._writer.wait_until_finished)
        if jax.process_count() == 1:
            agreement.fail_together(self._failure)
        self._unsealed[step], self._beside[step] = None, beside
        self._saved.add(step)

    def poll(self) -> None:
        """Moves finished saves forward without waiting: checksums, manifest and pruning happen in a thread."""
        if self._failure is None:
            self._note(self._advance)
        if jax.process_count() == 1:
            agreement.fail_together(self._failure)

    def wait(self) -> None:
        """Blocks until every save is sealed."""
        self._wait_until_written()
        while True:
            # A sealed one may be pruned already, before this thread has heard that it is done.
            waiting = [s for s, finishing in self._unsealed.items() if finishing is None]
            lost = [s for s in waiting if not files.committed(self._directory / str(s))]
            if lost and jax.process_index() == 0:  # the others may see it later
                self._failure = CheckpointError(f"step {lost[0]} was saved to {self._directory} and is not there")
            self.poll()
            agreement.fail_together(self._failure)
            if not agreement.any_host(self.pending):
                return
            time.sleep(0.01)

    def close(self) -> None:
        self.wait()
        self._sealer.shutdown()
        self._waiter.shutdown()
        self._writer.close()

    def _wait_until_written(self) -> None:
        """Returns once no process writes any more, or fails with the one that cannot.

        Not orbax's own waiting: there a process whose neighbour has failed waits for it for twenty minutes.
        """
        while True:
            futures.wait([self._written], timeout=1.0 if jax.process_count() == 1 else 0.05)
            self._note(self._written.result if self._written.done() else self._check_store)
            agreement.fail_together(self._failure)
            if not agreement.any_host(not self._written.done()):
                return

    def _make_room(self, step: int) -> None:
        """Removes what an earlier start left at this step, before any process writes there. Collective."""
        found = jax.process_index() == 0 and (self._directory / str(step)).exists()
        if not agreement.any_host(found):
            return
        if found:
            self._note(lambda: files.discard(self._directory / str(step), manifest.MANIFEST))
        agreement.fail_together(self._failure)

    def _advance(self) -> None:
        if self._written.done():
            self._written.result()
        self._check_store()
        for step, finishing in list(self._unsealed.items()):
            directory = self._directory / str(step)
            if finishing is None:
                # Orbax is asked first: a bucket answers each question with a request.
                if self._written.done() and files.committed(directory):
                    self._unsealed[step] = self._sealer.submit(self._finish, directory)
            elif finishing.done():
                # On the first host not yet, where other hosts are still hashing: it is asked again.
                if finishing.result():
                    del self._unsealed[step], self._beside[step]
                else:
                    self._unsealed[step] = None

    def _finish(self, directory: Path) -> bool:
        """In the thread: checksums of this host's files; on the first host manifest and pruning, once all have theirs.

        Returns:
          Whether all of this host's part is done.
        """
        index, count = jax.process_index(), jax.process_count()
        if not manifest.has_part(directory, index, count):
            manifest.write_part(directory, index, count)
        if index:
            return True
        self._beside[int(directory.name)]()
        if not manifest.seal(directory):
            time.sleep(files.pause(directory))
            return False
        sealed = int(directory.name)
        files.write_json(memory(self._directory), {"step": sealed})
        replaced = [s for s in sealed_steps(self._directory) if s > sealed and s not in self._saved]
        for step in replaced:
            files.discard(self._directory / str(step), manifest.MANIFEST)
        for step in sealed_steps(self._directory)[: -self._keep]:
            files.discard(self._directory / str(step), manifest.MANIFEST)
        return True

    def _check_store(self) -> None:
        """Raises OSError where a save is under way whose store stays away: orbax goes on trying for much longer."""
        if self.pending and (why := files.away(self._directory)):
            raise OSError(why)

    def _note(self, call: Callable[[], Any]) -> None:
        """Runs it; an error is kept until every process knows of it."""
        try:
            call()
        except Exception as error:  # whatever orbax, or the file system under it, has to say
            good = sealed_steps(self._directory)
            last = f"the last good checkpoint is step {good[-1]}" if good else "no good checkpoint exists yet"
            reason = str(error).partition(" [tensorstore_spec=")[0]  # what follows is two screens of settings
            self._failure = CheckpointError(f"saving to {self._directory} failed ({reason}); {last}")
            self._failure.__cause__ = error


def _check_writable(directory: Path) -> None:
    """Raises CheckpointError where this process cannot make files in the folder, created if absent."""
    probe = directory / f".probe_of_process_{jax.process_index()}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise CheckpointError(f"{directory} cannot be written to: {error.strerror}") from error

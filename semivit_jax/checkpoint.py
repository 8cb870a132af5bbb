"""Checkpoints: orbax writes them in the background, a manifest seals them, only sealed ones are trusted.

A checkpoint is a folder `<directory>/<step>` with two items: `state`, arrays under flat names such as
`params.blocks.attn.qkv.kernel`, and `facts`, JSON: what the numbers belong to. `<directory>.json` remembers the
step sealed last, so that lost checkpoints are noticed. What cannot be used, and what a rollback left behind, is
kept in `<directory>_set_aside`.
"""

import dataclasses
import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from semivit_jax import cluster, manifest
from semivit_jax.optim import path_name

PyTree = Any
Facts = dict[str, Any]


class _ShortOrbax(logging.Filter):
    """What orbax logs, without what buries our own lines.

    It warns that single items of its own composite checkpoints lack a file which it never writes there. And each of
    its threads prints the stack of a save that failed, 200 lines in all; the error itself comes up as
    `CheckpointError`, so here their first lines are enough.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if "orbax" in record.pathname:
            record.exc_info = None
        return "Metadata file does not exist" not in record.getMessage()


logging.getLogger("absl").addFilter(_ShortOrbax())


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or read; the message says which one and what is still good."""


@dataclasses.dataclass(frozen=True)
class Restored:
    """A good checkpoint: its step, state and facts."""

    step: int
    state: PyTree
    facts: Facts


class Checkpoints:
    """The checkpoints of one stage in one folder.

    `save` returns at once; `poll`, called every step, seals what has been committed since and removes old
    checkpoints, never one of the `keep` newest good ones.
    """

    def __init__(self, directory: Path, *, keep: int, say: Callable[[str], None]):
        """Args: directory, created if absent; keep, good checkpoints to keep; say, prints one line."""
        self._directory, self._keep, self._say = directory.resolve(), keep, say
        self._memory = self._directory.with_suffix(".json")
        self._aside = self._directory.with_name(f"{directory.name}_set_aside")
        self._unsealed: dict[int, Future[bool] | None] = {}
        self._sealer = ThreadPoolExecutor(max_workers=1)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=None,
            create=True,
            enable_async_checkpointing=True,
            # Two folders are written at the same time; their hosts must not take each other's barriers for theirs.
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                barrier_sync_key_prefix=f"{directory.parent.name}_{directory.name}"
            ),
        )
        _check_writable(self._directory)  # at the start, not hours later at the first save
        self._manager = ocp.CheckpointManager(self._directory, options=options)

    @property
    def pending(self) -> bool:
        """Whether a save of this process is not sealed yet."""
        return bool(self._unsealed)

    def save(self, step: int, state: PyTree, facts: Facts) -> None:
        """Starts writing; the state may be donated as soon as this returns."""
        args = ocp.args.Composite(state=ocp.args.PyTreeSave(flat(state)), facts=ocp.args.JsonSave(facts))
        self._guarded(lambda: self._manager.save(step, args=args, force=True))
        self._unsealed[step] = None

    def poll(self) -> None:
        """Moves finished saves forward without waiting: checksums, manifest and pruning happen in a thread."""
        self._guarded(self._manager.check_for_errors)
        for step, finishing in list(self._unsealed.items()):
            directory = self._directory / str(step)
            if finishing is None:
                if directory.exists():  # orbax renames the folder into place when it is committed
                    self._unsealed[step] = self._sealer.submit(self._finish, directory)
            elif finishing.done():
                # On the first host not yet, where other hosts are still hashing: it is asked again.
                if self._guarded(finishing.result):
                    del self._unsealed[step]
                else:
                    self._unsealed[step] = None

    def wait(self) -> None:
        """Blocks until every save is sealed, on the first host; on the others until their part is done."""
        self._guarded(self._manager.wait_until_finished)
        while self._unsealed:
            # A sealed one may be pruned already, before this thread has heard that it is done.
            waiting = [s for s, finishing in self._unsealed.items() if finishing is None]
            lost = [s for s in waiting if not (self._directory / str(s)).exists()]
            if lost and jax.process_index() == 0:
                raise CheckpointError(f"step {lost[0]} was saved to {self._directory} and is not there")
            self.poll()
            time.sleep(0.01)

    def close(self) -> None:
        self.wait()
        self._sealer.shutdown()
        self._manager.close()

    def restore_latest(self, target: PyTree) -> Restored | None:
        """The newest good checkpoint, or None where there never was one; says why newer ones were passed over.

        Args:
          target: described state (`jax.ShapeDtypeStruct` leaves with shardings).

        Raises:
          CheckpointError: there were good checkpoints and none is left, so starting afresh would lose work.
        """
        step = self.latest_good_step()
        if step is not None:
            directory = self._directory / str(step)
            return Restored(step, restore_tree(directory, target), read_facts(directory))
        if cluster.from_first_host(self._memory.exists()):
            raise CheckpointError(
                f"{self._directory} had a good checkpoint at step {json.loads(self._memory.read_text())['step']}, "
                f"and none is left that can be trusted; damaged ones are kept in {self._aside}; "
                "remove the stage's folder to start the stage again"
            )
        return None

    def latest_good_step(self) -> int | None:
        """Newest good step, the same on every host; makes room where a folder cannot be continued from."""
        found = self._clean_up() if jax.process_index() == 0 else None
        found = cluster.from_first_host(-1 if found is None else found)
        self._manager.reload()
        return None if found == -1 else found

    def latest_facts(self) -> Facts | None:
        """Facts of the newest good checkpoint, None where there is none."""
        step = self.latest_good_step()
        return None if step is None else read_facts(self._directory / str(step))

    def newest_healthy(self, healthy_until: int) -> int | None:
        """Newest good step of at most that one, or else the oldest good one; None where none is good.

        The same on every host; saves must have been waited for.
        """
        good = []
        if jax.process_index() == 0:
            good = [s for s in _steps(self._directory) if not manifest.problems(self._directory / str(s))]
        found = max((s for s in good if s <= healthy_until), default=min(good, default=-1))
        found = cluster.from_first_host(found)
        return None if found == -1 else found

    def set_aside_after(self, step: int) -> None:
        """Takes newer checkpoints out of the way: their steps will be trained and saved again."""
        if jax.process_index() == 0:
            for newer in [s for s in _steps(self._directory) if s > step]:
                self._set_aside(self._directory / str(newer))
        cluster.wait_for_all("checkpoints set aside")
        self._manager.reload()

    def _clean_up(self) -> int | None:
        """Newest good step; folders above it are set aside where damaged, removed where never completed."""
        for left_over in self._directory.glob("[0-9]*.*"):  # of a save or a removal that was interrupted
            shutil.rmtree(left_over)
        for step in reversed(_steps(self._directory)):
            directory = self._directory / str(step)
            if not manifest.is_sealed(directory):
                manifest.seal(directory)  # the process ended between its last two files
            found = manifest.problems(directory)
            if not found:
                return step
            self._say(f"checkpoint {directory} is passed over: {'; '.join(found[:3])}")
            if manifest.is_sealed(directory):
                self._set_aside(directory)
            else:
                shutil.rmtree(directory)
        return None

    def _set_aside(self, directory: Path) -> None:
        self._aside.mkdir(exist_ok=True)
        earlier = len(list(self._aside.glob(f"{directory.name}.*")))
        shutil.move(directory, self._aside / f"{directory.name}.{earlier}")

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
        if not manifest.seal(directory):
            return False
        manifest.write_json(self._memory, {"step": int(directory.name)})
        good = self._sealed()
        for step in good[: -self._keep]:
            doomed = self._directory / f"{step}.removed"  # by rename: a half-deleted one must not look good
            (self._directory / str(step)).rename(doomed)
            shutil.rmtree(doomed)
        return True

    def _sealed(self) -> list[int]:
        return [s for s in _steps(self._directory) if manifest.is_sealed(self._directory / str(s))]

    def _guarded(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Exception as error:
            good = self._sealed()
            last = f"the last good checkpoint is step {good[-1]}" if good else "no good checkpoint exists yet"
            raise CheckpointError(f"saving to {self._directory} failed ({error}); {last}") from error


def flat(tree: PyTree) -> dict[str, Any]:
    """Leaves under dotted names, in the tree's own order; branches without leaves vanish."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {path_name(path).replace("/", "."): leaf for path, leaf in leaves}


def newest_good(directory: Path) -> Path | None:
    """Newest good checkpoint of a folder, for reading alone: nothing is moved or removed."""
    directory = directory.resolve()  # orbax finds no metadata under a relative path
    candidates = (directory / str(s) for s in reversed(_steps(directory)))
    return next((d for d in candidates if not manifest.problems(d)), None)


def read_facts(checkpoint: Path) -> Facts:
    with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader:
        return reader.restore(checkpoint / "facts")


def restore_arrays(checkpoint: Path, targets: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Reads the named arrays (a subset is fine) into the targets' shapes, types and shardings.

    Raises:
      CheckpointError: an array is missing or has another shape.
    """
    item = dict(targets)
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        found = reader.metadata(checkpoint / "state").item_metadata
        shapes = {name: tuple(meta.shape) for name, meta in dict(found.tree).items()}
        for name, target in item.items():
            if shapes.get(name) != tuple(target.shape):
                raise CheckpointError(
                    f"{checkpoint}: array {name} has shape {shapes.get(name)}, the model needs {tuple(target.shape)}"
                )
        restore_args = ocp.checkpoint_utils.construct_restore_args(item)
        args = ocp.args.PyTreeRestore(item=item, restore_args=restore_args, partial_restore=True)
        return reader.restore(checkpoint / "state", args=args)


def restore_tree(checkpoint: Path, target: PyTree) -> PyTree:
    """Reads a whole state, or any part of it that keeps the state's names."""
    targets = flat(target)
    arrays = restore_arrays(checkpoint, targets)
    return jax.tree.unflatten(jax.tree.structure(target), [arrays[name] for name in targets])


def array_shapes(checkpoint: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all arrays of a checkpoint."""
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        found = reader.metadata(checkpoint / "state").item_metadata
        return {name: tuple(meta.shape) for name, meta in dict(found.tree).items()}


def _check_writable(directory: Path) -> None:
    """Raises CheckpointError where this process cannot make files in the folder, created if absent."""
    probe = directory / f".probe_of_process_{jax.process_index()}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise CheckpointError(f"{directory} cannot be written to: {error.strerror}") from error


def _steps(directory: Path) -> list[int]:
    return sorted(int(p.name) for p in directory.iterdir() if p.name.isdigit()) if directory.exists() else []

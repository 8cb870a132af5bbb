"""Checkpoints: orbax writes them in the background, a manifest seals them, only sealed ones are trusted.

A checkpoint is a folder `<directory>/<step>` with two items: `state`, arrays under flat names such as
`params.blocks.attn.qkv.kernel`, and `facts`, JSON: what the numbers belong to.
"""

import dataclasses
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from semivit_jax import manifest
from semivit_jax.optim import path_name

PyTree = Any
Facts = dict[str, Any]


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
        self._unsealed: dict[int, Future[None] | None] = {}
        self._hasher = ThreadPoolExecutor(max_workers=1)
        options = ocp.CheckpointManagerOptions(max_to_keep=None, create=True, enable_async_checkpointing=True)
        self._manager = ocp.CheckpointManager(self._directory, options=options)

    def save(self, step: int, state: PyTree, facts: Facts) -> None:
        """Starts writing; the state may be donated as soon as this returns."""
        args = ocp.args.Composite(state=ocp.args.PyTreeSave(flat(state)), facts=ocp.args.JsonSave(facts))
        self._guarded(lambda: self._manager.save(step, args=args, force=True))
        self._unsealed[step] = None

    def poll(self) -> None:
        """Moves finished saves forward without waiting: checksums in a thread, then the manifest, then pruning."""
        self._guarded(self._manager.check_for_errors)
        for step, hashed in list(self._unsealed.items()):
            directory = self._directory / str(step)
            if not directory.exists():  # orbax renames the folder into place when it is committed
                continue
            if hashed is None:
                hashed = self._hasher.submit(manifest.write_part, directory, jax.process_index())
                self._unsealed[step] = hashed
            if hashed.done():
                self._guarded(hashed.result)
                if self._seal(directory):
                    del self._unsealed[step]
                    self._prune()

    def wait(self) -> None:
        """Blocks until every save is sealed."""
        self._guarded(self._manager.wait_until_finished)
        while self._unsealed:
            self.poll()
            time.sleep(0.01)

    def close(self) -> None:
        self.wait()
        self._hasher.shutdown()
        self._manager.close()

    def restore_latest(self, target: PyTree) -> Restored | None:
        """The newest good checkpoint, or None where there is none; says why newer ones were passed over.

        Args:
          target: described state (`jax.ShapeDtypeStruct` leaves with shardings).

        Raises:
          CheckpointError: checkpoints exist but none of them is good, so starting afresh would lose work.
        """
        step = self.latest_good_step()
        return None if step is None else self.restore(step, target)

    def restore(self, step: int, target: PyTree) -> Restored:
        """Reads one checkpoint into the target's shapes and shardings."""
        directory = self._directory / str(step)
        return Restored(step, restore_tree(directory, target), read_facts(directory))

    def steps(self) -> list[int]:
        """Steps of all folders, good or not, in order."""
        return _steps(self._directory)

    def latest_good_step(self) -> int | None:
        """Newest good step, the same on every host; sets aside newer folders that cannot be continued from."""
        found = -1
        if jax.process_index() == 0:
            found = self._clean_up()
        if jax.process_count() > 1:
            found = int(multihost_utils.broadcast_one_to_all(found))
        self._manager.reload()
        if found == -2:
            raise CheckpointError(
                f"no checkpoint in {self._directory} can be trusted; the damaged ones are kept beside it in "
                f"{self._bad_folder().name}; remove the stage's folder to start it again"
            )
        return None if found == -1 else found

    def _clean_up(self) -> int:
        """Sets aside what cannot be continued from; the newest good step, -1 for none ever, -2 for none left."""
        damaged = False
        for step in reversed(_steps(self._directory)):
            directory = self._directory / str(step)
            found = manifest.problems(directory)
            if not found:
                return step
            self._say(f"checkpoint {directory} is passed over: {'; '.join(found[:3])}")
            if manifest.is_sealed(directory):
                damaged = True
                self._bad_folder().mkdir(exist_ok=True)
                shutil.move(directory, self._bad_folder() / directory.name)
            else:  # a save that was interrupted: never good, and its place is needed
                shutil.rmtree(directory)
        return -2 if damaged else -1

    def _bad_folder(self) -> Path:
        return self._directory.with_name(f"{self._directory.name}_damaged")

    def _seal(self, directory: Path) -> bool:
        if jax.process_index():
            return True
        return manifest.seal(directory, jax.process_count())

    def _prune(self) -> None:
        if jax.process_index():
            return
        good = [s for s in _steps(self._directory) if manifest.is_sealed(self._directory / str(s))]
        for step in good[: -self._keep]:
            directory = self._directory / str(step)
            (directory / manifest.MANIFEST).unlink()  # a half-deleted checkpoint must not look sealed
            shutil.rmtree(directory)

    def _guarded(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except Exception as error:
            good = [s for s in _steps(self._directory) if manifest.is_sealed(self._directory / str(s))]
            last = f"the last good checkpoint is step {good[-1]}" if good else "no good checkpoint exists yet"
            raise CheckpointError(f"saving to {self._directory} failed ({error}); {last}") from error


def flat(tree: PyTree) -> dict[str, Any]:
    """Leaves under dotted names, in the tree's own order; branches without leaves vanish."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {path_name(path).replace("/", "."): leaf for path, leaf in leaves}


def newest_good(directory: Path) -> Path | None:
    """Newest good checkpoint of a folder, for reading alone: nothing is moved or removed."""
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


def _steps(directory: Path) -> list[int]:
    return sorted(int(p.name) for p in directory.iterdir() if p.name.isdigit()) if directory.exists() else []

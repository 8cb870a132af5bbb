"""Read checkpoints; trust only sealed ones whose files match their manifest."""

import logging
from collections.abc import Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp

from semivit_jax import files
from semivit_jax.checkpoints import manifest
from semivit_jax.files import Path
from semivit_jax.ops.optim import path_name

PyTree = Any
Facts = dict[str, Any]


class _NoMetadataWarning(logging.Filter):
    """Orbax warns that single items of its own composite checkpoints lack a file which it never writes there."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "Metadata file does not exist" not in record.getMessage()


logging.getLogger("absl").addFilter(_NoMetadataWarning())


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or read; the message says which one and what is still good."""


def flat(tree: PyTree) -> dict[str, Any]:
    """Leaves under dotted names, in the tree's own order; branches without leaves vanish."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {path_name(path).replace("/", "."): leaf for path, leaf in leaves}


def newest_good(directory: Path) -> Path | None:
    """Newest good checkpoint of a folder, for reading alone: nothing is moved or removed."""
    directory = files.absolute(directory)  # orbax finds no metadata under a relative path
    candidates = (directory / str(s) for s in reversed(steps(directory)))
    return next((d for d in candidates if not manifest.problems(d)), None)


def undamaged(checkpoint: Path) -> Path:
    """The checkpoint itself.

    Raises:
      CheckpointError: its files do not match its manifest.
    """
    found = manifest.problems(checkpoint)
    if found:
        raise CheckpointError(f"{checkpoint} is damaged: {'; '.join(found[:3])}")
    return checkpoint


def read_facts(checkpoint: Path) -> Facts:
    """What a checkpoint says of itself besides its arrays (`progress.facts`).

    Read without orbax, which would touch a device: a process that is one of several has to know the config before.
    """
    return files.read_json(checkpoint / "facts" / "metadata")


def restore_arrays(checkpoint: Path, targets: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Reads the named arrays (a subset is fine) into the targets' shapes, types and shardings.

    Raises:
      CheckpointError: an array is missing or has another shape.
    """
    shapes = array_shapes(checkpoint)
    for name, target in targets.items():
        if shapes.get(name) != tuple(target.shape):
            raise CheckpointError(
                f"{checkpoint}: array {name} has shape {shapes.get(name)}, the model needs {tuple(target.shape)}"
            )
    return restore_known(checkpoint, targets)


def restore_known(checkpoint: Path, targets: Mapping[str, Any]) -> dict[str, jax.Array]:
    """The same for targets of the shapes that `array_shapes` has told, without asking for these again."""
    item = dict(targets)
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
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


def steps(directory: Path) -> list[int]:
    """Steps of a folder's checkpoints, good or not, in order."""
    return sorted(int(p.name) for p in directory.iterdir() if p.name.isdigit()) if directory.exists() else []


def sealed_steps(directory: Path) -> list[int]:
    """Steps of a folder's checkpoints that were completed, whether or not their files are still good."""
    return [s for s in steps(directory) if manifest.is_sealed(directory / str(s))]


def memory(directory: Path) -> Path:
    """The file beside a folder of checkpoints that remembers which step was sealed last."""
    return directory.with_suffix(".json")

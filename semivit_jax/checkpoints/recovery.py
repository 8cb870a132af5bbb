"""Choose the checkpoint a stage goes on from: the newest good one, the same on every host.

What cannot be used, and what a rollback left behind, is kept in `<directory>_set_aside`. All functions are collective
and expect that no save is going on.
"""

import dataclasses
from collections.abc import Callable

import jax

from semivit_jax import files
from semivit_jax.checkpoints import manifest
from semivit_jax.checkpoints.reading import CheckpointError, Facts, PyTree, memory, read_facts, restore_tree, steps
from semivit_jax.files import Path
from semivit_jax.hosts import agreement

Say = Callable[[str], None]  # prints one line


@dataclasses.dataclass(frozen=True)
class Restored:
    """A good checkpoint: its step, state and facts."""

    step: int
    state: PyTree
    facts: Facts


def restore_latest(directory: Path, target: PyTree, *, say: Say) -> Restored | None:
    """The newest good checkpoint, or None where there never was one; says why newer ones were skipped.

    Args:
      directory: that the checkpoints of a stage are in.
      target: described state (`jax.ShapeDtypeStruct` leaves with shardings).
      say: prints one line.

    Raises:
      CheckpointError: there were good checkpoints and none is left, so starting afresh would lose work.
    """
    step = latest_good_step(directory, say=say)
    if step is not None:
        checkpoint = files.absolute(directory) / str(step)
        return Restored(step, restore_tree(checkpoint, target), read_facts(checkpoint))
    sealed = _agreed(_sealed_last(directory))
    if sealed is not None:
        kept = f"; damaged ones are kept in {_aside(directory)}" if _aside(directory).exists() else ""
        raise CheckpointError(
            f"{directory} had a good checkpoint at step {sealed}, and none is left that can be trusted{kept}; "
            "remove the stage's folder to start the stage again"
        )
    return None


def latest_good_step(directory: Path, *, say: Say) -> int | None:
    """Newest good step; makes room where a folder cannot be continued from."""
    found = _clean_up(directory, say) if jax.process_index() == 0 else None
    return _agreed(found)


def latest_facts(directory: Path, *, say: Say) -> Facts | None:
    """Facts of the newest good checkpoint, None where there is none."""
    step = latest_good_step(directory, say=say)
    return None if step is None else read_facts(files.absolute(directory) / str(step))


def newest_healthy(directory: Path, healthy_until: int) -> int | None:
    """Newest good step of at most that one, or else the oldest good one; None where none is good."""
    good = []
    if jax.process_index() == 0:
        good = [s for s in steps(directory) if not manifest.problems(directory / str(s))]
    return _agreed(max((s for s in good if s <= healthy_until), default=min(good, default=None)))


def set_aside_after(directory: Path, step: int) -> None:
    """Takes newer checkpoints out of the way: their steps will be trained and saved again."""
    if jax.process_index() == 0:
        for newer in [s for s in steps(directory) if s > step]:
            _set_aside(directory / str(newer))
        if memory(directory).exists():
            files.write_json(memory(directory), {"step": step})
    agreement.wait_for_all("checkpoints set aside")


def _agreed(step: int | None) -> int | None:
    found = agreement.from_first_host(-1 if step is None else step)
    return None if found == -1 else found


def _clean_up(directory: Path, say: Say) -> int | None:
    """Newest good step; folders above it are set aside where damaged, removed where never completed."""
    sealed = _sealed_last(directory)
    for left_over in files.matching(directory, "[0-9]*.*"):  # of a save or a removal that was interrupted
        files.remove(left_over)
    for step in reversed(steps(directory)):
        checkpoint = directory / str(step)
        if not manifest.is_sealed(checkpoint):
            manifest.seal(checkpoint)  # the process ended between its last two files
        found = manifest.problems(checkpoint)
        if not found:
            return step
        lost_manifest = not manifest.is_sealed(checkpoint) and sealed is not None and step <= sealed
        reason = "its manifest is gone" if lost_manifest else "; ".join(found[:3])
        say(f"checkpoint {checkpoint} is passed over: {reason}")
        if lost_manifest or manifest.is_sealed(checkpoint):
            _set_aside(checkpoint)
        else:
            files.remove(checkpoint)
    return None


def _sealed_last(directory: Path) -> int | None:
    """Step of the checkpoint sealed last, which may be gone; None where there never was one."""
    return files.read_json(memory(directory))["step"] if memory(directory).exists() else None


def _set_aside(checkpoint: Path) -> None:
    aside = _aside(checkpoint.parent)
    aside.mkdir(exist_ok=True)
    earlier = len(files.matching(aside, f"{checkpoint.name}.*"))
    files.set_aside(checkpoint, aside / f"{checkpoint.name}.{earlier}")


def _aside(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}_set_aside")

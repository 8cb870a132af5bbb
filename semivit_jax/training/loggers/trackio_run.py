"""Send a stage's numbers to trackio: to its folder on this machine, or where its own variables say (TRACKIO_...)."""

import os
from collections.abc import Mapping

from semivit_jax.files import Path
from semivit_jax.training.loggers import kept


class TrackioRun:
    """A run of the stage; a restart goes on in the same one, where the steps since the last checkpoint come again."""

    def __init__(self, folder: Path, restored_step: int | None):
        import trackio

        del restored_step  # nothing is taken back there
        stage, found = kept.known(folder), kept.kept_id(folder, "trackio")
        if found is None:  # a name: trackio finds a run by that, so it must be no other's
            kept.keep_id(folder, "trackio", found := f"{stage.name}-{kept.new_id()}")
        self._run = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", kept.PROJECT),
            name=found,
            group=stage.group,
            config=stage.config,
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def flush(self) -> None:
        """Nothing to do: trackio's own thread has what was written, and keeps it in a file until it is sent."""

    def close(self) -> None:
        self._run.finish()

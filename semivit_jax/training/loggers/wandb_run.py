"""Send a stage's numbers to Weights & Biases: project, account and mode are those of its own variables (WANDB_...)."""

import logging
import os
from collections.abc import Mapping

from semivit_jax import files
from semivit_jax.files import Path
from semivit_jax.hosts.redact import redacted
from semivit_jax.training.loggers import kept

_log = logging.getLogger(__name__)


class WandbRun:
    """A run of the stage; a restart goes on in the same one.

    Its axis is the number `step`, not W&B's own count, which never goes back: after a restart the steps since the last
    checkpoint come once more.
    """

    def __init__(self, folder: Path, restored_step: int | None):
        import wandb

        del restored_step  # nothing is taken back there
        # It would ask a person for a key, in the midst of our progress line.
        if wandb.setup().settings.mode == "online" and not wandb.login(prompt=False):
            raise RuntimeError("no account: `wandb login`, or WANDB_API_KEY; without one WANDB_MODE=offline")
        stage, found = kept.known(folder), kept.kept_id(folder, "wandb")
        if found is None:  # kept first: one that hangs while it begins must not begin another at the next start
            kept.keep_id(folder, "wandb", found := kept.new_id())
        self._run = wandb.init(
            id=found,
            resume="allow",
            reinit="create_new",  # the stage before may not have ended yet
            project=os.environ.get("WANDB_PROJECT", kept.PROJECT),
            name=stage.name,
            group=stage.group,
            config=stage.config,
            dir=os.environ.get("WANDB_DIR") or files.on_this_machine(folder),
            # What we print stays ours, and code and git state are nobody's but the user's.
            settings=wandb.Settings(console="off", silent=True, disable_git=True, save_code=False),
        )
        self._run.define_metric("*", step_metric="step")
        if not self._run.offline and self._run.url:
            _log.info("%s: numbers at %s", folder.name, redacted(self._run.url))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({"step": step, **values})

    def flush(self) -> None:
        """Nothing to do: wandb's own process has what was written, and keeps it in a file until it is sent."""

    def close(self) -> None:
        self._run.finish()

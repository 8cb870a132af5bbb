"""`semivit train`: run the stages that a config names."""

from pathlib import Path

from semivit_jax.cli.exits import USAGE_ERRORS, guarded, usage_error
from semivit_jax.cli.flags import help_asked, parse_config
from semivit_jax.hosts import stopping
from semivit_jax.training import run


def train(argv: list[str]) -> int:
    """Trains the stages a config names, in its workdir."""
    try:
        if help_asked("train --config=FILE[:ARGS] --workdir=DIR", argv):
            return 0
        config, values, notes = parse_config("train", argv, required=("workdir",), optional=())
    except USAGE_ERRORS as error:
        return usage_error("train", error)

    def action() -> None:
        with stopping.leaving_at_once():  # until the loop listens, which saves first
            run.train(config, Path(values["workdir"]), notes=notes)

    return guarded(action)

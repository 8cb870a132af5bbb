"""Run the stages that a config names: `semivit train`."""

from semivit_jax.cli.exits import USAGE_ERRORS, usage_error
from semivit_jax.cli.flags import config_parser, help_asked, read_config, read_flags, run_folder


def train(argv: list[str]) -> int:
    """Trains the stages a config names, in its workdir."""
    parser = config_parser("train")
    parser.add_argument("--workdir")
    try:
        if help_asked("train --config=FILE[:ARGS] --workdir=DIR", argv):
            return 0
        given = read_flags(parser, argv, required=("config", "workdir"))
        folder = run_folder(given.flags.workdir)
        config, notes = read_config("train", given.config, folder)
    except USAGE_ERRORS as error:
        return usage_error("train", error)
    from semivit_jax.checkpoints import workdir  # these take seconds that help and mistyped flags need not wait for
    from semivit_jax.cli.guarded import guarded
    from semivit_jax.hosts import stopping
    from semivit_jax.training import run

    with guarded() as outcome, stopping.leaving_at_once():  # until the loop listens, which saves first
        was_done = workdir.is_done(folder)
        run.train(config, folder, notes=notes)
        from semivit_jax.report import make  # which training need not wait for

        make.at_the_end(config, folder, anew=not was_done)
    return outcome.code

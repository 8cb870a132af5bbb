"""Write what runs say of every training image into a file that another run learns from: `semivit bank`."""

import jax

from semivit_jax import console, files
from semivit_jax.cli.exits import USAGE_ERRORS, usage_error
from semivit_jax.cli.flags import config_parser, help_asked, read_config, read_flags
from semivit_jax.cli.guarded import WEIGHTS_ERRORS, guarded
from semivit_jax.cli.paths import output_file
from semivit_jax.config import ConfigError
from semivit_jax.data import bank as bank_file
from semivit_jax.data.dataset import open_task
from semivit_jax.inference import banking
from semivit_jax.inference.trained import load_trained
from semivit_jax.stages import label_free
from semivit_jax.training.process import prepare_process
from semivit_jax.words import counted

USAGE = "bank --config=FILE[:ARGS] --runs=RUN[,RUN...] --out=BANK [--combine=means|votes] [--weights=latest|best]"


def bank(argv: list[str]) -> int:
    """Asks runs, checkpoints or imports about the training images of a config."""
    parser = config_parser("bank")
    parser.add_argument("--runs", type=lambda text: [part for part in text.split(",") if part])
    parser.add_argument("--out", type=output_file)
    parser.add_argument("--combine", choices=tuple(banking.COMBINED), default="means")
    parser.add_argument("--weights", choices=("latest", "best"), default="latest")
    try:
        if help_asked(USAGE, argv):
            return 0
        given = read_flags(parser, argv, required=("config", "runs", "out"))
        config, notes = read_config("bank", given.config, None)
    except USAGE_ERRORS as error:
        return usage_error("bank", error)
    asked = given.flags

    with guarded(also=WEIGHTS_ERRORS) as outcome:
        prepare_process(config)
        if jax.process_count() > 1:
            raise ConfigError(f"semivit bank runs in one process, this is one of {jax.process_count()}")
        for line in notes:
            console.say(line)
        task = open_task(config, workdir=None, label_free=label_free())
        with console.working("reading the weights"):
            classifiers = [
                load_trained(files.path(run), kept=asked.weights, tree=None, stage=None) for run in asked.runs
            ]
        found = banking.make_bank(classifiers, config, task, combine=asked.combine)
        bank_file.save(asked.out, found)
        hits, known = banking.right(found, task.train.labels[: len(found.classes)])
        rate = f"; right of {counted(known, 'image')} with a known label: {hits / known:.1%}" if known else ""
        console.say(f"wrote {asked.out}: {counted(len(found.classes), 'image')}, from {', '.join(asked.runs)}{rate}")
    return outcome.code

"""A subcommand of one's own: `semivit size --workdir=DIR` counts the parameters of a checkpoint.

One line makes it a word after `semivit`: COMMANDS["size"] = ("tests.extending.command:size", WHAT_IT_DOES).
"""

import math
from collections.abc import Sequence

from semivit_jax import console, files
from semivit_jax.checkpoints import reading
from semivit_jax.cli.flags import source_parser
from semivit_jax.cli.guarded import guarded
from semivit_jax.inference.trained import find_checkpoint

WHAT_IT_DOES = "count parameters: --workdir=DIR"


def size(argv: Sequence[str]) -> int:
    """Counts the parameters of a run's newest checkpoint, or of the one that is named."""
    flags = source_parser("size", "Count the parameters of a checkpoint.", with_use=False).parse_args(argv)

    with guarded() as outcome:
        source = find_checkpoint(files.path(flags.workdir), kept=flags.weights, stage=flags.stage)
        shapes = [shape for name, shape in reading.array_shapes(source).items() if name.startswith("params.")]
        console.say(f"{source}: {sum(map(math.prod, shapes)):,} parameters in {len(shapes)} arrays")
    return outcome.code

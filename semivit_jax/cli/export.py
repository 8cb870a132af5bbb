"""Write a trained classifier for other tools: `semivit export`."""

from collections.abc import Sequence

from semivit_jax import console, files
from semivit_jax.cli.flags import source_parser
from semivit_jax.cli.guarded import WEIGHTS_ERRORS, guarded
from semivit_jax.cli.paths import output_folder_on_a_disk
from semivit_jax.export import FORMATS, export, require_empty
from semivit_jax.inference.trained import check_classes, load_trained, settled


def export_weights(argv: Sequence[str]) -> int:
    """Writes a trained classifier in a format that other tools read."""
    parser = source_parser("export", "Write a trained classifier for other tools.")
    parser.add_argument("--format", required=True, choices=tuple(FORMATS))
    parser.add_argument(
        "--out", required=True, type=output_folder_on_a_disk, metavar="DIR", help="folder to write, new or empty"
    )
    flags = parser.parse_args(argv)

    with guarded(also=WEIGHTS_ERRORS) as outcome:
        require_empty(flags.out)  # before the weights are read
        folder = files.path(flags.workdir)
        kept, remark = settled(folder, kept=flags.weights, stage=flags.stage)
        if remark:
            console.say(remark)
        with console.working("reading the weights"):
            trained = load_trained(folder, kept=kept, tree=flags.use, stage=flags.stage)
        if trained.weights.spec.decoder is not None:
            raise ValueError(f"{trained.source} is a masked autoencoder: it has no classifier to export")
        check_classes(trained)
        with console.working(f"writing {flags.format}"):
            export(flags.out, flags.format, trained.weights)
        console.say(f"wrote {flags.out} ({flags.format}) from {trained.source}")
    return outcome.code

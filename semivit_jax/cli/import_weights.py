"""Import published weights into a folder that runs start from: `semivit import`."""

import argparse
from collections.abc import Sequence

import rich.console

from semivit_jax import files
from semivit_jax.checkpoints import init_from
from semivit_jax.checkpoints.reading import CheckpointError
from semivit_jax.cli.paths import output_folder
from semivit_jax.console import working
from semivit_jax.inference.import_own import import_own, is_own
from semivit_jax.models import families
from semivit_jax.stages import label_free
from semivit_jax.weights import channels, importing
from semivit_jax.weights.exchange import POOLS
from semivit_jax.weights.folder import require_no_import, save_imported
from semivit_jax.weights.preprocessing import IMAGENET_224, Preprocessing

EXIT_ERROR = 1


def import_weights(argv: Sequence[str]) -> int:
    """Runs the command with the arguments after `semivit import`.

    Prints one row per tensor and what travels along. Returns the exit code: 0, or 1 with one line that says
    what is wrong with the source; a wrong command line exits with 2.
    """
    arguments = _parser().parse_args(argv)
    console = rich.console.Console()
    try:
        own = is_own(arguments.source)
        if own and arguments.sum_channels:
            raise ValueError("--sum_channels: a run of ours, and an import, reads red, green and blue")
        more = {} if own else {"sum_channels": arguments.sum_channels}
        read = import_own if own else importing.import_weights
        require_no_import(arguments.out)  # before the source is read
        with working("importing"):
            imported = read(
                arguments.source,
                variant=arguments.model,
                pool=arguments.pool,
                image_size=arguments.image_size,
                decoder=arguments.decoder,
                **more,
            )
            beside = init_from.seen_file(files.path(arguments.source), label_free()) if own else {}
            save_imported(arguments.out, imported, beside=beside)
    except (OSError, ValueError, ImportError, CheckpointError) as error:
        rich.console.Console(stderr=True).print(
            f"semivit import: {error}", style="red", markup=False, highlight=False, soft_wrap=True
        )
        return EXIT_ERROR
    for table in imported.report.tables():
        console.print(table)
    console.print(f"model: {families.told(imported.weights.spec)}", markup=False, soft_wrap=True)
    console.print(f"preprocessing: {_preprocessing(imported.weights.preprocessing)}", markup=False, soft_wrap=True)
    for note in imported.report.notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    console.print(f"written to {arguments.out}", markup=False, soft_wrap=True)
    return 0


def _preprocessing(view: Preprocessing) -> str:
    mean, std = (" ".join(f"{value:g}" for value in values) for values in (view.mean, view.std))
    size = f"short side to {view.resize_size} pixels ({view.interpolation}), centre {view.image_size}"
    turned = "photos turned as their EXIF asks; " if view.exif_rotation else ""
    return f"{turned}{size}; mean {mean}, std {std} of values in 0..1"


def _offered() -> str:
    """Models for a user: the sizes of the tests are taken too, but are of no use to anybody else."""
    return ", ".join(name for name in families.variants() if "_test" not in name)


def _variant(name: str) -> str:
    if name not in families.variants():
        raise argparse.ArgumentTypeError(f"{name!r} is no model here: {_offered()}")
    return name


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="semivit import", description="Import published weights.")
    parser.add_argument(
        "source",
        help="file (.safetensors, .pth, .pt, .th, .bin, .ckpt, .pth.tar, .npz), folder in Hugging Face layout, "
        "hf://org/name, or a run of ours",
    )
    parser.add_argument(
        "--model",
        type=_variant,
        metavar="VARIANT",
        help=f"default: the one whose sizes the source has; one of {_offered()}",
    )
    parser.add_argument("--out", required=True, type=output_folder, metavar="DIR", help="folder to write")
    parser.add_argument("--pool", choices=POOLS, help="what the head reads (default: as in the source)")
    parser.add_argument(
        "--image_size",
        type=int,
        metavar="PIXELS",
        help="default: as the config beside the weights says, else as their position embedding is for, else "
        f"{IMAGENET_224.image_size}, with a note; position embeddings of another size are resized",
    )
    parser.add_argument(
        channels.FLAG,
        action="store_true",
        help="weights that read one or four channels: sum their kernels, a third for each colour (refused otherwise)",
    )
    parser.add_argument(
        "--decoder", action="store_true", help="import an MAE's decoder too, to continue its pre-training"
    )
    return parser

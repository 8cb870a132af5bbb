"""Write the features of many images: `semivit embed`."""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from semivit_jax import console, files
from semivit_jax.cli.exits import USAGE_ERRORS, usage_error
from semivit_jax.cli.flags import Given, read_config, read_flags, source_parser
from semivit_jax.cli.guarded import WEIGHTS_ERRORS, guarded
from semivit_jax.cli.paths import output_folder, place
from semivit_jax.config import Config
from semivit_jax.data import label_lists
from semivit_jax.data.opening import open_split_of
from semivit_jax.data.sources.errors import DatasetError
from semivit_jax.data.sources.folder_scan import not_looked_at, scan
from semivit_jax.data.sources.kept import cache_dir
from semivit_jax.inference.embed import Images
from semivit_jax.inference.embed import embed as embed_images
from semivit_jax.inference.embedding import DTYPES, WRITERS
from semivit_jax.inference.trained import load_trained, settled


def embed(argv: Sequence[str]) -> int:
    """Computes features of a folder of images, of some of them, or of a split of a data set."""
    parser = source_parser("embed", "Write the features of many images, which `semivit select` reads.")
    parser.add_argument("--images", type=place, metavar="FOLDER", help="all images below it")
    parser.add_argument("--list", type=place, metavar="FILE", help="only these of them: a name in each line")
    parser.add_argument("--split", default="", help="of the data set of --config; default: what it trains on")
    parser.add_argument("--out", required=True, type=output_folder, metavar="DIR", help="new, or to go on with")
    parser.add_argument("--format", choices=tuple(WRITERS), default="npz")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--batch_size", type=int, default=64, help="images per forward pass, over all devices")
    try:
        given = read_flags(parser, argv, required=())
        _check(given)
        config, notes = read_config("embed", given.config, None) if given.config else (None, [])
    except USAGE_ERRORS as error:
        return usage_error("embed", error)
    asked = given.flags

    with guarded(also=WEIGHTS_ERRORS) as outcome:
        for line in notes:
            console.say(line)
        images = of_folder(asked.images, asked.list) if config is None else of_config(config, asked.split)
        folder = files.path(asked.workdir)
        kept, remark = settled(folder, kept=asked.weights, stage=asked.stage)
        if remark:
            console.say(remark)
        with console.working("reading the weights"):
            trained = load_trained(folder, kept=kept, tree=asked.use, stage=asked.stage)
        embed_images(trained, images, asked.out, kind=asked.format, dtype=asked.dtype, batch_size=asked.batch_size)
    return outcome.code


def _check(given: Given) -> None:
    """Raises flags.Error where flags contradict each other."""
    asked = given.flags
    if bool(asked.images) == bool(given.config):
        raise flags.Error("give the images, by --images=FOLDER or by --config=RECIPE, one of them")
    if asked.list and not asked.images:
        raise flags.Error("--list needs --images=FOLDER, whose images it names")
    if asked.split and not given.config:
        raise flags.Error("--split needs --config=RECIPE, whose data set has it")
    if asked.batch_size < 1:
        raise flags.Error(f"--batch_size is {asked.batch_size}; at least 1")


def of_folder(folder: Path, listed: Path | None) -> Images:
    """All images below a folder, or those that a list names.

    Raises:
      DatasetError: no folder, or no image. SplitError: the list names what is not there.
    """
    if not folder.is_dir():
        raise DatasetError(f"--images {str(folder)!r} is not a folder")
    found = scan(folder, cache_dir=cache_dir())
    for warning in not_looked_at(folder, found):
        console.say(warning)
    names: Sequence[str] = found.names
    fingerprint = found.fingerprint
    if listed is not None:
        if not listed.is_file():
            raise DatasetError(f"--list: there is no file {listed}")
        names = [names[int(place)] for place in label_lists.read(listed, names)]
        fingerprint = f"{fingerprint} {label_lists.listing_id(names)}"

    def path_of(index: int) -> Path:
        return folder / names[index]

    return Images(str(folder), names, path_of, fingerprint, found.problems)


def of_config(config: Config, split: str) -> Images:
    """All images of a split of the data set that a config names.

    Raises:
      DatasetError: see `dataset.open_task`.
    """
    split = split or config.data.train_split
    images, listing = open_split_of(config.data, split, class_names=None)
    what = f"{config.data.dataset}, split {split!r}" if split else config.data.dataset
    return Images(what, images.names, images.records.__getitem__, listing.content_hash(), ())

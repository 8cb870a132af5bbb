"""Label the images of a folder in a browser: `semivit label`."""

import argparse
import hashlib
import os
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from semivit_jax import console, files
from semivit_jax.cli.exits import usage_error
from semivit_jax.cli.guarded import WEIGHTS_ERRORS, guarded
from semivit_jax.cli.paths import place
from semivit_jax.data.sources import label_table
from semivit_jax.data.sources.errors import DatasetError
from semivit_jax.data.sources.folder_scan import not_looked_at, scan
from semivit_jax.data.sources.kept import cache_dir
from semivit_jax.data.sources.label_paths import Images
from semivit_jax.hosts import extras
from semivit_jax.labeling import asked
from semivit_jax.words import counted, shortened

if TYPE_CHECKING:
    from semivit_jax.inference.predict import Predictor
    from semivit_jax.labeling.guesses import Guesses
    from semivit_jax.labeling.similar import Similar


def label(argv: Sequence[str]) -> int:
    """Serves a page on this machine until it is stopped."""
    parser = argparse.ArgumentParser(
        prog="semivit label", description="Label the images of a folder in a browser.", allow_abbrev=False
    )
    parser.add_argument("--images", required=True, type=place, metavar="FOLDER", help="all images below it")
    parser.add_argument("--labels", required=True, type=place, metavar="CSV", help="path,label; made where it is not")
    parser.add_argument("--todo", type=place, metavar="CSV", help="of `semivit select`: these images first")
    parser.add_argument(
        "--from", dest="run", type=place, metavar="RUN", help="guesses of a run, or of its predictions.csv"
    )
    parser.add_argument(
        "--embedding", type=place, metavar="DIR", help="of `semivit embed`: shows similar images together"
    )
    parser.add_argument("--classes", default="", metavar="A,B", help="to choose from, beside those that there are")
    parser.add_argument("--who", default=_who(), help="name in the journal (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8427, help="where the page is; another one if it is taken")
    parser.add_argument(
        "--links", choices=("no", "yes"), default="no", help="show what links lead to out of the folder"
    )
    parser.add_argument("--open", action="store_true", help="open the page in the browser of this machine")
    flags = parser.parse_args(argv)
    if not 0 <= flags.port < 65536:
        return usage_error("label", ValueError(f"--port is {flags.port}; 0 (any) to 65535"))
    try:
        classes = [asked.class_name(name) for name in flags.classes.split(",") if name.strip()]
    except ValueError as error:
        return usage_error("label", ValueError(f"--classes: {error}"))
    with guarded(also=WEIGHTS_ERRORS) as outcome:
        _serve(flags, classes)
    return outcome.code


def _who() -> str:
    return os.environ.get("LOGNAME") or os.environ.get("USER") or f"user {os.getuid()}"


def _serve(flags: argparse.Namespace, given: Sequence[str]) -> None:
    if not extras.installed("label"):
        raise ImportError(f"semivit label needs Starlette and uvicorn: {extras.install_line('label')}")
    from semivit_jax.labeling import guesses as guessing
    from semivit_jax.labeling import serving
    from semivit_jax.labeling.pictures import Pictures
    from semivit_jax.labeling.server import Site, app
    from semivit_jax.labeling.store import Labels

    if not flags.images.is_dir():
        raise DatasetError(f"--images {str(flags.images)!r} is not a folder")
    found = scan(flags.images, cache_dir=cache_dir())
    for line in not_looked_at(flags.images, found):
        console.say(line)
    if found.problems:
        console.say(f"{counted(len(found.problems), 'file')} cannot be shown:")
        for line in shortened(found.problems):
            console.say(f"  {line}")
    names = list(found.names)
    images = Images(flags.images, names)
    order = _order(flags.todo, images) if flags.todo else []
    similar = _similar(flags.embedding, names) if flags.embedding else None
    predictor = None
    if flags.run is None:
        guesses = guessing.Guesses("", ())
    elif flags.run.is_file():
        guesses = guessing.from_csv(flags.run, images)
    else:
        predictor, guesses = _predictor(flags.run)
    classes = [*given, *guesses.classes]
    labels = Labels(flags.labels, flags.images, names, who=flags.who, classes=list(dict.fromkeys(classes)))
    pictures = Pictures(flags.images, names, cache=cache_dir() / "pictures", links=flags.links == "yes")
    listing = hashlib.sha256("\0".join(names).encode(errors="surrogateescape")).hexdigest()[:16]
    site = Site(flags.images.resolve().name or "/", listing, labels, pictures, order, guesses, similar)
    token = serving.token_of(flags.labels, cache_dir() / "labeling")
    opened = serving.listening(flags.port)
    address = f"http://{serving.HOST}:{opened.getsockname()[1]}/{token}/"

    def started() -> None:
        console.say(f"{counted(len(names), 'image')}, {labels.known:,} with a label in {flags.labels}")
        console.say(f"label them at {address} (Ctrl-C ends it; all is saved at every key)")
        if predictor is not None:
            known = set(order)
            guesses.start(predictor, flags.images, names, [*order, *(p for p in range(len(names)) if p not in known)])
        if flags.open:
            webbrowser.open(address)

    try:
        serving.serve(app(site, token=token), opened, started=started)
    finally:
        guesses.stop()
        labels.close()
        console.say(f"{labels.known:,} of {counted(len(names), 'image')} with a label in {flags.labels}")


def _order(todo: Path, images: Images) -> list[int]:
    """Places of the images that a table names, in its order, each once.

    Raises:
      DatasetError: it cannot be read, or names none of the images.
    """
    table = label_table.read(todo, is_image=lambda path: images.find(path) is not None)
    if table.errors:
        raise DatasetError("\n".join(table.errors))
    found = (images.find(row.path) for row in table.rows)
    order = list(dict.fromkeys(number for number in found if number is not None))
    if not order:
        raise DatasetError(f"{todo} names not one image of {str(images.root)!r}")
    return order


def _similar(folder: Path, names: Sequence[str]) -> "Similar":
    from semivit_jax.inference import embedding
    from semivit_jax.labeling.similar import Similar

    with console.working("reading the features"):
        return Similar(embedding.read(files.path(folder)), names)


def _predictor(run: Path) -> "tuple[Predictor, Guesses]":
    from semivit_jax.inference.predict import load
    from semivit_jax.labeling.guesses import Guesses

    with console.working("reading the weights"):
        predictor = load(run)
    return predictor, Guesses(predictor.source, predictor.class_names)

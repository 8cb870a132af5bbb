"""Run the commands of docs/tutorial.md, and write their outputs into it and the pictures beside it: `make tutorial`.

`python -m tutorial.make --photos CLASSES` takes photos of CLASSES/NAME/*.jpg instead of scikit-learn's, and writes the
page and the pictures to runs/tutorial, or to the folder of `--out`. What cannot be made is skipped, with a reason.
"""

import argparse
import datetime
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax

from tutorial import method, page, report, seen

ROOT = Path(__file__).resolve().parents[1]
PAGE, PICTURES = "tutorial.md", "pictures"
SAMPLE = "tutorial.sample runs/sample"  # the page's command that makes the folder of photos
MADE = re.compile(r"(?<=<!-- made: -->\n).*\n")
MOST_SHOWN = 2  # photos in the picture of views


def main(argv: Sequence[str] | None = None) -> None:
    """Makes the page and the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, metavar="CLASSES", help="folder with a folder of photos per class")
    parser.add_argument("--demo", type=Path, default=ROOT / "runs/digits", metavar="RUN", help="what make demo wrote")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: docs, with --photos runs/tutorial")
    flags = parser.parse_args(argv)
    out = flags.out or ROOT / ("runs/tutorial" if flags.photos else "docs")
    (out / PICTURES).mkdir(parents=True, exist_ok=True)
    drawn = out / PICTURES
    digits = drawn / "digits.png"
    wanted = {
        "tutorial.md and its pictures": (_tutorial, flags.photos or ROOT, (out, flags.photos)),
        "pictures/digits.png": (_demo, flags.demo / "DONE", (flags.demo, digits)),
        "pictures/report*.png": (report.pictures, flags.demo / "report.html", (flags.demo / "report.html", drawn)),
        "pictures/method.svg": (_method, ROOT, (out,)),
    }
    for name, (make, needed, arguments) in wanted.items():
        print(made(name, make, needed, arguments), flush=True)


def made(name: str, make: Callable[..., None], needed: Path, arguments: tuple) -> str:
    """Makes one thing where what it needs is there; a line that says so."""
    if not needed.exists():
        return f"skipped {name}: there is no {needed}"
    if make is report.pictures and report.browser() is None:
        return f"skipped {name}: there is no Chromium"
    make(*arguments)
    return f"made {name}"


def _demo(run: Path, file: Path) -> None:
    from tutorial import pictures  # loads matplotlib, which a machine that makes no picture may lack

    pictures.demo_picture(run, file)


def _method(out: Path) -> None:
    (out / PICTURES / "method.svg").write_text(method.figure())


def _tutorial(out: Path, photos: Path | None) -> None:
    """Runs the page in a folder of its own that looks like a checkout, then draws from what the run left there."""
    from tutorial import pictures  # loads matplotlib, see above

    text = (ROOT / "docs" / PAGE).read_text()
    if photos:
        text = text.replace(SAMPLE, f"{SAMPLE} --photos {photos.resolve()}")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch).resolve() / "semivit_jax"
        folder.mkdir()
        for name in ("tutorial", "configs"):
            (folder / name).symlink_to(ROOT / name)
        environ = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "120",
        }
        hidden = {str(folder): "/home/you/semivit_jax", str(Path.home()): "/home/you"}
        text = page.filled(text, folder, environ=environ, hidden=hidden)
        minutes = (time.monotonic() - began) / 60
        sample, drawn = folder / "runs/sample", out / PICTURES
        pictures.views_picture(
            seen.read_photos(photos, MOST_SHOWN) if photos else seen.sample_photos(), drawn / "views.png"
        )
        pictures.folder_picture(sample, drawn / "photos.png")
        pictures.predictions_picture(folder / "runs/predictions.csv", sample / "test", drawn / "predictions.png")
    (out / PAGE).write_text(MADE.sub(f"{_circumstances(minutes)}\n", text))


def _circumstances(minutes: float) -> str:
    """When, on what, and by which command the numbers came about."""
    today = datetime.datetime.now(datetime.UTC).date()
    model = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    processor = f" ({model[1].strip()})" if model else ""
    cores = len(os.sched_getaffinity(0))
    machine = f"{jax.default_backend()}, {cores} cores{processor}"
    versions = f"jax {jax.__version__}, Python {platform.python_version()}"
    return (
        f"All outputs are of {today.day} {today:%B %Y}: {machine}, {versions}. `make tutorial` ran the commands in "
        f"{minutes:.0f} minutes."
    )


if __name__ == "__main__":
    main()

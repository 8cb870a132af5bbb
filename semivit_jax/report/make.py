"""Make the report of a run: `report.html` and, with the same numbers, `report.json` in its workdir."""

from semivit_jax import console
from semivit_jax.config import ConfigError
from semivit_jax.files import Path, write_json, writing
from semivit_jax.report import facts, gather, look, page
from semivit_jax.words import mib

PAGE, NUMBERS = "report.html", "report.json"
MOST = 2000  # images of each role whose features are computed
MOST_BYTES = 10 * 2**20


def make(folder: Path, *, most: int = MOST) -> Path:
    """Writes the report of a run as far as it has come; returns the page's place.

    Args:
      folder: workdir of the run.
      most: images of each role that are looked at closely.

    Raises:
      ConfigError: the folder is no run's. ImportError: a package is missing; says how to install it.
    """
    page.check()
    run = facts.read(folder)
    if not (folder / "config.json").exists():
        raise ConfigError(f"{folder} is no run: it has no config.json")
    looked = look.at(run, most=most)
    report = gather.numbers(run, looked)
    with console.working("drawing the report"):
        html = page.render(report, run, looked).encode(errors="backslashreplace")
    write_json(folder / NUMBERS, report)
    with writing(folder / PAGE) as file:
        file.write(html)
    for what, reason in looked.absent.items():
        console.say(f"report without {what}: {reason}")
    size = f" ({mib(len(html))})" if len(html) > MOST_BYTES else ""
    console.say(f"report: {folder / PAGE}{size}")
    return folder / PAGE

"""Make the report of a run: `report.html` and, with the same numbers, `report.json` in its workdir."""

import shlex

import jax

from semivit_jax import console
from semivit_jax.config import Config
from semivit_jax.files import Path, write_json, writing
from semivit_jax.report import facts, gather, look, page
from semivit_jax.words import mib

PAGE, NUMBERS = "report.html", "report.json"
MOST = 2000  # images of each role whose features are computed
MOST_BYTES = 10 * 2**20


def at_the_end(config: Config, folder: Path, *, anew: bool) -> None:
    """Makes the report of a run that has ended, where the config wants one; what goes wrong is a line.

    Args:
      config: of the run.
      folder: its workdir.
      anew: whether one that is there is of an earlier state of the run.
    """
    if not config.log.report or jax.process_index():
        return
    by_hand = f"semivit report --workdir={shlex.quote(str(folder))}"
    if jax.process_count() > 1:
        console.say(f"no report by one of {jax.process_count()} processes; afterwards, on one machine: {by_hand}")
    elif not anew and (folder / PAGE).exists():
        console.say(f"report: {folder / PAGE}")
    else:
        try:
            make(folder)
        except Exception as error:  # of whatever kind: the run has ended well, and a page about it must not change that
            console.say(f"no report: {str(error).partition(chr(10))[0] or type(error).__name__}; later: {by_hand}")


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
    if run.state == facts.TRAINS:  # on the devices of this machine, whose memory it has
        jax.config.update("jax_platforms", "cpu")
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

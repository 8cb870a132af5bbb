"""Make one HTML file that shows how a run came out: `semivit report`."""

import argparse
from collections.abc import Sequence

from semivit_jax import files
from semivit_jax.cli.exits import usage_error
from semivit_jax.cli.guarded import WEIGHTS_ERRORS, guarded
from semivit_jax.cli.paths import output_file
from semivit_jax.report import compare, make

_DESCRIPTION = f"""Writes {make.PAGE}, one file that opens anywhere, and {make.NUMBERS} with the same numbers into the
workdir of a run, finished or not. Several runs are compared in one page."""


def report(argv: Sequence[str]) -> int:
    """Writes the report of a run, or the comparison of several."""
    parser = argparse.ArgumentParser(prog="semivit report", description=_DESCRIPTION, allow_abbrev=False)
    parser.add_argument("runs", nargs="*", metavar="RUN", help="workdirs; several are compared")
    parser.add_argument("--workdir", metavar="DIR", help="the same as one RUN")
    parser.add_argument("--out", type=output_file, metavar="HTML", help="of a comparison; default: comparison.html")
    parser.add_argument(
        "--most", type=int, default=make.MOST, metavar="N", help="images of each role that are looked at closely"
    )
    flags = parser.parse_args(argv)
    runs = [*([flags.workdir] if flags.workdir else []), *flags.runs]
    for wrong, text in (
        (not runs, "name a run: --workdir=DIR"),
        (flags.most < 1, f"--most is {flags.most}; at least 1"),
        (flags.out is not None and len(runs) < 2, "--out is for comparisons; the report of a run lies in its workdir"),
    ):
        if wrong:
            return usage_error("report", ValueError(text))

    with guarded(also=WEIGHTS_ERRORS) as outcome:
        if len(runs) == 1:
            make.make(files.path(runs[0]), most=flags.most)
        else:
            compare.make([files.path(run) for run in runs], flags.out or files.path("comparison.html"))
    return outcome.code

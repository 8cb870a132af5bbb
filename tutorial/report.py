"""Photograph parts of a run's report with the Chromium of this machine, for docs/report.md."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

WIDTH = 1100  # pixels
PARTS = {"report": ("", 1010), "report_classes": ("#classes", 1150), "report_ways": ("#ways", 1180),
         "report_map": ("#map", 900)}  # fmt: skip
COLOURS = 96  # of a picture that is to stay small


def browser() -> str | None:
    """The Chromium of this machine; None where there is none."""
    return shutil.which("chromium") or shutil.which("google-chrome")


def pictures(page: Path, folder: Path) -> None:
    """Writes a PNG of each part of a report.

    Args:
      page: report.html of a run.
      folder: for the pictures.
    """
    program = browser()
    assert program is not None
    for name, (anchor, height) in PARTS.items():
        with tempfile.TemporaryDirectory() as scratch:
            shot = Path(scratch) / "shot.png"
            size = f"--window-size={WIDTH},{height}"
            argv = [program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", size]
            subprocess.run([*argv, f"--screenshot={shot}", f"{page.resolve().as_uri()}{anchor}"], check=True,
                           stderr=subprocess.DEVNULL)  # fmt: skip
            small = Image.open(shot).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
            small.save(folder / f"{name}.png", optimize=True)

"""Photograph parts of a run's report with the Chromium of this machine, for docs/report.md."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

WIDTH = 1100  # pixels
# Name of the picture: (what of the page is left out, its height in pixels).
PARTS = {
    "report": ("#none", 1100),
    "report_classes": ("header, section:not(#classes)", 1000),
    "report_ways": ("header, section:not(#ways)", 1530),
    "report_map": ("header, section:not(#map)", 1090),
}
COLOURS = 255  # of a picture that is to stay small


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
    for name, (hidden, height) in PARTS.items():
        with tempfile.TemporaryDirectory() as scratch:
            shot, part = Path(scratch) / "shot.png", Path(scratch) / "part.html"
            style = f"{hidden} {{ display: none }} h2 {{ margin: 0 }}</style>"
            part.write_text(page.read_text().replace("</style>", style))
            size = f"--window-size={WIDTH},{height}"
            argv = [program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", size]
            subprocess.run([*argv, f"--screenshot={shot}", part.as_uri()], check=True,
                           stderr=subprocess.DEVNULL)  # fmt: skip
            small = Image.open(shot).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
            small.save(folder / f"{name}.png", optimize=True)

"""Find the browser of the system, and what drives it; nothing is downloaded."""

import importlib.util
import os
import shutil
from pathlib import Path

REQUIRED = "SEMIVIT_BROWSER_REQUIRED"  # set where the tests must run: then what is missing is a failure
SCREENSHOTS = "SEMIVIT_SCREENSHOTS"  # folder where pictures of the pages are kept
NAMES = ("chromium", "chromium-browser", "google-chrome")


def binary() -> str | None:
    """The Chromium of this machine; None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def why_not() -> str:
    """Why pages cannot be opened here; "" where they can."""
    if importlib.util.find_spec("playwright") is None:
        return "playwright is not installed (the extra [dev])"
    return "" if binary() else "there is no Chromium; make browser installs it"


def flags() -> list[str]:
    """What Chromium must be told: its sandbox refuses to work for root, and no page may ask anything of others."""
    alone = ["--disable-background-networking", "--disable-component-update", "--no-first-run"]
    return [*alone, *(["--no-sandbox"] if os.geteuid() == 0 else [])]


def screenshot(page, name: str) -> None:
    """Keeps a picture of a page where SEMIVIT_SCREENSHOTS names a folder."""
    if folder := os.environ.get(SCREENSHOTS):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png")

"""Photograph the page of `semivit label` for docs/labeling.md: `python -m tutorial.label_page`.

Needs Chromium (`make browser`). The photos are cuttings of scikit-learn's two sample photos, as in the tutorial but
larger; the guesses are those of a logistic regression on coarse colours, from the labels that the page shows.
"""

import csv
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression

from semivit_jax.data.sources.label_paths import Images
from semivit_jax.inference.embedding import Embedding
from semivit_jax.labeling.guesses import from_csv
from semivit_jax.labeling.similar import Similar
from tests.browser import chromium
from tests.labeling.served import serving_site, site, waited_for
from tutorial import seen
from tutorial.sample import REGIONS

OUT = Path(__file__).parents[1] / "docs" / "pictures"
SIDE, EACH, LABELED, COLOURS = 96, 24, 6, 160  # pixels of a cutting, photos of a class, of them labeled; colours kept
SIZE = {"width": 1200, "height": 740}


def main() -> int:
    """Writes label_one.png and label_grid.png."""
    if why := chromium.why_not():
        print(f"tutorial.label_page: {why}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as scratch:
        names, classes = _cuttings(Path(scratch) / "photos")
        _photograph(Path(scratch), names, classes)
    return 0


def _cuttings(folder: Path) -> tuple[list[str], list[str]]:
    """Writes squares of the sample photos in a mixed order; their names and classes."""
    folder.mkdir()
    photos, generator = seen.sample_photos(), np.random.default_rng(0)
    places = generator.permutation(EACH * len(REGIONS))
    names, classes = [], []
    for number, place in enumerate(places.tolist()):
        kind = list(REGIONS)[place % len(REGIONS)]
        photo, (left, top, right, bottom) = REGIONS[kind]
        x, y = generator.integers(left, right - SIDE + 1), generator.integers(top, max(top, bottom - SIDE) + 1)
        names.append(f"IMG_{2001 + number}.jpg")
        classes.append(kind)
        Image.fromarray(photos[photo][y : y + SIDE, x : x + SIDE]).resize((384, 384), Image.Resampling.LANCZOS).save(
            folder / names[-1], quality=92
        )
    return names, classes


def _photograph(scratch: Path, names: Sequence[str], classes: Sequence[str]) -> None:
    from playwright.sync_api import sync_playwright

    root, table, predictions = scratch / "photos", scratch / "labels.csv", scratch / "predictions.csv"
    labeled = [place for kind in REGIONS for place in [p for p, c in enumerate(classes) if c == kind][:LABELED]]
    with open(table, "w", newline="") as opened:
        csv.writer(opened).writerows([("path", "label"), *((names[place], classes[place]) for place in labeled)])
    features = np.stack([_colours(root / name) for name in names])
    _guess(predictions, features, names, classes, labeled)
    guesses, similar = from_csv(predictions, Images(root, names)), Embedding(names, features, {"images": str(root)})
    shown = site(root, names, table, classes=list(REGIONS), guesses=guesses, similar=Similar(similar, names))
    with serving_site(shown) as address, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium.binary(), args=chromium.flags())
        page = browser.new_page(viewport=SIZE, color_scheme="light")  # pyright: ignore[reportArgumentType]
        page.goto(address)
        waited_for(lambda: page.evaluate("document.getElementById('large').naturalWidth"))
        waited_for(lambda: page.inner_text("#name"))
        _keep(page, OUT / "label_one.png")
        page.keyboard.press(",")
        for _ in range(7):
            page.keyboard.press("Shift+ArrowRight")
        waited_for(lambda: page.evaluate("[...document.querySelectorAll('.tile img')].every(i => i.naturalWidth)"))
        _keep(page, OUT / "label_grid.png")
        browser.close()


def _colours(file: Path) -> np.ndarray:
    """Features: mean and spread of the colours in sixteen parts, float32 [96]."""
    with Image.open(file) as photo:
        parts = np.asarray(photo, np.float32).reshape(4, 96, 4, 96, 3).transpose(0, 2, 1, 3, 4).reshape(16, -1, 3)
    return np.concatenate([parts.mean(axis=1).ravel(), parts.std(axis=1).ravel()]) / 255


def _guess(file: Path, features: np.ndarray, names: Sequence[str], classes: Sequence[str], labeled: list[int]) -> None:
    """Writes what a logistic regression on the labeled photos takes all for, as `semivit predict` does."""
    model = LogisticRegression(max_iter=1000).fit(features[labeled], np.array(classes)[labeled])
    probs = model.predict_proba(features)
    with open(file, "w", newline="") as opened:
        rows = ((name, model.classes_[p.argmax()], f"{p.max():.6f}") for name, p in zip(names, probs, strict=True))
        csv.writer(opened).writerows([("path", "label", "confidence"), *rows])


def _keep(page, file: Path) -> None:
    """Writes a picture of the page with few colours, which is a third of the bytes."""
    page.screenshot(path=file)
    with Image.open(file) as taken:
        small = taken.convert("RGB").quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    small.save(file, optimize=True)


if __name__ == "__main__":
    sys.exit(main())

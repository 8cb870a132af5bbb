"""How fluent the page of `semivit label` is: first paint, and what a keystroke takes, in the Chromium of this machine.

    python -m benchmarks.label_page --images=10000

Writes that many photos of 640 x 480 pixels into a scratch folder (links to 200 different ones), labels half of them,
starts the command, and opens its page. `first paint` is the browser's first contentful paint since the navigation
began, `first image` the end of loading the first picture. Of 200 keystrokes in each layout, `keystroke` is the time
from the key to the next paint, by the browser's own event timing (in steps of 8 ms), `next image` until the picture
that comes next is decoded and shown, `saved` until the server has answered that the label is on the disk.
"""

import argparse
import datetime
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from tests.browser import chromium
from tests.labeling.served import Command, waited_for

KEYS, DIFFERENT = 200, 200
WATCH = """
window.slow = []; window.saved = []; window.shown = [];
const typed = entries => entries.filter(entry => entry.name === 'keydown').map(entry => entry.duration);
new PerformanceObserver(list => window.slow.push(...typed(list.getEntries())))
  .observe({type: 'event', durationThreshold: 16, buffered: true});
const before = window.fetch;
window.fetch = async (...given) => {
  const start = performance.now();
  const answer = await before(...given);
  if (given[0] === 'act') window.saved.push(performance.now() - start);
  return answer;
};
let pressed = 0;
addEventListener('keydown', () => { pressed = performance.now(); }, true);
document.addEventListener('load', event => {
  if (event.target.id === 'large') window.shown.push(performance.now() - pressed);
}, true);
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    flags = parser.parse_args()
    if why := chromium.why_not():
        sys.exit(f"benchmarks.label_page: {why}")
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["XDG_CACHE_HOME"] = str(Path(scratch) / "cache")
        photos, table = Path(scratch) / "photos", Path(scratch) / "labels.csv"
        _write(photos, table, flags.images)
        command = Command(f"--images={photos}", f"--labels={table}", "--port=0")
        try:
            found = _measure(command.address)
        finally:
            command.kill()
    load = os.getloadavg()[0]
    print(f"{flags.images:,} images, {os.cpu_count()} cores, load {load:.1f}, {datetime.date.today()}")
    print(json.dumps(found, indent=1))


def _write(photos: Path, table: Path, count: int) -> None:
    """Photos, and labels of every second one."""
    photos.mkdir()
    generator = np.random.default_rng(0)
    for number in range(count):
        file = photos / f"{number:06}.jpg"
        if number < DIFFERENT:
            coarse = generator.integers(0, 256, (12, 16, 3), np.uint8)
            Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC).save(file, quality=90)
        else:
            os.link(photos / f"{number % DIFFERENT:06}.jpg", file)
    # Twelve classes: each of the keys 1 to 9 has one. A key without a class draws next to nothing, and is then said to
    # take until the next key draws.
    rows = (f"{number:06}.jpg,class {number // 2 % 12}\n" for number in range(0, count, 2))
    table.write_text("path,label\n" + "".join(rows))


def _measure(address: str) -> dict[str, dict[str, float] | float]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium.binary(), args=chromium.flags())
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.add_init_script(WATCH)
        page.goto(address)
        waited_for(lambda: page.evaluate("window.shown.length"))
        first = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        image = page.evaluate(
            "performance.getEntriesByType('resource').find(e => e.name.includes('large')).responseEnd"
        )
        found: dict[str, dict[str, float] | float] = {"first paint": round(first), "first image": round(image)}
        page.evaluate("window.shown = []")
        found |= {f"one: {name}": told for name, told in _press(page, [str(k % 9 + 1) for k in range(KEYS)]).items()}
        page.keyboard.press(".")
        waited_for(lambda: page.evaluate("[...document.querySelectorAll('.tile img')].every(i => i.complete)"))
        arrows = ["ArrowRight", "ArrowDown", "1", "PageDown"] * (KEYS // 4)
        found |= {f"grid: {name}": told for name, told in _press(page, arrows).items() if name != "next image"}
        browser.close()
    return found


def _press(page, keys: list[str]) -> dict[str, dict[str, float]]:
    """Milliseconds of some keystrokes, ten in a second as a quick person types."""
    page.evaluate("window.slow = []; window.saved = []; window.shown = []")
    for key in keys:
        page.keyboard.press(key)
        page.wait_for_timeout(100)
    page.wait_for_timeout(500)
    # What is quicker than the threshold has no entry, and counts as 16.
    slow = page.evaluate("window.slow")
    times = {"keystroke": slow + [16] * (len(keys) - len(slow)), "next image": page.evaluate("window.shown"),
             "saved": page.evaluate("window.saved")}  # fmt: skip
    return {name: _told(found) for name, found in times.items() if found}


def _told(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        "median": round(statistics.median(ordered), 1),
        "95 %": round(ordered[int(0.95 * (len(ordered) - 1))], 1),
        "most": round(ordered[-1], 1),
        "number": len(ordered),
    }


if __name__ == "__main__":
    main()

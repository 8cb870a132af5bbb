"""What a person types on the page of `semivit label`, in a real browser."""

import csv

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tests.labeling.served import Command, waited_for

pytestmark = pytest.mark.browser
DIGITS = load_digits()
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

COUNTS = """() => [...document.querySelectorAll('#classes li')].map(row => [
  row.querySelector('.class-name').innerText, Number(row.querySelector('.class-count').innerText)])"""

KEY_OF = "name => [...document.querySelectorAll('.class')].findIndex(b => b.dataset.name === name)"


@pytest.fixture
def photos(tmp_path):
    """Sixty digits, each with its name and its class."""
    folder = tmp_path / "digits"
    folder.mkdir()
    for place in range(60):
        pixels = (DIGITS.images[place] / 16 * 255).astype(np.uint8)
        Image.fromarray(np.kron(pixels, np.ones((4, 4), np.uint8))).save(folder / f"{place:03}.png")
    return folder


@pytest.fixture
def serve(monkeypatch, tmp_path):
    """Flags -> a `semivit label` in a process; those that still run when the test ends are killed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    started = []

    def served(*flags):
        started.append(Command(*flags))
        return started[-1]

    yield served
    for command in started:
        command.kill()


def labels_of(file):
    """path -> label of a table; {} where it is not there yet."""
    if not file.exists():
        return {}
    with open(file, encoding="utf-8", errors="surrogateescape", newline="") as opened:
        return {row["path"]: row["label"] for row in csv.DictReader(opened) if row["label"]}


def shown_name(page):
    """The name of the image on the screen, once its picture is there."""
    waited_for(lambda: page.evaluate("document.getElementById('large').naturalWidth") == 32)
    return waited_for(lambda: page.inner_text("#name"))


def counts_shown(page):
    return dict(page.evaluate(COUNTS))


def label_next(page, wanted):
    """Labels the image on the screen as the digit that it is, by its key or by typing, and notes it in `wanted`."""
    name = shown_name(page)
    word = WORDS[DIGITS.target[int(name[:3])]]
    key = page.evaluate(
        "name => [...document.querySelectorAll('.class')].findIndex(b => b.dataset.name === name)", word
    )
    if 0 <= key < 9:
        page.keyboard.press(str(key + 1))
    else:
        page.keyboard.type(word)
        page.keyboard.press("Enter")
    wanted[name] = word
    waited_for(lambda: page.inner_text("#name") != name)


def test_a_word_typed_right_after_another_is_taken_too(photos, tmp_path, open_page, serve):
    """That the box was left for the first word does not take the matches of the second one away."""
    table = tmp_path / "labels.csv"
    page = open_page(serve(f"--images={photos}", f"--labels={table}", "--port=0").address)
    shown_name(page)
    for word in ("zero", "one"):
        page.keyboard.type(word)
        page.wait_for_timeout(400)  # a person looks again before Enter
        page.keyboard.press("Enter")
    waited_for(lambda: labels_of(table) == {"000.png": "zero", "001.png": "one"})

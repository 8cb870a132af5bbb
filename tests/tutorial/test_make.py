"""`make tutorial` gives the committed page again, but for what goes by the machine and the day."""

from pathlib import Path

import pytest
from PIL import Image

from tutorial import make, page

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def remade(tmp_path_factory):
    """The page and its pictures, made anew elsewhere; there is no run of the demo."""
    out = tmp_path_factory.mktemp("docs")
    make.main([f"--out={out}", f"--demo={out / 'absent'}"])
    return out


def comparable(folder):
    text = (folder / make.PAGE).read_text()
    return page.stable(make.MADE.sub("", text))


def test_the_page_is_what_its_commands_print(remade):
    assert comparable(remade) == comparable(ROOT / "docs")


def test_the_day_and_the_machine_are_told(remade):
    told = make.MADE.search((remade / make.PAGE).read_text())
    assert told is not None
    assert told[0].startswith("All outputs are of ")
    assert " cores" in told[0]


def test_no_path_of_the_machine_is_told(remade):
    assert "/tmp" not in (remade / make.PAGE).read_text()


@pytest.mark.parametrize("name", ["views.png", "photos.png", "predictions.png"])
def test_pictures_are_as_large_as_those_of_the_page(name, remade):
    sizes = [Image.open(folder / make.PICTURES / name).size for folder in (remade, ROOT / "docs")]
    assert sizes[0] == sizes[1]


def test_the_picture_of_the_method_is_the_committed_one(remade):
    method = f"{make.PICTURES}/method.svg"
    assert (remade / method).read_text() == (ROOT / "docs" / method).read_text()


def test_without_a_run_of_the_demo_its_picture_is_skipped(remade):
    assert not (remade / make.PICTURES / "digits.png").exists()

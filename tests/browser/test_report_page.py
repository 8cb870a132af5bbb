"""The report of a run in a real browser: no error, every picture shown, the numbers those of the JSON file."""

import json

import pytest

from semivit_jax.report import make
from tests.browser.chromium import screenshot
from tests.report.made import tiny_run

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("report")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The workdir of a run of two stages, with its report."""
    run = tiny_run(tmp_path_factory.mktemp("runs") / "my run", "finetune", "semi")
    make.make(run, most=15)
    return run


def check_pictures(page, *, least):
    """Every picture has come, and has a text for who cannot see it; there are so many at least."""
    pictures = page.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth, i.alt])")
    assert len(pictures) >= least
    assert all(complete and wide > 0 and alt for complete, wide, alt in pictures)


def check_numbers(page, report, *, least):
    """The numbers on the screen, so many at least, are those of the JSON file."""
    shown = page.evaluate("[...document.querySelectorAll('data')].map(d => [d.dataset.key, d.value, d.innerText])")
    assert len(shown) >= least
    for key, value, text in shown:
        found = report
        for part in key.split("."):
            found = found[int(part)] if isinstance(found, list) else found[part]
        assert float(value) == found
        assert text.strip()


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_opens_whole_on_wide_and_narrow_screens(folder, width, open_page):
    page = open_page(f"file://{folder / make.PAGE}")
    page.set_viewport_size({"width": width, "height": 900})
    assert page.title().startswith("my run")
    check_pictures(page, least=50)
    assert page.evaluate("document.documentElement.scrollWidth") <= width  # nothing is cut off at the right
    screenshot(page, f"report-{width}")


def test_no_figure_is_cut_on_a_phone_and_that_of_the_methods_is_made_for_it(folder, open_page):
    page = open_page(f"file://{folder / make.PAGE}")
    page.set_viewport_size({"width": 390, "height": 900})
    figures = page.evaluate("""[...document.querySelectorAll('figure img')].map(
        i => [i.getBoundingClientRect().right, i.parentElement.scrollWidth - i.parentElement.clientWidth])""")
    assert all(right <= 390 and not hidden for right, hidden in figures)
    chosen, ratio = page.evaluate("""(() => {const i = document.querySelector('picture img');
        return [i.currentSrc == i.previousElementSibling.srcset, i.clientWidth / i.naturalWidth]})()""")
    assert chosen
    assert ratio > 0.9  # letters stay as large as they are drawn


def test_what_belongs_together_stays_on_one_sheet_of_paper(folder, open_page):
    """No heading ends a sheet, and no picture parts from its title."""
    page = open_page(f"file://{folder / make.PAGE}")
    page.emulate_media(media="print")
    breaks = page.evaluate("""[...document.querySelectorAll('.way tbody, .two > div, .three > div, figure, .photos li')]
        .map(e => getComputedStyle(e).breakInside)""")
    assert len(breaks) > 20
    assert set(breaks) == {"avoid"}
    heads = page.evaluate("[...document.querySelectorAll('h2, h3, h4')].map(e => getComputedStyle(e).breakAfter)")
    assert set(heads) == {"avoid"}


def test_the_numbers_on_the_screen_are_those_of_the_file(folder, open_page):
    page = open_page(f"file://{folder / make.PAGE}")
    check_numbers(page, json.loads((folder / make.NUMBERS).read_text()), least=80)


def test_every_link_leads_to_a_part_of_the_page(folder, open_page):
    page = open_page(f"file://{folder / make.PAGE}")
    for link in page.query_selector_all("nav a"):
        link.click()
        assert page.evaluate("document.querySelector(location.hash) !== null")

"""Parts of the page of `semivit label` in a real browser: names, several images, two pages, and who uses no mouse."""

import os

import numpy as np
import pytest

from semivit_jax.inference.embedding import Embedding
from semivit_jax.labeling.guesses import Guess, Guesses
from semivit_jax.labeling.similar import Similar
from tests.browser.chromium import screenshot
from tests.browser.test_label_page import counts_shown, labels_of
from tests.labeling.conftest import HOSTILE, PLAIN, photos  # noqa: F401 - a fixture
from tests.labeling.served import serving_site, site, waited_for

pytestmark = pytest.mark.browser
NAMES = sorted((*PLAIN, *HOSTILE), key=os.fsencode)
# Every element with a text of its own that can be seen, its size, and the ratio of its colour to what is behind it
# (WCAG 2.2, contrast minimum). Of disabled buttons none is asked.
CONTRASTS = """() => {
  const luminance = (rgb) => rgb.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = numbers(getComputedStyle(at).backgroundColor);
      if (color.length < 4 || color[3] > 0.99) return color.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.querySelectorAll('body *')) {
    const text = [...element.childNodes].filter(n => n.nodeType === 3).map(n => n.textContent.trim()).join('');
    if (!text || !element.checkVisibility() || element.closest(':disabled, .unseen, .to-stage, option')) continue;
    const light = [luminance(numbers(getComputedStyle(element).color).slice(0, 3)), luminance(behind(element))].sort();
    found.push([text.slice(0, 40), (light[1] + 0.05) / (light[0] + 0.05)]);
  }
  return found;
}"""
NAMELESS = """() => [...document.querySelectorAll('button, input, select, progress, [role=listbox], dialog')]
  .filter(e => !(e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || e.innerText?.trim()
                 || e.labels?.length || e.closest('dialog:not([open])')))
  .map(e => e.outerHTML)"""


@pytest.fixture
def shown(photos, tmp_path):  # noqa: F811
    """A page with features, and guesses: the first four images are oak, the others ash, the later the surer."""
    guesses = Guesses("a run", ("ash", "oak"))
    guesses.fill([Guess(p, "oak" if p < 4 else "ash", 0.5 + p / 30) for p in range(len(NAMES))])
    features = np.random.default_rng(0).normal(size=(len(NAMES), 4)).astype(np.float32)
    features[3] = features[0]
    similar = Similar(Embedding(NAMES, features, {"images": str(photos)}), NAMES)
    table = tmp_path / "labels.csv"
    with serving_site(site(photos, NAMES, table, classes=guesses.classes, guesses=guesses, similar=similar)) as address:
        yield address, table


def begun(page):
    """The page, once it shows its first image."""
    waited_for(lambda: page.inner_text("#name"))
    return page


def test_hostile_names_are_texts(shown, open_page):
    address, table = shown
    page = begun(open_page(address))
    page.on("dialog", lambda dialog: page.problems.append("a script of a name ran"))
    page.select_option("#view", "all")
    page.click("#many")
    waited_for(lambda: page.evaluate("[...document.querySelectorAll('.tile')].every(t => t.title)"))
    waited_for(lambda: page.evaluate("[...document.querySelectorAll('.tile img')].every(i => i.naturalWidth)"))
    titles = page.evaluate("[...document.querySelectorAll('.tile')].map(t => t.title)")
    assert len(titles) == len(NAMES)
    assert not page.evaluate("document.querySelectorAll('main script').length")
    assert any(title.startswith("<script>alert(1)<") for title in titles)
    assert {"%2e%2e%2fx.png", "..x.png", "caf\\u{dce9}.png", "turned\\u{202e}gnp.png", "line\\u{a}break.png"} <= set(
        titles
    )
    page.click("#written")
    page.keyboard.type("<img src=x onerror=alert(1)>")
    page.keyboard.press("Enter")
    waited_for(lambda: "<img src=x onerror=alert(1)>" in labels_of(table).values())
    assert "<img src=x onerror=alert(1)>" in page.inner_text("#classes")
    screenshot(page, "label_hostile")


def test_several_at_once_by_keys_guesses_agreed_with_and_all_undone(shown, open_page):
    address, table = shown
    page = begun(open_page(address))
    assert page.input_value("#view") == "unsure"  # with guesses and nothing else to do first
    assert "50 %" in page.inner_text("#guess")
    page.keyboard.press("Enter")
    waited_for(lambda: labels_of(table) == {NAMES[0]: "oak"})
    page.keyboard.press(".")
    page.keyboard.press("Space")
    page.keyboard.press("Shift+ArrowRight")
    assert "2 chosen" in page.inner_text("#several-title")
    page.keyboard.press("Enter")
    waited_for(lambda: labels_of(table) == dict.fromkeys(NAMES[:3], "oak"))
    page.keyboard.press("Home")
    page.keyboard.press(",")  # those that look like the first one
    waited_for(lambda: "images like" in page.inner_text("#several-title"))
    assert page.evaluate("document.querySelectorAll('.tile')[1].title") == NAMES[3]
    page.keyboard.press("Control+a")
    page.keyboard.press("0")
    waited_for(lambda: set(labels_of(table).values()) == {"-none-"} and len(labels_of(table)) == len(NAMES))
    page.keyboard.press("Escape")
    for _ in range(3):
        page.keyboard.press("Backspace")
    waited_for(lambda: not labels_of(table))
    page.keyboard.press("Control+y")
    waited_for(lambda: labels_of(table) == {NAMES[0]: "oak"})


def test_a_key_too_many_changes_nothing(shown, open_page):
    address, table = shown
    page = begun(open_page(address))
    for _ in NAMES:
        page.keyboard.press("1")
    waited_for(lambda: len(labels_of(table)) == len(NAMES))
    assert page.inner_text("#done .big") == "All of these are looked at."
    page.keyboard.press("2")
    assert "That was the last one" in page.inner_text("#toast")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("2")
    waited_for(lambda: sorted(labels_of(table).values()) == ["ash"] * (len(NAMES) - 1) + ["oak"])


def test_two_pages_see_each_other_and_overwrite_nothing(shown, open_page):
    address, table = shown
    one, two = begun(open_page(address)), begun(open_page(address))
    one.keyboard.press("1")
    two.keyboard.press("2")  # before it has heard of the other
    waited_for(lambda: "meanwhile, from another page" in two.inner_text("#toast"))
    assert labels_of(table) == {NAMES[0]: "ash"}
    assert counts_shown(two) == counts_shown(one) == {"ash": 1, "oak": 0}


def test_classes_are_renamed_and_merged(shown, open_page):
    address, table = shown
    page = begun(open_page(address))
    page.keyboard.press("1")
    page.keyboard.press("2")
    waited_for(lambda: len(labels_of(table)) == 2)
    for new, button in (("quercus", "Rename"), ("ash", "Merge")):
        page.click("#classes li:nth-child(2) .edit")
        page.fill("#new-name", new)
        assert page.inner_text("#rename") == button
        page.keyboard.press("Enter")
        waited_for(lambda new=new: new in counts_shown(page))
    waited_for(lambda: counts_shown(page) == {"ash": 2})
    waited_for(lambda: labels_of(table) == dict.fromkeys(NAMES[:2], "ash"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_and_names_of_all_parts(shown, open_page, scheme):
    page = begun(open_page(shown[0]))
    page.emulate_media(color_scheme=scheme)
    page.keyboard.press("1")
    page.keyboard.press(".")
    for keys in ("", "?"):
        if keys:
            page.keyboard.press(keys)
        waited_for(lambda: page.evaluate("[...document.querySelectorAll('.tile')].every(t => t.title)"))
        weak = [(text, round(ratio, 2)) for text, ratio in page.evaluate(CONTRASTS) if ratio < 4.5]
        assert not weak
        assert not page.evaluate(NAMELESS)
        screenshot(page, f"label_{scheme}{'_keys' if keys else ''}")


def test_everything_is_reached_by_tab(shown, open_page):
    page = begun(open_page(shown[0]))
    wanted = page.evaluate("[...document.querySelectorAll('button, select, input')]"
                           ".filter(e => e.checkVisibility() && !e.disabled).length")  # fmt: skip
    seen = set()
    for _ in range(2 * wanted):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.outerHTML"))
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid" or page.evaluate("document.activeElement === document.body")
    assert len([html for html in seen if html.startswith(("<button", "<select", "<input"))]) == wanted

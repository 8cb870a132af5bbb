"""What goes wrong beside the page of `semivit label`: refusals, a server that is away, a folder that changes."""

import json

import numpy as np
import pytest
from PIL import Image

from semivit_jax.labeling.guesses import Guess, Guesses
from tests.browser.chromium import screenshot
from tests.browser.test_label_page import counts_shown, labels_of, photos, serve, shown_name  # noqa: F401 - fixtures
from tests.browser.test_label_parts import begun
from tests.labeling.served import serving_site, site, waited_for

pytestmark = pytest.mark.browser
FLAGS = ("--classes=oak,ash",)


@pytest.fixture
def opened(photos, tmp_path, open_page, serve):  # noqa: F811
    """A page of digits with two classes, its table, and what serves it again at the same address."""
    table = tmp_path / "labels.csv"
    flags = (f"--images={photos}", f"--labels={table}", *FLAGS)
    command = serve(*flags, "--port=0")
    page = open_page(command.address)
    shown_name(page)
    port = command.address.split(":")[2].partition("/")[0]
    return page, table, command, lambda: serve(*flags, f"--port={port}")


def test_a_name_that_is_refused_is_not_shown_as_given(opened):
    page, table, _, _ = opened
    page.keyboard.type("nan")
    page.keyboard.press("Enter")
    waited_for(lambda: "what programs write for no value" in page.inner_text("#toast"))
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#mark") == ""
    assert page.inner_text("#count") == "0 of 60 looked at"
    assert counts_shown(page) == {"oak": 0, "ash": 0}
    assert not labels_of(table)


def test_what_is_refused_as_a_whole_is_not_shown_as_given(opened):
    page, _, _, _ = opened
    answer = {"status": 413, "content_type": "application/json", "body": json.dumps({"problem": "too much at once"})}
    page.route("**/act", lambda route: route.fulfill(**answer))
    page.keyboard.press("1")
    waited_for(lambda: page.inner_text("#toast") == "Not saved: too much at once")
    waited_for(lambda: page.inner_text("#count") == "0 of 60 looked at")
    assert counts_shown(page) == {"oak": 0, "ash": 0}
    page.problems.clear()  # the browser tells of the answer, too


def test_labels_find_their_images_in_a_folder_that_changed_while_the_server_was_away(opened, photos):  # noqa: F811
    page, table, command, again = opened
    page.keyboard.press("1")
    waited_for(lambda: labels_of(table) == {"000.png": "oak"})
    waited_for(lambda: page.evaluate("document.getElementById('large').naturalWidth") == 32)
    command.kill()
    page.keyboard.press("2")  # 001.png
    page.wait_for_selector("#saved.bad")
    for name in ("000 before.png", "00.png"):
        Image.fromarray(np.full((16, 16), 200, np.uint8)).save(photos / name)
    again()
    waited_for(lambda: labels_of(table) == {"000.png": "oak", "001.png": "ash"})
    waited_for(lambda: page.inner_text("#saved") == "Saved")
    page.problems.clear()  # requests that nobody answered
    page.select_option("#view", "all")
    page.keyboard.press("Escape")
    waited_for(lambda: page.inner_text("#name") == "00.png")
    # The picture of the new image, not the one that had its number.
    waited_for(lambda: page.evaluate("document.getElementById('large').naturalWidth") == 16)


def test_labels_whose_images_have_gone_are_told(opened, photos):  # noqa: F811
    page, table, command, again = opened
    page.keyboard.press("1")
    waited_for(lambda: labels_of(table) == {"000.png": "oak"})
    command.kill()
    page.keyboard.press("2")
    page.wait_for_selector("#saved.bad")
    (photos / "001.png").unlink()
    again()
    page.wait_for_selector("#problem:not([hidden])")
    assert page.inner_text("#problem").startswith("1 not saved: the folder changed meanwhile")
    page.problems.clear()
    page.wait_for_timeout(2500)  # the news say nothing of it
    assert page.is_visible("#problem")
    assert labels_of(table) == {"000.png": "oak"}


def test_pictures_come_once_the_server_is_back(opened):
    page, _, command, again = opened
    command.kill()
    page.keyboard.press("End")
    waited_for(lambda: page.evaluate("document.getElementById('frame').classList.contains('broken')"))
    again()
    waited_for(lambda: page.evaluate("document.getElementById('large').naturalWidth") == 32)
    assert not page.evaluate("document.getElementById('frame').classList.contains('broken')")
    page.problems.clear()


def test_what_waits_may_be_more_than_a_browser_keeps(opened):
    page, table, _, _ = opened
    page.evaluate(
        "() => { Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); }; }"
    )
    page.keyboard.press("1")
    page.keyboard.press("2")
    waited_for(lambda: labels_of(table) == {"000.png": "oak", "001.png": "ash"})


def test_a_key_that_is_held_labels_one_image(opened):
    page, table, _, _ = opened
    for _ in range(5):
        page.keyboard.down("1")
    page.keyboard.up("1")
    waited_for(lambda: labels_of(table))
    page.wait_for_timeout(500)
    assert labels_of(table) == {"000.png": "oak"}


def test_enter_that_ends_a_word_of_several_keys_takes_nothing(opened):
    """As Japanese and Chinese are written."""
    page, table, _, _ = opened
    page.keyboard.type("o")
    page.evaluate("""document.getElementById('written').dispatchEvent(
        new KeyboardEvent('keydown', {key: 'Enter', bubbles: true, isComposing: true}))""")
    assert page.input_value("#written") == "o"
    page.keyboard.press("Enter")
    waited_for(lambda: labels_of(table) == {"000.png": "oak"})


def test_single_keys_stay_off(opened):
    page, table, _, _ = opened

    def turn(on):
        page.keyboard.press("?")
        page.set_checked("#single-keys", on)
        page.keyboard.press("Escape")
        waited_for(lambda: not page.is_visible("#keys"))

    turn(False)
    page.reload()
    shown_name(page)
    page.keyboard.press("1")
    page.wait_for_timeout(300)
    assert not labels_of(table)
    turn(True)
    page.keyboard.press("1")
    waited_for(lambda: labels_of(table) == {"000.png": "oak"})


def test_a_class_is_added_where_no_image_is_shown(opened):
    page, _, _, _ = opened
    page.select_option("#view", "skipped")
    page.keyboard.press("Escape")
    page.keyboard.type("elm")
    page.keyboard.press("Enter")
    waited_for(lambda: counts_shown(page) == {"oak": 0, "ash": 0, "elm": 0})
    page.keyboard.press("1")
    assert "There is no image here" in page.inner_text("#toast")


def test_news_that_change_nothing_draw_nothing(opened):
    """What is written anew is laid out and drawn anew, at every answer and every two seconds."""
    page, table, _, _ = opened
    page.keyboard.press("1")
    waited_for(lambda: labels_of(table))
    page.wait_for_timeout(500)
    page.evaluate("""() => { window.changes = []; new MutationObserver(found => window.changes.push(
        ...found.map(({target, attributeName, type}) => `${target.id || target.className} ${attributeName || type}`)))
      .observe(document.body, {subtree: true, childList: true, characterData: true, attributes: true}); }""")
    page.wait_for_timeout(2500)
    assert page.evaluate("window.changes") == []


def test_what_is_shown_is_said(opened):
    page, _, _, _ = opened
    page.keyboard.press("1")
    waited_for(lambda: page.inner_text("#spoken") == "oak: 000.png. Now 001.png, 2 of 60")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#spoken") == "000.png, 1 of 60, oak"


@pytest.fixture
def guessing(photos, tmp_path):  # noqa: F811
    """A page of a model that has guessed some images, abstained from one, and guesses on; and the guesses."""
    names = sorted(file.name for file in photos.iterdir())
    guesses = Guesses("a run", ("ash", "oak"))
    guesses.fill([Guess(0, "oak", 0.9), Guess(1, "", 0.3)])
    table = tmp_path / "labels.csv"
    with serving_site(site(photos, names, table, classes=guesses.classes, guesses=guesses)) as address:
        yield address, table, guesses


def test_a_model_may_abstain(guessing, open_page):
    address, table, _ = guessing
    page = begun(open_page(address))
    assert page.inner_text("#guess") == "no guess, 30 %"
    page.keyboard.press("Enter")
    assert "There is no guess" in page.inner_text("#toast")
    page.keyboard.press("2")
    waited_for(lambda: page.inner_text("#guess").startswith("oak? 90 %"))
    waited_for(lambda: labels_of(table) == {"001.png": "oak"})
    assert "differs" in page.evaluate("[...document.querySelectorAll('#view option')].map(o => o.value)")
    page.select_option("#view", "differs")
    assert page.is_visible("#done")  # no guess is none that differs


def test_guesses_that_come_meanwhile_go_on_the_list(guessing, open_page):
    address, _, guesses = guessing
    page = begun(open_page(address))
    guesses.fill([Guess(7, "ash", 0.6)])
    waited_for(lambda: page.inner_text("#guessing").startswith("3 guesses"))
    page.keyboard.press("1")
    waited_for(lambda: page.inner_text("#name") == "000.png")
    page.keyboard.press("1")
    waited_for(lambda: page.inner_text("#name") == "007.png")
    assert not page.is_visible("#done")


@pytest.mark.parametrize("layout", ["one", "grid"])
def test_a_phone_shows_all_of_it(opened, layout):
    page, _, _, _ = opened
    page.set_viewport_size({"width": 360, "height": 740})
    if layout == "grid":
        page.keyboard.press(".")
    page.keyboard.press("7")
    for name in ("", "_keys"):
        if name:
            page.keyboard.press("?")
        wide = page.evaluate("""() => [...document.querySelectorAll('body *')].filter(e => e.checkVisibility()
            && !e.closest('.unseen, .to-stage') && e.getBoundingClientRect().right > innerWidth + 1)
            .map(e => e.outerHTML)""")
        assert not wide
        screenshot(page, f"label_phone_{layout}{name}")
    toast = json.loads(page.evaluate("JSON.stringify(document.getElementById('toast').getBoundingClientRect())"))
    assert toast["height"] < 50  # one line

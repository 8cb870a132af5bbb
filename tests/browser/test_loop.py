"""The loop of a person with a folder of photos, in a real browser: label, train, look at the report, label on."""

import json
import subprocess
import sys

import pytest

from semivit_jax.report import make
from semivit_jax.report.page import ROWS
from tests.browser.chromium import screenshot
from tests.browser.test_label_page import counts_shown, label_next, labels_of, photos, serve  # noqa: F401 - fixtures
from tests.browser.test_report_page import check_numbers, check_pictures
from tests.e2e.photos import SMALL
from tests.labeling.served import waited_for

pytestmark = pytest.mark.browser
NONE = "-none-"


def counts_of(labels):
    return {label: list(labels.values()).count(label) for label in set(labels.values())}


def test_thirty_digits_are_labeled_learned_from_and_looked_at(photos, tmp_path, open_page, serve):  # noqa: F811
    table, workdir = tmp_path / "labels.csv", tmp_path / "run"
    label_with_a_kill_in_the_middle(photos, table, open_page, serve)
    settings = {**SMALL, "data.root": photos, "data.labels": table, "stages": "('finetune',)",
                "model.variant": "vit_test", "model.head_init": "random", "log.report": True}  # fmt: skip
    flags = [f"--config.{key}={value}" for key, value in settings.items()]
    command = [sys.executable, "-m", "semivit_jax.main", "train", "--config=own_folder", f"--workdir={workdir}", *flags]
    subprocess.run(command, check=True)
    report = json.loads((workdir / make.NUMBERS).read_text())
    page = open_page(f"file://{workdir / make.PAGE}")
    judges = report["labels"]["judges"]
    assert all(judge["is_weak"] for judge in judges)  # of so few digits
    withheld = min(sum(judge["num_suspects"] for judge in judges), 2 * ROWS)  # pictures of labels that look wrong
    check_pictures(page, least=50 - withheld)
    assert report["labels"]["suspects"] == []
    assert "That is too few to call any label wrong" in page.inner_text("body")
    check_numbers(page, report, least=60)
    labeled = {row["name"]: row["labeled"] for row in report["classes"]}
    assert set(labeled) <= set(labels_of(table).values()) - {NONE}
    screenshot(page, "report_of_the_loop")
    label_on_with_its_guesses(photos, table, workdir, open_page, serve)


def label_with_a_kill_in_the_middle(images, table, open_page, serve):  # noqa: F811
    """The server is killed after fifteen; the page keeps what is labeled meanwhile, and goes on with the next one."""
    flags, wanted = (f"--images={images}", f"--labels={table}", "--who=anna"), {}
    command = serve(*flags, "--port=0")
    page = open_page(command.address)
    port = command.address.split(":")[2].partition("/")[0]
    for _ in range(15):
        label_next(page, wanted)
    waited_for(lambda: labels_of(table) == wanted)
    screenshot(page, "label_one")
    command.kill()
    page.keyboard.press("0")  # an image whose picture is here already: of no class
    wanted["015.png"] = NONE
    page.wait_for_selector("#saved.bad")
    assert "kept in this page" in page.inner_text("#saved")
    page.problems.clear()  # requests that nobody answered
    command = serve(*flags, f"--port={port}")
    waited_for(lambda: page.inner_text("#saved") == "Saved")
    page.problems.clear()
    page.reload()
    while len(wanted) < 30:
        label_next(page, wanted)
    waited_for(lambda: labels_of(table) == wanted)
    assert page.inner_text("#count") == "30 of 60 looked at"
    assert counts_shown(page) | {NONE: int(page.inner_text("#none-count"))} == counts_of(labels_of(table))
    page.keyboard.press(".")
    waited_for(lambda: page.evaluate("[...document.querySelectorAll('.tile img')].every(i => i.naturalWidth)"))
    screenshot(page, "label_grid")
    page.close()
    command.kill()


def label_on_with_its_guesses(images, table, workdir, open_page, serve):  # noqa: F811
    """The run's guesses come for all that have no label; the least sure one is first, and Enter agrees with it."""
    before = labels_of(table)
    page = open_page(serve(f"--images={images}", f"--labels={table}", f"--from={workdir}", "--port=0").address)
    waited_for(lambda: page.inner_text("#guessing").startswith("60 guesses by"), seconds=60)
    page.select_option("#view", "unsure")
    page.keyboard.press("Escape")
    guess = waited_for(lambda: page.inner_text("#guess")).split("?")[0]
    name = waited_for(lambda: page.inner_text("#name"))
    screenshot(page, "label_from")
    page.click("#large")
    page.keyboard.press("Enter")
    waited_for(lambda: labels_of(table) == before | {name: guess})

"""Ten thousand classes: counted by the pairs that occur, within the memory of the answers, in evaluation and report."""

import contextlib
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from semivit_jax import config, files
from semivit_jax.checkpoints.saving import Saver
from semivit_jax.data.dataset import open_task
from semivit_jax.files import write_json
from semivit_jax.inference import grades
from semivit_jax.main import main
from semivit_jax.ops import confusion
from semivit_jax.report import gather, make, page
from semivit_jax.training import progress
from semivit_jax.training.setup import Run
from tests.configs import small_config, small_plan
from tests.report.made import made_up, png, write_stage
from tests.report.test_page import check, read
from tests.serve.runs import TINY, fresh_params

pytestmark = pytest.mark.xdist_group("report")
MANY, GRADED = 10_000, 300  # classes; images that a run is graded on
MOST_BYTES = 400 * 2**20  # programs and pictures need some 200 MB; a matrix of all classes alone has 800 MB


@contextlib.contextmanager
def bounded():
    """Fails where this process, numpy and jax alike, takes MOST_BYTES more memory than it has already."""
    status, numbers = Path("/proc/self/status"), re.compile(r"Vm(RSS|HWM):\s+(\d+) kB")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here on
    start = 1024 * int(dict(numbers.findall(status.read_text()))["RSS"])
    yield
    found = 1024 * int(dict(numbers.findall(status.read_text()))["HWM"]) - start
    assert found < MOST_BYTES


def test_pairs_say_what_a_matrix_does():
    generator = np.random.default_rng(0)
    labels, predictions = generator.integers(0, 7, (2, 90))
    matrix = np.zeros((9, 9), np.int64)
    np.add.at(matrix, (labels, predictions), 1)
    found = confusion.count(labels, predictions, num_classes=9)
    np.testing.assert_array_equal(found.matrix(), matrix)
    np.testing.assert_array_equal(found.matrix([5, 2]), matrix[np.ix_([5, 2], [5, 2])])
    np.testing.assert_array_equal(found.per_class, matrix.sum(axis=1))
    np.testing.assert_array_equal(found.right, np.diag(matrix))
    np.testing.assert_array_equal(found.involved, matrix.sum(axis=0) + matrix.sum(axis=1))
    assert found.num_images == 90
    wrong = matrix - np.diag(np.diag(matrix))
    np.testing.assert_array_equal(found.mistakes.matrix(), wrong)
    np.testing.assert_array_equal(found.of_label(3).matrix()[3], matrix[3])
    (label, prediction, count), *_ = found.mistakes.largest(3)
    assert count == wrong.max() == wrong[label, prediction]


def test_no_answer_makes_an_empty_confusion():
    found = confusion.count(np.zeros(0, int), np.zeros(0, int), num_classes=3)
    assert found.num_images == 0
    assert found.mistakes.largest(5) == []
    np.testing.assert_array_equal(found.matrix(), np.zeros((3, 3)))


@pytest.mark.parametrize("more", [0, 1])
def test_the_matrix_is_told_up_to_a_thousand_classes_and_then_the_pairs(more, tmp_path):
    num = grades.MOST_IN_MATRIX + more
    _, looked = made_up(tmp_path / "run", [f"{k:05}" for k in range(num)], file_names=[f"{k}.png" for k in range(9)])
    told = grades.to_json(looked.grades)["results"]["params"]
    answers = looked.grades.answers["params"]
    pairs = zip(answers.labels.tolist(), answers.guesses[:, 0].tolist(), strict=True)
    if more:
        assert "confusion" not in told
        assert sorted(map(tuple, told["confusion_pairs"])) == sorted((*pair, 1) for pair in set(pairs))
    else:
        assert "confusion_pairs" not in told
        assert all(told["confusion"][label][prediction] for label, prediction in pairs)


def test_a_page_of_ten_thousand_classes_is_small_and_made_in_little_memory(tmp_path):
    names = [f"class {k:05}" for k in range(MANY)]
    run, looked = made_up(tmp_path / "run", names, file_names=[f"{k}.png" for k in range(20_000)])
    with bounded():
        report = gather.numbers(run, looked)
        text = page.render(report, run, looked)
    assert len(text) < 3 * 2**20
    found = check(text, json.loads(json.dumps(report)))
    assert f"The 12 classes of lowest accuracy of {len(report['classes']):,}" in found.said
    assert "The 30 classes with the most mistakes" in found.said
    assert sum(row["graded"] for row in report["classes"]) == 20_000
    assert len(report["confused"]) == 10
    wrong = [n for a, b, n in report["grades"]["results"]["params"]["confusion_pairs"] if a != b]
    assert [one["count"] for one in report["confused"]] == sorted(wrong, reverse=True)[:10]
    assert len(report["run"]["labeled_per_class"]) == MANY


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The workdir of a run on ten thousand classes with one labeled photo each, which has fresh weights."""
    place = tmp_path_factory.mktemp("many")
    photos = place / "photos"
    (photos / "train").mkdir(parents=True)
    (photos / "train" / "00000.png").write_bytes(png(0, side=8))
    for number in range(1, MANY):
        os.link(photos / "train" / "00000.png", photos / "train" / f"{number:05}.png")
    for number in range(GRADED):
        file = photos / "val" / f"class {number * 33:05}" / "a.png"
        file.parent.mkdir(parents=True)
        file.write_bytes(png(number, side=8))
    rows = (f"{number:05}.png,class {number:05}\n" for number in range(MANY))
    (place / "labels.csv").write_text("path,label\n" + "".join(rows))
    data = {"data.dataset": "own_folder", "data.root": str(photos), "data.labels": str(place / "labels.csv"),
            "data.train_split": "train", "data.eval_split": "val", "data.labels_per_class": 0}  # fmt: skip
    settings = small_config(**TINY, **data, stages=("finetune",))
    workdir = place / "run"
    workdir.mkdir()
    write_json(workdir / "config.json", config.to_dict(settings))
    task = open_task(settings, workdir=files.path(workdir), label_free=("mae",))
    saver = Saver(workdir / "finetune" / "checkpoints", keep=1)
    facts = progress.facts(
        Run(settings, workdir, task, None, None, None), small_plan("finetune"), 3, 3, progress.fresh_progress(0.0)
    )
    saver.save(3, {"params": fresh_params(settings, "finetune", num_classes=MANY, seed=0)}, facts)
    saver.close()
    write_stage(workdir / "finetune", "finetune", done=True)
    return workdir


@pytest.mark.slow  # by default: its page, above, and how answers are counted
def test_a_run_of_ten_thousand_classes_is_graded_and_reported(folder, tmp_path, capsys):
    out = tmp_path / "eval.json"
    with bounded():
        assert main(["semivit", "eval", f"--workdir={folder}", f"--out={out}"]) == 0
        make.make(files.path(folder), most=50)
    found, report = read(folder)
    assert json.loads(out.read_text()) == report["grades"]
    told = report["grades"]["results"]["params"]
    assert sum(n for *_, n in told["confusion_pairs"]) == told["num_images"] == GRADED
    assert told["acc1"] == pytest.approx(sum(n for a, b, n in told["confusion_pairs"] if a == b) / GRADED)
    assert "tell 10,000 classes apart" in found.said
    assert (folder / make.PAGE).stat().st_size < make.MOST_BYTES

"""`semivit eval`: the numbers of training's own evaluation, every split, every protocol, runs and imports."""

import dataclasses
import functools
import json
import shutil

import numpy as np
import pytest

from semivit_jax.cli import eval
from semivit_jax.data.eval_pipeline import eval_batches
from semivit_jax.data.sources.image_set import ImageSet
from semivit_jax.inference.grades import PROTOCOLS, Answers, Grades
from semivit_jax.main import main
from semivit_jax.ops.confusion import count
from semivit_jax.ops.scores import Scores, training_scores
from semivit_jax.stages.supervised import make_eval_step
from semivit_jax.training import sharding
from semivit_jax.training.evaluate import evaluate
from tests.compiled import quick_jit
from tests.models import network_of
from tests.serve.runs import digits, write_run

CONFIG_FILES = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # ml_collections loads them so


def run(*argv) -> int:
    return main(["semivit", "eval", *map(str, argv)])


def result(out):
    return json.loads(out.read_text())


def test_params_and_ema_params_get_the_numbers_that_training_logs(finished, tmp_path, capsys):
    folder, config, *trees = finished
    assert run(f"--workdir={folder}", f"--out={tmp_path / 'new' / 'eval.json'}") == 0
    written = result(tmp_path / "new" / "eval.json")
    model = network_of(config, image_size=8, num_classes=10)
    step = quick_jit(make_eval_step(config, model))
    graded_in_training = functools.partial(training_scores, labeled=digits().counts.per_class)
    batches = eval_batches(digits().eval, config.data, label="class", batch_size=100, process_index=0, process_count=1)
    for name, params in zip(("params", "ema_params"), trees, strict=True):
        found, expected = (
            written["results"][name],
            evaluate(step, params, batches, grade=graded_in_training, mesh=sharding.make_mesh(1)),
        )
        np.testing.assert_allclose([found[k] for k in expected], list(expected.values()), rtol=1e-5)
        confusion = np.array(found["confusion"])
        assert found["num_images"] == confusion.sum() == 360
        assert np.trace(confusion) / 360 == pytest.approx(found["acc1"])
        shares = np.diag(confusion) / confusion.sum(axis=1)
        np.testing.assert_allclose([found["class_acc"][str(i)] for i in range(10)], shares)
        assert 0 < found["ece"] < 1
    assert written["split"] == "test"
    said = capsys.readouterr().out
    assert "acc1 %" in said
    for found in written["results"].values():  # shares in the file, percent on the screen
        assert f"{100 * found['acc1']:.2f}" in said
        assert f"{100 * found['class_acc']['3']:.2f}" in said
        assert f"{found['loss']:.4f}" in said
    assert "ema_params" in said
    assert "by the classifier's own head" in said


def graded(*class_names: str) -> Grades:
    """Of one image of the first class that is taken for the last."""
    confusion = count(np.array([0]), np.array([len(class_names) - 1]), num_classes=len(class_names))
    found = Scores(1, 0.0, 1.0, 2.0, 0.5, 0.0, (0.0, *[None] * (len(class_names) - 1)), confusion, ())
    source = "/a/folder/whose/name/is/" + "long/" * 30 + "ema_params"
    images = ImageSet([b""], ["0.png"], np.zeros(1, np.int32))
    last = np.array([[len(class_names) - 1]])
    answers = Answers(np.zeros(1, int), np.zeros(1, int), last, np.ones((1, 1), np.float32))
    return Grades(
        source,
        "own_folder",
        "validation",
        PROTOCOLS["head"],
        class_names,
        {"params": found},
        images,
        {"params": answers},
        calibrated={},
        labeled=None,
    )


def test_titles_are_whole_lines_and_say_which_class_is_the_true_one(capsys):
    evaluation = graded("ant", "bee")
    eval.show(evaluation)
    lines = capsys.readouterr().out.splitlines()
    assert evaluation.source in lines
    assert "own_folder, split 'validation', by " + PROTOCOLS["head"] in lines
    assert "params: images by class (rows: true class, columns: predicted class)" in lines
    (row,) = [line for line in lines if line.startswith("│ ant")]
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["ant", "0.00", "", "1"]


@pytest.mark.parametrize(("classes", "told"), [("abcde", False), ("abcdef", True)])
def test_five_guesses_are_told_where_they_can_be_wrong(classes, told, capsys):
    eval.show(graded(*classes))
    said = capsys.readouterr().out
    assert "acc1 %" in said
    assert ("acc5 %" in said) is told


@pytest.mark.parametrize(("labeled", "told"), [((9, 3, 1), True), ((3, 3, 3), False), (None, False)])
def test_rare_classes_are_told_of_where_labels_are_skewed(labeled, told, capsys):
    grades = dataclasses.replace(graded("ant", "bee", "cat"), labeled=labeled)
    eval.show(grades)
    said = capsys.readouterr().out
    for column in ("balanced_acc1 %", "acc1_tail %"):
        assert (column in said) is told
    found = eval.to_json(grades)["results"]["params"]
    assert found["balanced_acc1"] == 0.0
    assert ("acc1_head" in found) is told


@pytest.mark.parametrize(("split", "count"), [("labeled", 40), ("train", 1437)])
def test_splits_by_name(finished, tmp_path, split, count):
    assert run(f"--workdir={finished[0]}", f"--split={split}", f"--out={tmp_path / 'e.json'}") == 0
    assert result(tmp_path / "e.json")["results"]["params"]["num_images"] == count


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--split=validation"], "the split 'validation' has no image with a label"),
        (["--split=middle"], "; roles in training: labeled, unlabeled, validation, train"),
        (["--protocol=knn", "--split=labeled"], "holds the images that --protocol=knn is fitted on"),
        (["--stage=semi"], "has no good checkpoint"),
    ],
)
def test_what_cannot_be_graded_is_one_message(finished, capsys, flags, message):
    assert run(f"--workdir={finished[0]}", *flags) == 1
    assert message in capsys.readouterr().err


@CONFIG_FILES
def test_a_mistyped_override_is_bad_usage(finished, capsys):
    assert run(f"--workdir={finished[0]}", "--config=digits", "--config.data.image_sise=9") == 2
    assert "config.data.image_sise" in capsys.readouterr().err


def test_an_autoencoder_is_graded_by_its_features(tmp_path, capsys):
    write_run(tmp_path / "mae", stage="mae", keep_ema=False)
    assert run(f"--workdir={tmp_path / 'mae'}") == 1
    assert "has no classifier; give --protocol" in capsys.readouterr().err
    assert run(f"--workdir={tmp_path / 'mae'}", "--protocol=knn", f"--out={tmp_path / 'knn.json'}") == 0
    written = result(tmp_path / "knn.json")
    assert "k-nearest neighbours on frozen features" in written["protocol"]
    found = written["results"]["params"]
    assert found["acc1"] > 0.3  # random features of real digits; chance is 0.1
    assert "loss" not in found
    assert "ece" not in found


@CONFIG_FILES
def test_an_import_is_graded_on_the_data_a_config_names(finished, imported, tmp_path, capsys):
    folder = imported
    assert run(f"--workdir={folder}", "--protocol=linear") == 1
    assert "give --config=FILE" in capsys.readouterr().err
    data = "--config=digits:labels_per_class=2"
    assert run(f"--workdir={folder}", data, "--protocol=linear", f"--out={tmp_path / 'linear.json'}") == 0
    found = result(tmp_path / "linear.json")["results"]
    assert found.keys() == {"params", "ema_params"}
    assert all(tree["acc1"] > 0.3 for tree in found.values())
    assert np.isfinite([tree["loss"] for tree in found.values()]).all()
    assert run(f"--workdir={folder}", data, f"--out={tmp_path / 'head.json'}") == 0
    assert run(f"--workdir={finished[0]}", f"--out={tmp_path / 'run.json'}") == 0
    head, own = (result(tmp_path / name)["results"]["ema_params"] for name in ("head.json", "run.json"))
    assert head["confusion"] == own["confusion"]
    assert "warning" not in capsys.readouterr().out


@CONFIG_FILES
def test_a_head_for_classes_of_other_names_is_graded_with_a_warning(imported, tmp_path, capsys):
    folder = shutil.copytree(imported, tmp_path / "in")
    record = json.loads((folder / "import.json").read_text())
    record["class_names"][:2] = ["zero", "one"]
    (folder / "import.json").write_text(json.dumps(record))
    assert run(f"--workdir={folder}", "--config=digits") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "is graded, but output 0 is 'zero' there and '0' here" in said
    assert "(2 of 10 class names differ)" in said

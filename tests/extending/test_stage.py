"""A stage of one's own from the command line: trained, stopped and resumed, graded, told, planned, under its name."""

import json
import os
import signal

import jax
import numpy as np
import pytest
from sklearn.metrics import f1_score

from semivit_jax import main
from semivit_jax.checkpoints import reading
from semivit_jax.data.dataset import open_task
from semivit_jax.data.eval_pipeline import eval_batches
from semivit_jax.data.rows import LABELS
from semivit_jax.inference import features
from semivit_jax.inference.trained import load_trained
from semivit_jax.ops.metrics import Mean
from semivit_jax.recipes.planning import make_plan
from semivit_jax.stages import STAGES
from semivit_jax.training import writers
from semivit_jax.training.describe import describe_batch
from semivit_jax.training.loggers.spec import Row
from semivit_jax.training.sharding import make_mesh
from tests.compiled import quick_jit
from tests.decoded import keep_decoded
from tests.e2e.runs import final_arrays
from tests.extending import logger, stage, stage_recipe
from tests.serve.runs import write_run

# ml-collections loads config files in a way that Python 3.12 drops; nothing of ours can change that.
pytestmark = [
    pytest.mark.filterwarnings("ignore:the load_module.. method is deprecated:DeprecationWarning"),
    pytest.mark.xdist_group("questions"),
]

RECIPE = f"--config={stage_recipe.__file__}"
STEPS, STOP = 24, 13  # two updates are an epoch
FLAGS = [f"--config.{key}={value}" for key, value in {
    "model.variant": "vit_test2", "questions.epochs": STEPS / 2, "questions.base_lr": 1e-2,
    "questions.yes_weight": 1.5, "train.eval_every_epochs": 4.0, "train.eval_batch_size": 100,
    "train.agree_every_steps": 1, "checkpoint.save_every_steps": 5, "log.every_steps": 2,
    "log.writers": ("jsonl", "loss_csv"), "log.report": False, "train.compilation_cache": False,
}.items()]  # fmt: skip


def semivit(*argv):
    return main.main(["semivit", *map(str, argv)])


@pytest.fixture(scope="module", autouse=True)
def registered(tmp_path_factory):
    """The lines in the tables, and programs compiled quickly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setitem(STAGES, "questions", stage.SPEC)
        patch.setitem(LABELS, "questions", stage.ANSWERS)
        patch.setitem(writers.WRITERS, "loss_csv", logger.LOSS_CSV)
        keep_decoded(patch)
        jax.config.update("jax_disable_most_optimizations", True)
        yield
        jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "finished"
    assert semivit("train", RECIPE, f"--workdir={folder}", *FLAGS) == 0
    return folder


def logged(folder):
    lines = [json.loads(line) for line in (folder / "questions" / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith("perf/")} for line in lines]


def graded(folder):
    return {line["step"]: line for line in logged(folder) if "val/macro_f1" in line}


def told(folder):
    return json.loads((folder / "summary.json").read_text())


def test_its_grade_is_of_all_images_together(finished):
    trained = load_trained(finished, kept="latest", tree="params", stage=None)
    task, view = open_task(trained.config, workdir=None, label_free=()), features.device_view(trained.config.data)
    logits = quick_jit(lambda images: features.network(trained).logits(trained.weights.params, images, None))
    (batch,) = eval_batches(
        task.eval, trained.config.data, label="questions", batch_size=360, process_index=0, process_count=1
    )
    said = np.asarray(logits(stage.see(batch["image"], stage.ImageDraws(), view))) > 0
    assert said.shape == batch["label"].shape == (360, 3)
    assert 0 < said.mean() < 1
    found = graded(finished)[STEPS]["val/macro_f1"]
    assert 0 < found < 1
    np.testing.assert_allclose(found, f1_score(batch["label"], said, average="macro"), rtol=1e-12)


def test_f1_of_sums_is_no_mean_of_batches():
    """All three images with a yes said have one, of five; in two halves it would be (1 + 0) / 2."""
    halves = [{"said": 3, "true": 3, "both": 3}, {"said": 0, "true": 2, "both": 0}]
    sums = {name: Mean(np.array([half[name] for half in halves]).sum(keepdims=True), 2.0) for name in halves[0]}
    assert stage.grade(sums)["macro_f1"] == 6 / 8


def test_answers_are_those_of_the_digits():
    assert stage.TABLE[[0, 1, 5, 8]].tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1]]


def test_the_best_weights_are_those_of_its_score(finished):
    scores = {step: line["val_ema/macro_f1"] for step, line in graded(finished).items()}
    facts = reading.read_facts(reading.newest_good(finished / "questions" / "best"))
    assert len(scores) == 3
    assert facts["best_macro_f1"] == scores[facts["step"]] == max(scores.values())


def test_a_run_ends_with_its_numbers(finished, capsys):
    last = graded(finished)[STEPS]
    entries = told(finished)["stages"]["questions"]
    assert (entries["macro_f1"], entries["ema_macro_f1"]) == (last["val/macro_f1"], last["val_ema/macro_f1"])
    assert 0 < entries["said_yes"] < 1
    assert semivit("train", RECIPE, f"--workdir={finished}", *FLAGS) == 0  # finished: it is told again
    rows = [line.strip("│┃ ").split() for line in capsys.readouterr().out.splitlines()]
    row = next(cells for cells in rows if " ".join(cells).startswith("three questions, macro F1 "))
    assert row[-1] == f"{100 * entries['macro_f1']:.1f}"


def test_an_f1_is_called_no_accuracy(finished, capsys):
    """Nor are accuracies of others put beside it."""
    assert semivit("train", RECIPE, f"--workdir={finished}", *FLAGS) == 0
    shown = capsys.readouterr().out
    assert "accuracy" not in shown
    assert "SVM" not in shown
    assert told(finished)["baselines"] == {}


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not(finished, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(writers.WRITERS, "stopper", Row(lambda *_: Stopper(), essential=True))
        flags = [flag for flag in FLAGS if "log.writers" not in flag]  # a tuple that is given twice is joined
        flags.append("--config.log.writers=('jsonl', 'stopper', 'loss_csv')")
        assert semivit("train", RECIPE, f"--workdir={tmp_path / 'run'}", *flags) == 75
    assert max(line["step"] for line in logged(tmp_path / "run")) < STEPS
    assert semivit("train", RECIPE, f"--workdir={tmp_path / 'run'}", *FLAGS) == 0
    assert logged(tmp_path / "run") == logged(finished)
    assert told(tmp_path / "run")["stages"] == told(finished)["stages"]
    found, wanted = (final_arrays(folder, "questions") for folder in (tmp_path / "run", finished))
    assert found.keys() == wanted.keys()
    assert not [name for name in wanted if found[name].tobytes() != wanted[name].tobytes()]
    tables = [(folder / "questions" / "loss.csv").read_text() for folder in (tmp_path / "run", finished)]
    assert tables[0] == tables[1]


class Stopper:
    """Writes nothing, and asks for a stop as a cluster does."""

    def write(self, step, values):
        if step >= STOP:
            os.kill(os.getpid(), signal.SIGTERM)

    def flush(self):
        pass

    def close(self):
        pass


def test_a_logger_of_ones_own_has_the_losses_of_the_run(finished):
    lines = (finished / "questions" / "loss.csv").read_text().splitlines()
    losses = {line["step"]: line["train/loss"] for line in logged(finished) if "train/loss" in line}
    assert len(losses) == STEPS / 2
    assert {int(step): float(loss) for step, loss in (line.split(",") for line in lines)} == losses


def test_it_is_planned(tmp_path):
    out = tmp_path / "plan.json"
    assert semivit("plan", RECIPE, *FLAGS, "--topology=gpu:2xH100", "--nocompile", f"--out={out}") == 0
    (row,) = json.loads(out.read_text())["stages"]
    assert (row["stage"], row["batch_size"], row["images_per_device"], row["fits"]) == ("questions", 20, 10, True)
    assert row["model_flops"] > 0


def test_a_plan_describes_its_labels(finished):
    config = load_trained(finished, kept="latest", tree="params", stage=None).config
    counts = open_task(config, workdir=None, label_free=()).counts
    plan = make_plan(config, "questions", counts, num_devices=1, stored_group_size=None)
    assert describe_batch(config, plan, make_mesh(1))["label"].shape == (1, 20, 3)


@pytest.mark.parametrize(
    "asked",
    [
        ("predict", "--images={tmp}", "--out={tmp}/found.csv"),
        ("eval",),
        ("export", "--format=stablehlo", "--out={tmp}/out"),
    ],
    ids=lambda asked: asked[0],
)
def test_what_is_for_classes_alone_says_so(asked, finished, tmp_path, capsys):
    command, *flags = (part.format(tmp=tmp_path) for part in asked)
    assert semivit(command, f"--workdir={finished}", *flags) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "answers with 'questions', not with a class" in line


def test_its_features_are_graded_by_the_usual_probe(finished, tmp_path):
    assert semivit("eval", f"--workdir={finished}", "--protocol=knn", f"--out={tmp_path / 'grades.json'}") == 0
    found = json.loads((tmp_path / "grades.json").read_text())["results"]
    assert set(found) == {"params", "ema_params"}
    assert found["params"]["num_images"] == 360


def train_from(folder, source):
    return semivit("train", RECIPE, f"--workdir={folder}", *FLAGS, f"--config.init_from={source}")


def test_it_starts_from_the_stages_that_it_names(tmp_path):
    write_run(tmp_path / "mae", stage="mae")
    assert train_from(tmp_path / "run", tmp_path / "mae") == 0
    told = json.loads((tmp_path / "run" / "questions" / "started_from.json").read_text())
    assert {"head.kernel", "head.bias"} <= set(told["reinitialised"])
    assert "blocks.attn.qkv.kernel" in told["loaded"]


def test_it_starts_from_no_other(tmp_path, capsys):
    write_run(tmp_path / "semi", stage="semi")
    assert train_from(tmp_path / "run", tmp_path / "semi") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("stage questions does not start from semi, but from mae, questions, import")


def test_keys_that_do_not_go_together_are_refused(tmp_path, capsys):
    smoothed = "--config.questions.label_smoothing=0.1"
    assert semivit("train", RECIPE, f"--workdir={tmp_path / 'run'}", *FLAGS, smoothed) == 2
    assert "config.questions.yes_weight is 1.5; with label_smoothing it must be 1" in capsys.readouterr().err

"""A run that starts from weights: its probe, the head that starts from it, and what it is compared with."""

import json
import shutil

import jax
import numpy as np
import pytest

from semivit_jax.checkpoints import reading
from semivit_jax.inference.trained import load_trained, settled
from semivit_jax.main import main
from semivit_jax.training import head, loop, run, summary
from tests.configs import small_config
from tests.decoded import keep_decoded
from tests.serve.runs import TINY, write_run

pytestmark = pytest.mark.xdist_group("probe")

STEPS = 3
QUICK = TINY | {
    "data.labels_per_class": 4, "finetune.batch_size": 40, "finetune.epochs": float(STEPS),
    "finetune.warmup_epochs": 0.0, "train.eval_every_epochs": 1.0, "train.compilation_cache": False,
    "checkpoint.save_every_steps": 2, "log.every_steps": 1, "log.tensorboard": False,
}  # fmt: skip


STILL = {"finetune.base_lr": 0.0, "finetune.min_lr": 0.0}


@pytest.fixture(scope="module")
def train(machine, tmp_path_factory):
    """Trains from the weights of a run of `stage`; returns the folder of the new run."""
    root = tmp_path_factory.mktemp("probe")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(machine.cache))
        patch.setattr(summary, "baselines", lambda task, data: {})
        keep_decoded(patch)
        jax.config.update("jax_disable_most_optimizations", True)  # compiled quickly

        def go(name, *, source="mae", head_init="probe", stages=("finetune",), **changes):
            if not (root / source).exists():
                write_run(root / source, stage=source)
            given = {"init_from": str(root / source), "stages": stages, "model.head_init": head_init}
            run.train(small_config(**(QUICK | given | changes)), root / name)
            return root / name

        yield go
        jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def still(train):
    """Learning nothing, so that only the head of the start matters."""
    return train("still", **STILL)


def arrays(checkpoint):
    return load_trained(checkpoint, kept="latest", tree="params", stage=None).weights.params


def told(folder):
    return json.loads((folder / "finetune" / "probe.json").read_text())


def test_the_head_starts_from_the_probe_and_grades_as_it(still):
    found = told(still)
    report = json.loads((still / "finetune" / "report.json").read_text())
    assert found["is_head"]
    assert 0.2 < found["linear_acc1"] < 1
    assert report["val_ema/acc1"] == pytest.approx(found["linear_acc1"], abs=1e-6)  # what predicts
    assert report["val/acc1"] < report["val_ema/acc1"]  # the source's current weights are others, drawn at random
    assert report["below"] == {}
    np.testing.assert_array_equal(
        arrays(still / "finetune" / "best" / "0")["head"]["kernel"],
        arrays(reading.newest_good(still / "finetune" / "checkpoints"))["head"]["kernel"],
    )


def test_the_probe_stands_in_the_summary(still, capsys):
    found = told(still)
    stored = json.loads((still / "summary.json").read_text())
    assert stored["baselines"] == {
        "linear_probe": {"acc1": found["linear_acc1"]}, "knn_probe": {"acc1": found["knn_acc1"]}
    }  # fmt: skip
    summary.print_summary(stored)
    assert "linear probe on the starting weights" in capsys.readouterr().out


@pytest.mark.slow
def test_random_heads_are_probed_too_and_stay_random(train, still, capsys):
    folder = train("random", head_init="random", **{"finetune.epochs": 1.0})
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "probe on the starting weights:" in line]
    begins, numbers = (
        "finetune: probe on the starting weights: logistic regression",
        "% of 360 test images, fitted on 40",
    )
    for words in (begins, "k-NN", numbers, "by 4-fold cross-validation", "; the head starts at random (config.model."):
        assert words in line
    found = told(folder)
    assert not found["is_head"]
    assert found["linear_acc1"] == told(still)["linear_acc1"]
    assert not (folder / "finetune" / "best" / "0").exists()


def test_a_head_for_these_classes_is_kept(train, capsys):
    folder = train("kept", source="finetune", **{"finetune.epochs": 1.0})
    assert "the head that came along is kept" in capsys.readouterr().out
    assert not told(folder)["is_head"]


@pytest.mark.slow
def test_a_start_that_is_repeated_finds_the_same_head(train, still, monkeypatch):
    """Before the first checkpoint nothing of the first start is needed; after it the state has the head."""
    consume = loop.Loop._consume

    def end_after(until):
        def consume_or_end(self, step, found, **options):
            if step > until:
                self.wait()
                raise OSError("ended here")
            consume(self, step, found, **options)

        return consume_or_end

    for until in (0, 2):
        monkeypatch.setattr(loop.Loop, "_consume", end_after(until))
        with pytest.raises(OSError, match="ended here"):
            train("repeated", **STILL)
    monkeypatch.setattr(loop.Loop, "_consume", consume)
    repeated = train("repeated", **STILL)
    for holder in ("checkpoints", "best"):
        found, wanted = (_bytes(reading.newest_good(folder / "finetune" / holder)) for folder in (repeated, still))
        assert found == wanted
    without_seconds = [{k: v for k, v in told(f).items() if k != "seconds"} for f in (repeated, still)]
    assert without_seconds[0] == without_seconds[1]


def _bytes(checkpoint):
    flat = reading.flat(arrays(checkpoint))
    return checkpoint.name, {name: np.asarray(array).tobytes() for name, array in flat.items()}


# ---- a stage that ends below the probe


@pytest.fixture(scope="module")
def worse(train):
    """A learning rate that spoils the weights."""
    return train("worse", **{"finetune.base_lr": 30.0, "finetune.lr_rule": "absolute", "finetune.ema_decay": 0.5})


@pytest.mark.slow
def test_a_stage_that_ends_below_the_probe_says_so_and_keeps_the_better_weights(worse, still):
    report = json.loads((worse / "finetune" / "report.json").read_text())
    probed = told(worse)["linear_acc1"]
    assert report["below"] == {"the probe on the starting weights": probed}
    (line,) = report["remarks"]
    assert line.startswith(f"finetune ended with {100 * report['val_ema/acc1']:.1f} % on 360 evaluation images, below")
    assert f"kept, step 0 of finetune ({100 * probed:.1f} %), unless given --weights=latest" in line
    assert json.loads((worse / "summary.json").read_text())["remarks"] == [line]
    best = load_trained(worse, kept="best", tree="params", stage=None)
    assert "/finetune/best/0 (params)" in best.source
    np.testing.assert_array_equal(
        best.weights.params["head"]["kernel"], arrays(still / "finetune" / "best" / "0")["head"]["kernel"]
    )


@pytest.mark.slow
def test_export_takes_the_better_weights_and_names_them(worse, tmp_path, capsys, machine, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(machine.cache))
    assert settled(worse, kept="auto", stage=None).kept == "best"
    assert settled(worse, kept="auto", stage="finetune") == ("latest", "")
    taken = {"auto": "best/0", "latest": f"checkpoints/{STEPS}", "best": "best/0"}
    for kept, checkpoint in taken.items():
        flags = (f"--weights={kept}", "--format=timm", f"--out={tmp_path / kept}")
        assert main(["semivit", "export", f"--workdir={worse}", *flags]) == 0
        said = capsys.readouterr().out
        assert (f"the latest weights of {worse} ended below the probe on the starting weights" in said) == (
            kept != "best"
        )
        assert f"from {worse}/finetune/{checkpoint} (ema_params)" in said


@pytest.mark.slow
def test_the_best_of_a_run_may_be_of_an_earlier_stage(worse, still, tmp_path):
    """As where the semi-supervised stage only loses."""
    both = shutil.copytree(worse, tmp_path / "both")
    shutil.copytree(both / "finetune" / "checkpoints", both / "semi" / "checkpoints")
    assert load_trained(both, kept="best", tree="params", stage=None).source.count("/finetune/best/0")


def test_what_cannot_be_probed_is_said(train, capsys, monkeypatch):
    monkeypatch.setattr(head.linear_probe, "MOST_WORK", 10)
    folder = train("large", **{"finetune.epochs": 1.0})
    assert "no probe on the starting weights: 10 classes would take too long to fit" in capsys.readouterr().out
    assert not (folder / "finetune" / "probe.json").exists()
    assert json.loads((folder / "summary.json").read_text())["baselines"] == {}


@pytest.mark.slow
def test_two_processes_start_from_one_head(machine, still, tmp_path):
    """The first fits on the features of all; the classifier is that of one process, to rounding."""
    write_run(tmp_path / "mae", stage="mae")
    changes = {"init_from": tmp_path / "mae", "model.head_init": "probe", "stages": "('finetune',)", "seed": 0}
    quick = {key: value for key, value in QUICK.items() if key != "train.compilation_cache"}
    machine.finish(tmp_path / "run", processes=2, config="digits", quick=quick, changes=changes | STILL)
    found, wanted = told(tmp_path / "run"), told(still)
    assert {k: found[k] for k in ("penalty", "folds", "num_fitted")} == {
        k: wanted[k] for k in ("penalty", "folds", "num_fitted")
    }
    kernels = [arrays(f / "finetune" / "best" / "0")["head"]["kernel"] for f in (tmp_path / "run", still)]
    np.testing.assert_allclose(kernels[0], kernels[1], rtol=0, atol=1e-3 * np.abs(kernels[1]).max())

"""What an earlier commit wrote is read, gone on with and answered as that commit did (`tests.fixtures.write`).

Nothing of the package is used but the command line and `semivit_jax.load`, so no change inside it changes these tests.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fixtures import ask

pytestmark = pytest.mark.xdist_group("written_before")

RECORD = json.loads(ask.ANSWERS.read_text())
SAME_MACHINE = ask.machine() == RECORD["machine"]
CLOSE = 1e-5  # to what was recorded, of answers
FAR = 1e-4  # of a metric, or of an array's largest value, after some updates with other rounding
SLOW = {  # seconds each, and others like them are quick
    "finished: eval knn", "finished: load best params", "finished: load finetune", "finished: logits",
    "imports/convnext: load", "imports/own: load", "imports/own: load params", "photos_run: eval", "photos_run: load",
    "photos_run: load best params", "photos_run: predict",
}  # fmt: skip
ASKED = [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in RECORD["answers"]]


@pytest.fixture(scope="module")
def cache(machine) -> Path:
    return machine.cache


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """Everything that was written; tests may add to it, and start the workdirs that were stopped."""
    return ask.unpack(tmp_path_factory.mktemp("written"))


@pytest.fixture(autouse=True)
def beside_it(written, cache, monkeypatch):
    """The commands name folders as they did when all this was written."""
    monkeypatch.chdir(written)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


@pytest.fixture(scope="module")
def started(written, cache) -> dict[str, tuple[str, dict[str, str], dict[str, str]]]:
    """Workdirs that were started again, each with its exit code and output, and its files before and after."""
    argvs = {
        "finished": ask.TRAIN_DIGITS,
        "photos_run": ask.TRAIN_PHOTOS,
        "another": [*ask.TRAIN_DIGITS, "--config.semi.teacher=student"],
    }
    folders = {name: "finished" if name == "another" else name for name in argvs}
    before = {name: ask.files(written / folder) for name, folder in folders.items()}
    lines = [[*argv, f"--workdir={folders[name]}"] for name, argv in argvs.items()]
    said = dict(zip(argvs, ask.commands(lines, cwd=written, cache=cache), strict=True))
    return {name: (said[name], before[name], ask.files(written / folder)) for name, folder in folders.items()}


@pytest.fixture(scope="module")
def started_slowly(written, cache) -> dict[str, str]:
    """Exit code and output of runs that train several stages, and of runs that start from each import."""
    # A flag of several values that is given twice has the values of both.
    whole = [flag for flag in ask.DRAWN if not flag.startswith("--config.stages=")]
    tuned = [*ask.TRAIN_PHOTOS, "--config.model.variant=vit_test2", "--config.model.posemb=learned"]
    argvs = {
        "stopped_in_finetune": ask.TRAIN_DIGITS,
        "again": ask.TRAIN_DIGITS,
        "drawn": ask.DRAWN,
        "photos_again": ask.TRAIN_PHOTOS,
        "from_vit": [*tuned, "--config.model.pool=cls", "--config.init_from=imports/vit"],
        "from_own": [*whole, "--config.stages=('finetune',)", "--config.init_from=imports/own"],
        "from_own_mae": [*whole, "--config.stages=('mae',)", "--config.init_from=imports/own_mae"],
        "from_a_run": [*whole, "--config.stages=('finetune',)", "--config.init_from=finished"],
    }
    lines = [[*argv, f"--workdir={name}"] for name, argv in argvs.items()]
    return dict(zip(argvs, ask.commands(lines, cwd=written, cache=cache), strict=True))


@pytest.mark.parametrize("name", ["finished", "photos_run"])
def test_a_finished_run_prints_its_table_and_changes_nothing(started, name):
    said, before, after = started[name]
    assert said.startswith("0, ")
    accuracy = json.loads(Path(name, "summary.json").read_text())["stages"]["finetune"]["acc1"]
    assert "fine-tuning only" in said
    assert f"{100 * accuracy:.1f}" in said
    assert after == before


def test_another_config_is_refused_and_changes_nothing(started):
    said, before, after = started["another"]
    assert said.startswith("1, semivit: error: finished belongs to a run with another config"), said
    assert "semi.teacher: 'ema' -> 'student'" in said
    assert after == before


def test_a_run_stopped_in_its_last_stage_ends_as_it_would_have_then(written, cache):
    """Bit for bit on the kind of machine that recorded it. Compiled as users compile, as the record was.

    With little optimization a step whose program has another structure may round otherwise in the last digit.
    """
    argv = [*ask.TRAIN_DIGITS, "--workdir=stopped_in_semi"]
    (said,) = ask.commands([argv], cwd=written, cache=cache, quick=False)
    assert said.startswith("0, ")
    assert "semi: continues from step" in said
    recorded, workdir = RECORD["gone_on"]["stopped_in_semi"], written / "stopped_in_semi"
    assert_same(ask.logged(workdir), recorded["logged"], tolerance=0.0 if SAME_MACHINE else FAR)
    if SAME_MACHINE:
        assert ask.states(workdir) == recorded["states"]
    assert_same_sums(ask.states(workdir), recorded["states"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stopped_in_finetune", "again"])
def test_several_stages_end_as_the_finished_run(started_slowly, written, name):
    assert started_slowly[name].startswith("0, "), started_slowly[name]
    assert_same_run(written / name, written / "finished")


@pytest.mark.slow
def test_photos_are_trained_on_as_before(started_slowly, written):
    assert started_slowly["photos_again"].startswith("0, "), started_slowly["photos_again"]
    assert_same_run(written / "photos_again", written / "photos_run")


@pytest.mark.slow
def test_a_run_whose_weights_are_drawn_ends_as_recorded(started_slowly, written):
    assert started_slowly["drawn"].startswith("0, "), started_slowly["drawn"]
    assert_same(ask.logged(written / "drawn"), RECORD["drawn"]["logged"], tolerance=FAR)
    assert_same_sums(ask.states(written / "drawn"), RECORD["drawn"]["states"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stage"),
    [("from_vit", "finetune"), ("from_own", "finetune"), ("from_own_mae", "mae"), ("from_a_run", "finetune")],
)
def test_imports_and_runs_are_started_from_whole(started_slowly, written, name, stage):
    assert started_slowly[name].startswith("0, "), started_slowly[name]
    record = json.loads((written / name / stage / "started_from.json").read_text())
    assert record["loaded"]
    assert not record["reinitialised"]
    assert not record["dropped"]


@pytest.mark.parametrize("name", ["finished", "photos_run"])
def test_checkpoints_hold_the_recorded_arrays(written, name):
    assert ask.states(written / name) == RECORD["states"][name]


@pytest.mark.parametrize("name", ASKED)
def test_answers_are_the_recorded_ones(written, tmp_path, name):
    found = ask.questions(written, tmp_path)[name]()
    if name.endswith((": eval", ": eval knn")) and not SAME_MACHINE:
        # An image between two classes may be on either side of rounding.
        found, wanted = (_sums(evaluation) for evaluation in (found, RECORD["answers"][name]))
        assert_same(found, wanted, tolerance=0.01)
    else:
        assert_same(found, RECORD["answers"][name], tolerance=CLOSE)


POOLS = {"vit": "cls", "convnext": "mean", "autoencoder": None, "own": "mean", "own_mae": None}


@pytest.mark.parametrize(
    ("name", "source", "variant", "flags"),
    [
        ("vit", "published/vit", "vit_test2", []),
        ("convnext", "published/convnext", "convnext_test", []),
        ("autoencoder", "published/autoencoder", "vit_digits", ["--decoder"]),
        ("own", "finished", "vit_digits", []),
        ("own_mae", "finished/mae/checkpoints/7", "vit_digits", ["--decoder"]),
    ],
)
def test_the_same_source_is_imported_into_the_same_files(written, tmp_path, name, source, variant, flags):
    ask.done("import", source, f"--model={variant}", f"--out={tmp_path / name}", *flags)
    found, wanted = tmp_path / name, written / "imports" / name
    assert ask.told(ask.import_arrays(found)) == ask.told(ask.import_arrays(wanted)) == RECORD["imports"][name]
    found, wanted = (json.loads((folder / "import.json").read_text()) for folder in (found, wanted))
    for record in (found, wanted):  # absolute, of a run's checkpoint
        record["report"]["source"] = Path(record["report"]["source"]).name
    # Keys that came later: nothing was turned then, nothing is assumed of these, and one preprocessor squashes photos.
    # An encoder trained by masking alone leaves the pool to the recipe.
    assert found.pop("pool") == POOLS[name]
    assert found["preprocessing"].pop("exif_rotation") is False
    assert ["squashed" in note for note in found["report"].pop("notes")] == [True] * (name == "autoencoder")
    assert found == wanted


@pytest.mark.parametrize("name", ["autoencoder", "own_mae"])
def test_a_masked_autoencoder_has_nothing_to_predict_with(name):
    code, said = ask.semivit("predict", f"--workdir=imports/{name}", "--images=drawings", "--out=none.csv")
    assert code == 1
    assert "has no classifier" in said


def assert_same_run(workdir: Path, other: Path) -> None:
    """Close: another processor, and a step whose program has another structure, round otherwise in the last digit.

    A constant added to all keys changes no softmax, so the gradient of the keys' bias is zero but for rounding, which
    Adam turns into whole steps; the bias of that projection is left out.
    """
    assert_same(ask.logged(workdir), ask.logged(other), tolerance=FAR)
    holders = ask.states(other)
    assert ask.states(workdir).keys() == holders.keys()
    for holder in holders:
        found, wanted = (ask.checkpoint_arrays(ask.newest(folder / holder)) for folder in (workdir, other))
        assert found.keys() == wanted.keys()
        for name, array in wanted.items():
            assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), f"{holder}: {name}"
            if not name.endswith("attn.qkv.bias"):
                largest = np.abs(array).max(initial=0)
                np.testing.assert_allclose(found[name], array, rtol=0, atol=FAR * largest, err_msg=f"{holder}: {name}")


def assert_same_sums(found: dict[str, dict[str, str]], wanted: dict[str, dict[str, str]]) -> None:
    """The same for arrays of which only checksum and sums were recorded."""
    assert found.keys() == wanted.keys()
    for holder, arrays in wanted.items():
        assert found[holder].keys() == arrays.keys()
        for name in arrays:
            (dtype, shape, _, total, squares), (*kind, _, recorded, recorded_squares) = (
                told[holder][name].split() for told in (found, wanted)
            )
            assert [dtype, shape] == kind, f"{holder}: {name}"
            if not name.endswith("attn.qkv.bias"):
                size = np.prod([int(side) for side in shape.split("x")]) if shape != "scalar" else 1
                scale = np.sqrt(size * float(recorded_squares))  # no sum is larger
                assert float(total) == pytest.approx(float(recorded), rel=0, abs=FAR * scale), f"{holder}: {name}"
                assert float(squares) == pytest.approx(float(recorded_squares), rel=FAR), f"{holder}: {name}"


def assert_same(found: Any, wanted: Any, *, tolerance: float, path: str = "") -> None:
    """The same structure and texts; numbers, and texts that are numbers with a point, to `tolerance`."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), path
        for key in wanted:
            assert_same(found[key], wanted[key], tolerance=tolerance, path=f"{path}/{key}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), path
        for place, (one, other) in enumerate(zip(found, wanted, strict=True)):
            assert_same(one, other, tolerance=tolerance, path=f"{path}/{place}")
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, rel=tolerance, abs=tolerance), path
    elif isinstance(wanted, str) and wanted.replace(".", "", 1).isdigit() and "." in wanted:
        assert float(found) == pytest.approx(float(wanted), rel=tolerance, abs=tolerance), path
    else:
        assert found == wanted, path


def _sums(evaluation: dict[str, Any]) -> dict[str, Any]:
    """An evaluation without what single images decide: names, numbers of images, and means."""
    results = {
        tree: {key: value for key, value in found.items() if key not in ("class_acc", "confusion")}
        for tree, found in evaluation["results"].items()
    }
    return evaluation | {"results": results}

"""The study trains what its protocol says, goes on where it was stopped, and tells paired differences."""

import dataclasses
import json
import math

import pytest

from benchmarks.study import __main__ as study
from benchmarks.study import cells, from_scratch, images, recipe, running, table
from benchmarks.study.cells import ON_FEATURES, ORDER, PAPER, RULES, Cell, Place
from benchmarks.study.sizes import NUM_CLASSES, SIZES, Frozen
from benchmarks.study.table import Against
from semivit_jax.recipes import check

SMALL = SIZES["small"]
PROBED = {"linear_probe": {"acc1": 0.35}, "knn_probe": {"acc1": 0.3}}


def place_in(folder):
    return Place("small", folder, folder / "images")


def end(place, cell, *, seconds=60.0, **accuracy):
    """Leaves what a finished cell leaves."""
    folder = place.root / cell.name
    folder.mkdir(parents=True)
    stages = {cell.stage: accuracy} if accuracy else {}
    summary = {"stages": stages, "baselines": PROBED, "seconds": {"total": seconds}}
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "DONE").touch()


@pytest.fixture
def photographs(tmp_path):
    """Two images of each class in both folders."""
    for split in ("train", "test"):
        for label in range(NUM_CLASSES):
            folder = tmp_path / "data" / split / f"class_{label}"
            folder.mkdir(parents=True)
            for number in range(4):
                (folder / f"{number}.jpg").write_text(f"{split} {label} {number}")
    return tmp_path / "data"


def rows_of(size):
    return ON_FEATURES if isinstance(SIZES[size].network, Frozen) else ("mae", *PAPER, *RULES)


@pytest.mark.parametrize(("size", "row"), [(size, row) for size in SIZES for row in rows_of(size)])
def test_every_cell_is_a_legal_run(size, row, tmp_path):
    frozen = isinstance(SIZES[size].network, Frozen)
    place = Place(size, tmp_path, tmp_path / "images", tmp_path / "weights")
    raw = recipe.get_config(f"size={size},seed=3")
    cell = Cell(row, 3, 0.6, rate=0.02 if frozen else 0.0)
    given = [argument for argument in cells.command(cell, place) if argument.startswith("--config.")]
    keys = dict(argument.removeprefix("--config.").split("=", 1) for argument in given)
    for key, value in keys.items():
        kind = type(raw.get_ref(key).get()) if "." not in key else type(_at(raw, key))
        raw.update_from_flattened_dict({key: eval(value) if kind is tuple else kind(value)})
    config = check.check(raw)
    assert config.seed == 3
    assert config.data.eval_split == ("validation" if row == "mae" else "test")
    assert (config.stage(cell.stage).base_lr == 0.02) == frozen


def _at(raw, key):
    for name in key.split("."):
        raw = raw[name]
    return raw


def test_rows_of_the_third_stage_differ_in_what_they_name_alone(tmp_path):
    place = place_in(tmp_path)
    commands = {row: cells.command(Cell(row, 1, 0.6), place) for row in PAPER if PAPER[row].stage == "semi"}
    names = ("--config.semi.teacher", "--config.semi.pseudo_mixup", "--workdir")
    same = {tuple(a for a in command if not a.startswith(names)) for command in commands.values()}
    assert len(same) == 1
    assert f"--config.init_from={tmp_path}/seed_1/finetune" in same.pop()


def test_the_threshold_is_tried_on_validation_images_from_fine_tuned_weights(tmp_path):
    place = place_in(tmp_path)
    tried = [cell for cell in from_scratch.tuning_cells(SMALL) if cell.tuning]
    assert [cell.threshold for cell in tried] == list(SMALL.thresholds)
    for cell in tried:
        given = cells.command(cell, place)
        assert "--config.data.eval_split=validation" in given
        assert f"--config.init_from={tmp_path}/seed_0/finetune" in given
        assert f"--config.semi.confidence_threshold={cell.threshold}" in given


def test_a_seed_is_finished_before_the_next_and_begins_with_the_papers_order():
    found = [(cell.seed, cell.row) for cell in from_scratch.reported_cells(SMALL, list(PAPER), 0.6)]
    assert found[:5] == [(0, "finetune"), (0, "fixmatch"), (0, "ema"), (0, "ema_prob"), (0, "supervised")]
    assert [seed for seed, _ in found] == [0] * 7 + [1] * 7 + [2] * 7


def test_train_validation_and_test_share_no_image(photographs, tmp_path):
    size = dataclasses.replace(SMALL, train=2, validation=1, test=2)
    for _ in range(2):  # again over what is there
        images.lay_out(photographs, tmp_path / "laid", size)
    seen = {
        part: {p.read_text() for p in (tmp_path / "laid" / part).rglob("*.jpg")}
        for part in ("train", "validation", "test")
    }
    assert {part: len(found) for part, found in seen.items()} == {"train": 20, "validation": 10, "test": 20}
    assert not seen["train"] & seen["validation"]
    with pytest.raises(ValueError, match="class_0 has too few images: the study takes 5 of each class"):
        images.lay_out(photographs, tmp_path / "laid", dataclasses.replace(size, train=4))


@pytest.mark.parametrize("data", ["", "nowhere"])
def test_missing_images_are_a_line_and_exit_code_2(data, tmp_path, capsys):
    assert study.main([f"--data={data}", f"--root={tmp_path}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "DATA=FOLDER" in line
    assert not list(tmp_path.iterdir())


def test_what_has_finished_is_not_trained_again(tmp_path, monkeypatch):
    place, cell = place_in(tmp_path), Cell("finetune", 0)
    end(place, cell, acc1=0.4)
    monkeypatch.setattr(cells.subprocess, "run", None)
    cells.train(cell, place)
    assert cells.result(cell, place) == {"acc1": 0.4, "linear_probe": 0.35, "knn_probe": 0.3, "seconds": 60.0}


def test_a_cell_that_fails_names_its_log_and_keeps_its_exit_code(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cells, "command", lambda cell, place: ["false"])
    with pytest.raises(SystemExit) as ended:
        cells.train(Cell("finetune", 0), place_in(tmp_path))
    assert ended.value.code == 1
    assert f"see {tmp_path}/seed_0/finetune.log" in capsys.readouterr().err


def test_the_threshold_is_chosen_once_and_of_equal_ones_the_lowest(tmp_path):
    place = place_in(tmp_path)
    tried = from_scratch.tuning_cells(SMALL)[2:]
    for cell, reached in zip(tried, (0.3, 0.5, 0.5), strict=True):
        end(place, cell, ema_acc1=reached)
    assert running.choose("threshold.json", tried, place).threshold == SMALL.thresholds[1]
    (tmp_path / cell.name / "DONE").unlink()
    assert running.choose("threshold.json", tried, place).threshold == SMALL.thresholds[1]


def test_the_forecast_takes_the_mean_of_a_stage_and_names_stages_without_one(tmp_path):
    place = place_in(tmp_path)
    planned = [Cell("mae", 0), *from_scratch.reported_cells(SMALL, list(PAPER), 0.6)]
    end(place, planned[0], seconds=100.0)
    end(place, Cell("supervised", 0), seconds=120.0, acc1=0.3)
    end(place, Cell("finetune", 0), seconds=240.0, acc1=0.3)
    told = running.forecast(planned, place)
    assert "19 cells left: about 12 min, and those of semi, of which none has finished" in told


def test_paired_differences_are_of_common_seeds_with_students_interval():
    one, other = {0: 0.50, 1: 0.54, 2: 0.52, 5: 0.9}, {0: 0.40, 1: 0.42, 2: 0.41, 7: 0.1}
    found = table.paired(one, other)
    assert found.seeds == 3
    assert found.mean == pytest.approx(0.11)
    # differences 0.10, 0.12, 0.11: standard deviation 0.01, t of 2 degrees of freedom 4.302653
    assert found.half == pytest.approx(4.302653 * 0.01 / math.sqrt(3), rel=1e-6)
    assert table.paired({0: 0.5}, {0: 0.25}).half == math.inf
    assert table.paired({0: 0.5}, {1: 0.25}) is None


def test_the_table_takes_the_average_where_there_is_one_and_marks_what_is_short():
    fine = table.line("finetune", "fine", {0: {"acc1": 0.4, "seconds": 10.0}}, passes=0.0)
    semi = table.line(
        "fixmatch", "semi", {0: {"acc1": 0.42, "ema_acc1": 0.45, "seconds": 20.0, "mask_rate": 0.5}}, passes=9
    )
    _, _, first, second, *rest = table.markdown(
        [fine, semi], against=Against("finetune", "fine"), order=ORDER
    ).splitlines()
    assert [cell.strip() for cell in first.split("|")[1:5]] == ["fine", "40.0", "", "1"]
    assert [cell.strip() for cell in second.split("|")[1:-1]] == [
        "semi", "45.0", "", "1", "+5.0 (one seed)", "42.0", "50.0", "", "9 (too short to judge)", "20",
    ]  # fmt: skip
    assert "- semi over fine: +5.0 (one seed)" in rest


def test_the_table_is_written_of_what_has_finished(tmp_path):
    place = place_in(tmp_path)
    end(place, Cell("finetune", 0), acc1=0.4)
    end(place, Cell("ema", 0), acc1=0.5, ema_acc1=0.55)
    (tmp_path / "seed_0" / "label_spreading.json").write_text('{"acc1": 0.36}')
    study.written(place)
    rows = {row["key"]: row["accuracy"] for row in json.loads((tmp_path / "table.json").read_text())["rows"]}
    assert rows == {
        "finetune": {"0": 0.4}, "ema": {"0": 0.55}, "linear_probe": {"0": 0.35}, "knn_probe": {"0": 0.3},
        "label_spreading": {"0": 0.36},
    }  # fmt: skip

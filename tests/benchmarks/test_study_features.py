"""The study's part on frozen features computes them once for all cells, and compares every rule with the tuned one."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest
from PIL import Image

from benchmarks.study import __main__ as study
from benchmarks.study import cells, features, images, on_features
from benchmarks.study.cells import ON_FEATURES, Cell, Place
from benchmarks.study.sizes import NUM_CLASSES, SIZES
from semivit_jax.training import process
from tests.serve.runs import write_run

pytestmark = [
    pytest.mark.xdist_group("study_features"),
    pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning"),  # how ml_collections reads a config
]

SIZE = SIZES["features"]
TINY = dataclasses.replace(
    SIZE,
    train=4,
    labels=2,
    validation=1,
    test=1,
    finetune=dataclasses.replace(SIZE.finetune, batch_size=8, epochs=1.0, peak_lrs=(1e-3, 1e-2)),
    semi=dataclasses.replace(SIZE.semi, batch_size=8, epochs=1.0, peak_lrs=(1e-3, 1e-2)),
    unlabeled_ratio=2,
    thresholds=(0.1, 0.2),
    seeds=(0, 1),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A tiny study with a cache of its own."""
    folder, draw = tmp_path_factory.mktemp("study"), np.random.default_rng(0)
    for split, label in ((s, c) for s in ("train", "test") for c in range(NUM_CLASSES)):
        (folder / split / f"class_{label}").mkdir(parents=True)
        for number in range(5):
            pixels = draw.integers(0, 256, (9, 9, 3), np.uint8)
            Image.fromarray(pixels).save(folder / split / f"class_{label}" / f"{number}.jpg")
    write_run(folder / "weights", stage="mae")
    place = Place("features", folder / "runs", folder / "runs" / "images", folder / "weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "features", TINY)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setattr(process, "keep_programs", lambda: None)
        jax.config.update("jax_disable_most_optimizations", True)  # compiled quickly
        images.lay_out(folder, place.images, TINY)
        for seed in TINY.seeds:
            images.list_labeled(place.images / "train", place.label_list(seed), labels=TINY.labels, seed=seed)
        yield place
        jax.config.update("jax_disable_most_optimizations", False)


def computed(said):
    return re.findall(r"computed features of ([\d,]+) images? \((\w+),", said)


def test_cells_find_the_features_that_were_computed_once_whatever_is_labeled(place, capsys):
    """Neither views nor weights hang on the seed. As evaluation sees them, the probe alone asks for labeled images."""
    features.keep(place)
    found = dict(reversed(pair) for pair in computed(capsys.readouterr().out))
    assert found == {"weak": "40", "strong": "40", "evaluation": "10"}  # of validation images, and so of test images
    lists = [place.label_list(seed).read_text() for seed in TINY.seeds]
    assert lists[0] != lists[1]
    names = [name for name in lists[1].splitlines() if not name.startswith("#")]
    assert len(names) == NUM_CLASSES * TINY.labels
    cell = Cell("head", 1, rate=1e-3)
    features.train(cell, place)
    said = (place.root / f"{cell.name}.log").read_text()
    assert computed(said) == [("20", "evaluation")]
    assert "finetune: trains on the features of 2 views" in said
    split = (place.root / cell.name / "split.csv").read_text()
    assert all(name in split for name in names)


@pytest.mark.slow
def test_the_whole_part_runs_and_its_table_compares_with_the_tuned_threshold(place, monkeypatch):
    monkeypatch.setattr(on_features, "ON_FEATURES", {key: ON_FEATURES[key] for key in ("head", "head_fixed")})
    on_features.run(place, study.written)
    study.written(place)
    said = "".join(log.read_text() for log in place.root.rglob("*.log"))
    assert {row for _, row in computed(said)} == {"evaluation"}
    found = json.loads((place.root / "table.json").read_text())
    rows = {row["key"]: row for row in found["rows"]}
    assert list(rows) == ["head", "head_fixed", "linear_probe", "knn_probe", "label_spreading"]
    assert all(row["accuracy"].keys() == {"0", "1"} for row in rows.values())
    assert len(found["fixed"]["validation accuracy"]) == len(TINY.thresholds) * len(TINY.semi.peak_lrs)
    assert found["features"]["views"] == TINY.network.views
    chosen = next(c for c in on_features.tried_fixed(TINY) if c.name == found["fixed"]["chosen"])
    config = json.loads((place.root / "seed_1" / "head_fixed" / "config.json").read_text())["semi"]
    assert (config["confidence_threshold"], config["base_lr"]) == (chosen.threshold, chosen.rate)
    assert "over `fixed`" in (place.root / "table.md").read_text()


def test_all_rules_take_the_numbers_chosen_for_the_fixed_threshold():
    head, fixed = Cell("head", 0, tuning=True, rate=0.5), Cell("head_fixed", 0, 0.7, tuning=True, rate=0.25)
    found = on_features.reported_cells(SIZE, head, fixed)
    assert [(cell.row, cell.seed) for cell in found] == [(row, seed) for row in ON_FEATURES for seed in SIZE.seeds]
    assert not any(cell.tuning for cell in found)
    for cell in found:
        assert (cell.threshold, cell.rate) == ((0.0, 0.5) if cell.row == "head" else (0.7, 0.25))


def test_rules_differ_in_the_rule_alone(place):
    rows = [row for row in ON_FEATURES if row != "head"]
    of_rule = ("--config.semi.pseudo_label_rule", "--workdir")
    found = {row: cells.command(Cell(row, 1, 0.7, rate=0.5), place) for row in rows}
    assert len({tuple(a for a in command if not a.startswith(of_rule)) for command in found.values()}) == 1


def test_missing_weights_are_a_line_and_exit_code_2(place, tmp_path, capsys):
    data = place.root.parent
    assert study.main([f"--data={data}", f"--root={tmp_path}", "--size=features", f"--weights={tmp_path}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--size=features needs --weights=IMPORT" in line
    assert not list(tmp_path.iterdir())

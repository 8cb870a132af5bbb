"""The table of what pays with few labels: subsets, cells that are not run twice, and what has not run."""

import dataclasses

import pytest

from benchmarks import few_labels
from benchmarks.few_labels import Cell

CELL = Cell(
    way="head", labels=4, seed=0, knn=0.25, linear=0.5, finetuned=0.75, semi=1.0, cores=2, load=0.5, peak_gib=1.5,
    seconds={"finetune": 10.0, "semi": 20.0, "total": 30.0}, date="2026-11-28",
)  # fmt: skip


@pytest.fixture
def data(tmp_path):
    for split, name, number in [(s, c, n) for s in ("train", "test") for c in ("cat", "dog") for n in range(100)]:
        folder = tmp_path / "data" / split / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:03d}.jpg").write_text(f"{split} {name} {number}")
    return tmp_path / "data"


@pytest.fixture
def weights(tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "import.json").write_text("{}")
    return tmp_path / "weights"


def images(folder):
    return {path.read_text() for path in folder.rglob("*.jpg")}


def test_subsets_differ_in_their_labeled_images_alone(data, tmp_path):
    small, large, other = (
        few_labels.subset(data, tmp_path / f"{labels}_{seed}", labels=labels, seed=seed)
        for labels, seed in ((4, 0), (10, 0), (4, 1))
    )
    for part in ("train/rest", "test"):
        assert images(small / part) == images(large / part) != images(other / part)
    assert len(images(small / "train" / "rest")) == 2 * few_labels.UNLABELED
    assert len(images(small / "test")) == 2 * few_labels.TEST
    assert len(images(small / "train" / "cat")) == 4
    assert images(small / "train" / "cat") < images(large / "train" / "cat")
    assert not images(large / "train" / "cat") & images(large / "train" / "rest")


def test_a_cell_is_run_once_and_what_has_not_run_says_so(data, weights, tmp_path, monkeypatch, capsys):
    begun = []

    def run(data, weights, work, *, way, labels, seed):
        begun.append((way, labels, seed))
        if len(begun) == 3:
            raise SystemExit("it broke")
        return dataclasses.replace(CELL, way=way, labels=labels, seed=seed)

    monkeypatch.setattr(few_labels, "run", run)
    flags = [
        f"--data={data}",
        f"--weights={weights}",
        f"--work={tmp_path / 'work'}",
        f"--out={tmp_path / 'cells.jsonl'}",
    ]
    with pytest.raises(SystemExit, match="it broke"):
        few_labels.main([*flags, "--labels=4"])
    assert len((tmp_path / "cells.jsonl").read_text().splitlines()) == 2
    lines = few_labels.table(few_labels.read(tmp_path / "cells.jsonl"), [4, 10]).splitlines()
    assert "| 4 | k-NN | 25.0 % | - | - | - | - | 1 |" in lines
    assert "| 4 | `head` | 75.0 % | 100.0 % | +50.0 (+50.0 to +50.0) | 10 + 20 | 1.5 GiB | 1 |" in lines
    assert "| 4 | `lora` | not run | not run | - | - | - | 0 |" in lines
    assert "| 10 | logistic regression | not run | - | - | - | - | 0 |" in lines
    assert few_labels.main([*flags, "--labels=4"]) == 0
    assert begun == [("head", 4, 0), ("last_2", 4, 0), ("lora", 4, 0), ("lora", 4, 0)]
    assert "| 4 | `lora` | 75.0 %" in capsys.readouterr().out


@pytest.mark.parametrize("given", [[], ["--data=nowhere"]])
def test_a_folder_that_is_missing_is_one_line_and_bad_usage(given, monkeypatch, capsys):
    monkeypatch.delenv("DATA", raising=False)
    assert few_labels.main(given) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("benchmarks.few_labels: --data=")
    assert line.endswith(": no folder with train")

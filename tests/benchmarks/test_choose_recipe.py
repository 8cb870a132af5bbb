"""The choice of the few-labels recipe: images, the runs that cells ask for, cells that are not run twice, the table."""

import dataclasses
import json

import pytest

from benchmarks import choose_recipe
from benchmarks.choose_recipe import CENTRE, CHANGES, STARTS, Cell
from semivit_jax.cli.flags import read_config
from semivit_jax.config import flatten
from semivit_jax.configs import own_folder
from semivit_jax.recipes.check import check
from semivit_jax.recipes.find import with_paths

CELL = Cell(
    start="mae", change=CENTRE, labels=4, seed=0, probe=0.25, reached=0.5, loss=1.5, updates=200, batch=32,
    seconds=60.0, cores=1, load=0.5, date="2026-11-29",
)  # fmt: skip
EACH = choose_recipe.VALIDATION + 20  # images per class


@pytest.fixture
def data(tmp_path):
    for split, name, number in [(s, c, n) for s in ("train", "test") for c in ("cat", "dog") for n in range(EACH)]:
        folder = tmp_path / "data" / split / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:03d}.jpg").write_text(f"{split} {name} {number}")
    return tmp_path / "data"


@pytest.fixture
def flags(data, tmp_path):
    for name, start in STARTS.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / start.inside).write_text("{}")
    starts = [f"--{name}={tmp_path / name}" for name in STARTS]
    return [f"--data={data}", *starts, f"--work={tmp_path / 'work'}", f"--out={tmp_path / 'cells.jsonl'}"]


def images(folder):
    return {path.read_text() for path in folder.rglob("*.jpg")}


def test_validation_images_are_training_images_that_no_cell_of_the_seed_trains_on(data, tmp_path):
    small, large, other = (
        choose_recipe.lay_out(data, tmp_path / f"{labels}_{seed}", labels=labels, seed=seed)
        for labels, seed in ((4, 0), (10, 0), (4, 1))
    )
    assert images(small / "validation") == images(large / "validation") != images(other / "validation")
    assert len(images(small / "validation" / "cat")) == choose_recipe.VALIDATION
    assert len(images(small / "train" / "cat")) == 4
    assert images(small / "train") < images(large / "train")
    assert not images(large / "train") & images(large / "validation")
    assert images(large) < images(data / "train")


def test_a_layout_that_was_cut_short_is_made_anew(data, tmp_path):
    (tmp_path / "photos.part" / "train" / "cat").mkdir(parents=True)
    made = choose_recipe.lay_out(data, tmp_path / "photos", labels=4, seed=0)
    assert len(images(made / "train")) == 8
    assert not (tmp_path / "photos.part").exists()


def asked_of(change, data, tmp_path, monkeypatch):
    """(the cell, the config of its run), where training writes what it would."""
    asked = {}

    def train(workdir, weights, given):
        arguments = ["--config=own_folder", *(f"--config.{key}={value}" for key, value in given.items())]
        asked["config"], _ = read_config("train", with_paths(arguments), None)
        (workdir / "finetune").mkdir(parents=True)
        (workdir / "finetune" / "report.json").write_text(
            json.dumps({"val/acc1": 0.5, "val/loss": 1.5, "steps": given["finetune.min_updates"]})
        )
        (workdir / "finetune" / "plan.json").write_text(json.dumps({"batch_size": given["finetune.batch_size"]}))
        return {"baselines": {"linear_probe": {"acc1": 0.25}}}, 1.0

    monkeypatch.setattr(choose_recipe, "train", train)
    (tmp_path / "work").mkdir(exist_ok=True)
    cell = choose_recipe.run(data, tmp_path, tmp_path / "work", ("mae", change, 4, 0))
    assert not list((tmp_path / "work").rglob("report.json"))
    return cell, asked["config"]


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # how ml_collections reads configs
def test_a_cell_is_the_recipe_but_for_its_one_change(data, tmp_path, monkeypatch):
    cell, centre = asked_of(CENTRE, data, tmp_path, monkeypatch)
    assert (cell.probe, cell.reached, cell.loss, cell.updates, cell.batch) == (0.25, 0.5, 1.5, 200, 32)
    recipe, before = flatten(check(own_folder.get_config().to_dict())), flatten(centre)
    assert {key for key in before if key.startswith("finetune.") and before[key] != recipe[key]} == {
        "finetune.epochs",
        "finetune.warmup_epochs",
        "finetune.layer_decay",
    }
    assert centre.stages == ("finetune",)
    assert (centre.data.eval_split, centre.data.validation_share, centre.model.tune) == ("validation", 0.0, "all")
    assert centre.stage("finetune").warmup_epochs / centre.stage("finetune").epochs == pytest.approx(0.05)
    for change, keys in CHANGES.items():
        _, config = asked_of(change, data, tmp_path, monkeypatch)
        changed = {key for key, value in flatten(config).items() if value != before[key]}
        assert changed - {"log.recipe"} == set(keys), change  # which tells what differs


def test_a_cell_is_run_once_and_what_has_not_run_says_so(flags, tmp_path, monkeypatch, capsys):
    begun = []

    def run(data, weights, work, key):
        begun.append(key)
        if len(begun) == 4:
            raise SystemExit("it broke")
        start, change, labels, seed = key
        reached = 0.5 + 0.01 * seed * (change != CENTRE)
        return dataclasses.replace(CELL, start=start, change=change, labels=labels, seed=seed, reached=reached)

    monkeypatch.setattr(choose_recipe, "run", run)
    assert choose_recipe.main([*flags, "--labels=4", "--seeds=0", "--most=3"]) == 0
    assert "18 cells left: about 18 min" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="it broke"):
        choose_recipe.main([*flags, "--labels=4", "--seeds=0"])
    assert len((tmp_path / "cells.jsonl").read_text().splitlines()) == 3
    assert choose_recipe.main([*flags, "--labels=4", "--seeds=0,1"]) == 0
    assert sorted(begun) == sorted([*set(begun), begun[3]])
    assert len(set(begun)) == 2 * len(STARTS) * len(CHANGES)
    lines = choose_recipe.table(choose_recipe.read(tmp_path / "cells.jsonl"), [4, 10]).splitlines()
    assert "| probe | 25.0 % | -25.0 (-25.0 to -25.0) | - | not run | - | - | 2, 0 |" in lines
    assert "| `centre` | 50.0 % | - | 1.50 | not run | - | - | 2, 0 |" in lines
    assert "| `base_lr x 3` | 50.5 % | +0.5 (+0.0 to +1.0) | 1.50 | not run | - | - | 2, 0 |" in lines


def test_the_table_alone_needs_no_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("DATA", raising=False)
    out = tmp_path / "cells.jsonl"
    out.write_text(json.dumps(dataclasses.asdict(CELL)) + "\n")
    assert choose_recipe.main([f"--out={out}", f"--work={tmp_path}", "--most=0", "--labels=4"]) == 0
    assert "| `centre` | 50.0 % | - | 1.50 | 1 |" in capsys.readouterr().out


@pytest.mark.parametrize("given", ["nothing", "data", "dinov2", "change"])
def test_a_folder_or_change_that_is_missing_is_one_line_and_bad_usage(given, flags, monkeypatch, capsys):
    for variable in ("DATA", *(name.upper() for name in STARTS)):
        monkeypatch.delenv(variable, raising=False)
    asked = {
        "nothing": ([], "--data=None: no folder with train"),
        "data": (flags[:1], "give --dinov2 or --dinov2_long or --mae, weights to start from"),
        "dinov2": ([flags[0], "--dinov2=nowhere"], "--dinov2=nowhere: no folder with import.json"),
        "change": ([*flags, "--changes=centre,none"], f"--changes: none; there are {', '.join(CHANGES)}"),
    }
    arguments, told = asked[given]
    assert choose_recipe.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"benchmarks.choose_recipe: {told}"

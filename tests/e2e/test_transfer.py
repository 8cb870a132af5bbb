"""Weights in, training on another data set, weights out: the commands a user runs one after the other."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from semivit_jax.export import export
from semivit_jax.main import main
from semivit_jax.models import families
from semivit_jax.weights import layout
from semivit_jax.weights.preprocessing import Preprocessing
from semivit_jax.weights.weights import Weights
from tests.e2e.photos import SMALL
from tests.models import spec_of

pytestmark = [
    pytest.mark.xdist_group("transfer"),
    pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning"),  # how ml_collections reads a config
]

COLORS = {"apple": (200, 40, 40), "leaf": (40, 180, 60), "sea": (30, 60, 200)}
PER_CLASS = {"train": 40, "test": 4}
VIEW = Preprocessing(
    image_size=32,
    crop_fraction=0.9,
    interpolation="bilinear",
    mean=(0.5, 0.5, 0.5),
    std=(0.4, 0.5, 0.6),
    exif_rotation=False,
)
QUICK = {key: value for key, value in SMALL.items() if not key.startswith(("mae.", "data."))}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Class folders under train and test: noise on the colour of the class."""
    root, generator = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split, count in PER_CLASS.items():
        for name, color in COLORS.items():
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.clip(color + generator.normal(0, 25, (40, 48, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """`semivit import` of a Hugging Face ViT with its usual epsilon, another view, and a name that will not fit."""
    folder, generator = tmp_path_factory.mktemp("weights"), np.random.default_rng(0)
    spec = spec_of("vit_test2", pool="cls", num_classes=3, layer_norm_eps=1e-12)
    flat = {
        path: (path.endswith("scale") + 0.1 * generator.standard_normal(shape)).astype(np.float32)
        for path, shape in families.shapes(spec).items()
    }
    export(folder / "theirs", "hugging_face", Weights(spec, layout.unflatten(flat), ("apple", "leaf", "sky"), VIEW))
    assert main(["semivit", "import", str(folder / "theirs"), "--model=vit_test2", f"--out={folder / 'in'}"]) == 0
    return folder / "in"


@pytest.fixture(scope="module")
def run(train_here, photos, imported, tmp_path_factory):
    """The finished run: its folder, and what it printed."""
    workdir = tmp_path_factory.mktemp("runs") / "transfer"
    values = QUICK | {"data.root": photos, "model.pool": "cls", "stages": "('finetune',)"}
    recipe = f"transfer:dataset=own_folder,labels=10pct,init_from={imported}"
    return workdir, train_here(workdir, config=recipe, **values)


def test_the_weights_bring_how_they_see_and_compute(run):
    stored = json.loads((run[0] / "config.json").read_text())
    found = {key: stored["data"][key] for key in ("mean", "std", "image_size", "eval_crop_fraction", "interpolation")}
    assert found == {
        "mean": list(VIEW.mean), "std": list(VIEW.std), "image_size": 32, "eval_crop_fraction": 0.9,
        "interpolation": "bilinear",
    }  # fmt: skip
    assert stored["model"]["layer_norm_eps"] == 1e-12


def test_every_tensor_is_loaded_and_the_outputs_by_name(run):
    said = " ".join(run[1].split())
    assert "re-initialised (0): none dropped (0): none" in said
    assert "by class name (2): head.bias, head.kernel: 2 of 3 classes; new: 'sea'; left behind: 'sky'" in said


def test_the_run_predicts_and_goes_out_again(run, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    out = tmp_path / "predictions.csv"
    assert main(["semivit", "predict", f"--workdir={run[0]}", f"--images={photos / 'test'}", f"--out={out}"]) == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [row["path"].split("/")[0] for row in rows] == [name for name in COLORS for _ in range(PER_CLASS["test"])]
    assert {row["label"] for row in rows} <= set(COLORS)
    folder = tmp_path / "out"
    assert main(["semivit", "export", f"--workdir={run[0]}", "--format=hugging_face", f"--out={folder}"]) == 0
    config = json.loads((folder / "config.json").read_text())
    assert config["layer_norm_eps"] == 1e-12
    assert list(config["id2label"].values()) == list(COLORS)
    assert config["pretrained_cfg"]["mean"] == list(VIEW.mean)


@pytest.mark.slow
def test_the_next_stage_runs_on_two_processes_when_the_weights_have_gone(machine, photos, run, tmp_path):
    """The first stage is finished, so the second starts from it, with the view that the imported weights had."""
    workdir = shutil.copytree(run[0], tmp_path / "run")
    (workdir / "DONE").unlink()  # as where the process ended between the stages
    changes = {"data.root": photos, "model.pool": "cls", "stages": "('finetune','semi')"}
    recipe = f"transfer:dataset=own_folder,labels=10pct,init_from={tmp_path / 'gone'}"
    said = " ".join(machine.finish(workdir, processes=2, config=recipe, quick=QUICK, changes=changes).split())
    assert "finetune: finished already" in said
    assert f"warm start from {workdir}/finetune/checkpoints/" in said
    assert json.loads((workdir / "config.json").read_text())["data"]["mean"] == list(VIEW.mean)
    assert "(ema_params)" not in json.loads((workdir / "semi" / "started_from.json").read_text())["source"]

"""CLIP's and SigLIP's image towers from a folder of transformers to a trained classifier and out again.

The commands of a user, one after the other; the run is ended in its last stage and goes on.
"""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from semivit_jax.inference.trained import load_trained
from semivit_jax.main import main
from semivit_jax.training import loop, summary
from semivit_jax.weights import layout
from semivit_jax.weights.folder import load_imported
from tests import towers
from tests.e2e.photos import SMALL
from tests.e2e.runs import assert_same_run
from tests.models import spec_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("towers"),
    pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning"),  # how ml_collections reads a config
]

COLORS = {"apple": (200, 40, 40), "leaf": (40, 180, 60)}
NUM_PHOTOS, NUM_LABELED = 24, 16
QUICK = {key: value for key, value in SMALL.items() if not key.startswith(("mae.", "data.", "model."))} | {
    "checkpoint.save_every_steps": 1, "semi.epochs": 3.0, "semi.confidence_threshold": 0.05,
}  # fmt: skip
EPS = {"clip": 1e-5, "siglip": 1e-6}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """24 photos, of which 16 have a label."""
    root, generator = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    rows = ["path,label"]
    for number in range(NUM_PHOTOS):
        name = list(COLORS)[number % 2]
        pixels = np.clip(COLORS[name] + generator.normal(0, 25, (20, 24, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(root / f"{number:02d}.jpg")
        rows += [f"{number:02d}.jpg,{name}"] if number < NUM_LABELED else []
    (root / "labels.csv").write_text("\n".join(rows))
    return root


@pytest.fixture(scope="module", params=towers.SIZES)
def imported(request, tmp_path_factory):
    """`semivit import` of a folder of transformers, without a word on which model it is."""
    sizes, size, pool = towers.SIZES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sizes, towers.VARIANT, size)
        eps = EPS[request.param]
        spec = spec_of(towers.VARIANT, image_size=16, pool=pool, num_classes=0, layer_norm_eps=eps)
        ours = {path: array + path.endswith("scale") for path, array in towers.arrays(spec, std=0.2).items()}
        towers.write_hugging_face(folder / "theirs", spec, ours)
        assert main(["semivit", "import", str(folder / "theirs"), f"--out={folder / 'in'}"]) == 0
        yield folder / "in"


def end_after(step):
    """As a process that is killed after an update of the last stage: what was saved before is safe."""
    consume = loop.Loop._consume

    def consume_or_end(self, done, found, **options):
        if self.plan.stage == "semi" and done > step:
            self.wait()
            raise OSError("ended here")
        consume(self, done, found, **options)

    return consume_or_end


@pytest.fixture(scope="module")
def run(train_here, photos, imported, tmp_path_factory):
    """(folder, what was said) of a run that was ended in its last stage and went on."""
    workdir = tmp_path_factory.mktemp("runs") / "run"
    values = {**QUICK, "data.root": photos, "data.labels": photos / "labels.csv"}
    recipe = f"own_folder:init_from={imported}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summary, "baselines", lambda task, data: {})
        with patch.context() as ending:
            ending.setattr(loop.Loop, "_consume", end_after(1))
            with pytest.raises(AssertionError, match="ended here"):
                train_here(workdir, config=recipe, **values)
        return workdir, train_here(workdir, config=recipe, **values)


def test_the_model_and_its_view_are_those_of_the_weights(run, imported):
    stored, spec = json.loads((run[0] / "config.json").read_text()), load_imported(imported).weights.spec
    assert (stored["model"]["variant"], stored["model"]["pool"]) == (towers.VARIANT, spec.pool)
    assert (stored["model"]["layer_norm_eps"], stored["data"]["image_size"]) == (spec.layer_norm_eps, 16)
    assert "semi: continues from step" in run[1]
    assert list(json.loads((run[0] / "summary.json").read_text())["stages"]) == ["finetune", "semi"]


def test_both_stages_trained_the_tower(run, imported):
    """The parts that only such a tower has among them."""
    before = layout.flatten(load_imported(imported).weights.params)
    after = layout.flatten(load_trained(run[0], kept="latest", tree="params", stage=None).weights.params)
    assert after.keys() - before.keys() == {"head/kernel", "head/bias"}
    assert before.keys() - after.keys() == set()
    for path, array in before.items():
        assert np.isfinite(after[path]).all(), path
        assert np.abs(after[path] - array).max() > 0, path


def test_it_predicts_and_goes_out_and_comes_back(run, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    out = tmp_path / "predictions.csv"
    assert main(["semivit", "predict", f"--workdir={run[0]}", f"--images={photos}", f"--out={out}"]) == 0
    assert {row["label"] for row in csv.DictReader(io.StringIO(out.read_text()))} <= set(COLORS)
    trained = load_trained(run[0], kept="latest", tree="ema_params", stage=None).weights
    for format in ("timm", "hugging_face", "stablehlo"):
        command = ["export", f"--workdir={run[0]}", "--weights=latest", f"--format={format}"]
        assert main(["semivit", *command, f"--out={tmp_path / format}"]) == 0
    for format in ("timm", "hugging_face"):
        assert main(["semivit", "import", str(tmp_path / format), f"--out={tmp_path / ('from_' + format)}"]) == 0
        again = load_imported(tmp_path / f"from_{format}").weights
        assert (again.spec, again.class_names) == (trained.spec, trained.class_names)
        for path, array in layout.flatten(trained.params).items():
            np.testing.assert_array_equal(layout.flatten(again.params)[path], array, err_msg=path)
    capsys.readouterr()
    assert main(["semivit", "export", f"--workdir={run[0]}", "--format=onnx", f"--out={tmp_path / 'onnx'}"]) == 1
    assert "stablehlo takes any model" in capsys.readouterr().err


def test_it_ends_as_a_run_that_nobody_ended(run, train_here, photos, imported, tmp_path, monkeypatch):
    monkeypatch.setattr(summary, "baselines", lambda task, data: {})
    values = {**QUICK, "data.root": photos, "data.labels": photos / "labels.csv"}
    train_here(tmp_path / "untouched", config=f"own_folder:init_from={imported}", **values)
    assert_same_run(run[0], tmp_path / "untouched")

"""The temperature of a stage: fitted on validation images, kept for one checkpoint, in predictions and exports."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from semivit_jax.checkpoints import manifest, temperatures
from semivit_jax.data.rows import decode_all
from semivit_jax.data.sources.image_set import ImageSet
from semivit_jax.export import export
from semivit_jax.inference.predict import Predictor
from semivit_jax.inference.trained import load_trained
from semivit_jax.main import main
from semivit_jax.ops.temperature import fit, log_loss
from semivit_jax.training.calibrate import calibrate
from semivit_jax.training.setup import Run
from tests.configs import small_plan
from tests.models import network_of
from tests.serve.runs import digits, write_run

KEPT_BACK = {"data.eval_split": "", "data.validation_share": 0.2}


@dataclasses.dataclass(frozen=True)
class Calibrated:
    """A run whose stage has been calibrated, its validation images, and the logits of its `params` on them.

    Labels are told to the calibration as `params` would guess them, three in ten at random; `ema_params` know nothing.
    """

    folder: Path
    run: Run
    pixels: np.ndarray
    logits: np.ndarray
    labels: np.ndarray

    @property
    def kept(self):
        return json.loads((self.folder / "finetune" / "temperature.json").read_text())["trees"]


def calibrated(folder, **changes):
    settings, params, _ = write_run(folder, best=True, **(KEPT_BACK | changes))
    task = digits(**(KEPT_BACK | changes))
    images = task.train.subset(task.split.validation)
    pixels = decode_all(images, settings.data).images
    inputs = (pixels / 255.0 - np.array(settings.data.mean)) / np.array(settings.data.std)
    model = network_of(settings, image_size=8, num_classes=10)
    logits = np.asarray(model.logits(params, inputs.astype(np.float32), None))
    generator = np.random.default_rng(0)
    random = generator.integers(0, 10, len(logits))
    told = task.train.labels.copy()
    told[task.split.validation] = np.where(generator.random(len(logits)) < 0.3, random, logits.argmax(axis=1))
    train = ImageSet(task.train.records, task.train.names, told)
    run = Run(settings, folder, dataclasses.replace(task, train=train), None, None, None)
    calibrate(run, small_plan("finetune"))
    return Calibrated(folder, run, pixels, logits, told[task.split.validation])


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return calibrated(tmp_path_factory.mktemp("calibrated") / "run")


def test_the_temperature_is_that_of_the_logits_on_the_validation_images(one):
    expected = fit(one.logits, one.labels)
    assert expected.missing == ""
    assert one.kept["params"]["value"] == pytest.approx(expected.value, rel=1e-3)
    assert one.kept["params"]["images"] == len(one.labels) > 200
    assert one.kept["ema_params"]["value"] != one.kept["params"]["value"]


def test_predictions_are_softened_by_it_and_keep_their_order(one):
    loaded = load_trained(one.folder, kept="latest", tree="params", stage=None)
    value = loaded.weights.preprocessing.temperature
    assert value == one.kept["params"]["value"] != 1.0
    found = Predictor(loaded, batch_size=16).predict(list(one.pixels[:16]))
    np.testing.assert_allclose(found.confidence, jax.nn.softmax(one.logits[:16] / value).max(axis=1), rtol=1e-3)
    assert list(found.labels) == [one.run.task.class_names[i] for i in one.logits[:16].argmax(axis=1)]


def test_best_weights_of_another_step_have_none(one):
    loaded = load_trained(one.folder, kept="best", tree="params", stage=None)
    assert loaded.weights.preprocessing.temperature == 1.0


def test_eval_shows_loss_and_calibration_before_and_after(one, tmp_path, capsys):
    assert main(["semivit", "eval", f"--workdir={one.folder}", f"--out={tmp_path / 'eval.json'}"]) == 0
    found = json.loads((tmp_path / "eval.json").read_text())["results"]["params"]
    task = digits(**KEPT_BACK)
    labels, value = task.train.labels[task.split.validation], one.kept["params"]["value"]
    assert found["loss"] == pytest.approx(log_loss(one.logits, labels, 1.0), rel=1e-3)
    assert found["calibrated"]["loss"] == pytest.approx(log_loss(one.logits, labels, value), rel=1e-3)
    assert found["calibrated"]["temperature"] == value
    said = capsys.readouterr().out
    assert f"params, temperature {value:.3g}" in said
    assert f"{found['calibrated']['loss']:.4f}" in said


def test_exports_carry_the_number(one, tmp_path, monkeypatch):
    monkeypatch.setattr("semivit_jax.export.stablehlo._program", lambda *_: b"")  # slow to make
    loaded = load_trained(one.folder, kept="latest", tree="params", stage=None)
    value = loaded.weights.preprocessing.temperature
    for format, file, section in (
        ("timm", "config.json", "reading"),
        ("stablehlo", "preprocessing.json", "preprocessing"),
    ):
        export(tmp_path / format, format, loaded.weights)
        record = json.loads((tmp_path / format / file).read_text())
        assert record[section]["temperature"] == value


def test_another_checkpoint_has_none(one):
    checkpoint = one.folder / "finetune" / "checkpoints" / "3"
    assert temperatures.belong_to(checkpoint)
    before = manifest.sealed(checkpoint)
    try:
        (checkpoint / manifest.MANIFEST).write_text(json.dumps(before | {"more": [0, 0]}))
        assert not temperatures.belong_to(checkpoint)
        assert temperatures.of(checkpoint, "params") == 1.0
    finally:
        (checkpoint / manifest.MANIFEST).write_text(json.dumps(before))


def test_a_stage_is_calibrated_once(one):
    path = one.folder / "finetune" / "temperature.json"
    before = path.stat().st_mtime_ns
    calibrate(one.run, small_plan("finetune"))
    assert path.stat().st_mtime_ns == before


def test_too_few_validation_images_are_said_once(tmp_path, capsys):
    few = calibrated(tmp_path / "few", **{"data.validation_share": 0.02})
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "temperature" in line]
    assert "no temperature, confidences are as the network gives them: " in line
    assert "at least 50 are needed" in line
    assert {tree["value"] for tree in few.kept.values()} == {1.0}

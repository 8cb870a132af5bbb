"""Every command says which weights it takes of a run that ended below better ones, and takes these."""

import csv
import logging
import shutil

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

import semivit_jax
from semivit_jax import files
from semivit_jax.files import write_json
from semivit_jax.inference import embedding
from semivit_jax.main import main

PIXELS = np.random.default_rng(5).integers(0, 256, (5, 8, 8, 3), np.uint8)
TAKEN = {"auto": "best", "best": "best", "latest": "latest"}


@pytest.fixture(scope="module")
def below(finished, tmp_path_factory):
    """The run, whose stage says that it ended below its probe; its best weights are twice the latest."""
    folder = tmp_path_factory.mktemp("below") / "run"
    shutil.copytree(finished[0], folder)
    write_json(folder / "finetune" / "report.json", {"below": {"the probe on the starting weights": 0.525}})
    return folder


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "photos").mkdir()
    for number, pixels in enumerate(PIXELS):
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    return tmp_path / "photos"


def place(folder, kept):
    return f"{folder}/finetune/{'best' if kept == 'best' else 'checkpoints'}/3 (ema_params)"


def assert_told(said, folder, asked):
    """The remark, and for `auto` that the best are taken; the end names the checkpoint."""
    said = " ".join(said.split())
    ended = f"warning: the latest weights of {folder} ended below the probe on the starting weights (52.5 %)"
    assert (ended in said) == (asked != "best")
    assert ("taken are the best, step 3 of finetune" in said) == (asked == "auto")
    assert ("--weights=best takes the best, step 3 of finetune" in said) == (asked == "latest")


def confidences(rows):
    return [float(row["confidence"]) for row in rows]


@pytest.mark.parametrize("asked", TAKEN)
def test_predict(below, photos, tmp_path, capsys, asked):
    out = tmp_path / "predictions.csv"
    argv = [f"--workdir={below}", f"--images={photos}", f"--out={out}"]
    assert main(["semivit", "predict", *argv, *([] if asked == "auto" else [f"--weights={asked}"])]) == 0
    said = capsys.readouterr().out
    assert_told(said, below, asked)
    assert place(below, TAKEN[asked]) in " ".join(said.split())
    expected = semivit_jax.load(below, weights=TAKEN[asked]).predict(list(PIXELS)).top5
    found = confidences(csv.DictReader(out.read_text().splitlines()))
    np.testing.assert_allclose(found, [guesses[0].confidence for guesses in expected], atol=1e-5)


@pytest.mark.parametrize("asked", TAKEN)
def test_export(below, finished, tmp_path, capsys, asked):
    argv = [f"--workdir={below}", "--format=timm", f"--out={tmp_path / 'out'}"]
    assert main(["semivit", "export", *argv, *([] if asked == "auto" else [f"--weights={asked}"])]) == 0
    said = capsys.readouterr().out
    assert_told(said, below, asked)
    assert place(below, TAKEN[asked]) in " ".join(said.split())
    bias = safetensors.numpy.load_file(tmp_path / "out" / "model.safetensors")["head.bias"]
    factor = 2 if TAKEN[asked] == "best" else 1
    np.testing.assert_array_equal(bias, factor * finished[3]["head"]["bias"])


def test_embed_and_the_library(below, photos, tmp_path, capsys, caplog):
    argv = [f"--workdir={below}", f"--images={photos}"]
    features = {}
    for asked in TAKEN:
        assert main(["semivit", "embed", *argv, f"--weights={asked}", f"--out={tmp_path / asked}"]) == 0
        assert_told(capsys.readouterr().out, below, asked)
        features[asked] = embedding.read(files.Path(tmp_path / asked)).features
    np.testing.assert_array_equal(features["auto"], features["best"])
    assert np.abs(features["auto"] - features["latest"]).max() > 1e-3
    with caplog.at_level(logging.WARNING):
        assert semivit_jax.load(below).source == place(below, "best")
    assert "taken are the best, step 3 of finetune" in caplog.text

"""Prediction: every kind of image, the weights that are asked for, and a folder with bad files in it."""

import csv
import dataclasses
import io
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

import semivit_jax
from semivit_jax.checkpoints.reading import CheckpointError
from semivit_jax.config import ConfigError
from semivit_jax.data.images.decode import BadImage
from semivit_jax.inference.predict import Predictor
from semivit_jax.inference.predict_folder import predict_folder
from semivit_jax.inference.trained import ModelInput, load_trained
from semivit_jax.main import main
from semivit_jax.weights.preprocessing import Preprocessing
from tests.compiled import quick_jit
from tests.models import network_of
from tests.serve.runs import write_run

PIXELS = np.random.default_rng(3).integers(0, 256, (5, 8, 8, 3), np.uint8)


def png(pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def predictor(finished):
    return semivit_jax.load(finished[0], batch_size=2)


def expected_probs(config, params) -> np.ndarray:
    model = network_of(config, image_size=8, num_classes=10)
    images = (PIXELS / 255 - np.array(config.data.mean)) / np.array(config.data.std)
    logits = quick_jit(lambda p, x: model.logits(p, x, None))(params, images.astype(np.float32))
    return np.asarray(jax.nn.softmax(logits))


def test_the_package_alone_imports_nothing_heavy():
    code = "import semivit_jax, sys; assert not {'jax', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_probabilities_are_those_of_the_averaged_weights(finished, predictor):
    _, config, _, ema_params = finished
    probs, found = expected_probs(config, ema_params), predictor.predict(PIXELS)
    assert found.labels == tuple(str(label) for label in probs.argmax(axis=1))
    np.testing.assert_allclose(found.confidence, probs.max(axis=1), rtol=1e-4)
    for row, guesses in zip(probs, found.top5, strict=True):
        best = np.argsort(-row)[:5]
        assert [g.label for g in guesses] == [str(label) for label in best]
        np.testing.assert_allclose([g.confidence for g in guesses], row[best], rtol=1e-4)


@pytest.mark.parametrize(("use", "kept", "which", "factor"), [("params", "latest", 2, 1), (None, "best", 3, 2)])
def test_the_weights_asked_for_are_used(finished, use, kept, which, factor):
    folder, config, *_ = finished
    params = jax.tree.map(lambda leaf: factor * leaf, finished[which])
    found = semivit_jax.load(folder, use=use, weights=kept, batch_size=5).predict(PIXELS)
    np.testing.assert_allclose(found.confidence, expected_probs(config, params).max(axis=1), rtol=1e-4)


def test_every_kind_of_image_gives_the_same(predictor, tmp_path):
    path = tmp_path / "one.png"
    path.write_bytes(png(PIXELS[0]))

    def kinds(file):
        return [PIXELS[0], path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes()), file,
                Image.fromarray(PIXELS[0])]  # fmt: skip

    with path.open("rb") as file, path.open("rb") as again:
        assert len(set(predictor.predict(kinds(file)).top5)) == 1
        assert {predictor.predict(kind).top5 for kind in kinds(again)} == {predictor.predict([PIXELS[0]]).top5}


def test_a_bad_image_is_named_by_its_place(predictor):
    with pytest.raises(BadImage, match=r"image 1: .*0 bytes"):
        predictor.predict([PIXELS[0], b"", PIXELS[1]])
    with pytest.raises(BadImage, match=r"image 0: an image has the shape \(9, 8, 3\)"):
        predictor.predict([np.zeros((9, 8, 3), np.uint8)])
    with pytest.raises(BadImage, match=r"float32 \(8, 8, 3\); expected uint8"):
        predictor.predict(PIXELS[0].astype(np.float32))
    with pytest.raises(TypeError, match="got int"):
        predictor.predict([3])
    with pytest.raises(TypeError, match=r"gives str: open it in binary mode \('rb'\)"):
        predictor.predict(io.StringIO("text"))


def test_photos_are_seen_as_evaluation_sees_them(finished):
    trained = load_trained(finished[0], kept="latest", tree=None, stage=None)
    view = ModelInput(Preprocessing(8, 0.8, "bilinear", (0.5,) * 3, (0.5,) * 3, False), False, 10_000)
    photo = np.random.default_rng(0).integers(0, 256, (23, 31, 3), np.uint8)
    resized = np.asarray(Image.fromarray(photo).resize((13, 10), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(view(photo), resized[1:9, 2:10])
    as_photo = Predictor(dataclasses.replace(trained, view=view), batch_size=2)
    as_is = Predictor(dataclasses.replace(trained, view=dataclasses.replace(view, keeps_size=True)), batch_size=2)
    assert as_photo.predict(photo).top5 == as_is.predict(view(photo)).top5


def test_a_folder_becomes_a_csv_and_bad_images_are_listed(finished, predictor, tmp_path, capsys):
    photos = tmp_path / "photos"
    (photos / "deep").mkdir(parents=True)
    for name, pixels in (("a,b.png", PIXELS[0]), ("deep/c.png", PIXELS[1]), ("z.png", PIXELS[2])):
        (photos / name).write_bytes(png(pixels))
    (photos / "cut.png").write_bytes(png(PIXELS[3])[:60])
    (photos / "text.png").write_text("not an image")
    out = tmp_path / "new" / "predictions.csv"
    argv = [f"--workdir={finished[0]}", f"--images={photos}", f"--out={out}", "--batch_size=2"]
    assert main(["semivit", "predict", *argv]) == 0
    rows = list(csv.reader(out.read_text().splitlines()))
    assert rows[0] == [
        "path",
        "label",
        "confidence",
        *(f"{n}_{i}" for i in range(2, 6) for n in ("label", "confidence")),
    ]
    assert [row[0] for row in rows[1:]] == ["a,b.png", "deep/c.png", "z.png"]
    for row, guesses in zip(rows[1:], predictor.predict(PIXELS[:3]).top5, strict=True):
        assert row[1::2] == [g.label for g in guesses]
        np.testing.assert_allclose([float(c) for c in row[2::2]], [g.confidence for g in guesses], atol=1e-5)
    said = capsys.readouterr().out
    assert "skipped 2 files" in said
    assert "'cut.png': damaged image" in said
    assert "'text.png' is not an image" in said
    assert not list(out.parent.glob(".*"))


def test_an_image_too_long_to_resize_is_named(finished, tmp_path):
    trained = load_trained(finished[0], kept="latest", tree=None, stage=None)
    view = ModelInput(Preprocessing(8, 0.8, "bilinear", (0.5,) * 3, (0.5,) * 3, False), False, 10_000)
    (tmp_path / "photos").mkdir()
    for name, width in (("fine.png", 90), ("long.png", 5_000)):
        (tmp_path / "photos" / name).write_bytes(png(np.zeros((1, width, 3), np.uint8)))
    predictor = Predictor(dataclasses.replace(trained, view=view), batch_size=2)
    (line,) = predict_folder(predictor, tmp_path / "photos", tmp_path / "out.csv")
    assert line.startswith("'long.png': image of 5000 x 1 pixels")
    assert line.endswith(
        "the limit that the weights were trained with (Pillow's own for imports); make the image smaller"
    )
    assert "over 10000 pixels" in line
    assert "config" not in line


def test_nothing_readable_is_an_error_and_leaves_no_file(finished, tmp_path, capsys):
    photos, out = tmp_path / "photos", tmp_path / "out.csv"
    photos.mkdir()
    (photos / "big.png").write_bytes(png(np.zeros((9, 9, 3), np.uint8)))
    argv = [f"--workdir={finished[0]}", f"--images={photos}", f"--out={out}"]
    assert main(["semivit", "predict", *argv]) == 1
    assert "no image in" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [photos]


def test_what_is_missing_is_named(finished, tmp_path, capsys):
    with pytest.raises(ConfigError, match="neither a run folder, nor a checkpoint, nor written by"):
        semivit_jax.load(tmp_path)
    with pytest.raises(CheckpointError, match=r"semi/checkpoints has no good checkpoint"):
        semivit_jax.load(finished[0], stage="semi")
    argv = [f"--workdir={finished[0]}", f"--images={tmp_path / 'absent'}", f"--out={tmp_path / 'o.csv'}"]
    assert main(["semivit", "predict", *argv]) == 1
    assert "is not a folder" in capsys.readouterr().err


def test_an_autoencoder_predicts_nothing_and_a_run_without_average_uses_its_params(tmp_path):
    write_run(tmp_path / "mae", stage="mae", keep_ema=False)
    with pytest.raises(ValueError, match="has no classifier"):
        semivit_jax.load(tmp_path / "mae")
    trained = load_trained(tmp_path / "mae", kept="latest", tree=None, stage=None)
    assert trained.source.endswith("3 (params)")
    with pytest.raises(CheckpointError, match="has no ema_params; it has params"):
        load_trained(tmp_path / "mae", kept="latest", tree="ema_params", stage=None)


def test_a_batch_without_images_is_refused(finished, tmp_path, capsys):
    argv = [f"--workdir={finished[0]}", f"--images={tmp_path}", f"--out={tmp_path / 'o.csv'}", "--batch_size=-1"]
    assert main(["semivit", "predict", *argv]) == 2
    assert capsys.readouterr().err == "semivit predict: --batch_size is -1; at least 1\n"
    with pytest.raises(ValueError, match="batch_size is 0; at least 1"):
        semivit_jax.load(finished[0], batch_size=0)


def test_a_predictor_says_what_it_is(finished, predictor):
    said = repr(predictor)
    assert said.startswith("<Predictor: vit_test2 on 8 x 8 pixels, 10 classes (0, 1, 2, 3, 4, ...), from ")
    assert str(finished[0]) in said


@pytest.mark.parametrize("command", ["predict", "eval"])
def test_help_says_that_an_older_answer_is_replaced(command, capsys):
    with pytest.raises(SystemExit):
        main(["semivit", command, "--help"])
    assert "replaced if it exists" in " ".join(capsys.readouterr().out.split())


# Images of no class, and answers that are not sure


@pytest.fixture
def folder(tmp_path):
    for number, pixels in enumerate(PIXELS):
        (tmp_path / "photos").mkdir(exist_ok=True)
        (tmp_path / "photos" / f"{number}.png").write_bytes(png(pixels))
    return tmp_path / "photos"


def rows_of(workdir, folder, *flags):
    out = folder.parent / "out.csv"
    assert main(["semivit", "predict", f"--workdir={workdir}", f"--images={folder}", f"--out={out}", *flags]) == 0
    with open(out, newline="") as file:
        return list(csv.DictReader(file))


def test_the_outlier_score_is_the_energy_of_the_logits(finished, folder):
    workdir, config, _, ema_params = finished
    plain, rows = rows_of(workdir, folder), rows_of(workdir, folder, "--outlier_score")
    assert [row.pop("outlier_score") is not None for row in (dict(r) for r in rows)] == [True] * 5
    assert [{k: v for k, v in row.items() if k != "outlier_score"} for row in rows] == plain
    model = network_of(config, image_size=8, num_classes=10)
    images = (PIXELS / 255 - np.array(config.data.mean)) / np.array(config.data.std)
    logits = np.asarray(quick_jit(model.logits)(ema_params, images.astype(np.float32), None))
    found = [float(row["outlier_score"]) for row in rows]
    np.testing.assert_allclose(found, -np.logaddexp.reduce(logits, axis=1), rtol=1e-3)


def test_images_below_a_confidence_get_no_label(finished, folder, capsys):
    workdir = finished[0]
    plain = rows_of(workdir, folder)
    limit = np.mean(sorted(float(row["confidence"]) for row in plain)[1:3])
    rows = rows_of(workdir, folder, f"--abstain_below={limit}")
    for before, after in zip(plain, rows, strict=True):
        unsure = float(before["confidence"]) < limit
        assert after == before | ({"label": ""} if unsure else {})
    assert "2 images of 5 without a label" in capsys.readouterr().out
    assert main(["semivit", "predict", "--workdir=x", "--images=y", "--out=z.csv", "--abstain_below=60"]) == 2

"""`semivit export` and `semivit import` of our own runs: what goes out of a run is what comes back, bit for bit."""

import json

import numpy as np
import pytest

from semivit_jax.inference.trained import load_trained
from semivit_jax.main import main
from semivit_jax.weights import layout
from semivit_jax.weights.folder import load_imported
from semivit_jax.weights.importing import import_weights
from tests.serve.runs import write_run


def assert_same(actual, expected):
    actual, expected = layout.flatten(actual), layout.flatten(expected)
    assert actual.keys() == expected.keys()
    for path, array in expected.items():
        np.testing.assert_array_equal(actual[path], array, err_msg=path)


def run(command, *argv) -> int:
    return main(["semivit", command, *map(str, argv)])


@pytest.mark.parametrize(("format", "use", "which"), [("timm", "params", 2), ("hugging_face", None, 3)])
def test_an_exported_run_comes_back_bit_for_bit(finished, tmp_path, format, use, which):
    out = tmp_path / "out"
    argv = [f"--workdir={finished[0]}", f"--format={format}", f"--out={out}", *([f"--use={use}"] if use else [])]
    assert run("export", *argv) == 0
    back = import_weights(str(out), variant="vit_test2", pool=None, image_size=None, decoder=False)
    assert_same(back.weights.params, finished[which])
    assert back.weights.class_names == tuple("0123456789")
    np.testing.assert_allclose(back.weights.preprocessing.mean, finished[1].data.mean)
    assert (back.weights.preprocessing.image_size, back.weights.preprocessing.crop_fraction) == (8, 1.0)


def test_import_offers_published_sizes_only(capsys):
    with pytest.raises(SystemExit):
        run("import", "--help")
    said = capsys.readouterr().out
    assert "--model VARIANT" in said
    assert said.count("vit_b16") == 1
    assert "_test" not in said
    with pytest.raises(SystemExit):
        run("import", "weights.pth", "--model=vit_b", "--out=weights")
    said = capsys.readouterr().err
    assert "argument --model: 'vit_b' is no model here: vit_s16, vit_b16," in said
    assert "_test" not in said


def test_a_run_is_a_source_of_weights_with_both_trees(finished, tmp_path):
    assert run("import", finished[0], "--model=vit_test2", f"--out={tmp_path / 'in'}") == 0
    imported = load_imported(tmp_path / "in")
    assert_same(imported.weights.params, finished[2])
    assert_same(imported.ema_params, finished[3])
    assert imported.weights.class_names == tuple("0123456789")
    assert imported.report.kind == "our own classifier"
    assert imported.weights.spec == load_trained(finished[0], kept="latest", tree=None, stage=None).weights.spec
    # and an import is a source too, of a checkpoint's folder as well as of its run
    assert run("import", tmp_path / "in", "--model=vit_test2", f"--out={tmp_path / 'again'}") == 0
    assert_same(load_imported(tmp_path / "again").ema_params, finished[3])
    best = finished[0] / "finetune" / "best" / "3"
    assert run("import", best, "--model=vit_test2", f"--out={tmp_path / 'best'}") == 0
    np.testing.assert_array_equal(
        load_imported(tmp_path / "best").weights.params["head"]["kernel"], 2 * finished[2]["head"]["kernel"]
    )


def test_an_import_says_in_words_what_came_in(finished, tmp_path, capsys):
    assert run("import", finished[0], "--model=vit_test2", f"--out={tmp_path / 'in'}") == 0
    lines = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines() if ": " in line)
    assert lines["model"].startswith("vit_test2, images of 8 x 8 pixels, patches of 8, ")
    assert ", head for 10 classes, " in lines["model"]
    assert lines["preprocessing"].startswith("short side to 8 pixels (")
    assert "=" not in lines["model"] + lines["preprocessing"]


def test_an_import_can_be_exported(finished, tmp_path):
    run("import", finished[0], "--model=vit_test2", f"--out={tmp_path / 'in'}")
    assert run("export", f"--workdir={tmp_path / 'in'}", "--format=timm", f"--out={tmp_path / 'out'}") == 0
    back = import_weights(str(tmp_path / "out"), variant="vit_test2", pool=None, image_size=None, decoder=False)
    assert_same(back.weights.params, finished[3])


def test_another_size_and_pool_are_fitted_on_the_way(finished, tmp_path):
    argv = [finished[0], "--model=vit_test2", f"--out={tmp_path / 'in'}", "--pool=cls", "--image_size=16"]
    assert run("import", *argv) == 0
    imported = load_imported(tmp_path / "in")
    assert imported.weights.params["posemb"].shape == (1, 5, 48)
    assert "head" not in imported.weights.params
    assert imported.weights.preprocessing.image_size == imported.weights.spec.image_size == 16


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "mae"
    return folder, write_run(folder, stage="mae", keep_ema=False)[1]


def test_our_mae_comes_in_with_and_without_its_decoder(autoencoder, tmp_path, capsys):
    folder, params = autoencoder
    assert run("import", folder, "--model=vit_test2", "--decoder", f"--out={tmp_path / 'both'}") == 0
    assert "with its decoder (" in capsys.readouterr().out
    assert_same(load_imported(tmp_path / "both").weights.params, params)
    assert run("import", folder, "--model=vit_test2", f"--out={tmp_path / 'encoder'}") == 0
    encoder = load_imported(tmp_path / "encoder").weights.params
    assert_same({name: encoder[name] for name in params["encoder"]}, params["encoder"])
    assert encoder["posemb"].shape == (1, 2, 48)


def test_what_cannot_go_out_or_come_in_is_one_message(finished, autoencoder, tmp_path, capsys):
    assert run("export", f"--workdir={autoencoder[0]}", "--format=timm", f"--out={tmp_path / 'a'}") == 1
    assert "masked autoencoder: it has no classifier" in capsys.readouterr().err
    assert run("export", f"--workdir={finished[0]}", "--format=timm", f"--out={finished[0]}") == 1
    assert "not empty" in capsys.readouterr().err
    assert run("import", finished[0], "--model=vit_test", f"--out={tmp_path / 'b'}") == 1
    assert "the source has (2, 48)" in capsys.readouterr().err.replace("\n", " ")


def test_the_record_tells_where_every_tensor_went(finished, tmp_path):
    run("import", finished[0], "--model=vit_test2", f"--out={tmp_path / 'in'}")
    report = json.loads((tmp_path / "in" / "import.json").read_text())["report"]
    for tree in ("params", "ema_params"):
        assert {row["status"] for row in report[tree]} == {"loaded"}
        assert len(report[tree]) == len(layout.flatten(finished[2]))

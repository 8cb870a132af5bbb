"""An export format of one's own: the command takes it once it stands in `FORMATS`, and all of a classifier is in it."""

import json

import numpy as np
import pytest

from semivit_jax.export import FORMATS
from semivit_jax.main import main
from semivit_jax.weights import layout
from semivit_jax.weights.record import from_record
from tests.extending import export_format
from tests.models import spec_of
from tests.serve.runs import write_run


@pytest.fixture(autouse=True)
def known(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(FORMATS, "npz", export_format.export_npz)


def test_a_run_goes_out_whole(tmp_path, capsys):
    config, _, ema_params = write_run(tmp_path / "run", **{"model.posemb": "sincos"})
    out = tmp_path / "out"
    assert main(["semivit", "export", f"--workdir={tmp_path / 'run'}", "--format=npz", f"--out={out}"]) == 0
    assert f"wrote {out} (npz)" in capsys.readouterr().out
    spec = from_record(json.loads((out / export_format.MODEL_FILE).read_text()))
    assert spec == spec_of("vit_test2", image_size=8, posemb="sincos")
    record = json.loads((out / "preprocessing.json").read_text())
    assert record["class_names"] == list("0123456789")
    assert record["preprocessing"]["mean"] == list(config.data.mean)
    with np.load(out / export_format.ARRAYS_FILE) as arrays:
        found = dict(arrays)
    for path, array in layout.flatten(ema_params).items():
        np.testing.assert_array_equal(found.pop(path), array, err_msg=path)
    # What is a constant of the model here goes out as an array.
    assert list(found) == ["posemb"]


def test_the_command_names_it_among_the_others(capsys):
    with pytest.raises(SystemExit):
        main(["semivit", "export", "--help"])
    assert "{timm,hugging_face,onnx,stablehlo,npz}" in capsys.readouterr().out

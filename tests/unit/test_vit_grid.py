"""The position embedding tells the image size, and whether it has a row for the class token."""

import json

import numpy as np
import pytest
import safetensors.numpy

from semivit_jax.main import main
from semivit_jax.weights import convnext, vit_names
from semivit_jax.weights.importing import import_weights
from tests.state_dicts import PIXELS, state_dict
from tests.unit.test_weight_import import convnext_state_dict, hugging_face_config

BARE = "weights.safetensors"


@pytest.fixture
def run(tmp_path):
    """Stores tensors, and configs beside them, and imports them at the size that they tell."""

    def save_and_import(tensors, configs=None, *, variant="vit_test", image_size=None):
        name = "model.safetensors" if configs else BARE
        safetensors.numpy.save_file(tensors, tmp_path / name)
        for config, content in (configs or {}).items():
            (tmp_path / config).write_text(json.dumps(content))
        source = str(tmp_path / name)
        return import_weights(source, variant=variant, pool=None, image_size=image_size, decoder=False)

    return save_and_import


@pytest.mark.parametrize("pixels", [PIXELS, 96])
def test_a_bare_file_is_taken_at_its_own_size(run, pixels):
    result = run(state_dict(vit_names.TIMM, image_size=pixels))
    assert result.weights.spec.image_size == result.weights.preprocessing.image_size == pixels
    assert {row.status for row in result.report.params} == {"loaded"}
    (note,) = result.report.notes
    assert note.startswith("nothing in the source tells crop_fraction 0.875, ")


def test_a_size_that_is_asked_for_goes_first(run):
    result = run(state_dict(vit_names.TIMM), image_size=64)
    assert result.weights.spec.image_size == 64
    assert [row.path for row in result.report.params if row.status == "resized"] == ["posemb"]


def test_a_model_without_position_embedding_says_that_the_size_is_assumed(run):
    result = run(convnext_state_dict(convnext.TIMM)[0], variant="convnext_test")
    assert result.weights.spec.image_size == 224
    assert "tells image_size 224, " in result.report.notes[0]
    told = run(convnext_state_dict(convnext.TIMM)[0], variant="convnext_test", image_size=64)
    assert "image_size" not in told.report.notes[0]


@pytest.mark.parametrize(
    ("table", "config"),
    [
        (vit_names.TIMM, {"pretrained_cfg": {"input_size": [3, 64, 64]}}),
        (vit_names.TIMM, {"architecture": "vit_small_patch16_224", "input_size": [3, 64, 64]}),
        (vit_names.HUGGING_FACE, hugging_face_config(image_size=64)),
    ],
    ids=["timm", "early timm", "Hugging Face"],
)
def test_a_config_of_another_size_is_asked_about(run, table, config):
    message = f"says 64 pixels, and their position embedding is for {PIXELS}: --image_size says which"
    with pytest.raises(ValueError, match=message):
        run(state_dict(table), {"config.json": config})
    assert run(state_dict(table), {"config.json": config}, image_size=64).weights.spec.image_size == 64


@pytest.mark.parametrize("said", [None, {}, {"crop_pct": 1.0, "input_size": None}], ids=str)
def test_a_config_that_says_no_size_leaves_it_to_the_embedding(run, said):
    config = {"architecture": "vit_small_patch16_224", "pretrained_cfg": said}
    result = run(state_dict(vit_names.TIMM), {"config.json": config})
    assert result.weights.spec.image_size == PIXELS


def test_an_embedding_of_patches_alone_gets_a_row_of_zeros(run):
    tensors = state_dict(vit_names.TIMM)
    alone = tensors | {"pos_embed": np.ascontiguousarray(tensors["pos_embed"][:, 1:])}
    posemb = run(alone).weights.params["posemb"]
    np.testing.assert_array_equal(posemb[:, 1:], tensors["pos_embed"][:, 1:])
    assert not posemb[:, 0].any()


def test_weights_without_a_class_token_are_refused_with_the_reason(run):
    tensors = state_dict(vit_names.TIMM)
    alone = tensors | {"pos_embed": np.ascontiguousarray(tensors["pos_embed"][:, 1:])}
    del alone["cls_token"]
    with pytest.raises(ValueError, match=r"no class token \(cls_token\), and pos_embed has 16 rows"):
        run(alone)


def test_an_embedding_that_is_no_square_is_refused(run):
    with pytest.raises(ValueError, match="pos_embed has 13 rows: neither a square of patches nor one with"):
        run(state_dict(vit_names.TIMM) | {"pos_embed": np.zeros((1, 13, 48), np.float32)})


def test_help_tells_where_the_size_comes_from(capsys):
    with pytest.raises(SystemExit):
        main(["semivit", "import", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "else as their position embedding is for, else 224, with a note" in said

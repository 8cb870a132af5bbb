"""import.json tells a model as it always has: keys, their order, and 'mae' for a vit with a decoder."""

import json

import pytest

from semivit_jax.models.mae import with_decoder
from semivit_jax.models.spec import Decoder
from semivit_jax.weights.record import from_record, to_record
from tests.models import spec_of

# As written since the first release.
RECORDS = {
    "vit": (
        spec_of("vit_test", pool="cls", num_classes=5, layer_norm_eps=1e-12),
        '{"family": "vit", "variant": "vit_test", "patch_size": 8, "width": 48, "depth": 3, "num_heads": 3, '
        '"mlp_dim": 192, "image_size": 32, "pool": "cls", "posemb": "learned", "num_classes": 5, '
        '"layer_norm_eps": 1e-12}',
    ),
    "dinov2": (  # since registers, LayerScale and SwiGLU are models here
        spec_of("dinov2_g14_reg4", image_size=98, pool="cls", num_classes=0),
        '{"family": "vit", "variant": "dinov2_g14_reg4", "patch_size": 14, "width": 1536, "depth": 40, '
        '"num_heads": 24, "mlp_dim": 4096, "mlp": "swiglu", "layer_scale": true, "registers": 4, "image_size": 98, '
        '"pool": "cls", "posemb": "learned", "num_classes": 0, "layer_norm_eps": 1e-06}',
    ),
    "mae": (
        with_decoder(spec_of("vit_test2"), Decoder(width=32, depth=2, num_heads=4)),
        '{"family": "mae", "variant": "vit_test2", "patch_size": 8, "width": 48, "depth": 2, "num_heads": 3, '
        '"mlp_dim": 192, "image_size": 32, "decoder_width": 32, "decoder_depth": 2, "decoder_num_heads": 4, '
        '"layer_norm_eps": 1e-06}',
    ),
    "convnext": (
        spec_of("convnext_test", num_classes=0),
        '{"family": "convnext", "variant": "convnext_test", "depths": [1, 1, 2, 1], "widths": [8, 16, 24, 32], '
        '"image_size": 32, "num_classes": 0, "layer_norm_eps": 1e-06}',
    ),
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_model_is_told_in_the_same_words_and_read_back(name):
    spec, text = RECORDS[name]
    assert json.dumps(to_record(spec)) == text
    assert from_record(json.loads(text)) == spec


def test_the_first_imports_did_not_tell_the_epsilon():
    spec, text = RECORDS["convnext"]
    assert from_record(json.loads(text.replace(', "layer_norm_eps": 1e-06', ""))) == spec


def test_sizes_that_no_table_has_are_read_all_the_same():
    _, text = RECORDS["vit"]
    record = json.loads(text) | {"variant": "vit_of_tomorrow", "width": 96}
    assert from_record(record).size.width == 96


def test_an_unknown_family_is_refused():
    with pytest.raises(
        ValueError, match="model family 'swin': must be one of vit, dinov3, clip, siglip, data2vec, convnext, mae"
    ):
        from_record({"family": "swin"})

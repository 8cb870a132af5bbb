"""Which attention kernel a config leads to, and when it is refused."""

import dataclasses

import pytest

from benchmarks import cases
from semivit_jax.config import ConfigError
from semivit_jax.models import families
from semivit_jax.models.spec import Decoder
from semivit_jax.models.vit import VIT_SIZES, ViTSize
from tests.models import spec_of


def model(attention, dtype, variant="vit_b16"):
    section = cases.config_of(cases.full("vit_b16", "semi", 2)).model
    return dataclasses.replace(section, attention=attention, dtype=dtype, variant=variant)


def kernel(attention, dtype, backend, head_dims):
    """Of an encoder, and of a decoder where there are two head dimensions."""
    size = ViTSize(patch_size=16, width=head_dims[0], depth=1, num_heads=1, mlp_dim=4)
    decoder = Decoder(width=head_dims[1], depth=1, num_heads=1) if len(head_dims) > 1 else None
    spec = spec_of("vit_b16", size=size, decoder=decoder)
    return families.compute(model(attention, dtype), spec, backend=backend).attention


@pytest.mark.parametrize(
    ("dtype", "backend", "head_dims", "expected"),
    [
        ("auto", "gpu", [64], "cudnn"),
        ("auto", "gpu", [80, 32], "cudnn"),  # ViT-H and the MAE decoder
        ("float32", "gpu", [64], "xla"),
        ("auto", "gpu", [64, 12], "xla"),
        ("auto", "gpu", [136], "xla"),
        ("auto", "tpu", [64], "xla"),
        ("bfloat16", "cpu", [64], "xla"),
    ],
)
def test_auto_takes_cudnn_exactly_where_it_runs(dtype, backend, head_dims, expected):
    assert kernel("auto", dtype, backend, head_dims) == expected
    assert kernel("xla", dtype, backend, head_dims) == "xla"


@pytest.mark.parametrize(
    ("dtype", "backend", "head_dims", "reason"),
    [
        ("auto", "cpu", [64], "the backend is 'cpu'"),
        ("float32", "gpu", [64], "activations are not bfloat16"),
        ("auto", "gpu", [64, 12], "head dimensions .12. are not multiples of 8"),
    ],
)
def test_asking_for_cudnn_where_it_cannot_run_is_refused(dtype, backend, head_dims, reason):
    with pytest.raises(ConfigError, match=reason):
        kernel("cudnn", dtype, backend, head_dims)


def test_every_published_size_qualifies():
    for name in ("vit_s16", "vit_b16", "vit_l16", "vit_h14", "vit_h16"):
        size = VIT_SIZES[name]
        assert kernel("cudnn", "bfloat16", "gpu", [size.width // size.num_heads]) == "cudnn"

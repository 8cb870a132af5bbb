"""Every model of timm that `semivit models` names is recognised as the model that it stands beside."""

import json

import numpy as np
import pytest

from semivit_jax.weights import exchanges
from semivit_jax.weights.tensors import Tensors
from semivit_jax.weights.variants import variant_of

pytestmark = pytest.mark.interop

NAMED = [
    (variant, public.name.removeprefix("timm/"))
    for exchange in exchanges.EXCHANGES.values()
    for variant, published in exchange.public.items()
    for public in published
    if public.name.startswith("timm/")
]


@pytest.mark.parametrize(("variant", "name"), NAMED)
def test_a_model_of_timm_is_recognised_by_its_shapes(tmp_path, variant, name):
    """With the config that lies beside it on the hub; without numbers, which a giant has many of."""
    import timm
    import torch
    from timm.models._hub import save_config_for_hf

    assert name in timm.list_pretrained(f"{name.partition('.')[0]}*")
    with torch.device("meta"):
        model = timm.create_model(name)
    save_config_for_hf(model, tmp_path / "config.json")
    shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    tensors = Tensors(shapes, lambda key: np.zeros(shapes[key], np.float32))
    source = exchanges.recognise(tensors, {"config.json": json.loads((tmp_path / "config.json").read_text())})
    assert variant_of(source) == variant

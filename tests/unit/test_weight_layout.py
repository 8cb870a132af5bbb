"""Every layout, both ways, bit for bit."""

import numpy as np
import pytest

from semivit_jax.weights import convnext, layout, vit_names


def vit_depth(path):
    return 3


def convnext_depth(path):
    return (1, 1, 2, 1)[int(path.removeprefix("stages_")[0])]


def no_blocks(path):
    raise AssertionError(path)


TABLES = {
    "timm ViT": (vit_names.TIMM, vit_depth),
    "MAE decoder": (vit_names.TIMM_DECODER, vit_depth),
    "Hugging Face ViT": (vit_names.HUGGING_FACE, vit_depth),
    "Hugging Face DINOv2": (vit_names.HUGGING_FACE_DINOV2, vit_depth),
    "Hugging Face MAE decoder": (vit_names.HUGGING_FACE_DECODER, vit_depth),
    "published ConvNeXt": (convnext.PUBLISHED, convnext_depth),
    "timm ConvNeXt": (convnext.TIMM, convnext_depth),
    "Hugging Face ConvNeXt": (convnext.HUGGING_FACE, convnext_depth),
}


def random_array(slot: layout.Slot, generator) -> np.ndarray:
    """Of a shape that suits the path: every axis differs, so that a wrong transpose cannot pass."""
    if not slot.path.endswith("/kernel"):
        shape = (6,)
    else:
        is_conv = any(part in slot.path for part in ("patch_embed", "conv"))
        shape = (2, 5, 3, 6) if is_conv else (4, 6)
    return generator.standard_normal((len(slot.names), *shape) if slot.stacked else shape)


@pytest.fixture(params=TABLES)
def slots(request):
    table, depth = TABLES[request.param]
    return layout.slots(table, depth=depth)


def test_our_arrays_come_back_unchanged(slots):
    generator = np.random.default_rng(0)
    for slot in slots:
        array = random_array(slot, generator)
        tensors = layout.split(slot, array)
        np.testing.assert_array_equal(layout.join(slot, tensors.__getitem__), array)
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        assert layout.our_shape(slot, shapes.__getitem__) == array.shape


def test_their_tensors_come_back_unchanged(slots):
    generator = np.random.default_rng(1)
    for slot in slots:
        shapes = {name: tensor.shape for name, tensor in layout.split(slot, random_array(slot, generator)).items()}
        theirs = {name: generator.standard_normal(shape) for name, shape in shapes.items()}
        back = layout.split(slot, layout.join(slot, theirs.__getitem__))
        assert back.keys() == theirs.keys()
        for name, tensor in theirs.items():
            np.testing.assert_array_equal(back[name], tensor)


def test_no_tensor_is_named_twice(slots):
    all_names = [name for slot in slots for name in slot.all_names]
    assert len(set(all_names)) == len(all_names)


def test_convolution_and_linear_kernels_are_transposed():
    table = {"patch_embed/kernel": "conv.weight", "head/kernel": "fc.weight", "head/bias": "fc.bias"}
    conv, kernel, bias = layout.slots(table, depth=no_blocks)
    tensors = {"conv.weight": np.arange(2 * 3 * 5 * 7).reshape(2, 3, 5, 7), "fc.weight": np.arange(6).reshape(2, 3)}
    assert layout.join(conv, tensors.__getitem__)[4, 6, 2, 1] == tensors["conv.weight"][1, 2, 4, 6]
    assert layout.join(kernel, tensors.__getitem__)[2, 1] == tensors["fc.weight"][1, 2]
    assert bias.all_names == ("fc.bias",)


def test_parts_are_joined_in_the_order_query_key_value():
    (slot,) = layout.slots({"blocks/attn/qkv/bias": ("q.{block}", "k.{block}", "v.{block}")}, depth=lambda path: 2)
    value_of = {"q.0": 0, "k.0": 1, "v.0": 2, "q.1": 3, "k.1": 4, "v.1": 5}
    joined = layout.join(slot, lambda name: np.full(2, value_of[name]))
    np.testing.assert_array_equal(joined, [[0, 0, 1, 1, 2, 2], [3, 3, 4, 4, 5, 5]])


def test_blocks_of_different_shape_are_an_error_naming_both():
    (slot,) = layout.slots({"blocks/norm1/bias": "n.{block}"}, depth=lambda path: 2)
    with pytest.raises(ValueError, match=r"n\.1 has shape \(4,\) .* n\.0 \(3,\)"):
        layout.our_shape(slot, lambda name: (3,) if name == "n.0" else (4,))


def test_another_number_of_blocks_is_an_error():
    (slot,) = layout.slots({"blocks/norm1/bias": "n.{block}"}, depth=lambda path: 2)
    with pytest.raises(ValueError, match="has 3 blocks, the layout 2"):
        layout.split(slot, np.zeros((3, 4)))


def test_flatten_and_unflatten_are_inverse():
    tree = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    assert layout.flatten(tree) == {"a/b": 1, "a/c/d": 2, "e": 3}
    assert layout.unflatten(layout.flatten(tree)) == tree

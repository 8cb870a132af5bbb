"""What configs of timm and Hugging Face say of preprocessing: read, or refused in one line that names the key."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semivit_jax.weights.preprocessing import IMAGENET_224, Preprocessing
from semivit_jax.weights.preprocessors import from_hugging_face, from_timm

TIMM = {
    "input_size": [3, 384, 384],
    "crop_pct": 1.0,
    "interpolation": "bicubic",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.4, 0.5, 0.6],
}
HUGGING_FACE = {
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "rescale_factor": 1 / 255,
    "size": {"height": 224, "width": 224},
    "resample": 3,
    "image_mean": [0.1, 0.2, 0.3],
    "image_std": [1, 1, 1],
}
BYTES = {"do_rescale": False, "image_mean": [127.5, 51, 255], "image_std": [51, 25.5, 255]}


def hugging_face(**changes) -> Preprocessing:
    return from_hugging_face(HUGGING_FACE | changes).preprocessing


def timm(**changes) -> Preprocessing:
    return from_timm({"pretrained_cfg": TIMM | changes}).preprocessing


def test_a_timm_config_is_read():
    assert timm() == Preprocessing(384, 1.0, "bicubic", (0.5, 0.5, 0.5), (0.4, 0.5, 0.6), False)


@pytest.mark.parametrize("empty", [{}, dict.fromkeys(TIMM)], ids=["absent", "null"])
def test_what_a_timm_config_leaves_open_has_the_default_of_timm(empty):
    assert from_timm({"pretrained_cfg": empty}).preprocessing == IMAGENET_224


def test_the_size_that_timm_builds_the_model_for_goes_first():
    assert from_timm({"pretrained_cfg": TIMM, "model_args": {"img_size": 96}}).preprocessing.image_size == 96


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_size": [1, 32, 32]}, r"input_size \[1, 32, 32\]: only square colour"),
        ({"input_size": "224"}, "input_size '224'"),
        ({"crop_pct": "0.9"}, "crop_pct '0.9': expected a number"),
        ({"crop_mode": "border"}, "crop_mode 'border'"),
        ({"interpolation": "random"}, "'random'"),
        ({"mean": [0.5, 0.5]}, r"mean \[0.5, 0.5\]: expected a number for each"),
        ({"mean": [123.7, 116.3, 103.5]}, "contradict values in 0..1"),
        ({"std": [0, 1, 1]}, "contradict values in 0..1"),
        ({"std": [float("nan")] * 3}, "std .*expected a number"),
    ],
)
def test_what_a_timm_config_cannot_mean_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        timm(**change)


@pytest.mark.parametrize(
    ("change", "size", "fraction"),
    [
        ({"size": 224}, 224, 1.0),
        ({"size": [96, 96]}, 96, 1.0),
        ({"size": {"height": 96, "width": 96}}, 96, 1.0),
        ({"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}},
         224, 0.875),
        ({"size": 256, "do_center_crop": True, "crop_size": 224, "crop_pct": None}, 224, 0.875),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, 224, 0.875),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, 384, 1.0),
        ({"crop_pct": None, "do_center_crop": None}, 224, 1.0),
    ],
)  # fmt: skip
def test_size_and_crop_of_hugging_face_are_read(change, size, fraction):
    view = hugging_face(**change)
    assert (view.image_size, view.crop_fraction, view.interpolation) == (size, fraction, "bicubic")
    assert view.mean == (0.1, 0.2, 0.3)


@pytest.mark.parametrize("change", [BYTES, BYTES | {"do_rescale": True, "rescale_factor": 1}])
def test_mean_and_std_of_bytes_are_brought_to_values_in_0_to_1(change):
    view = hugging_face(**change)
    assert view.mean == pytest.approx((0.5, 0.2, 1.0))
    assert view.std == pytest.approx((0.2, 0.1, 1.0))


def test_a_preprocessor_need_not_normalise():
    view = hugging_face(do_normalize=False, image_mean=None)
    assert (view.mean, view.std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"do_rescale": False}, "contradict pixels in 0..255, as do_rescale is false"),
        ({"do_rescale": False, "do_normalize": False}, "do_normalize false leaves pixels in 0..255, as do_rescale"),
        ({"image_mean": [123.7, 116.3, 103.5]}, "contradict pixels times rescale_factor 0.0039"),
        ({"rescale_factor": 0.5, "do_normalize": False}, "rescale_factor 0.5"),
        ({"rescale_factor": -1}, "contradict pixels times rescale_factor -1"),
        ({"rescale_factor": "1/255"}, "rescale_factor '1/255': expected a number"),
        ({"do_rescale": "no"}, "do_rescale 'no': expected true or false"),
        ({"do_resize": False}, "do_resize false"),
        ({"do_pad": True}, "do_pad True"),
        ({"resample": 1}, "resample 1: only 2"),
        ({"resample": None}, "resample None"),
        ({"resample": [3]}, r"resample \[3\]"),
        ({"size": {"height": 224, "width": 192}}, "only square"),
        ({"size": None}, "size None: expected pixels"),
        ({"size": True}, "size True: expected pixels"),
        ({"size": 224, "do_center_crop": True, "crop_size": 256}, "crop_size 256: larger than size 224"),
        ({"crop_pct": 0}, "crop_fraction 0"),
        ({"image_mean": None}, "image_mean None: expected a number"),
        ({"image_std": [0.5, 0.5, 0.0]}, "image_std .* contradict"),
    ],
)
def test_what_a_preprocessor_cannot_mean_is_refused(change, message):
    with pytest.raises(ValueError, match=message) as raised:
        hugging_face(**change)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("size", [{"height": 224, "width": 224}, 224, [224, 224]], ids=str)
def test_a_squashed_view_is_told(size):
    """A number too stands for height and width there."""
    assert "squashed" in from_hugging_face(HUGGING_FACE | {"size": size}).notes[0]
    assert from_hugging_face(HUGGING_FACE | {"size": {"shortest_edge": 224}}).notes == ()


class Section(dict):
    """As `locate` reads objects: a key that lacks is an error of the file."""

    def __missing__(self, key):
        raise ValueError(f"lacks the key {key!r}")


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["height", "width", "shortest_edge", "x"]), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(
    key=st.sampled_from([*HUGGING_FACE, "crop_pct", "crop_size", "do_center_crop", *TIMM, "crop_mode", "img_size"]),
    value=ANY,
    crops=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_any_value_is_understood_or_refused(key, value, crops):
    def read(config: dict) -> dict:
        return json.loads(json.dumps(config), object_hook=Section)

    for reader, config in (
        (from_hugging_face, HUGGING_FACE | {"do_center_crop": crops, "crop_size": 192, key: value}),
        (from_timm, {"pretrained_cfg": TIMM | {key: value}, "model_args": {key: value}}),
    ):
        with contextlib.suppress(ValueError):  # nothing else is raised
            view = reader(read(config)).preprocessing
            assert Preprocessing.from_json(read(view.to_json())) == view

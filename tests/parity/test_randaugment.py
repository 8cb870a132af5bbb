"""RandAugment against recorded outputs, arguments and counts."""

import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semivit_jax.config import RandAugmentConfig
from semivit_jax.data.images.randaugment import (
    OPERATORS,
    AppliedOperator,
    apply_randaugment,
    operator_argument,
    sample_randaugment,
)
from tests.parity.recorded import load

RECORDED = load("randaugment")
FILL_RGB = tuple(RECORDED["fill_rgb"].tolist())
GEOMETRIC = ("Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel")
OUTPUTS = sorted(name for name in RECORDED["crc32"] if name.startswith("out/"))
SPEC = RandAugmentConfig(num_ops=2, magnitude=9.0, magnitude_std=0.5, apply_prob=0.5)
FAST_GEOMETRIC_TOLERANCE = 0.8  # mean absolute difference on the photo, of 255


def is_geometric(output):
    return output.split("/")[2].split("_")[0] in GEOMETRIC


def run(output, path):
    """Our result for a recorded output's name, `out/IMAGE/OPERATOR_LEVEL[/INTERPOLATION]`."""
    _, image, level, *interpolation = output.split("/")
    argument = RECORDED["level_args"][level]
    operator = AppliedOperator(level.split("_")[0], *argument)
    return apply_randaugment(
        RECORDED[f"image_{image}"],
        [operator],
        fill_rgb=FILL_RGB,
        interpolation=interpolation[0] if interpolation else "bicubic",
        path=path,
    )


def mean_difference(a, b):
    return np.abs(a.astype(np.float64) - b).mean()


@pytest.mark.parametrize("image", ["photo", "noise", "lowcontrast"])
@pytest.mark.parametrize("path", ["pillow", "fast"])
def test_pointwise_operators_are_equal_bit_for_bit(image, path):
    outputs = [o for o in OUTPUTS if f"/{image}/" in o and not is_geometric(o)]
    assert len(outputs) >= 24
    wrong = [o for o in outputs if zlib.crc32(run(o, path).tobytes()) != RECORDED["crc32"][o]]
    assert wrong == []


def test_geometric_operators_by_pillow_are_equal_bit_for_bit():
    outputs = [o for o in OUTPUTS if is_geometric(o)]
    assert {o.split("/")[3] for o in outputs} == {"bicubic", "bilinear"}
    wrong = [o for o in outputs if zlib.crc32(run(o, "pillow").tobytes()) != RECORDED["crc32"][o]]
    assert wrong == []


@pytest.mark.parametrize("name", GEOMETRIC)
def test_fast_geometric_operators_are_close_to_the_recorded_photo(name):
    output = f"out/photo/{name}_m9_pos/bicubic"
    assert mean_difference(run(output, "fast"), RECORDED[output]) <= FAST_GEOMETRIC_TOLERANCE


@pytest.mark.parametrize("name", GEOMETRIC)
def test_fast_geometric_operators_are_close_at_every_recorded_level(name):
    # The exact path stands for the recorded photo here: its hashes are tested above.
    outputs = [o for o in OUTPUTS if o.startswith(f"out/photo/{name}_")]
    differences = {o: mean_difference(run(o, "fast"), run(o, "pillow")) for o in outputs}
    assert {o: d for o, d in differences.items() if d > FAST_GEOMETRIC_TOLERANCE} == {}


@pytest.mark.parametrize("path", ["pillow", "fast"])
@pytest.mark.parametrize("example", range(len(RECORDED["compose_applied"])))
def test_compositions(example, path):
    operators = [AppliedOperator(*operator) for operator in RECORDED["compose_applied"][example]]
    ours, exact = (
        apply_randaugment(RECORDED["compose_input"], operators, fill_rgb=FILL_RGB, interpolation="bicubic", path=p)
        for p in (path, "pillow")
    )
    assert zlib.crc32(exact.tobytes()) == RECORDED["crc32"][f"compose_{example}"]
    if any(operator.name in GEOMETRIC for operator in operators):
        assert mean_difference(ours, exact) <= FAST_GEOMETRIC_TOLERANCE
    else:
        np.testing.assert_array_equal(ours, exact)


@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(1, 70),
    width=st.integers(1, 300),
    values=st.sampled_from([1, 2, 20, 256]),
    name=st.sampled_from([name for name in OPERATORS if name not in GEOMETRIC]),
    magnitude=st.floats(0, 10),
    sign=st.sampled_from([-1.0, 1.0]),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_pointwise_operators_of_both_paths_agree_on_any_image(seed, height, width, values, name, magnitude, sign):
    generator = np.random.default_rng(seed)
    levels = generator.integers(256, size=values).astype(np.uint8)
    image = levels[generator.integers(values, size=(height, width, 3))]
    unargued = name in ("AutoContrast", "Equalize", "Invert")
    argument = None if unargued else operator_argument(name, magnitude=magnitude, sign=sign)
    pillow, fast = (
        apply_randaugment(
            image,
            [AppliedOperator(name, argument)],
            fill_rgb=FILL_RGB,
            interpolation="bicubic",
            path=path,
        )
        for path in ("pillow", "fast")
    )
    np.testing.assert_array_equal(fast, pillow)


@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    name=st.sampled_from(GEOMETRIC),
    magnitude=st.floats(0, 10),
    sign=st.sampled_from([-1.0, 1.0]),
    interpolation=st.sampled_from(["bicubic", "bilinear"]),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_geometric_operators_of_both_paths_agree_on_where_the_image_ends(
    height, width, name, magnitude, sign, interpolation
):
    """On a flat image both paths must be exactly the colour inside and the fill outside."""
    image = np.full((height, width, 3), (37, 200, 91), np.uint8)
    operator = AppliedOperator(name, operator_argument(name, magnitude=magnitude, sign=sign))
    pillow, fast = (
        apply_randaugment(image, [operator], fill_rgb=FILL_RGB, interpolation=interpolation, path=path)
        for path in ("pillow", "fast")
    )
    if name == "Rotate":  # rounding decides on a pixel centre that falls on the edge itself
        assert (fast != pillow).any(axis=2).sum() <= 2
    else:
        np.testing.assert_array_equal(fast, pillow)


def test_flat_areas_stay_flat_on_the_fast_path():
    image = np.full((64, 64, 3), (37, 200, 91), np.uint8)
    rotated = apply_randaugment(
        image,
        [AppliedOperator("Rotate", 13.0)],
        fill_rgb=(37, 200, 91),
        interpolation="bicubic",
        path="fast",
    )
    np.testing.assert_array_equal(rotated, image)


def test_arguments_of_magnitudes():
    recorded = {k: v for k, v in RECORDED["level_args"].items() if v}
    assert len(recorded) == 63
    for level, (argument,) in recorded.items():
        name, magnitude, *sign = level.split("_")
        ours = operator_argument(
            name, magnitude=float(magnitude.removeprefix("m")), sign=-1.0 if sign == ["neg"] else 1.0
        )
        assert ours == pytest.approx(argument, rel=1e-12), level


def test_operator_names():
    assert tuple(RECORDED["op_names"].tolist()) == OPERATORS


def test_counts_and_magnitudes_follow_the_recorded_distribution():
    recorded = RECORDED["stats"]
    images = recorded["images"]
    generator = np.random.default_rng(0)
    draws = [sample_randaugment(generator, SPEC) for _ in range(images)]

    # Five standard deviations of the difference between two binomial counts.
    def agree(ours, theirs):
        return abs(ours - theirs) <= 5 * np.sqrt(ours + theirs)

    for count, theirs in enumerate(recorded["ops_applied_0_1_2"]):
        assert agree(sum(len(draw) == count for draw in draws), theirs)
    for name, theirs in recorded["applied_count_per_op"].items():
        assert agree(sum(operator.name == name for draw in draws for operator in draw), theirs), name

    degrees = np.array([o.argument for draw in draws for o in draw if o.name == "Rotate"])
    magnitudes = np.abs(degrees) / 3
    theirs = recorded["rotate_magnitude"]
    assert magnitudes.mean() == pytest.approx(theirs["mean"], abs=5 * 0.5 * np.sqrt(2 / len(degrees)))
    assert magnitudes.std() == pytest.approx(theirs["std"], abs=5 * 0.5 / np.sqrt(len(degrees)))
    assert (magnitudes == 10).mean() == pytest.approx(theirs["frac_at_10"], abs=0.03)
    assert (degrees < 0).mean() == pytest.approx(theirs["frac_negative"], abs=0.07)
    assert magnitudes.max() <= 10


def test_the_same_generator_draws_the_same_operators():
    first, second = (sample_randaugment(np.random.default_rng((3, 7)), SPEC) for _ in range(2))
    assert first == second


def test_no_operator_changes_nothing_and_the_input_is_never_written():
    image = RECORDED["image_noise"].copy()
    for name in OPERATORS:
        unargued = name in ("AutoContrast", "Equalize", "Invert")
        argument = None if unargued else operator_argument(name, magnitude=9.0, sign=1.0)
        apply_randaugment(
            image,
            [AppliedOperator(name, argument)],
            fill_rgb=FILL_RGB,
            interpolation="bicubic",
            path="fast",
        )
    np.testing.assert_array_equal(image, RECORDED["image_noise"])
    unchanged = apply_randaugment(image, [], fill_rgb=FILL_RGB, interpolation="bicubic", path="fast")
    np.testing.assert_array_equal(unchanged, image)


def test_opencv_keeps_to_one_thread():
    assert cv2.getNumThreads() == 1

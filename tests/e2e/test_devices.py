"""One device, eight devices, every mesh: the same step, no traffic for mixing, every buffer reused."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from tests.e2e.device_steps import BATCH, CASES, RATIO, SIDE
from tests.e2e.runs import ROOT

pytestmark = pytest.mark.xdist_group("devices")

WIDTH, MLP = 48, 192  # of both models


# By default `tests/extending/test_rule.py` accumulates on eight devices, LoRA freezes, and other meshes spread batches.
SLOW = (
    "semi, fsdp 1", "semi, fsdp 2, accum 4", "semi, fsdp 8, unroll", "semi, float32, no mixing", "last_2, 1 device",
    "last_2, fsdp 2",
)  # fmt: skip
BY_DEFAULT = [name for name in CASES if name not in SLOW]


def parametrised(*cases):
    return pytest.mark.parametrize(
        "case", [pytest.param(c, marks=pytest.mark.slow if c in SLOW else ()) for c in cases]
    )


class Found(dict):
    """Results of `device_steps` by case: the default ones of one process, and a slow one once it is asked for."""

    def __init__(self, look):
        super().__init__(look(*BY_DEFAULT))
        self._look = look

    def __missing__(self, case):
        self.update(self._look(case))
        return self[case]


@pytest.fixture(scope="module")
def found(machine, tmp_path_factory):
    path = tmp_path_factory.mktemp("devices") / "found.json"

    def look(*cases):
        command = [sys.executable, "-m", "tests.e2e.device_steps", str(path), *cases]
        subprocess.run(command, env=machine.environ(devices=8), cwd=ROOT, check=True)
        return json.loads(path.read_text())

    return Found(look)


def assert_same_step(found, case, reference, *, rtol, leave_out=()):
    """Each value to `rtol` of its largest entry."""
    wanted = found[reference]["values"]
    assert found[case]["values"].keys() == wanted.keys()
    for name in (n for n in wanted if not any(part in n for part in leave_out)):
        scale = np.abs(wanted[name]).max()
        np.testing.assert_allclose(found[case]["values"][name], wanted[name], rtol=0, atol=rtol * scale, err_msg=name)


@parametrised(
    "mae, fsdp 2, accum 4",
    "finetune, fsdp 4",
    "semi, fsdp 1",
    "semi, fsdp 2, accum 4",
    "semi, fsdp 4, remat, unroll",
    "semi, fsdp 8, unroll",
    "last_2, fsdp 2",
    "lora, fsdp 2, accum 4",
)
def test_every_mesh_accumulation_remat_and_unroll_give_the_plain_step(found, case):
    # Quantiles are taken per micro-step, so they alone depend on the accumulation.
    assert_same_step(found, case, f"{case.split(',')[0]}, 1 device", rtol=1e-9, leave_out=("confidence_q",))


def test_float32_with_warped_images_agrees_to_its_rounding(found):
    # Adam turns the rounding of a gradient that is zero in theory (the key bias) into whole steps.
    assert_same_step(
        found, "semi, float32, fsdp 1", "semi, float32, 1 device", rtol=1e-5, leave_out=("['params']", "ema_params")
    )


def test_where_images_are_mixed_none_travels(found):
    """Batches spread over eight devices: gradients and metrics are added up, and nothing else travels."""
    mixing = found["semi, float32, fsdp 1"]["collectives"]
    confidences = f"all-gather f32[{BATCH * RATIO}]"  # for the quantiles that are logged
    assert [c for c in mixing if not c.startswith(("all-reduce", confidences))] == []
    assert not [c for c in mixing if any(SIDE in shape for shape in shapes(c))]


@pytest.mark.slow  # by default, above: no image is in what travels
def test_mixing_adds_no_traffic(found):
    mixing, plain = (found[f"semi, float32, {name}"]["collectives"] for name in ("fsdp 1", "no mixing"))
    assert mixing == plain


def test_weights_that_are_cut_are_gathered_layer_by_layer(found):
    """And nothing else is: one layer's tokens of all images are larger, those of one device's smaller."""
    gathered = [one for one in found["finetune, fsdp 4"]["moved"] if one["kind"] != "all-reduce"]
    assert {one["kind"] for one in gathered} == {"all-gather"}
    assert {one["bytes"] for one in gathered} == {WIDTH * MLP * 8, WIDTH * 3 * WIDTH * 8}  # in float64
    assert {one["times"] for one in gathered} == {3}, "the scan over three blocks"


def test_weights_travel_and_never_images_or_activations(found):
    texts = [text for text in found["semi, fsdp 4, remat, unroll"]["collectives"] if not text.startswith("all-reduce")]
    moved = {shape for text in texts for shape in shapes(text)}
    assert moved == {(BATCH * RATIO,), (WIDTH, MLP), (MLP, WIDTH)}


@parametrised("mae, fsdp 2, accum 4", "finetune, fsdp 4", "semi, fsdp 1", "semi, fsdp 4, remat, unroll")
def test_between_two_slices_sums_alone_travel(found, case):
    """And the confidences whose quantiles are logged, four or eight bytes an image."""
    crossing = [one for one in found[case]["moved"] if one["slices"] > 1]
    assert {one["kind"] for one in crossing if one["bytes"] > BATCH * RATIO * 8} == {"all-reduce"}
    small = {one["kind"] for one in crossing} - {"all-reduce"}
    assert small == ({"all-gather"} if CASES[case].stage == "semi" else set())
    if "fsdp 1" not in case:
        assert [one for one in found[case]["moved"] if one["kind"] == "all-gather" and one["slices"] == 1]


@pytest.mark.slow  # what the test above tells apart
def test_a_copy_of_the_parameters_on_two_slices_makes_gathers_cross(found):
    """What the mesh refuses: the test above sees it."""
    crossing = [one for one in found["semi, fsdp 8, unroll"]["moved"] if one["slices"] > 1]
    assert WIDTH * MLP * 8 in {one["bytes"] for one in crossing if one["kind"] == "all-gather"}


def shapes(text):
    """Shapes in an HLO type such as '(f32[2,3]{1,0}, s32[])', without axes of length 1."""
    return [
        tuple(int(n) for n in dims.split(",") if n not in ("", "1")) for dims in re.findall(r"\w+\[([\d,]*)\]", text)
    ]


def test_every_buffer_of_the_state_is_donated(found):
    compiled = [name for name in BY_DEFAULT if CASES[name].devices > 1]
    assert len(compiled) == 5
    for name in compiled:
        assert found[name]["aliased_bytes"] == found[name]["state_bytes"], name


@pytest.mark.parametrize("stage", ["mae", "finetune", "semi"])
def test_a_stage_is_traced_once(found, stage):
    assert found[f"{stage}, 1 device"]["traces"] == 1

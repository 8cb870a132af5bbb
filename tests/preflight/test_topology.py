"""Names of slices and hosts, and the chips behind them."""

import pytest

from semivit_jax.preflight import topology
from semivit_jax.preflight.chips import CHIPS


@pytest.mark.parametrize(
    ("text", "chip", "devices"),
    [("v5e:16x16", "v5e", 256), ("v4:4x4x4", "v4", 64), ("v6e:2x4", "v6e", 8), ("gpu:8xH100", "H100", 8)],
)
def test_known_topologies_are_parsed(text, chip, devices):
    found = topology.parse(text, slices=1)
    assert (found.chip.name, found.num_devices, found.name) == (chip, devices, text)


@pytest.mark.parametrize("text", ["gpu:8xh100", "GPU:8xH100"])
def test_a_gpu_host_is_known_by_its_proper_name(text):
    assert topology.parse(text, slices=1) == topology.parse("gpu:8xH100", slices=1)
    assert topology.parse(text, slices=1).name == "gpu:8xH100"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("v9:4x4", "legal: v4, v5e, v5p, v6e"),
        ("v5e:4x4x4", "a v5e slice has 2 sides, as in v5e:4x4"),
        ("v4:4x4", "a v4 slice has 3 sides"),
        ("v5e:0x4", "v5e:0x4"),
        ("v5e", "v5e"),
        ("gpu:H100", "gpu:NUMBERxCHIP"),
        ("gpu:8xv5e", "A100, H100, H200"),
        ("gpu:8xT4", "gpu:8xT4"),
    ],
)
def test_other_names_are_refused_with_what_is_legal(text, named):
    with pytest.raises(topology.TopologyError, match=named):
        topology.parse(text, slices=1)


def test_gpus_cannot_be_compiled_for_and_say_why():
    found = topology.parse("gpu:8xH200", slices=1)
    assert not found.compilable
    assert "GPU" in found.why_not_compilable
    with pytest.raises(topology.TopologyError, match="gpu:8xH200"):
        topology.describe_devices(found)


def test_without_libtpu_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(topology, "libtpu_installed", lambda: False)
    with pytest.raises(topology.TopologyError, match=r"pip install .* '\.\[plan\]'"):
        topology.describe_devices(topology.parse("v5e:4x4", slices=1))


def test_chips_balance_as_accelerators_do():
    """A slip of a thousand in a data-sheet number would leave these ranges."""
    for chip in CHIPS.values():
        assert 100 < chip.flops / chip.hbm_bandwidth < 700, chip.name  # FLOPs per byte at the roofline's ridge
        assert 2 < chip.hbm_bandwidth / chip.link_bandwidth < 12, chip.name
        assert 10e-3 < chip.hbm_bytes / chip.hbm_bandwidth < 60e-3, chip.name  # seconds to read all memory
        assert chip.source


@pytest.mark.parametrize("text", ["v5e:16x16", "gpu:8xH100"])
def test_several_slices_or_hosts_have_so_many_times_the_devices(text):
    one, four = (topology.parse(text, slices=slices) for slices in (1, 4))
    assert (four.num_devices, four.devices_per_slice) == (4 * one.num_devices, one.num_devices)


@pytest.mark.parametrize("slices", [0, -1])
def test_fewer_slices_than_one_are_refused(slices):
    with pytest.raises(topology.TopologyError, match=rf"--slices={slices}; legal is a whole number from 1"):
        topology.parse("v5e:4x4", slices=slices)

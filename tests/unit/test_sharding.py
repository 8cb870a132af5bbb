"""Where state lives on a mesh: large arrays along one dimension, the layer axis never cut, small ones whole."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, PartitionSpec

from semivit_jax.config import ConfigError
from semivit_jax.training import sharding

LAYERS = 12


def specs(fsdp, **shapes):
    """Partition specs by name, on a mesh of 8 devices; names use '__' for the levels of the tree."""
    state = {}
    for name, shape in shapes.items():
        *parents, leaf = name.split("__")
        level = state
        for parent in parents:
            level = level.setdefault(parent, {})
        level[leaf] = jax.ShapeDtypeStruct(shape, "float32")
    mesh = AbstractMesh((8 // fsdp, fsdp), ("data", "fsdp"))
    places = sharding.state_shardings(mesh, state)  # pyright: ignore
    return [leaf.spec for leaf in jax.tree.leaves(places)]


def test_the_largest_dimension_that_divides_is_cut():
    assert specs(4, kernel=(768, 3072)) == [PartitionSpec(None, "fsdp")]
    assert specs(4, kernel=(1024, 3001)) == [PartitionSpec("fsdp")]


def test_the_layer_axis_of_stacked_blocks_is_never_cut():
    assert specs(4, blocks__kernel=(4096, 64, 3)) == [PartitionSpec(None, "fsdp")]
    assert specs(4, decoder__blocks__kernel=(4096, 3, 64)) == [PartitionSpec(None, None, "fsdp")]
    assert specs(4, params__stages_2__fc1__kernel=(4096, 64, 3)) == [PartitionSpec(None, "fsdp")]


@pytest.mark.parametrize(
    ("fsdp", "shape"), [(1, (768, 3072)), (4, (768,)), (8, (1001, 1003))], ids=["no fsdp", "small", "indivisible"]
)
def test_everything_else_is_whole_on_every_device(fsdp, shape):
    assert specs(fsdp, kernel=shape) == [PartitionSpec()]


def test_what_a_pseudo_label_rule_remembers_is_whole_on_every_device():
    assert specs(4, policy_state__kept=(2**20,), params__kept=(2**20,)) == [PartitionSpec("fsdp"), PartitionSpec()]


def test_moments_and_averages_lie_like_their_params():
    found = specs(2, params__blocks__kernel=(LAYERS, 64, 256), ema_params__blocks__kernel=(LAYERS, 64, 256))
    assert found[0] == found[1] == PartitionSpec(None, None, "fsdp")


def test_a_mesh_that_does_not_divide_names_what_does():
    with pytest.raises(ConfigError, match=r"config\.mesh\.fsdp is 3; on 1 device, legal are \[1\]"):
        sharding.make_mesh(3, jax.devices()[:1])


def devices_of(*slices, platform="tpu"):
    """Stand-ins, two to a process: device i is of slice slices[i]."""
    return [
        SimpleNamespace(id=i, process_index=i // 2, slice_index=one, platform=platform, device_kind="stand-in")
        for i, one in enumerate(slices)
    ]


TWO_SLICES = (0, 0, 0, 0, 1, 1, 1, 1)


def test_a_copy_of_the_parameters_lies_inside_a_slice():
    for fsdp in (1, 2, 4):
        sharding.check_fsdp(fsdp, TWO_SLICES, platform="tpu")
    with pytest.raises(ConfigError, match=r"mesh\.fsdp is 8; on 8 devices in 2 slices, legal are \[1, 2, 4\]"):
        sharding.make_mesh(8, devices_of(*TWO_SLICES))


def test_processes_that_do_not_go_slice_by_slice_leave_less_to_choose():
    with pytest.raises(ConfigError, match=r"fsdp is 4; on 8 devices in 2 slices, legal are \[1, 2\]"):
        sharding.make_mesh(4, devices_of(0, 0, 1, 1, 0, 0, 1, 1))


def test_slices_of_three_are_not_cut_in_two():
    with pytest.raises(ConfigError, match=r"legal are \[1, 3\]"):
        sharding.check_fsdp(2, (0, 0, 0, 1, 1, 1), platform="tpu")


def test_hosts_with_gpus_may_share_a_copy_as_a_whole_and_are_warned():
    sharding.check_fsdp(8, (*TWO_SLICES, 2, 2, 2, 2, 3, 3, 3, 3), platform="gpu")
    with pytest.raises(ConfigError, match=r"legal are \[1, 3, 6\]"):
        sharding.check_fsdp(2, (0, 0, 0, 1, 1, 1), platform="gpu")
    meshes = [
        SimpleNamespace(shape={"fsdp": fsdp}, devices=np.array(devices_of(*TWO_SLICES, platform="gpu")))
        for fsdp in (4, 8)
    ]
    inside, across = (sharding.across_slices(mesh) for mesh in meshes)  # pyright: ignore[reportArgumentType]
    assert inside == ""
    assert "config.mesh.fsdp is 8: weights are gathered over the network" in across
    assert "inside one are [1, 2, 4]" in across


def test_the_order_of_hosts_is_that_of_a_hybrid_mesh_where_no_torus_orders_devices():
    devices = devices_of(*TWO_SLICES, platform="gpu")
    hybrid = mesh_utils.create_hybrid_device_mesh((2, 2), (2, 1), devices)
    assert [d.id for d in hybrid.flat] == [d.id for d in devices]
    assert hybrid.shape == (4, 2)


def test_local_rows_become_a_global_batch():
    mesh = sharding.make_mesh(1, jax.devices()[:1])
    batch = {"image": np.arange(24).reshape(2, 4, 3)}
    placed = sharding.put(batch, sharding.train_batch(mesh))
    np.testing.assert_array_equal(placed["image"], batch["image"])
    assert placed["image"].sharding.spec == PartitionSpec(None, ("data", "fsdp"))

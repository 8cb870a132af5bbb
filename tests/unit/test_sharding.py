"""Where state lives on a mesh: large arrays along one dimension, the layer axis never cut, small ones whole."""

import jax
import numpy as np
import pytest
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


def test_local_rows_become_a_global_batch():
    mesh = sharding.make_mesh(1, jax.devices()[:1])
    batch = {"image": np.arange(24).reshape(2, 4, 3)}
    placed = sharding.put(batch, sharding.train_batch(mesh))
    np.testing.assert_array_equal(placed["image"], batch["image"])
    assert placed["image"].sharding.spec == PartitionSpec(None, ("data", "fsdp"))

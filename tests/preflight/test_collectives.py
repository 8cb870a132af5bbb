"""Counting collectives in compiled programs: real ones of 8 simulated devices, and the TPU compiler's spellings."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from semivit_jax.preflight import collectives, groups, hlo

PROGRAM = """
import jax, jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P

mesh = jax.make_mesh((2, 4), ("a", "b"))
rows = NamedSharding(mesh, P(("a", "b")))

def layer(x, w):
    y = jax.lax.all_gather(w, "b", tiled=True)  # f32[16, 16] from 4 rows each
    return x @ y, None

def step(x, ws):
    x, _ = jax.lax.scan(layer, x, ws)  # 5 layers
    return jax.lax.psum(x.sum(axis=0), ("a", "b"))  # f32[16]

mapped = jax.shard_map(step, mesh=mesh, in_specs=(P(("a", "b")), P(None, "b")), out_specs=P())
x = jax.ShapeDtypeStruct((8, 16), jnp.float32, sharding=rows)
ws = jax.ShapeDtypeStruct((5, 16, 16), jnp.float32, sharding=NamedSharding(mesh, P(None, "b")))
print(jax.jit(mapped).lower(x, ws).compile().as_text())
"""

# The TPU compiler names mesh axes instead of devices, and notes no trip counts.
TPU = """HloModule jit_step, is_scheduled=true, num_partitions=16

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add = f32[] add(%a, %b)
}

%cond (p: (s32[], bf16[4,8])) -> pred[] {
  %twelve = s32[]{:T(128)} constant(12)
  %p = (s32[]{:T(128)}, bf16[4,8]{1,0:T(8,128)(2,1)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %twelve), direction=LT
}

%body (p: (s32[], bf16[4,8])) -> (s32[], bf16[4,8]) {
  %p.1 = (s32[]{:T(128)}, bf16[4,8]{1,0:T(8,128)(2,1)}) parameter(0)
  %start = (bf16[1,8]{1,0}, bf16[4,8]{1,0}) all-gather-start(%x), replica_groups=mesh['x'=4,'y'=4] {'y'}, dimensions={0}
  %done = bf16[4,8]{1,0} all-gather-done(%start)
  ROOT %r = (s32[]{:T(128)}, bf16[4,8]{1,0:T(8,128)(2,1)}) tuple(%i, %done)
}

%random_cond (p: f32[1]) -> pred[] {
  %one = f32[1]{0} constant({1})
  %p.2 = f32[1]{0} parameter(0)
  %le = pred[1]{0} compare(%p.2, %one), direction=LE
  %bits = u32[] bitcast(%le)
  %any = u32[] all-reduce(%bits), replica_groups=mesh['x'=4,'y'=4] {'x','y'}, to_apply=%sum
  ROOT %out = pred[] bitcast(%any)
}

%random_body (p: f32[1]) -> f32[1] {
  ROOT %p.3 = f32[1]{0} parameter(0)
}

%all-reduce-scatter.1 (p: f32[16,8]) -> f32[4,8] {
  %p.4 = f32[16,8]{1,0} parameter(0)
  %whole = f32[16,8]{1,0} all-reduce(%p.4), replica_groups=[4,4]<=[16], to_apply=%sum
  ROOT %piece = f32[4,8]{1,0} dynamic-slice(%whole, %q)
}

ENTRY %main (p: f32[4]) -> f32[4] {
  %w1 = (s32[], bf16[4,8]) while(%t), condition=%cond, body=%body, metadata={op_name="jit(step)/while"}
  %w2 = f32[1] while(%u), condition=%random_cond, body=%random_body
  %f = f32[4,8]{1,0} fusion(%v), kind=kCustom, calls=%all-reduce-scatter.1
  %s1 = f32[8]{0} all-to-all(%p), channel_id=7, replica_groups=mesh['x'=4,'y'=4], device_ids=([4,4]T(1,0)) {'x'}, frontend_attributes={chain_id="0"}
  %s2 = f32[8]{0} all-to-all(%p), channel_id=7, replica_groups=mesh['x'=4,'y'=4], device_ids=([4,4]T(1,0)) {'x'}, frontend_attributes={chain_id="0"}
  %alone = f32[4]{0} all-reduce(%p), replica_groups=mesh['x'=4,'y'=4,'z'=1] {'z'}, to_apply=%sum
  ROOT %both = (f32[4]{0}, f32[2,2]{1,0}) all-reduce(%p, %g), replica_groups={}, to_apply=%sum, metadata={op_name="jit(step)/sum"}
}
"""  # noqa: E501


# One program for each of four slices of 16 devices; sums go on through the hosts.
TPU_SLICES = """HloModule jit_f, is_scheduled=true, num_partitions=16

ENTRY %main (p: bf16[64,128]) -> bf16[64,128] {
  %reduce-scatter.1 = bf16[16,128]{1,0:T(8,128)(2,1)} reduce-scatter(%p), channel_id=4, replica_groups={{0,4,8,12},{1,5,9,13},{2,6,10,14},{3,7,11,15}}, use_global_device_ids=true, dimensions={0}, to_apply=%add.clone
  %bitcast.2 = bf16[2,8,128]{2,1,0:T(8,128)(2,1)} bitcast(%reduce-scatter.1)
  %after-all.1 = token[] after-all(), frontend_attributes={MegascaleRendezvousKeyName="all-reduce.2_0"}
  %send.1 = (bf16[2,8,128]{2,1,0:T(8,128)(2,1)}, u32[], token[]) send(%bitcast.2, %after-all.1), channel_id=4, is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime",_xla_host_transfer_rendezvous="all-reduce.2_0",_xla_megascale_reduce_operation="SUM",_xla_megascale_target="{1,2,3:4}x{0:15}",_xla_megascale_transfer_type="ALL_REDUCE"}
  %recv.1 = (bf16[2,8,128]{2,1,0:T(8,128)(2,1)}, u32[], token[]) recv(%after-all.1), channel_id=3, is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime",_xla_host_transfer_rendezvous="all-reduce.2_0",_xla_megascale_reduce_operation="SUM",_xla_megascale_target="{1,2,3:4}x{0:15}",_xla_megascale_transfer_type="ALL_REDUCE"}
  %send-done.1 = token[] send-done(%send.1), channel_id=4, is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime"}
  ROOT %recv-done.1 = (bf16[2,8,128]{2,1,0:T(8,128)(2,1)}, token[]) recv-done(%recv.1), channel_id=3, is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime"}
}
"""  # noqa: E501


@functools.cache
def simulated():
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    env = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=env, cwd=root, capture_output=True, text=True, check=True
    )
    return collectives.find(done.stdout, slices=1)


def test_a_gather_inside_a_scan_counts_once_per_layer():
    (gather,) = [c for c in simulated() if c.kind == "all-gather"]
    assert (gather.times, gather.times_known, gather.group_size) == (5, True, 4)
    assert gather.bytes == 16 * 16 * 4
    assert gather.sent_bytes == 5 * 16 * 16 * 4 * 3 / 4


def test_a_sum_over_all_devices():
    (sums,) = [c for c in simulated() if c.kind == "all-reduce"]
    assert (sums.times, sums.group_size, sums.bytes) == (1, 8, 16 * 4)
    assert sums.sent_bytes == 2 * 16 * 4 * 7 / 8


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("replica_groups={{0,1},{2,3}}, x", ((0, 1), (2, 3))),
        ("replica_groups={}, x", ((0, 1, 2, 3),)),
        ("replica_groups=[2,2]<=[4], x", ((0, 1), (2, 3))),
        ("replica_groups=[2,2]<=[2,2]T(1,0), x", ((0, 2), (1, 3))),
        ("replica_groups=mesh['x'=2,'y'=2] {'x'}, x", ((0, 2), (1, 3))),
        ("replica_groups=mesh['x'=2,'y'=2] {'y'}, x", ((0, 1), (2, 3))),
        ("replica_groups=mesh['x'=2,'y'=2] {'x','y'}, x", ((0, 1, 2, 3),)),
        ("replica_groups=mesh['x'=2,'y'=2], device_ids=([2,2]T(1,0)) {'x'}, x", ((0, 1), (2, 3))),
        ("replica_groups=mesh['x'=4] {'x':(1)2}, x", ((0, 2), (1, 3))),
        ("replica_groups=mesh['x'=4] {'x':(2)2}, x", ((0, 1), (2, 3))),
    ],
)
def test_groups_are_read_from_every_spelling(rest, expected):
    assert groups.of(rest, 4) == expected


def crossing(kind, groups, slices=2):
    """The collective of a program of 8 devices, f32[8], with these groups."""
    line = f"ROOT %r = f32[8]{{0}} {kind}(%p), {groups}"
    text = f"HloModule m, num_partitions=8\n\nENTRY %main (p: f32[8]) -> f32[8] {{\n  {line}\n}}"
    (found,) = collectives.find(text, slices=slices)
    return found.slices, found.leaving_bytes


@pytest.mark.parametrize(
    ("kind", "groups", "slices", "leaving"),
    [
        ("all-reduce", "replica_groups=[2,4]<=[8]", 1, 0),
        ("all-reduce", "replica_groups=[1,8]<=[8]", 2, 32),  # each slice sends its sum, 2 * 1/2 of 32 bytes
        ("all-reduce", "replica_groups=[4,2]<=[2,4]T(1,0)", 2, 4 * 32),  # four groups of one device of each slice
        ("all-gather", "replica_groups=[1,8]<=[8]", 2, 16),  # each slice sends the half that it has
        ("reduce-scatter", "replica_groups=[1,8]<=[8]", 2, 8 * 16),  # of an operand of 8 times 32 bytes
        ("all-to-all", "replica_groups=[1,8]<=[8]", 2, 4 * 16),  # each of its four devices sends half
        ("collective-permute", "source_target_pairs={{0,1},{3,4},{7,0}}", 2, 32),  # two cross, one from each slice
    ],
)
def test_bytes_that_leave_a_slice(kind, groups, slices, leaving):
    assert crossing(kind, groups) == (slices, leaving)
    assert crossing(kind, groups, slices=1) == (1, 0)


def test_a_ring_through_four_slices_sends_what_a_ring_of_slices_does():
    assert crossing("all-reduce", "replica_groups={}", slices=4) == (4, 2 * 3 / 4 * 32)


def test_what_tpu_slices_send_each_other_counts_as_the_sum_that_it_is_part_of():
    (sent,) = [c for c in collectives.find(TPU_SLICES, slices=1) if c.slices > 1]
    assert (sent.kind, sent.bytes, sent.group_size, sent.slices, sent.times) == ("all-reduce", 2 * 8 * 128 * 2, 4, 4, 1)
    assert sent.sent_bytes == 2 * 3 / 4 * sent.bytes
    assert sent.leaving_bytes == 16 * sent.sent_bytes, "from each of the 16 devices of a slice"


def of_kind(kind):
    return [c for c in collectives.find(TPU, slices=1) if c.kind == kind]


def test_tpu_trip_counts_are_read_off_the_loop_condition():
    (gather,) = of_kind("all-gather")
    assert (gather.times, gather.times_known) == (12, True)
    assert gather.bytes == 4 * 8 * 2, "the gathered result, not what was put in"
    assert gather.group_size == 4, "the axis that is named"


def test_a_loop_without_a_count_counts_once_and_says_so():
    (unknown,) = [c for c in of_kind("all-reduce") if not c.times_known]
    assert (unknown.times, unknown.bytes, unknown.group_size) == (1, 4, 16)


def test_tuples_are_added_up_and_empty_groups_mean_all():
    (both,) = [c for c in of_kind("all-reduce") if c.op_name == "jit(step)/sum"]
    assert (both.bytes, both.group_size) == (4 * 4 + 4 * 4, 16)


def test_a_sum_fused_with_its_slice_is_a_reduce_scatter():
    (scatter,) = of_kind("reduce-scatter")
    assert (scatter.bytes, scatter.group_size) == (16 * 8 * 4, 4)
    assert scatter.sent_bytes == 16 * 8 * 4 * 3 / 4


def test_collectives_of_one_device_move_nothing_and_are_left_out():
    assert len(of_kind("all-reduce")) == 2


def test_one_collective_spread_over_a_chain_of_fusions_counts_once():
    (once,) = of_kind("all-to-all")
    assert (once.times, once.bytes, once.group_size) == (1, 8 * 4, 4)


def test_totals_add_up():
    found = collectives.find(TPU, slices=1)
    totals = collectives.totals(found)
    assert list(totals) == ["all-reduce", "all-gather", "reduce-scatter", "all-to-all"]
    assert sum(t.count for t in totals.values()) == sum(c.times for c in found)
    assert totals["all-gather"].bytes == 12 * 4 * 8 * 2


def test_text_of_something_else_is_refused():
    with pytest.raises(ValueError, match="ENTRY"):
        hlo.parse("module @jit_f {}")


@pytest.mark.parametrize(
    ("result", "size"),
    [("f32[]", 4), ("bf16[3,5]{1,0:T(8,128)(2,1)}", 30), ("(pred[7]{0}, s8[2,2]{1,0})", 11), ("f8e4m3fn[10]", 10)],
)
def test_bytes_of_types(result, size):
    assert hlo.array_bytes(result) == size

"""Sorting a GPU's kernels by name, and reading them off a profile shaped as jax writes it there."""

import types

import pytest

from benchmarks import attention, cases, kernels


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        ("nvjet_hsh_256x128_64x4_1x2_h_bz_coopA_NNT", "matmul"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1_execute_kernel__5x_cublas",
         "matmul"),
        ("void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_256x128_32x3_nn_align8>", "matmul"),
        ("gemm_fusion_dot_12", "matmul"),
        ("void cublasLt::splitKreduce_kernel<32, 16, int>", "matmul"),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_3_128x128x64_4x1x1_cga1x1x1", "attention"),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_bprop_wgmma_f16_knob_7_64x128x64", "attention"),
        ("loop_add_multiply_fusion_3", "other"),
        ("input_reduce_fusion_7", "other"),
        ("MemcpyD2D", "other"),
    ],
)  # fmt: skip
def test_kernels_are_sorted_by_name(kernel, kind):
    assert kernels.kind_of(kernel) == kind


def plane(name, **lines):
    made = [
        types.SimpleNamespace(
            name=line, events=[types.SimpleNamespace(name=n, duration_ns=d, stats=s) for n, d, s in e]
        )
        for line, e in lines.items()
    ]
    return types.SimpleNamespace(name=name, lines=made)


def test_a_gpus_streams_count_once_and_the_host_not_at_all():
    streams = {
        "Stream #13(Compute,MemcpyD2D)": [("nvjet_a", 4e9, ()), ("nvjet_a", 2e9, ()), ("loop_add", 1e9, ())],
        "Stream #14(Compute)": [("cudnn_sdpa", 1e9, ())],
        "XLA Ops": [("gemm.1", 6e9, ())],  # the same time again
    }
    host = plane("/host:CPU", python=[("$train.py:1 step", 9e9, ())])
    profile = types.SimpleNamespace(planes=[plane("/device:GPU:0", **streams), host])
    seconds = kernels.kernel_seconds(profile)
    assert seconds == {"nvjet_a": 6.0, "loop_add": 1.0, "cudnn_sdpa": 1.0}
    found = kernels.by_kind(cases.tiny("semi"), seconds, steps=2)
    assert (found.matmul, found.attention, found.other) == (3.0, 0.5, 0.5)
    assert found.other_share == 1 / 8
    assert found.slowest[0] == ("matmul", "nvjet_a", 3.0)


def test_a_profile_without_kernels_is_an_error_that_says_what_is_there():
    with pytest.raises(ValueError, match=r"/device:GPU:0.*XLA Ops"):
        kernels.kernel_seconds(types.SimpleNamespace(planes=[plane("/device:GPU:0", **{"XLA Ops": []})]))


@pytest.mark.parametrize(("error", "trusted"), [(0.01, True), (0.03, False), (float("nan"), False)])
def test_attention_is_trusted_within_its_error_only(error, trusted, monkeypatch):
    def one_shape(shape, kernel):
        return {"error": error if kernel == "cudnn" and shape[1] == 257 else 0.0, "seconds": 1.0}

    monkeypatch.setattr(attention, "one_shape", one_shape)
    assert attention.check_attention(accelerator=True)["trusted"] is trusted

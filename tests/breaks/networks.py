"""Breaks in the networks, and in what is known of them before they run."""

from tests.breaks.broken import Break

VIT = ("tests/parity/test_vit.py",)
MAE = ("tests/parity/test_mae.py",)
TABLES = ("tests/parity/test_tables.py",)

BREAKS = {
    "attention is scaled by the number of heads": Break(
        "models/layers.py", "query.shape[-1] ** -0.5", "query.shape[-2] ** -0.5", VIT
    ),
    "GELU is approximated": Break(
        "models/layers.py",
        "return x * (0.5 + 0.5 * jax.lax.erf(x * 0.5**0.5))",
        "return jax.nn.gelu(x, approximate=True)",
        VIT,
    ),
    "GELU is approximated in bfloat16": Break(
        "models/layers.py", "approximate=False", "approximate=True", ("tests/unit/test_bfloat16.py",)
    ),
    "stochastic depth begins with the first block": Break(
        "models/vit.py",
        "np.linspace(0.0, rate, size.depth)",
        "np.linspace(rate, 0.0, size.depth)",
        ("tests/unit/test_draws.py",),
    ),
    "the mean over tokens takes the class token in": Break(
        "models/vit.py", "1 + self.spec.size.registers :].mean", ":].mean", VIT
    ),
    "layer decay is off by one layer": Break(
        "models/vit.py", "layer_decay ** (n - 1 - layer)", "layer_decay ** (n - layer)", TABLES
    ),
    "seen patches are called removed": Break(
        "models/mae.py", "(restore_ids >= num_kept)", "(restore_ids < num_kept)", ("tests/stages/test_mae.py",)
    ),
    "patches carry the place of their neighbour": Break(
        "models/mae.py", "position[1:][keep_ids]", "position[:-1][keep_ids]", MAE
    ),
    "the mask token does not decay": Break(
        "models/mae.py",
        '(r"/(bias|scale)$", 0.0)',
        '(r"/(bias|scale|mask_token)$", 0.0)',
        ("tests/parity/test_trajectories.py::test_mae",),
    ),
    "rows and columns of the sin-cos table change places": Break(
        "models/posemb.py", "[encode(columns), encode(rows)]", "[encode(rows), encode(columns)]", TABLES
    ),
    "position embeddings are resized by another cubic": Break(
        "models/posemb.py", 'shape, method="cubic-pytorch"', 'shape, method="cubic"', ("tests/parity/test_resize.py",)
    ),
    "layer scale is left out": Break(
        "models/convnext.py",
        "branch = branch * gamma.astype(branch.dtype)",
        "branch = branch",
        ("tests/parity/test_convnext.py",),
    ),
    "weights stay where they are cut": Break(
        "models/gather.py",
        "with_sharding_constraint(weights, PartitionSpec())",
        "with_sharding_constraint(weights, PartitionSpec.UNCONSTRAINED)",
        ("tests/e2e/test_devices.py::test_weights_that_are_cut_are_gathered_layer_by_layer",),
    ),
    "cuDNN is asked for heads that it does not take": Break(
        "models/families.py", "CUDNN_MAX_HEAD_DIM = 128", "CUDNN_MAX_HEAD_DIM = 256", ("tests/unit/test_compute.py",)
    ),
    # What a plan says
    "the teacher is counted with a backward pass": Break(
        "preflight/flops.py",
        "one.cost.flops if one.backward else Flops(one.cost.flops.forward, 0)",
        "one.cost.flops",
        ("tests/unit/test_flops.py",),
    ),
    "depthwise convolutions cost nothing": Break(
        "models/convnext.py", "(window + mlp).times(depth)", "mlp.times(depth)", ("tests/unit/test_flops.py",)
    ),
    "a ConvNeXt block keeps what a transformer's does": Break(
        "models/convnext.py", "kept=(4, 2)", "kept=(8, 2)", ("tests/preflight/test_kept_arrays.py",)
    ),
    "a sum over devices is sent once": Break(
        "preflight/collectives.py",
        '"all-reduce": 2 * share',
        '"all-reduce": share',
        ("tests/preflight/test_collectives.py",),
    ),
    "the estimate forgets the moving average": Break(
        "preflight/memory.py",
        "self.params + self.frozen + self.ema_params + self.optimizer",
        "self.params + self.frozen + self.optimizer",
        ("tests/preflight/test_estimate.py",),
    ),
}

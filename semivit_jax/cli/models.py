"""List the models, what they need, and which public weights there are of them: `semivit models`."""

import argparse
import math
from collections.abc import Iterator, Sequence

import rich.console
from rich.table import Table

from semivit_jax.models import families
from semivit_jax.models.spec import ModelSpec
from semivit_jax.preflight.memory import DeviceStack
from semivit_jax.weights.exchanges import EXCHANGES
from semivit_jax.weights.public import Public

PIXELS = 224  # of the images for which tokens and memory are told
_STATE_BYTES = 16  # of a parameter, its average and two moments, in float32
_COLUMNS = ("model", "parameters", "patch", "tokens", "state", "per image", "public weights (hf://...)")
_CAPTION = (
    f"tokens and memory for images of {PIXELS} x {PIXELS} pixels. State: weights, their average and the optimizer's "
    "moments. Per image: what one image of a forward pass keeps for the backward pass in bfloat16, an estimate; of "
    "some nobody has counted it. `semivit plan` works out a whole run. Licences: docs/licences.md."
)


def models(argv: Sequence[str]) -> int:
    """Prints one row per model; returns the exit code (0, or 2 for bad usage)."""
    try:
        argparse.ArgumentParser(prog="semivit models", description="List the models.").parse_args(argv)
    except SystemExit as left:  # argparse has told why
        return 2 if left.code else 0
    table = Table(caption=_CAPTION, caption_justify="left")
    for column in _COLUMNS:
        table.add_column(column, overflow="fold", justify="right" if column in _COLUMNS[1:-1] else "left")
    for row in rows():
        table.add_row(*row)
    rich.console.Console().print(table)
    return 0


def rows() -> Iterator[tuple[str, ...]]:
    """The table as text; the sizes of the tests are of no use to anybody else."""
    for family in families.FAMILIES.values():
        public = EXCHANGES[family.name].public
        for variant, size in family.sizes.items():
            if "_test" not in variant:
                stride = family.stride(size)
                yield (variant, *_needs(_spec(variant), stride), "\n".join(map(_told, public.get(variant, ()))))


def _spec(variant: str) -> ModelSpec:
    family = families.of(variant)
    size = family.sizes[variant]
    stride = family.stride(size)
    return ModelSpec(
        family=family.name,
        variant=variant,
        size=size,
        image_size=PIXELS // stride * stride,
        layer_norm_eps=1e-6,
        pool=family.legal["pool"][0],
        posemb=family.legal["posemb"][0],
        num_classes=0,
        decoder=None,
    )


def _needs(spec: ModelSpec, stride: int) -> tuple[str, ...]:
    """Parameters, patch, tokens, bytes of the state and of an image."""
    parameters = sum(map(math.prod, families.shapes(spec).values()))
    state = f"{parameters * _STATE_BYTES / 2**30:.1f} GiB"
    cost = families.cost(spec)
    if cost is None:
        return f"{parameters / 1e6:.1f} M", "-", "-", state, "-"
    kept = sum(DeviceStack(1, blocks, blocks.depth, 2).saved("none") for blocks in cost.stacks)
    return f"{parameters / 1e6:.1f} M", str(stride), str(cost.stacks[0].tokens), state, f"{kept / 2**20:.0f} MiB"


def _told(weights: Public) -> str:
    return f"{weights.name} ({weights.restricted})" if weights.restricted else weights.name

"""List the models, what they need, and which public weights there are of them: `semivit models`."""

import argparse
import math
import textwrap
from collections.abc import Iterator, Sequence

import rich.box
import rich.console
from rich.table import Table

from semivit_jax.config import ModelConfig
from semivit_jax.configs import own_folder
from semivit_jax.models import families
from semivit_jax.models.spec import ModelSpec
from semivit_jax.preflight.by_tune import IMAGES, TUNES, needed
from semivit_jax.recipes.check import check
from semivit_jax.weights.exchanges import EXCHANGES

PIXELS = 224  # of the images for which tokens and memory are told
_COLUMNS = ("model", "parameters", "patch", "tokens", *TUNES)
# Columns of a terminal are few: the table fits in 80, and what is said below it is wrapped.
_MEMORY = (
    f"all to head: GiB that an update of {IMAGES} images of {PIXELS} x {PIXELS} pixels needs in bfloat16 by "
    "config.model.tune, with weights, average, moments, gradients and activations; an estimate (lora as in the recipe "
    "own_folder). `semivit plan` works out a whole run."
)
_CONVOLUTIONS = (
    "Convolutional networks have a stride in place of patches, and the grid of their last stage in place of tokens. "
    "Their blocks have several widths, so that last_2 is not theirs; their lora is that of the MLPs."
)
_PUBLIC = (
    "Public weights by model, for `semivit import hf://NAME`, with what their licence restricts (docs/licences.md):"
)


def models(argv: Sequence[str]) -> int:
    """Prints what each model needs, and below it the public weights; returns the exit code (0, or 2 for bad usage)."""
    try:
        argparse.ArgumentParser(prog="semivit models", description="List the models.").parse_args(argv)
    except SystemExit as left:  # argparse has told why
        return 2 if left.code else 0
    console = rich.console.Console(highlight=False)
    table = Table(box=rich.box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for column in _COLUMNS:
        table.add_column(column, no_wrap=True, justify="left" if column == "model" else "right")
    for row in rows():
        table.add_row(*row)
    for part in (table, "", _MEMORY, "", _CONVOLUTIONS, "", _PUBLIC):
        console.print(part)
    for variant in _shown():
        for line in sources(variant, width=console.width):
            console.print(line, soft_wrap=True, markup=False)
    return 0


def rows() -> Iterator[tuple[str, ...]]:
    """The table of needs as text."""
    model = check(own_folder.get_config().to_dict()).model
    for variant in _shown():
        yield (variant, *_needs(_spec(variant), model))


def sources(variant: str, *, width: int) -> list[str]:
    """Lines with the public weights of a model; none where there are none.

    No name is ever broken, however narrow the terminal: what a licence restricts stands beside the name, or below it.

    Args:
      variant: the model.
      width: columns of the terminal.
    """
    lines = []
    for weights in EXCHANGES[families.of(variant).name].public.get(variant, ()):
        name, told = f"  {weights.name}", f"({weights.restricted})" if weights.restricted else ""
        if told and len(f"{name} {told}") > width:
            indent = " " * 6
            below = textwrap.wrap(told, max(width, len(indent) + 1), initial_indent=indent, subsequent_indent=indent)
            lines += [name, *below]
        else:
            lines.append(f"{name} {told}".rstrip())
    return [variant, *lines] if lines else []


def _shown() -> list[str]:
    """Variants but for the sizes of the tests, which are of no use to anybody else."""
    return [variant for variant in families.variants() if "_test" not in variant]


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


def _needs(spec: ModelSpec, model: ModelConfig) -> tuple[str, ...]:
    """Parameters, patch, tokens, and memory by the words of TUNES."""
    family, parameters = families.of(spec.variant), sum(map(math.prod, families.shapes(spec).values()))
    stride, told = family.stride(spec.size), f"{parameters / 1e6:.1f} M"
    cost, memory = families.cost(spec), needed(spec, model) or {}
    gib = [_gib(memory[tune]) if tune in memory else "-" for tune in TUNES]
    if cost is None or family.stride_name == "stride":
        side = spec.image_size // stride
        return (told, f"{family.stride_name} {stride}", f"{side}x{side} grid", *gib)
    return (told, str(stride), str(cost.stacks[0].tokens), *gib)


def _gib(number: int) -> str:
    gib = number / 2**30
    return f"{gib:.1f}" if gib < 99.95 else f"{gib:.0f}"

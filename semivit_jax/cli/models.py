"""List the models, what they need, and which public weights there are of them: `semivit models`."""

import argparse
import math
from collections.abc import Iterator, Sequence

import rich.console
from rich.table import Table

from semivit_jax.config import ModelConfig
from semivit_jax.configs import own_folder
from semivit_jax.models import families
from semivit_jax.models.spec import ModelSpec
from semivit_jax.preflight.by_tune import IMAGES, TUNES, needed
from semivit_jax.recipes.check import check
from semivit_jax.weights.exchanges import EXCHANGES
from semivit_jax.weights.public import Public

PIXELS = 224  # of the images for which tokens and memory are told
_COLUMNS = ("model", "parameters", "patch", "tokens", *TUNES, "public weights (hf://...)")
_CAPTION = (
    f"all to head: GiB that an update of {IMAGES} images of {PIXELS} x {PIXELS} pixels needs in bfloat16 by "
    "config.model.tune, with weights, average, moments, gradients and activations; an estimate, and of some nobody has "
    "counted it (lora as in the recipe own_folder). `semivit plan` works out a whole run. Licences: docs/licences.md."
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
    model = check(own_folder.get_config().to_dict()).model
    for family in families.FAMILIES.values():
        public = EXCHANGES[family.name].public
        for variant, size in family.sizes.items():
            if "_test" not in variant:
                stride = family.stride(size)
                yield (variant, *_needs(_spec(variant), model, stride), "\n".join(map(_told, public.get(variant, ()))))


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


def _needs(spec: ModelSpec, model: ModelConfig, stride: int) -> tuple[str, ...]:
    """Parameters, patch, tokens, and memory by the words of TUNES."""
    parameters = sum(map(math.prod, families.shapes(spec).values()))
    cost, memory = families.cost(spec), needed(spec, model)
    if cost is None or memory is None:
        return (f"{parameters / 1e6:.1f} M", *("-",) * (2 + len(TUNES)))
    gib = [f"{memory[tune] / 2**30:.1f}" for tune in TUNES]
    return (f"{parameters / 1e6:.1f} M", str(stride), str(cost.stacks[0].tokens), *gib)


def _told(weights: Public) -> str:
    return f"{weights.name} ({weights.restricted})" if weights.restricted else weights.name

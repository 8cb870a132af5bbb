"""Fit weights that read one or four channels to red, green and blue, where the user asks for it."""

import copy
import dataclasses
from typing import Any

from semivit_jax.models.patches import CHANNELS
from semivit_jax.weights.preprocessors import get, is_section
from semivit_jax.weights.sources import Configs, Source
from semivit_jax.words import counted

FLAG = "--sum_channels"
_KERNELS = ("patch_embed/kernel", "downsample_0/conv/kernel")  # that read pixels, of all families
_PER_CHANNEL = ("mean", "std", "image_mean", "image_std")  # of timm and Hugging Face


def fitted(source: Source, *, summed: bool) -> tuple[Source, tuple[str, ...]]:
    """The source with a kernel for three channels, and what people should know of it.

    The kernels of its channels are summed, and each colour takes a third: for images whose channels are all alike, that
    is what the source computes.

    Raises:
      ValueError: it reads another number of channels, and nobody has asked for their sum; the flag is named.
    """
    name = next((str(source.table[path]) for path in _KERNELS if path in source.table), "")
    shape = source.tensors.shapes.get(name, ())
    if len(shape) != 4 or shape[1] == CHANNELS:
        return source, ()
    told = f"{name} reads {counted(shape[1], 'channel')}"
    if not summed:
        raise ValueError(f"{told}: the models here read red, green and blue; {FLAG} sums them and spreads the sum")

    def read():
        kernel = source.tensors.read(name).sum(axis=1, keepdims=True) / CHANNELS
        return kernel.repeat(CHANNELS, axis=1)

    tensors = source.tensors.replaced(name, (shape[0], CHANNELS, *shape[2:]), read)
    return dataclasses.replace(source, tensors=tensors), (f"{told}: summed, and a third of it for each colour",)


def of_colour(configs: Configs) -> Configs:
    """Configs of models of other channels, as if theirs were three: one mean for all, or those of the first three."""
    found = copy.deepcopy(dict(configs))
    for config in found.values():
        for section in (config, get(config, "pretrained_cfg", is_section, "an object", {})):
            if isinstance(section, dict):
                _widen(section)
    return found


def _widen(section: dict[str, Any]) -> None:
    size = section.get("input_size")
    if isinstance(size, list) and len(size) == 3:
        section["input_size"] = [CHANNELS, *size[1:]]
    for key in _PER_CHANNEL:
        numbers = section.get(key)
        if isinstance(numbers, list) and numbers:
            section[key] = (numbers * CHANNELS if len(numbers) == 1 else numbers)[:CHANNELS]

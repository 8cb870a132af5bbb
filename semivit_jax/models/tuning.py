"""Choose how much of a classifier is trained: the words of config.model.tune, one function each in the table TUNES."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from semivit_jax.config import ConfigError, ModelConfig
from semivit_jax.models import bottleneck, families, heads, lora
from semivit_jax.models import cost as cost_lib
from semivit_jax.models.cost import Cost, Flops
from semivit_jax.models.families import FAMILIES, Network
from semivit_jax.models.parting import WHOLE, Params, Parting, Parts, apart, flatten, together, unflatten
from semivit_jax.models.spec import PLAIN, Compute, ModelSpec
from semivit_jax.ops.optim import PathTable
from semivit_jax.words import counted

HEAD = heads.PATHS
ALL = "all"


def network(config: ModelConfig, spec: ModelSpec, compute: Compute, drop_path_rate: float) -> Network:
    """The classifier of `spec`, of which config.tune is trained; see `check` for what is refused."""
    whole = families.network(spec, compute, drop_path_rate)
    return TUNES[_kind(config.tune)](config, spec, compute, whole)


def parting(config: ModelConfig, spec: ModelSpec) -> Parting:
    """How the parameters of `spec` part under a config; those of an autoencoder are one."""
    return WHOLE if spec.decoder is not None else network(config, spec, PLAIN, 0.0).parting


def same(ours: ModelConfig, theirs: ModelConfig) -> bool:
    """Whether two configs part a model in the same way, and mean the same by its parts."""
    return _words(ours) == _words(theirs)


def _words(config: ModelConfig) -> tuple[Any, ...]:
    if config.tune != "lora":
        return (config.tune,)
    if config.lora_kind == "bottleneck":
        return config.tune, config.lora_kind, config.lora_rank, config.bottleneck_scale
    return config.tune, config.lora_kind, config.lora_rank, config.lora_alpha, config.lora_matrices


def check(config: ModelConfig) -> None:
    """Raises ConfigError where config.tune is no word, or the model's family cannot be tuned so."""
    family = families.of(config.variant)
    kind, cannot = _kind(config.tune), f"config.model.tune is {config.tune!r}, and a {family.name} "
    if kind not in TUNES:
        raise ConfigError(f"config.model.tune is {config.tune!r}; legal values: all, head, last_N (N blocks), lora")
    if kind == "last":
        if family.cut is None:
            raise ConfigError(f"{cannot}has no blocks of one size to cut between; use all or head")
        depth, blocks = family.cut.depth(family.sizes[config.variant]), _blocks(config.tune)
        if not 0 < blocks < depth:
            raise ConfigError(f"{cannot}of {counted(depth, 'block')} has last_1 to last_{depth - 1}; all trains all")
    if kind == "lora" and config.lora_kind == "bottleneck":
        if not family.mlps:
            raise ConfigError(f"{cannot}has no MLPs of one size to put a bottleneck beside; use lora_kind='low_rank'")
    elif kind == "lora":
        if not family.lora:
            raise ConfigError(f"{cannot}names no matrices for it; use all or head")
        if config.lora_matrices not in family.lora:
            legal = ", ".join(family.lora)
            raise ConfigError(
                f"config.model.lora_matrices is {config.lora_matrices!r}; legal values of {config.variant}: {legal}"
            )


def _kind(tune: str) -> str:
    return "last" if re.fullmatch(r"last_\d+", tune) else tune if tune != "last" else ""


def _blocks(tune: str) -> int:
    return int(tune.removeprefix("last_"))


def _all(config: ModelConfig, spec: ModelSpec, compute: Compute, whole: Network) -> Network:
    return whole


def _head(config: ModelConfig, spec: ModelSpec, compute: Compute, whole: Network) -> Network:
    """A linear classifier: what it reads is computed as in evaluation, without drop path."""

    def split(params: Params, key: jax.Array) -> Parts:
        return apart(params, lambda path: bool(re.search(HEAD, path)))

    def logits(parts: Parts, images: jax.Array, drop_path_masks: jax.Array | None) -> jax.Array:
        return whole.logits(together(*parts), images, None)

    return _parted(whole, Parting(split, together), logits, rates=0 * whole.drop_path_rates)


def _last(config: ModelConfig, spec: ModelSpec, compute: Compute, whole: Network) -> Network:
    """The last blocks and what follows them. Two scans, so that nothing goes backward through the blocks below."""
    family, blocks = FAMILIES[spec.family], _blocks(config.tune)
    cut = family.cut
    assert cut is not None, spec.variant
    below, above = (
        family.module(dataclasses.replace(spec, size=size), compute) for size in cut.sizes(spec.size, blocks)
    )

    def split(params: Params, key: jax.Array) -> Parts:
        stacked, others = apart(params, lambda path: bool(re.search(family.stacked, path)))
        trained, frozen = apart(others, lambda path: bool(re.search(cut.above, path)))
        upper = jax.tree.map(lambda leaf: leaf[-blocks:], stacked)
        lower = jax.tree.map(lambda leaf: leaf[:-blocks], stacked)
        return Parts(together(trained, upper), together(frozen, lower))

    def joined(trained: Params, frozen: Params) -> Params:
        upper, lower = flatten(trained), flatten(frozen)
        shared = sorted(lower.keys() & upper.keys())  # a set has another order, hence program, in every process
        both = {path: jnp.concatenate([lower[path], upper[path]]) for path in shared}
        return unflatten(lower | upper | both)

    def logits(parts: Parts, images: jax.Array, drop_path_masks: jax.Array | None) -> jax.Array:
        masks = None if drop_path_masks is None else drop_path_masks[-blocks:]
        tokens = below.apply({"params": parts.frozen}, images, method="below_cut")
        params = together(*parts)  # of the blocks, those above
        return above.apply({"params": params}, tokens, masks, method="above_cut")  # pyright: ignore

    def lr_scales(layer_decay: float, head_lr_scale: float) -> PathTable:
        table = whole.lr_scales(layer_decay, head_lr_scale)
        return [(path, value[-blocks:] if isinstance(value, list) else value) for path, value in table]

    rates = np.concatenate([0 * whole.drop_path_rates[:-blocks], whole.drop_path_rates[-blocks:]])
    tuned = _parted(whole, Parting(split, joined), logits, rates=rates)
    return dataclasses.replace(tuned, lr_scales=lr_scales)


def _lora(config: ModelConfig, spec: ModelSpec, compute: Compute, whole: Network) -> Network:
    """Low-rank additions or bottlenecks, and the head."""
    return (_bottleneck if config.lora_kind == "bottleneck" else _low_rank)(config, spec, whole)


def _bottleneck(config: ModelConfig, spec: ModelSpec, whole: Network) -> Network:
    """Layers beside the MLPs, which are a part of the model: nothing is merged."""

    def split(params: Params, key: jax.Array) -> Parts:
        return apart(params, lambda path: bool(re.search(f"{HEAD}|{bottleneck.PATHS}", path)))

    def logits(parts: Parts, images: jax.Array, drop_path_masks: jax.Array | None) -> jax.Array:
        return whole.logits(together(*parts), images, drop_path_masks)

    tuned = _parted(whole, Parting(split, together), logits, rates=whole.drop_path_rates)
    return dataclasses.replace(
        tuned, weight_decays=lambda decay: ((bottleneck.PATHS, decay), *whole.weight_decays(decay))
    )


def _low_rank(config: ModelConfig, spec: ModelSpec, whole: Network) -> Network:
    parting = lora.parting(config.lora_rank, config.lora_alpha, FAMILIES[spec.family].lora[config.lora_matrices], HEAD)
    logits = lora.computing(whole.logits, config.lora_alpha / config.lora_rank)
    tuned = _parted(whole, parting, logits, rates=whole.drop_path_rates)

    def weight_decays(weight_decay: float) -> PathTable:
        return ((lora.ADAPTERS, weight_decay), *whole.weight_decays(weight_decay))

    return dataclasses.replace(tuned, weight_decays=weight_decays)


def cost(config: ModelConfig, spec: ModelSpec) -> Cost | None:
    """What one image costs a student; LoRA's own products are not counted. None where nobody has counted the model.

    What is frozen has no gradient of its kernels, and below the lowest trained parameter nothing goes backward.
    """
    whole, kind = families.cost(spec), _kind(config.tune)
    if whole is None or kind == ALL:
        return whole
    headless = families.cost(dataclasses.replace(spec, num_classes=0))
    assert headless is not None
    depth = sum(stack.depth for stack in whole.stacks)
    trained, backward = 0, whole.flops.backward - headless.flops.backward
    if kind == "last":
        (stack,), trained = whole.stacks, _blocks(config.tune)
        backward += cost_lib.blocks(dataclasses.replace(stack, depth=trained)).backward
    if kind == "lora":
        trained = depth
        backward += whole.through
    return Cost(Flops(whole.flops.forward, backward), whole.stacks, forward_only=depth - trained)


def _parted(whole: Network, parting: Parting, logits: Callable[..., jax.Array], *, rates: np.ndarray) -> Network:
    """A network that takes `Parts`, with stochastic depth where it trains; `init` still makes all of it."""

    def features(parts: Parts, images: jax.Array) -> jax.Array:
        return whole.features(parting.whole(*parts), images)

    def classify(parts: Parts, features: jax.Array) -> jax.Array:
        return whole.classify(parting.whole(*parts), features)

    return dataclasses.replace(
        whole, logits=logits, features=features, classify=classify, drop_path_rates=rates, parting=parting
    )


def on_features(tuned: Network) -> Network:
    """A network whose images are what its head reads, computed before: (batch, 1, 1, width) instead of pixels."""

    def logits(params: Any, seen: jax.Array, drop_path_masks: jax.Array | None) -> jax.Array:
        return tuned.classify(params, seen[:, 0, 0])

    return dataclasses.replace(tuned, logits=logits)


TUNES: dict[str, Callable[[ModelConfig, ModelSpec, Compute, Network], Network]] = {
    ALL: _all,
    "head": _head,
    "last": _last,
    "lora": _lora,
}

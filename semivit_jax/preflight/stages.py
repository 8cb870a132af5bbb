"""Plan the stages of a config, one after the other."""

import dataclasses
import os

import jax

from semivit_jax import console
from semivit_jax.config import Config
from semivit_jax.preflight.answer import Answer, plan_one
from semivit_jax.preflight.batch import GivenCounts, image_counts
from semivit_jax.preflight.topology import Topology, describe_devices


def plan_stages(
    config: Config, stages: tuple[str, ...], topology: Topology, given: GivenCounts, *, compiling: bool, tries: int
) -> list[Answer]:
    """One answer per stage; compiled where the topology can be compiled for and `compiling` is on."""
    use_no_accelerator()
    if config.data.cache_features:
        console.say("planned as without config.data.cache_features, which computes features once and then needs less")
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, cache_features=0))
    counts = image_counts(config, given)
    note = topology.why_not_compilable or ("" if compiling else "switched off with --nocompile; shape not checked")
    devices = None if note else describe_devices(topology)
    found = []
    for stage in stages:
        with console.working(f"{stage}: planning"):
            found.append(plan_one(config, stage, topology, counts, devices=devices, note=note, tries=tries))
    return found


def use_no_accelerator() -> None:
    """A plan runs on the host alone, so that it can be made beside a training run, on a TPU VM too."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    jax.config.update("jax_platforms", "cpu")

"""`semivit plan`: flags in, table and JSON out."""

import os
from pathlib import Path
from typing import Any

import jax
from absl import flags
from ml_collections import config_flags

from semivit_jax import console
from semivit_jax.cli import exits
from semivit_jax.cli.flags import config_of, help_asked, name_missing, read_flags
from semivit_jax.config import Config, ConfigError
from semivit_jax.files import write_json
from semivit_jax.preflight import show
from semivit_jax.preflight.answer import Answer, plan_one, to_dict
from semivit_jax.preflight.batch import GivenCounts, image_counts
from semivit_jax.preflight.topology import Topology, TopologyError, describe_devices, parse
from semivit_jax.recipes.find import with_paths

USAGE = (
    "plan --config=FILE[:ARGS] --topology=v5e:16x16|gpu:8xH100|... [--stage=STAGE] [--out=JSON] [--nocompile]\n"
    "       [--tries=N] [--images=N --labeled=N --classes=N]"
)


def plan(argv: list[str]) -> int:
    """Plans the stages of a config for a slice or host, without touching data or accelerators."""
    try:
        if help_asked(USAGE, argv):
            return 0
        arguments = ["semivit plan", *with_paths(argv)]
        values = _flags(arguments)
        read_flags(values, arguments)
        name_missing(values, ("config", "topology"))
        config, notes = config_of(values, None)
        stages = config.stages if not values["stage"].value else (values["stage"].value,)
        unknown = [s for s in stages if s not in config.stages]
        if unknown:
            raise flags.Error(f"--stage={unknown[0]}; the config's stages are {', '.join(config.stages)}")
        topology = parse(values["topology"].value)
    except (*exits.USAGE_ERRORS, TopologyError) as error:
        return exits.usage_error("plan", error)
    given = GivenCounts(values["images"].value, values["labeled"].value, values["classes"].value)
    compiling, tries = values["compile"].value, values["tries"].value
    try:
        found = plan_stages(config, stages, topology, given, compiling=compiling, tries=tries)
    except (ConfigError, TopologyError) as error:  # batches, a mesh or a data set that do not fit the flags
        return exits.usage_error("plan", error)
    for line in notes:
        console.say(line)
    for one in found:
        console.console.print(show.table(one))
    if values["out"].value:
        write_json(Path(values["out"].value), {"stages": [to_dict(one) for one in found]})
    return 0


def plan_stages(
    config: Config, stages: tuple[str, ...], topology: Topology, given: GivenCounts, *, compiling: bool, tries: int
) -> list[Answer]:
    """One answer per stage; compiled where the topology can be compiled for and `compiling` is on."""
    use_no_accelerator()
    counts = image_counts(config, given)
    note = topology.why_not_compilable or ("" if compiling else "switched off with --nocompile; shape not checked")
    devices = None if note else describe_devices(topology)
    return [plan_one(config, stage, topology, counts, devices=devices, note=note, tries=tries) for stage in stages]


def use_no_accelerator() -> None:
    """A plan runs on the host alone, so that it can be made beside a training run, on a TPU VM too."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    jax.config.update("jax_platforms", "cpu")


def _flags(arguments: list[str]) -> Any:
    values: Any = flags.FlagValues()
    # Overrides are looked for among the process's arguments unless others are given.
    config_flags.DEFINE_config_file("config", None, "recipe, FILE[:ARGS]", flag_values=values, sys_argv=arguments)
    flags.DEFINE_string("topology", None, "slice or host: v5e:16x16, v4:4x4x4, gpu:8xH100", flag_values=values)
    flags.DEFINE_string("stage", None, "one stage; all of the config's by default", flag_values=values)
    flags.DEFINE_string("out", None, "JSON file to write; replaced if it exists", flag_values=values)
    flags.DEFINE_boolean("compile", True, "compile the step where that is possible", flag_values=values)
    flags.DEFINE_integer("tries", 4, "settings compiled at most when the step does not fit", flag_values=values)
    flags.DEFINE_integer("images", 0, "training images, for a data set not known here", flag_values=values)
    flags.DEFINE_integer("labeled", 0, "labeled images, likewise; in an own folder: known labels", flag_values=values)
    flags.DEFINE_integer("classes", 0, "classes, likewise", flag_values=values)
    return values

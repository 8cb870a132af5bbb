"""Print what a run needs on a slice or host, as a table or JSON: `semivit plan`."""

import argparse

from absl import flags

from semivit_jax.cli.exits import USAGE_ERRORS, usage_error
from semivit_jax.cli.flags import boolean, config_parser, help_asked, read_config, read_flags
from semivit_jax.cli.paths import output_file
from semivit_jax.config import Config, ConfigError
from semivit_jax.files import write_json

USAGE = (
    "plan --config=FILE[:ARGS] --topology=v5e:16x16|gpu:8xH100|... [--slices=N] [--stage=STAGE] [--out=JSON]\n"
    "       [--nocompile] [--tries=N] [--images=N --labeled=N --classes=N]"
)


def plan(argv: list[str]) -> int:
    """Plans the stages of a config for a slice or host, without touching data or accelerators."""
    try:
        if help_asked(USAGE, argv):
            return 0
        given = read_flags(_parser(), argv, required=("config", "topology"))
        config, notes = read_config("plan", given.config, None)
        stages = _stages(given.flags.stage, config)
    except USAGE_ERRORS as error:
        return usage_error("plan", error)
    # Loaded here: seconds that help and mistyped flags need not wait for.
    from semivit_jax import console
    from semivit_jax.preflight import show
    from semivit_jax.preflight.answer import to_dict
    from semivit_jax.preflight.batch import GivenCounts
    from semivit_jax.preflight.stages import plan_stages
    from semivit_jax.preflight.topology import TopologyError, parse

    asked = given.flags
    counts = GivenCounts(asked.images, asked.labeled, asked.classes)
    try:
        topology = parse(asked.topology, slices=asked.slices)
        found = plan_stages(config, stages, topology, counts, compiling=asked.compile, tries=asked.tries)
    except (ConfigError, TopologyError) as error:  # batches, a mesh or a data set that do not fit the flags
        return usage_error("plan", error)
    for line in notes:
        console.say(line)
    for one in found:
        console.console.print(show.table(one))
    if asked.out:
        write_json(asked.out, {"stages": [to_dict(one) for one in found]})
    return 0


def _stages(chosen: str | None, config: Config) -> tuple[str, ...]:
    if chosen and chosen not in config.stages:
        raise flags.Error(f"--stage={chosen}; the config's stages are {', '.join(config.stages)}")
    return (chosen,) if chosen else config.stages


def _parser() -> argparse.ArgumentParser:
    parser = config_parser("plan")
    parser.add_argument("--topology")  # slice or host: v5e:16x16, v4:4x4x4, gpu:8xH100
    parser.add_argument("--slices", type=int, default=1)  # so many of them; of a GPU topology, hosts
    parser.add_argument("--stage")  # one; all of the config's by default
    parser.add_argument("--out", type=output_file)  # JSON file to write; replaced if it exists
    parser.add_argument("--compile", nargs="?", const=True, default=True, type=boolean)  # where that is possible
    parser.add_argument("--nocompile", dest="compile", action="store_false")
    parser.add_argument("--tries", type=int, default=4)  # settings compiled at most when the step does not fit
    for name in ("images", "labeled", "classes"):  # of a data set not known here; in an own folder: known labels
        parser.add_argument(f"--{name}", type=int, default=0)
    return parser

"""A whole run: hosts together, data open, workdir claimed, stages in order, results told."""

import contextlib
import dataclasses
import hashlib
import json
import os
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

import jax

from semivit_jax import console
from semivit_jax.checkpoints import init_from, workdir
from semivit_jax.config import HOST, Config, ConfigError
from semivit_jax.data.dataset import cache_dir, describe, open_task
from semivit_jax.data.sources.errors import DatasetError
from semivit_jax.data.splits import SplitError
from semivit_jax.files import write_json
from semivit_jax.hosts import agreement, cluster, stopping
from semivit_jax.recipes import label
from semivit_jax.recipes.keys import unmarked
from semivit_jax.training import sharding, summary
from semivit_jax.training.loop import run_stage
from semivit_jax.training.setup import Run, check_stage, plan_stage

FEW_FOR_MAE = 10_000  # images; below, pre-training on own photos alone rarely pays

SHARED_WITHIN_SECONDS = 60.0  # NFS may remember for half of that that a file was not there


def train(config: Config, folder: Path, *, notes: Sequence[str] = ()) -> None:
    """Trains every stage of the config that is not finished, and prints the result.

    Args:
      config: of the run.
      folder: its workdir.
      notes: lines to print first, once it is known which host prints.

    Raises:
      Stopped: asked to stop, after saving. Other errors as the parts raise them.
    """
    prepare_process(config)
    for line in notes:
        console.say(line)
    first_host = jax.process_index() == 0
    # Before anything is written: a host with another config must not claim the folder.
    agreement.same_on_every_host({"config": _shared_config(config), "code": code_hash()})
    if agreement.from_first_host(workdir.is_done(folder)):
        workdir.claim(folder, config, first_host=False, say=console.say)
        if first_host:
            summary.print_summary(json.loads((folder / "summary.json").read_text()))
        return
    if config.init_from and not agreement.from_first_host(workdir.has_checkpoint(folder / config.stages[0])):
        agreement.together(lambda: init_from.check(config.init_from), errors=(ConfigError, OSError))
    with contextlib.ExitStack() as on_error:
        if first_host and not (folder / "config.json").exists():
            # What is wrong with data or batches is mended with other values, which a claimed folder would refuse.
            on_error.callback(workdir.release, folder)
        _claim(folder, config, first_host=first_host)
        task = agreement.together(
            lambda: open_task(config, workdir=folder if first_host else None),
            errors=(DatasetError, SplitError, OSError),
        )
        console.say(describe(task))
        agreement.same_on_every_host({"data listing": task.listing_hash, "split": task.split_hash})
        if config.data.dataset == "own_folder" and "mae" in config.stages and not config.init_from:
            warn_of_few(len(task.split.training))
        with stopping.listening() as stop:
            one = Run(config, folder, task, sharding.make_mesh(config.mesh.fsdp), stop)
            # All of them before the first one starts: what a stage refuses is told at once, not hours later.
            plans = [plan_stage(one, stage) for stage in config.stages]
            agreement.same_on_every_host({f"plan of {plan.stage}": str(plan) for plan in plans})
            for plan in plans:
                if not workdir.is_done(folder / plan.stage):
                    check_stage(one, plan)
            on_error.pop_all()
            one = dataclasses.replace(one, config=label.label_plans(config, plans))
            for plan in plans:
                run_stage(one, plan)

    def finish() -> None:
        summary.print_summary(summary.summarise(one.config, task, folder))
        workdir.mark_done(folder)

    agreement.on_first_host(finish)  # the others wait: a host that left earlier would take them along


def warn_of_few(num_images: int) -> None:
    """Says so where MAE pre-training from scratch is given less than pays."""
    if num_images < FEW_FOR_MAE:
        console.say(
            f"warning: {num_images} images are few for MAE pre-training from scratch; imported weights usually do "
            "better (semivit import, then --config.init_from=FOLDER)"
        )


def _claim(folder: Path, config: Config, *, first_host: bool) -> None:
    """`workdir.claim`; where one host cannot, or does not see what the first one writes, all end and say so."""

    def claim() -> None:
        try:
            workdir.claim(folder, config, first_host=first_host, say=console.say)
        except OSError as error:
            raise OSError(
                f"the workdir {folder} cannot be written to: {error.strerror}; nothing was started"
            ) from error

    agreement.together(claim, errors=(ConfigError, OSError))
    if jax.process_count() > 1:
        _check_shared(folder)


def _check_shared(folder: Path) -> None:
    """Raises ClusterError, on all hosts, where some host does not see what the first one has just written.

    A new number every time: a host may have a folder of its own there, with an older copy of the run in it.
    """
    number = agreement.from_first_host(secrets.randbelow(2**31))
    path, limit = folder / ".shared.json", time.monotonic() + SHARED_WITHIN_SECONDS
    agreement.on_first_host(lambda: write_json(path, number))

    def see() -> None:
        while not (path.exists() and json.loads(path.read_text()) == number):
            if time.monotonic() > limit:
                reason = "what process 0 writes there is not seen here"
                raise cluster.ClusterError(f"the workdir {folder} is not one folder for all hosts: {reason}")
            time.sleep(0.1)

    try:
        agreement.together(see, errors=(cluster.ClusterError, OSError))
    finally:
        if jax.process_index() == 0:
            path.unlink(missing_ok=True)


def prepare_process(config: Config) -> None:
    """Everything that must happen before a device is touched: flags, cache, and the other hosts."""
    if config.train.deterministic:
        os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_gpu_deterministic_ops=true"
    if config.train.compilation_cache:
        jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "compiled"))
    mesh = config.mesh
    cluster.start(
        cluster.Cluster(mesh.coordinator_address, mesh.num_processes, mesh.process_id, mesh.coordinator_timeout_seconds)
    )


def _shared_config(config: Config) -> str:
    """The config without what may differ from host to host."""
    return json.dumps(unmarked(config, HOST), sort_keys=True, default=list)


def code_hash() -> str:
    """Hash of the package's source, so that hosts with different code are noticed at the start."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()

"""A whole run: hosts together, data open, workdir claimed, stages in order, results told."""

import contextlib
import hashlib
import json
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import jax

from semivit_jax import cluster, logs, origin, report, sharding, stopping, workdir
from semivit_jax.config import Config, flatten
from semivit_jax.data.dataset import describe, open_task
from semivit_jax.setup_stage import Run, plan_stage
from semivit_jax.train import run_stage

FEW_FOR_MAE = 10_000  # images; below, pre-training on own photos alone rarely pays (contracts: data)

SHARED_WITHIN_SECONDS = 60.0  # NFS may remember for half of that that a file was not there

# Where a host keeps its data and how it reads it, and its own place among the others.
HOST_KEYS = (
    "data.data_dir",
    "data.root",
    "data.labels",
    "data.threads",
    "data.workers",
    "data.prefetch_batches",
    "mesh.coordinator_address",
    "mesh.num_processes",
    "mesh.process_id",
    "init_from",
)


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
        logs.say(line)
    first_host = jax.process_index() == 0
    # Before anything is written: a host with another config must not claim the folder.
    cluster.same_on_every_host({"config": _shared_config(config), "code": code_hash()})
    if cluster.from_first_host(workdir.is_done(folder)):
        workdir.claim(folder, config, first_host=False, say=logs.say)
        if first_host:
            report.print_summary(json.loads((folder / "summary.json").read_text()))
        return
    if config.init_from and not workdir.has_checkpoint(folder / config.stages[0]):
        origin.check(config.init_from)
    with contextlib.ExitStack() as on_error:
        if first_host and not (folder / "config.json").exists():
            # What is wrong with data or batches is mended with other values, which a claimed folder would refuse.
            on_error.callback(workdir.release, folder)
        _claim(folder, config, first_host=first_host)
        task = open_task(config, workdir=folder if first_host else None)
        logs.say(describe(task))
        cluster.same_on_every_host({"data listing": task.listing_hash, "split": task.split_hash})
        if config.data.dataset == "own_folder" and "mae" in config.stages:
            for line in mae_warnings(config.init_from, len(task.split.training)):
                logs.say(line)
        with stopping.listening() as stop:
            one = Run(config, folder, task, sharding.make_mesh(config.mesh.fsdp), stop)
            # All of them before the first one starts: a batch that does not fit is told at once, not hours later.
            plans = [plan_stage(one, stage) for stage in config.stages]
            cluster.same_on_every_host({f"plan of {plan.stage}": str(plan) for plan in plans})
            on_error.pop_all()
            for plan in plans:
                run_stage(one, plan)
    if first_host:
        summary = report.summarise(config, task, folder)
        report.print_summary(summary)
        workdir.mark_done(folder)
    cluster.wait_for_all("summary written")  # a host that left earlier would take the others along


def mae_warnings(init_from: str, num_images: int) -> list[str]:
    """What to say before MAE pre-training on somebody's own photos, which a config argument leaves out."""
    if init_from:
        return [
            f"warning: MAE pre-training goes on from {init_from} first; --config=own_folder:init_from={init_from} "
            "instead of --config.init_from begins with fine-tuning"
        ]
    if num_images < FEW_FOR_MAE:
        return [
            f"warning: {num_images} images are few for MAE pre-training from scratch; imported weights usually do "
            "better (semivit import, then --config=own_folder:init_from=FOLDER)"
        ]
    return []


def _claim(folder: Path, config: Config, *, first_host: bool) -> None:
    """`workdir.claim`; where the first host cannot write there, or others do not see it, all end and say so."""
    failed = None
    try:
        workdir.claim(folder, config, first_host=first_host, say=logs.say)
    except OSError as error:
        failed = error
    if cluster.any_host(failed is not None):
        reason = f": {failed.strerror}" if failed else " on another host"
        raise OSError(f"the workdir {folder} cannot be written to{reason}; nothing was started") from failed
    _check_shared(folder)


def _check_shared(folder: Path) -> None:
    """Raises ClusterError, on all hosts, where some host does not see what the first one has written."""
    limit = time.monotonic() + SHARED_WITHIN_SECONDS
    while jax.process_count() > 1 and not (folder / "config.json").exists() and time.monotonic() < limit:
        time.sleep(0.1)
    seen = (folder / "config.json").exists()
    if cluster.any_host(not seen):
        who = "another process does" if seen else f"process {jax.process_index()} (host {socket.gethostname()}) does"
        raise cluster.ClusterError(f"the workdir {folder} is not one folder for all hosts: {who} not see config.json")


def prepare_process(config: Config) -> None:
    """Everything that must happen before a device is touched: flags, cache, and the other hosts."""
    if config.train.deterministic:
        os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_gpu_deterministic_ops=true"
    if config.train.compilation_cache:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
    mesh = config.mesh
    cluster.start(
        cluster.Cluster(mesh.coordinator_address, mesh.num_processes, mesh.process_id, mesh.coordinator_timeout_seconds)
    )


def _shared_config(config: Config) -> str:
    """The config without what may differ from host to host."""
    flat = {k: v for k, v in flatten(config).items() if k not in HOST_KEYS}
    return json.dumps(flat, sort_keys=True, default=list)


def cache_folder() -> Path:
    """The user's cache folder for this package."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "semivit_jax"


def code_hash() -> str:
    """Hash of the package's source, so that hosts with different code are noticed at the start."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()

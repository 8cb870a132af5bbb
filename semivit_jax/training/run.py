"""Run everything: join hosts, open data, claim the workdir, run the stages, tell the results."""

import contextlib
import dataclasses
import hashlib
import json
import time
from collections.abc import Sequence

import jax

from semivit_jax import console, files
from semivit_jax.checkpoints import init_from, workdir
from semivit_jax.checkpoints.reading import CheckpointError
from semivit_jax.checkpoints.saving import Saver
from semivit_jax.config import HOST, Config, ConfigError
from semivit_jax.data import duplicates, record
from semivit_jax.data.dataset import TaskData, changes_since, describe, open_task
from semivit_jax.data.sources.errors import DatasetError
from semivit_jax.data.splits import SplitError
from semivit_jax.files import Path, read_json
from semivit_jax.hosts import agreement, devices, stopping
from semivit_jax.hosts.agreement import from_first_host, on_first_host, same_on_every_host
from semivit_jax.plan import Plan
from semivit_jax.recipes import label
from semivit_jax.recipes.keys import unmarked
from semivit_jax.stages import STAGES, label_free
from semivit_jax.training import goodput, lease, rollback, sharding, skew, summary, watchdog, writers
from semivit_jax.training.calibrate import calibrate
from semivit_jax.training.claim import claim
from semivit_jax.training.compiled import compile_stage
from semivit_jax.training.goodput import Book
from semivit_jax.training.loop import Loop
from semivit_jax.training.pace import Laps
from semivit_jax.training.process import prepare_process
from semivit_jax.training.progress import shown, write_report
from semivit_jax.training.rollback import Collapsed
from semivit_jax.training.setup import Run, check_stage, keep_plan, plan_stage
from semivit_jax.training.start import check_source, start_state
from semivit_jax.training.supply import open_supply

FEW_FOR_PRE_TRAINING = 10_000  # images; below, pre-training on own photos alone rarely pays


def train(config: Config, folder: Path, *, notes: Sequence[str] = ()) -> None:
    """Trains every stage of the config that is not finished, and prints the result.

    Args:
      config: of the run.
      folder: its workdir.
      notes: lines to print first, once it is known which host prints.

    Raises:
      Stopped: asked to stop, after saving. Other errors as the parts raise them.
    """
    book = goodput.Book(goodput.steady_clock())
    prepare_process(config)
    if config.data.cache_features and jax.process_count() > 1:
        raise ConfigError(
            f"config.data.cache_features is {config.data.cache_features} in a run of {jax.process_count()} processes; "
            "features are kept by one process alone: start one, or give 0"
        )
    for line in notes:
        console.say(line)
    first_host = jax.process_index() == 0
    # Before anything is written: a host with another config must not claim the folder.
    same_on_every_host({"config": _shared_config(config), "code": code_hash()})
    if from_first_host(workdir.is_done(folder)):
        workdir.claim(folder, config, first_host=False, say=console.say)
        if first_host:
            show_finished(config, folder)
        return
    agreement.together(lambda: writers.check_installed(config.log) if first_host else None, errors=(ConfigError,))
    if config.init_from and not from_first_host(workdir.has_checkpoint(folder / config.stages[0])):
        agreement.together(lambda: init_from.check(config.init_from), errors=(ConfigError, OSError))
    console.say(f"Runs on {devices.running_on()}")
    if unused := devices.left_unused():
        console.say(f"warning: {unused}")
    with lease.held(folder), watchdog.watching(book, folder, minutes=config.train.hang_minutes):
        _train_held(config, folder, book)


def show_finished(config: Config, folder: Path) -> None:
    """Prints the table of a finished run, and before it what has changed in its images since."""
    try:
        changes = changes_since(config, folder)
    except (DatasetError, SplitError, OSError) as error:
        console.say(f"{folder} is finished; its images cannot be compared with those of now: {error}")
    else:
        if changes:
            console.say(
                f"warning: {folder} is finished, and its table is that of the images it began with. Since then: "
                f"{changes}. To train on those of now, give another --workdir"
            )
    summary.print_summary(read_json(folder / "summary.json"))


def _train_held(config: Config, folder: Path, book: Book) -> None:
    """Trains in a workdir that no other run holds."""
    first_host = jax.process_index() == 0
    with contextlib.ExitStack() as on_error:
        if first_host and not (folder / "config.json").exists():
            # What is wrong with data, batches or weights is mended with other values, which a claimed folder would
            # refuse.
            on_error.enter_context(stopping.undone_unless_whole(lambda: workdir.release(folder)))
        claim(folder, config, first_host=first_host)
        task = agreement.together(
            lambda: _open(config, folder), errors=(ConfigError, DatasetError, SplitError, OSError)
        )
        console.say(describe(task))
        if skewed := skew.line(config, task.class_names, task.counts.per_class):
            console.say(skewed)
        if first_host:
            for line in duplicates.warnings(task):
                console.say(f"warning: {line}")
        same_on_every_host({"data listing": task.listing_hash, "split": task.split_hash})
        pre_trains = any(STAGES[stage].pre_training for stage in config.stages)
        if config.data.dataset == "own_folder" and pre_trains and not config.init_from:
            warn_of_few(len(task.split.training))
        mesh = sharding.make_mesh(config.mesh.fsdp)
        if warning := sharding.across_slices(mesh):
            console.say(f"warning: {warning}")
        with stopping.listening() as stop:
            one = Run(config, folder, task, mesh, stop, book)
            plans = plan_stages(one)
            on_error.pop_all().close()
            one = dataclasses.replace(one, config=label.label_plans(config, plans))
            with goodput.kept(book, folder, first_host=first_host):
                for plan in plans:
                    run_stage(one, plan)
                    calibrate(one, plan)

    def finish() -> None:
        summary.print_summary(summary.summarise(one.config, task, folder, book.now()))
        summary.say_next(one.config, folder)
        workdir.mark_done(folder)

    on_first_host(finish)  # the others wait: a host that left earlier would take them along


def _open(config: Config, folder: Path) -> TaskData:
    """The images of a run; one that begins keeps none back that its first weights were trained on with a label."""
    begins = bool(config.init_from) and record.read(folder) is None  # one that goes on needs nothing of its source
    seen = init_from.seen(files.path(config.init_from), label_free()) if begins else None
    return open_task(config, workdir=folder, label_free=label_free(), first_host=jax.process_index() == 0, seen=seen)


def run_stage(run: Run, plan: Plan) -> None:
    """Trains one stage to its end, or raises `Stopped` (saved), `Collapsed` or the error that ended it."""
    name = plan.stage
    folder = run.workdir / name
    if from_first_host(workdir.is_done(folder)):
        console.say(f"{name}: finished already")
        return
    started, laps, book = time.monotonic(), Laps(), run.book
    book.begin(name)
    on_first_host(lambda: folder.mkdir(parents=True, exist_ok=True))
    keep_plan(run, plan)
    compiled = compile_stage(run.config, plan, run.mesh)
    checkpoints = Saver(folder / "checkpoints", keep=run.config.checkpoint.keep)
    best = Saver(folder / "best", keep=1)
    laps.lap("set-up")
    finished, new = False, True
    while not finished:
        with book.during("restoring"):
            state, progress, restored_step = start_state(run, compiled, folder, best)
            supply = open_supply(run, compiled, state)
        book.go_back(progress.spent)
        with book.during("agreeing"):
            same_on_every_host({"step": str(state.step), "position": str(state.position)})
        laps.lap("new state" if restored_step is None else "restore")
        writer = writers.open_writers(folder, run.config.log, active=run.first_host, restored_step=restored_step)
        line = console.ProgressLine(name, plan.total_steps, active=run.first_host, shown=shown(name))
        loop = Loop(run, compiled, supply, checkpoints, best, writer, line, progress, started)
        try:
            with book.during("training"):
                loop.train(state, laps, compiles=new)
            finished = True
        except Collapsed as collapse:
            # Going back is a restart inside the process: the same code restores, logs and reads on.
            loop.wait()
            rollback.record(run, folder, collapse, position=loop.position)
        except CheckpointError:
            raise
        except Exception:
            loop.keep_what_was_saved()
            raise
        finally:
            line.close()
            writer.close()
        started, laps, new = time.monotonic(), Laps(), False
    write_report(run, plan, folder, progress)
    checkpoints.close()
    best.close()
    on_first_host(lambda: workdir.mark_done(folder))
    book.begin("")


def plan_stages(run: Run) -> list[Plan]:
    """Plans of all stages, each checked before the first one starts.

    What a stage refuses, also of the weights to start from, is told at once, not hours later.
    """
    plans = [plan_stage(run, stage) for stage in run.config.stages]
    same_on_every_host({f"plan of {plan.stage}": str(plan) for plan in plans})

    left = [plan for plan in plans if not workdir.is_done(run.workdir / plan.stage)]
    params = {plan.stage: check_stage(run, plan) for plan in left}

    def check_sources() -> None:
        for stage in params:
            check_source(run, stage, params[stage])

    agreement.together(check_sources, errors=(ConfigError, CheckpointError))
    return plans


def warn_of_few(num_images: int) -> None:
    """Says so where MAE pre-training from scratch is given less than pays."""
    if num_images < FEW_FOR_PRE_TRAINING:
        console.say(
            f"warning: {num_images} images are few for MAE pre-training from scratch; imported weights usually do "
            "better (semivit import, then --config.init_from=FOLDER)"
        )


def _shared_config(config: Config) -> str:
    """The config without what may differ from host to host."""
    return json.dumps(unmarked(config, HOST), sort_keys=True, default=list)


def code_hash() -> str:
    """Hash of the package's source, so that hosts with different code are noticed at the start."""
    digest = hashlib.sha256()
    package = Path(__file__).parents[1]
    for file in files.below(package):
        if file.suffix == ".py":
            digest.update((package / file).read_bytes())
    return digest.hexdigest()

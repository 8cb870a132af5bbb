"""The loop: every stage of a run in order, each from its last good checkpoint to its end."""

import dataclasses
import importlib.metadata
import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from semivit_jax import __version__, checkpoint, config, guard, logs, rng, sharding, warm_start, workdir
from semivit_jax.checkpoint import Checkpoints
from semivit_jax.cluster import any_host
from semivit_jax.config import Config, FinetuneConfig
from semivit_jax.data.dataset import TaskData
from semivit_jax.data.eval_pipeline import eval_batches
from semivit_jax.data.pipeline import BatchSpec, TrainBatches, train_batches
from semivit_jax.evaluate import evaluate
from semivit_jax.manifest import write_json
from semivit_jax.plan import DataFacts, Plan, make_plan
from semivit_jax.stages import make_stage
from semivit_jax.stages.stage import Stage
from semivit_jax.state import TrainState
from semivit_jax.stopping import INTERRUPTED, PREEMPTED, Stopped, StopRequest


class Collapsed(RuntimeError):
    """The guard stopped the run; the message says what happened, since when, and what is still good."""


@dataclasses.dataclass(frozen=True)
class Run:
    """What all stages of a run share."""

    config: Config
    workdir: Path
    task: TaskData
    mesh: jax.sharding.Mesh
    stop: StopRequest

    @property
    def first_host(self) -> bool:
        return jax.process_index() == 0


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A stage's functions, jitted and placed on the mesh."""

    stage: Stage
    plan: Plan
    target: Any  # described state with shardings
    init: Any
    train_step: Any
    eval_step: Any


@dataclasses.dataclass
class Progress:
    """What changes while a stage runs, besides the state; all of it travels in checkpoints."""

    history: guard.History
    window: logs.Window  # metrics since the last log line
    last_epoch: logs.Window  # metrics of the final epoch
    seconds: float  # spent in this stage, over all starts
    best_acc1: float
    evaluation: dict[str, float]  # of the latest evaluation


def run_stage(run: Run, name: str) -> None:
    """Trains one stage to its end, or raises `Stopped` (saved), `Collapsed` or the error that ended it."""
    folder = run.workdir / name
    if workdir.is_done(folder):
        logs.say(f"{name}: finished already")
        return
    started = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    compiled = compile_stage(run.config, plan_stage(run, name, folder), run.mesh)
    checkpoints = Checkpoints(folder / "checkpoints", keep=run.config.checkpoint.keep, say=logs.say)
    best = Checkpoints(folder / "best", keep=1, say=logs.say)
    state, progress, restored_step = start_state(run, compiled, checkpoints, folder)
    progress.seconds -= started
    writer = logs.MetricWriter(
        folder, active=run.first_host, tensorboard=run.config.log.tensorboard, restored_step=restored_step
    )
    line = logs.ProgressLine(name, compiled.plan.total_steps, active=run.first_host)
    loop = Loop(run, compiled, checkpoints, best, writer, line, folder, progress)
    try:
        loop.train(state)
    finally:
        line.close()
        writer.close()
    write_report(run, compiled.plan, folder, progress)
    checkpoints.close()
    best.close()
    if run.first_host:
        workdir.mark_done(folder)


def plan_stage(run: Run, name: str, folder: Path) -> Plan:
    """The stage's plan; a restart keeps the stored group size, since draws depend on it."""
    split, path = run.task.split, folder / "plan.json"
    facts = DataFacts(len(split.training), len(split.labeled), len(split.unlabeled), len(run.task.class_names))
    stored = json.loads(path.read_text())["group_size"] if path.exists() else None
    plan = make_plan(run.config, name, facts, num_devices=run.mesh.size, stored_group_size=stored)
    if run.first_host:
        write_json(path, dataclasses.asdict(plan))
    for deviation in plan.deviations:
        logs.say(f"{name}: the recipe is adapted to {plan.num_devices} devices: {deviation}")
    return plan


def compile_stage(config: Config, plan: Plan, mesh: jax.sharding.Mesh) -> Compiled:
    """Describes the state, shards the description, and jits: nothing exists unsharded first."""
    stage = make_stage(config, plan, backend=jax.default_backend())
    described = jax.eval_shape(stage.init, jax.random.key(0))
    places = sharding.state_shardings(mesh, described)
    target = jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), described, places)
    everywhere = sharding.replicated(mesh)
    train_step = jax.jit(
        stage.train_step,
        in_shardings=(places, sharding.train_batch(mesh), everywhere),
        out_shardings=(places, everywhere),
        donate_argnums=0,
    )
    eval_step = jax.jit(
        stage.eval_step, in_shardings=(places.params, sharding.eval_batch(mesh)), out_shardings=everywhere
    )
    return Compiled(stage, plan, target, jax.jit(stage.init, out_shardings=places), train_step, eval_step)


def start_state(run: Run, compiled: Compiled, checkpoints: Checkpoints, folder: Path):
    """The newest good checkpoint, or a fresh state with the previous stage's weights.

    Returns:
      (state, progress, restored step or None).
    """
    restored = checkpoints.restore_latest(compiled.target)
    if restored is None:
        state = compiled.init(stage_key(run.config, compiled.stage.name))
        return inherit(run, compiled, state), fresh_progress(), None
    facts = restored.facts
    logs.say(f"{compiled.stage.name}: continues from step {restored.step}")
    progress = Progress(
        guard.load(facts["history"]),
        logs.Window(facts["window"]),
        logs.Window(facts["last_epoch"]),
        facts["seconds"],
        facts["best_acc1"],
        facts["evaluation"],
    )
    state = skip_to(restored.state, rollback_position(folder, restored.step), compiled)
    return state, progress, restored.step


def fresh_progress() -> Progress:
    return Progress(guard.History(), logs.Window(), logs.Window(), 0.0, 0.0, {})


def stage_key(config: Config, stage: str) -> jax.Array:
    """Key of a stage; every draw of the stage derives from it."""
    return rng.stream(jax.random.key(config.seed), stage)


def inherit(run: Run, compiled: Compiled, state: TrainState) -> TrainState:
    """Weights of the previous stage of this run, or of config.init_from; none leaves the state fresh."""
    source = find_source(run, compiled.stage.name)
    if source is None:
        return state
    from_stage = source.parent.parent.name
    places = jax.tree.map(lambda leaf: leaf.sharding, compiled.target.params)
    params, transfer = warm_start.from_checkpoint(source, state.params, places, from_stage=from_stage, tree="params")
    for text in transfer.lines():
        logs.say(text)
    state = dataclasses.replace(state, params=params)
    if state.ema_params is None:
        return state
    if any(n.startswith("ema_params.") for n in checkpoint.array_shapes(source)):
        ema_params, _ = warm_start.from_checkpoint(
            source, state.ema_params, places, from_stage=from_stage, tree="ema_params"
        )
    else:
        ema_params = jax.tree.map(jnp.copy, params)
    return dataclasses.replace(state, ema_params=ema_params)


def find_source(run: Run, stage: str) -> Path | None:
    """Newest good checkpoint of the stage before, here or in the workdir that config.init_from names."""
    earlier = workdir.STAGE_ORDER[: workdir.STAGE_ORDER.index(stage)]
    here = [s for s in earlier if s in run.config.stages]
    if here:
        found = checkpoint.newest_good(run.workdir / here[-1] / "checkpoints")
        if found is None:
            raise checkpoint.CheckpointError(f"stage {here[-1]} of {run.workdir} has no good checkpoint to start from")
        return found
    if not run.config.init_from:
        return None
    origin = Path(run.config.init_from)
    found = checkpoint.newest_good(origin / workdir.latest_stage(origin) / "checkpoints")
    if found is None:
        raise checkpoint.CheckpointError(f"config.init_from {origin} has no good checkpoint")
    return found


def skip_to(state: TrainState, position: int | None, compiled: Compiled) -> TrainState:
    """Moves the position on, as a rollback decided; step and weights stay."""
    if position is None:
        return state
    moved = jax.device_put(np.int32(position), compiled.target.position.sharding)
    return dataclasses.replace(state, position=moved)


def rollback_position(folder: Path, step: int) -> int | None:
    """Where a rollback to this step continues reading; None where there was none."""
    path = folder / "rollbacks.json"
    entries = json.loads(path.read_text()) if path.exists() else []
    return next((e["position"] for e in reversed(entries) if e["step"] == step), None)


class Loop:
    """One stage's loop. The order of its parts is fixed, and each reason stands beside the line."""

    def __init__(self, run: Run, compiled: Compiled, checkpoints: Checkpoints, best: Checkpoints,
                 writer: logs.MetricWriter, line: logs.ProgressLine, folder: Path, progress: Progress):  # fmt: skip
        self.run, self.compiled, self.plan = run, compiled, compiled.plan
        self.checkpoints, self.best, self.writer, self.line = checkpoints, best, writer, line
        self.folder, self.progress = folder, progress
        self.key = jax.device_put(stage_key(run.config, compiled.stage.name), sharding.replicated(run.mesh))
        self.images_per_update = self.plan.batch_size * (1 + self.plan.unlabeled_ratio)
        self.input_wait, self.log_started, self.images_since_log = 0.0, time.monotonic(), 0

    def train(self, state: TrainState) -> None:
        """Runs to the last step, rolling back where the guard says so and the config allows it."""
        while True:
            try:
                self._train_from(state)
                return
            except Collapsed as collapse:
                state = self._roll_back(str(collapse), state)

    def _train_from(self, state: TrainState) -> None:
        config, total = self.run.config, self.plan.total_steps
        step, position = int(state.step), int(state.position)
        self.position = position
        batches = self._open_batches(position)
        spread = sharding.train_batch(self.run.mesh)
        pending = None
        try:
            while step < total:
                waited = time.monotonic()
                batch = sharding.put(next(batches), spread)
                self.input_wait += time.monotonic() - waited
                state, found = self.compiled.train_step(state, batch, self.key)
                step, self.position = step + 1, self.position + 1
                # The previous update's metrics are read while this one runs: the device never waits.
                if pending is not None:
                    self._consume(*pending)
                pending = (step, found)
                self.checkpoints.poll()
                evaluate_now = step % self.plan.eval_every_steps == 0 or step == total
                save_now = step % config.checkpoint.save_every_steps == 0 or step == total
                exit_code = self._agreed_stop(step)
                if evaluate_now or save_now or exit_code:
                    # A checkpoint holds everything up to its step, so what is still in flight is read first.
                    self._consume(*pending)
                    pending = None
                if evaluate_now:
                    self._evaluate(step, state)
                if save_now or exit_code:
                    # After the evaluation, so that a restart repeats neither.
                    self._save(step, state)
                if exit_code:
                    self.checkpoints.wait()
                    raise Stopped(exit_code, f"{self.plan.stage}: stopped and saved at step {step} of {total}")
        finally:
            batches.close()

    def _open_batches(self, position: int) -> TrainBatches:
        spec = BatchSpec(
            self.plan.stage, self.plan.batch_size, self.plan.unlabeled_ratio, self.plan.accum, self.run.config.seed
        )
        return train_batches(
            self.run.task,
            self.run.config.data,
            spec,
            position=position,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )

    def _agreed_stop(self, step: int) -> int:
        """Exit code all hosts agree on, 0 to go on; one host alone need not ask the others."""
        if jax.process_count() > 1 and step % self.run.config.train.agree_every_steps:
            return 0
        code = self.run.stop.exit_code
        if jax.process_count() == 1:
            return code
        interrupted, preempted = any_host(code == INTERRUPTED), any_host(code == PREEMPTED)
        return INTERRUPTED if interrupted else PREEMPTED if preempted else 0

    def _consume(self, step: int, found: Any) -> None:
        """Adds one update's metrics to the windows, logs when due, and shows them to the guard."""
        found = jax.device_get(found)
        self.progress.window.add(found)
        if step > self.plan.total_steps - self.plan.steps_per_epoch:
            self.progress.last_epoch.add(found)
        self.images_since_log += self.images_per_update
        if step % self.run.config.log.every_steps == 0 or step == self.plan.total_steps:
            self._log(step)
        mask_rate = found.get("mask_rate")
        self.progress.history, complaint = guard.after_step(
            self.progress.history,
            step=step,
            dropped=bool(np.asarray(found["dropped"].total) > 0),
            mask_rate=None if mask_rate is None else float(np.mean(np.asarray(mask_rate.total))),
            armed=self._armed(step),
            config=self.run.config.train,
        )
        if complaint:
            raise Collapsed(complaint)

    def _armed(self, step: int) -> bool:
        section = self.run.config.stage(self.plan.stage)
        return step > section.warmup_epochs * self.plan.steps_per_epoch

    def _log(self, step: int) -> None:
        now = time.monotonic()
        elapsed, updates = now - self.log_started, self.images_since_log / self.images_per_update
        values = {
            **{f"train/{k}": v for k, v in self.progress.window.means().items()},
            "train/position": float(self.position if step == self.plan.total_steps else step),
            "train/epoch": step / self.plan.steps_per_epoch,
            "train/dropped_total": float(self.progress.history.dropped),
            "perf/images_per_sec": self.images_since_log / elapsed,
            "perf/step_seconds": elapsed / updates,
            "perf/input_wait_frac": min(1.0, self.input_wait / elapsed),
        }
        self.writer.write(step, values)
        self.line.show(step, values)
        self.progress.window.reset()
        self.input_wait, self.log_started, self.images_since_log = 0.0, now, 0

    def _evaluate(self, step: int, state: TrainState) -> None:
        """Student and teacher on the whole evaluation set; remembers the best and asks the guard."""
        values = {
            f"{prefix}/{k}": v
            for prefix, params in self.compiled.stage.eval_params(state).items()
            for k, v in evaluate_params(self.run, self.compiled.eval_step, params).items()
        }
        if not values:
            return
        self.progress.evaluation = values
        self.writer.write(step, values)
        self.line.show(step, values)
        shown = values.get("val_ema/acc1", values["val/acc1"])
        if shown > self.progress.best_acc1:
            self.progress.best_acc1 = shown
            weights = {"params": state.params, "ema_params": state.ema_params}
            self.best.save(step, weights, facts(self.run, self.plan, step, self.position, self.progress))
            self.best.wait()
        if self.plan.stage == "semi":
            self.progress.history, complaint = guard.after_evaluation(
                self.progress.history,
                step=step,
                teacher_acc1=values["val_ema/acc1"],
                armed=self._armed(step),
                config=self.run.config.train,
            )
            if complaint:
                raise Collapsed(complaint)

    def _save(self, step: int, state: TrainState) -> None:
        self.checkpoints.save(step, state, facts(self.run, self.plan, step, self.position, self.progress))
        if step == self.plan.total_steps:
            self.checkpoints.wait()

    def _roll_back(self, complaint: str, state: TrainState) -> TrainState:
        """Back to the last good checkpoint, past the batches read since; or stops with the whole story."""
        config, path = self.run.config.train, self.folder / "rollbacks.json"
        entries = json.loads(path.read_text()) if path.exists() else []
        self.checkpoints.wait()
        restored = self.checkpoints.restore_latest(self.compiled.target)
        good = "no checkpoint exists yet" if restored is None else f"the last good checkpoint is step {restored.step}"
        where = f"{self.plan.stage}: {complaint}; {good} in {self.folder / 'checkpoints'}; nothing was overwritten"
        if config.on_collapse == "stop" or restored is None:
            raise Collapsed(where)
        if len(entries) >= config.max_rollbacks:
            raise Collapsed(f"{where}; {len(entries)} rollbacks did not help, giving up")
        entries.append({"step": restored.step, "position": self.position, "reason": complaint})
        if self.run.first_host:  # persisted before going on, so that a kill does not read the batches again
            write_json(path, entries)
        logs.say(f"{where}; rolling back to it and going on from batch {self.position}")
        self.progress = dataclasses.replace(
            fresh_progress(), seconds=self.progress.seconds, best_acc1=self.progress.best_acc1
        )
        return skip_to(restored.state, self.position, self.compiled)


def evaluate_params(run: Run, eval_step: Any, params: Any) -> dict[str, float]:
    """Exact metrics on the run's evaluation set; the batch is rounded up to fill every device."""
    size = -(-run.config.train.eval_batch_size // run.mesh.size) * run.mesh.size
    batches = eval_batches(
        run.task.eval,
        run.config.data,
        batch_size=size,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    return evaluate(eval_step, params, batches, mesh=run.mesh)


def facts(run: Run, plan: Plan, step: int, position: int, progress: Progress) -> checkpoint.Facts:
    """What a checkpoint's numbers belong to, and where everything but the state stood."""
    data = run.config.data
    packages = ("jax", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
    return {
        "stage": plan.stage,
        "step": step,
        "position": position,
        "identity": config.identity(run.config),
        "config": config.to_dict(run.config),
        "plan": dataclasses.asdict(plan),
        "class_names": list(run.task.class_names),
        "preprocessing": {
            "mean": list(data.mean),
            "std": list(data.std),
            "image_size": data.image_size,
            "crop_fraction": data.eval_crop_fraction,
            "interpolation": data.interpolation,
        },
        "split_hash": run.task.split_hash,
        "listing_hash": run.task.listing_hash,
        "versions": {p: importlib.metadata.version(p) for p in packages} | {"semivit_jax": __version__},
        "history": dataclasses.asdict(progress.history),
        "window": progress.window.state(),
        "last_epoch": progress.last_epoch.state(),
        "seconds": progress.seconds + time.monotonic(),
        "best_acc1": progress.best_acc1,
        "evaluation": progress.evaluation,
    }


def write_report(run: Run, plan: Plan, folder: Path, progress: Progress) -> None:
    """report.json of a finished stage: final accuracy, means over the last epoch, time."""
    section, means = run.config.stage(plan.stage), progress.last_epoch.means()
    report = {
        "stage": plan.stage,
        "steps": plan.total_steps,
        "seconds": progress.seconds + time.monotonic(),
        "best_acc1": progress.best_acc1,
        "dropped_updates": progress.history.dropped,
        "published_acc1": section.published_acc1 if isinstance(section, FinetuneConfig) else 0.0,
        **progress.evaluation,
        **{f"last_epoch/{k}": v for k, v in means.items()},
    }
    if run.first_host:
        write_json(folder / "report.json", report)

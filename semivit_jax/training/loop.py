"""Train a stage update by update: read, step, log, evaluate, save, and stop where asked to."""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from semivit_jax import console
from semivit_jax.checkpoints.reading import CheckpointError
from semivit_jax.checkpoints.saving import Saver
from semivit_jax.hosts.agreement import any_host, fail_together
from semivit_jax.hosts.stopping import INTERRUPTED, PREEMPTED, Stopped
from semivit_jax.ops.metrics import Metrics
from semivit_jax.stages import STAGES
from semivit_jax.stages.state import TrainState
from semivit_jax.training import compare, effect, forgotten, guard, programs, sharding, writers
from semivit_jax.training.compiled import Compiled, key_on_mesh
from semivit_jax.training.evaluate import evaluate
from semivit_jax.training.pace import Laps, Pace
from semivit_jax.training.profiling import Profiler
from semivit_jax.training.progress import Progress, facts
from semivit_jax.training.rollback import Collapsed
from semivit_jax.training.setup import Run
from semivit_jax.training.supply import Supply


class Loop:
    """One stage's loop. The order of its parts is fixed, and each reason stands beside the line."""

    def __init__(
        self,
        run: Run,
        compiled: Compiled,
        supply: Supply,
        checkpoints: Saver,
        best: Saver,
        writer: writers.Writer,
        line: console.ProgressLine,
        progress: Progress,
        started: float,
    ):
        self.run, self.compiled, self.plan, self.spec = run, compiled, compiled.plan, STAGES[compiled.plan.stage]
        self.checkpoints, self.best, self.writer, self.line = checkpoints, best, writer, line
        self.supply = supply
        self.progress, self.clock, self.position, self.skipped = progress, started, 0, 0
        self.key = key_on_mesh(run.config, self.plan.stage, run.mesh)
        self.log_failure: OSError | None = None
        self.unwritten: dict[str, float] = {}  # logged of the present step
        self.profiler = Profiler(run.workdir / self.plan.stage, run.config.log, active=run.first_host)
        self.pace = Pace(self.plan.batch_size * (1 + self.plan.unlabeled_ratio), run.book)

    def train(self, state: TrainState, laps: Laps, *, compiles: bool) -> None:
        """Runs to the last step; `laps` has timed the start so far, `compiles` where the first step is this stage's."""
        config, total, name = self.run.config, self.plan.total_steps, self.plan.stage
        step, position = int(state.step), int(state.position)
        self.position, self.skipped = position, position - step  # skipped by rollbacks, constant from here on
        batches = self.batches = self.supply.training(position)
        spread = sharding.train_batch(self.run.mesh)
        pending, first = None, True
        try:
            while step < total:
                with self.pace.time("waiting"):
                    batch = sharding.put(next(batches), spread)
                if first:
                    laps.lap("first batch")
                    if compiles:
                        console.say(f"{name}: compiling the step (once per start; minutes for a large model) ...")
                self.profiler.before_update(step, state)
                phase = self.run.book.during("compiling" if first else "training")
                with console.working("compiling", active=first and compiles), phase:
                    state, found = self.compiled.train_step(state, batch, self.key)
                if first:  # the call compiles, and returns while the step runs
                    laps.lap("compile")
                    console.say(f"{name}: step {step + 1} began after {laps}{programs.told() if compiles else ''}")
                    self.pace.restart()
                    first = False
                step, self.position = step + 1, self.position + 1
                self.run.book.step = step
                # The previous update's metrics are read while this one runs: the device never waits.
                if pending is not None:
                    self._consume(*pending)
                pending = (step, found)
                self._poll()
                evaluate_now = step % self.plan.eval_every_steps == 0 or step == total
                save_now = step % config.checkpoint.save_every_steps == 0 or step == total
                exit_code = self._agreed_stop(step)
                if evaluate_now or save_now or exit_code:
                    # A checkpoint holds everything up to its step, so what is still in flight is read first.
                    self._consume(*pending, evaluated_next=evaluate_now)
                    pending = None
                if evaluate_now:
                    self._evaluate(step, state)
                if save_now or exit_code:
                    # After the evaluation, so that a restart repeats neither.
                    self._save(step, state)
                if exit_code:
                    self.wait()
                    raise Stopped(exit_code, f"{name}: stopped and saved at step {step} of {total}")
        finally:
            batches.close()
            self.profiler.close()

    def _agreed_stop(self, step: int) -> int:
        """Exit code all hosts agree on, 0 to go on; one host alone need not ask the others."""
        code = self.run.stop.exit_code
        if jax.process_count() == 1:
            return code
        if step % self.run.config.train.agree_every_steps:
            return 0
        with self.run.book.during("agreeing"):
            fail_together(self.best.failure or self.checkpoints.failure or self.log_failure)
            if not any_host(code != 0):
                return 0
            return INTERRUPTED if any_host(code == INTERRUPTED) else PREEMPTED

    def _consume(self, step: int, found: Any, *, evaluated_next: bool = False) -> None:
        """Adds one update's metrics to the windows, shows them to the guard, and logs when due.

        What is logged of a step that is `evaluated_next` waits for the evaluation: a step has one line.
        """
        found = jax.device_get(found)
        self.progress.window.add(found)
        if step > self.plan.total_steps - self.plan.steps_per_epoch:
            self.progress.last_epoch.add(found)
        effect.after_update(self.run.config, self.plan, self.progress.settled, step, found)
        self.pace.count_update()
        health = self.spec.health
        self.progress.history, complaint = guard.after_step(
            self.progress.history,
            step=step,
            dropped=bool(np.asarray(found["dropped"].total) > 0),
            rate=None if health is None else float(np.mean(np.asarray(found[health.step].total))),
            health=health,
            armed=self._armed(step),
            config=self.run.config.train,
        )
        if complaint or step % self.run.config.log.every_steps == 0 or step == self.plan.total_steps:
            self._log(step)
            if complaint or not evaluated_next:
                self._write(step)
        if complaint:
            raise Collapsed(complaint.text, healthy_until=complaint.healthy_until)

    def _armed(self, step: int) -> bool:
        return step > self.plan.updates(self.run.config.stage(self.plan.stage).warmup_epochs)

    def _log(self, step: int) -> None:
        values = {
            **{f"train/{k}": v for k, v in self.progress.window.means().items()},
            "train/position": step + self.skipped,
            "train/epoch": step / self.plan.steps_per_epoch,
            "train/dropped_total": float(self.progress.history.dropped),
            **self.pace.values(),
            **self.run.book.values(),
            "perf/bad_records": float(self.batches.bad_records),  # of this host since this start
        }
        self.unwritten = values
        self.line.show(step, values, undefined={f"train/{k}" for k in self.progress.window.empty()})
        self.progress.window.reset()
        self.pace.restart()
        self.profiler.look()

    def _write(self, step: int) -> None:
        """Gives all writers what has been logged of a step."""
        values, self.unwritten = self.unwritten, {}
        if values:
            self._keep_log(lambda: self.writer.write(step, values))

    def _keep_log(self, call: Callable[[], None]) -> None:
        """Where a writer fails, the others hear of it before this process leaves."""
        try:
            call()
        except OSError as error:
            if jax.process_count() == 1:
                raise
            self.log_failure = error

    def _evaluate(self, step: int, state: TrainState) -> None:
        """Student and average on the whole evaluation set; remembers the best and asks the guard."""
        eval_step, values = self.compiled.eval_step, {}
        with self.pace.time("evaluating"), console.working(f"{self.plan.stage}: evaluating"):
            for prefix, params in self.compiled.stage.eval_params(state).items():
                grade = functools.partial(self._grade, step, prefix)
                found = evaluate(eval_step, params, self.supply.evaluation, grade=grade, mesh=self.run.mesh)
                values |= {f"{prefix}/{k}": v for k, v in found.items()}
        self.unwritten |= values
        self._write(step)
        if not values:
            return
        self.progress.evaluation = values
        self.line.show(step, values)
        if self.progress.forgotten and step < self.plan.total_steps and self._asks_for_classes(step):
            console.say(f"warning: {self.progress.forgotten}")
        reached = compare.reached(self.spec.score, values)
        if reached > self.progress.best_score:
            self.progress.best_score = reached
            with self.pace.time("saving"):
                self.best.save(step, state.weights(), self._facts(step))
        if self.spec.health is not None:
            self.progress.history, complaint = guard.after_evaluation(
                self.progress.history,
                step=step,
                score=compare.watched(self.spec.health.evaluation, values),
                images=len(self.run.task.eval),
                health=self.spec.health,
                armed=self._armed(step),
                config=self.run.config.train,
            )
            if complaint:
                raise Collapsed(complaint.text, healthy_until=complaint.healthy_until)

    def _asks_for_classes(self, step: int) -> bool:
        """Of the last evaluation the stage's report tells."""
        return forgotten.is_due(self.plan, self.run.config.stage(self.plan.stage), step)

    def _grade(self, step: int, prefix: str, sums: Metrics) -> dict[str, float]:
        """Scores; and takes in what is to be told of classes that are hardly ever answered."""
        health, config = self.spec.health, self.run.config
        if health is not None and health.evaluation.startswith(f"{prefix}/") and self._asks_for_classes(step):
            section, names = config.stage(self.plan.stage), self.run.task.class_names
            self.progress.forgotten = forgotten.line(self.plan.stage, section, health, names, sums, config.train)
        return self.compiled.stage.grade(sums)

    def _facts(self, step: int) -> dict[str, Any]:
        now = time.monotonic()
        self.progress.seconds, self.clock = self.progress.seconds + now - self.clock, now
        self.progress.spent = self.run.book.of_steps()
        return facts(self.run, self.plan, step, self.position, self.progress)

    def _save(self, step: int, state: TrainState) -> None:
        with self.pace.time("saving"):
            self.checkpoints.save(step, state, self._facts(step), beside=self.writer.flush)
        if step == self.plan.total_steps:
            with console.working(f"{self.plan.stage}: saving"):
                self.wait()

    def _poll(self) -> None:
        """Seals what has been written; a checkpoint only after the best weights that it knows of."""
        with self.pace.time("saving"):
            self.best.poll()
            if not self.best.pending:
                self.checkpoints.poll()

    def keep_what_was_saved(self) -> None:
        """After an error elsewhere: a save in flight is sealed, or the next start would not trust it.

        Hosts wait for each other in a save, and others may not be there any more; so one process alone does this.
        """
        if jax.process_count() > 1:
            return
        try:
            self.wait()
        except CheckpointError as error:  # the error that ended the run is the one to raise
            console.say(f"warning: {error}")

    def wait(self) -> None:
        """Blocks until all that was saved is sealed. Collective."""
        with self.run.book.during("saving"):
            self.best.wait()
            self.checkpoints.wait()

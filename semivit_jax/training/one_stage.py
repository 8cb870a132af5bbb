"""Run one stage from its last good checkpoint, or from its start, to its end."""

import time

from semivit_jax import console
from semivit_jax.checkpoints import workdir
from semivit_jax.checkpoints.reading import CheckpointError
from semivit_jax.checkpoints.saving import Saver
from semivit_jax.hosts.agreement import from_first_host, on_first_host, same_on_every_host
from semivit_jax.plan import Plan
from semivit_jax.training import rollback, writers
from semivit_jax.training.ahead import Ahead
from semivit_jax.training.loop import Loop
from semivit_jax.training.pace import Laps
from semivit_jax.training.progress import shown, write_report
from semivit_jax.training.rollback import Collapsed
from semivit_jax.training.setup import Run, keep_plan
from semivit_jax.training.start import start_state
from semivit_jax.training.supply import open_supply


def run_stage(run: Run, plan: Plan, ahead: Ahead) -> None:
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
    with book.during("compiling"), console.working(f"{name}: compiling"):
        compiled = ahead.take(plan)
    checkpoints = Saver(folder / "checkpoints", keep=run.config.checkpoint.keep)
    best = Saver(folder / "best", keep=1)
    laps.lap("set-up")
    finished, new = False, compiled.told is None
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

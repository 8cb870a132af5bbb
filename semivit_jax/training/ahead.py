"""Compile the programs of later stages while the first one begins and trains."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import jax

from semivit_jax.checkpoints import workdir
from semivit_jax.plan import Plan
from semivit_jax.training import programs
from semivit_jax.training.compiled import Compiled, compile_stage
from semivit_jax.training.describe import describe_batch, describe_eval_batch, describe_key
from semivit_jax.training.setup import Run


class Ahead:
    """Gives the functions of later stages that a thread compiles."""

    def __init__(self, begun: dict[str, Callable[[], Compiled]]):
        self._begun = begun

    @classmethod
    @contextlib.contextmanager
    def compiling(cls, run: Run, plans: Sequence[Plan]) -> Iterator["Ahead"]:
        """Compiles in a thread what comes after the first stage that is left to train.

        On the CPU alone, in one process: a compiler keeps one core busy where others are idle. Beside a GPU's step it
        would time its kernels wrongly, and hosts of a pod that are stopped should not wait for minutes of compiling.
        Heads on kept features are compiled in no time.

        Args:
          run: that trains.
          plans: of its stages, in order.
        """
        later = [plan for plan in plans if not workdir.is_done(run.workdir / plan.stage)][1:]
        here = run.mesh.devices.flat[0].platform == "cpu" and jax.process_count() == 1
        may = here and run.config.train.compile_ahead and not run.config.data.cache_features
        if not (may and later):
            yield cls({})
            return
        with ThreadPoolExecutor(1, thread_name_prefix="compiling") as pool:
            begun: dict[str, Callable[[], Compiled]] = {
                plan.stage: pool.submit(compile_whole, run, plan).result for plan in later
            }
            try:
                yield cls(begun)
            finally:
                pool.shutdown(cancel_futures=True)

    def take(self, plan: Plan) -> Compiled | None:
        """The functions of a stage, once they are compiled; None where nobody compiles them."""
        begun = self._begun.pop(plan.stage, None)
        return begun() if begun else None


def compile_whole(run: Run, plan: Plan) -> Compiled:
    """A stage's functions, those that train and evaluate compiled."""
    config, mesh = run.config, run.mesh
    stage = compile_stage(config, plan, mesh)
    eval_step = stage.eval_step
    if models := list(stage.stage.eval_params(stage.target).values()):
        eval_step = eval_step.lower(models[0], describe_eval_batch(config, plan, mesh)).compile()
    batch, key = describe_batch(config, plan, mesh), describe_key(mesh)
    train_step = stage.train_step.lower(stage.target, batch, key).compile()
    return dataclasses.replace(stage, train_step=train_step, eval_step=eval_step, told=programs.told())

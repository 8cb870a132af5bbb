"""Send a stage's numbers to MLflow, to the store and experiment that its own variables name (MLFLOW_...)."""

import itertools
import os
import time
from collections.abc import Mapping
from typing import Any

from semivit_jax.files import Path
from semivit_jax.training.loggers import kept

_AT_ONCE = 100  # parameters that MLflow takes in a request
_LONGEST = 500  # signs of a parameter


class MlflowRun:
    """A run of the stage; a restart goes on in the same one, where the steps since the last checkpoint come again."""

    def __init__(self, folder: Path, restored_step: int | None):
        import mlflow

        del restored_step  # nothing is taken back there
        self._client = mlflow.MlflowClient()
        found = kept.kept_id(folder, "mlflow")
        if found is None:
            found = self._begin(kept.known(folder))
            kept.keep_id(folder, "mlflow", found)
        else:
            self._client.update_run(found, status="RUNNING")
        self._id = found

    def _begin(self, stage: kept.Known) -> str:
        """Creates the stage's run, and its experiment where that is new; returns the run's id."""
        from mlflow.entities import Param

        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", kept.PROJECT)
        experiment = self._client.get_experiment_by_name(name)
        number = self._client.create_experiment(name) if experiment is None else experiment.experiment_id
        begun: Any = self._client.create_run(number, run_name=stage.name, tags={"workdir": stage.group})
        params = iter([Param(key, repr(value)[:_LONGEST]) for key, value in stage.config.items()])
        while some := list(itertools.islice(params, _AT_ONCE)):
            self._client.log_batch(begun.info.run_id, params=some)
        return begun.info.run_id

    def write(self, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = round(1000 * time.time())
        self._client.log_batch(self._id, metrics=[Metric(key, float(v), now, step) for key, v in values.items()])

    def flush(self) -> None:
        """Nothing to do: a write returns once the store has it."""

    def close(self) -> None:
        self._client.set_terminated(self._id)

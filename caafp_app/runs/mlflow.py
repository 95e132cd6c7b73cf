"""A run for MLflow, in a file store in the run directory; no server and no network.

``mlflow ui --backend-store-uri <run>/mlflow`` shows it.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from caafp_app.runs.observer import Observer
from caafp_app.runs.records import RoundRecord, RunReport
from caafp_app.runs.scalars import end_scalars, round_scalars


class MLflowObserver(Observer):
    """Records settings as parameters and the numbers of `caafp_app.runs.scalars` as metrics.

    The store is ``mlflow/`` in the run directory. A resumed run goes on in its own.
    """

    package = "mlflow"

    def __init__(self, run: Path, settings: Mapping[str, object]) -> None:
        # MLflow 3 wants to be told that files are meant, and not a database.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(tracking_uri=(run / "mlflow").as_uri())
        name = str(settings.get("strategy", "caafp"))
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        earlier = self._client.search_runs([experiment], max_results=1)
        if earlier:
            self._run = earlier[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
        else:
            self._run = self._client.create_run(experiment, run_name=run.name).info.run_id
            for key, value in settings.items():
                self._client.log_param(self._run, key, value)
        self._rounds = 0

    def on_round(self, record: RoundRecord, total_rounds: int) -> None:
        """Record the numbers of one exchange."""
        self._rounds = max(self._rounds, min(record.round, total_rounds))
        self._log(round_scalars(record), record.round)

    def on_finish(self, report: RunReport) -> None:
        """Record what came out, and the end."""
        self._log(end_scalars(report), self._rounds)
        self._client.set_terminated(self._run)

    def _log(self, scalars: Mapping[str, float], step: int) -> None:
        for name, value in scalars.items():
            self._client.log_metric(self._run, name, value, step=step)

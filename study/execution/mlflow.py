"""A study's curves for MLflow: an experiment for each study, a run for each trial. Its package is an extra."""

import logging
import os
import time
from pathlib import Path

from study.execution.tensorboard import new_rows, scalars
from study.record.trial import Trial

TRIAL = "trial"  # the tag by which a trial finds its run again
ENDED = {"complete": "FINISHED", "stopped": "FINISHED", "failed": "FAILED"}


class MLflow:
    """Logs to the server or the file that MLFLOW_TRACKING_URI names, as MLflow's users have it.

    The experiment is called like the study, or as MLFLOW_EXPERIMENT_NAME says. A trial that goes on goes on in its run.
    """

    def __init__(self, study: Path) -> None:
        from mlflow import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.ERROR)  # it would tell of its tables amid the live table
        self._study, self._client = study, MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or study.name
        found = self._client.get_experiment_by_name(name)
        self._experiment = found.experiment_id if found else self._client.create_experiment(name)
        self._runs: dict[str, str] = {}  # of each trial, by its folder
        self._num_logged: dict[str, int] = {}
        self._ended: set[str] = set()
        self._find_runs()

    def _find_runs(self) -> None:
        """Takes up what an earlier command has logged."""
        wanted = f"tags.study = '{self._study.name}'"
        page = None
        while True:
            found = self._client.search_runs([self._experiment], wanted, page_token=page)
            for run in found:
                trial = run.data.tags.get(TRIAL, "")
                self._runs[trial] = run.info.run_id
                self._num_logged[trial] = int(run.data.metrics.get("epoch", 0))
                if run.info.status in ENDED.values():
                    self._ended.add(trial)
            page = found.token
            if not page:
                return

    def on_change(self, trial: Trial) -> None:
        from mlflow.entities import Metric

        if trial.folder in self._ended:
            return
        if trial.folder not in self._runs:
            self._begin(trial)
        run, known = self._runs[trial.folder], self._num_logged[trial.folder]
        for row in new_rows(self._study, trial, known):
            ended = int(1000 * row.get("ended_unix_seconds", time.time()))
            values = {"epoch": row["epoch"], **scalars(row)}
            self._client.log_batch(run, [Metric(name, value, ended, row["epoch"]) for name, value in values.items()])
        self._num_logged[trial.folder] = len(trial.best)
        if trial.status != "running":
            self._client.set_tag(run, "reason", trial.reason or trial.status)
            self._client.set_terminated(run, ENDED[trial.status])
            self._ended.add(trial.folder)

    def _begin(self, trial: Trial) -> None:
        from mlflow.entities import Param

        name = f"trial {trial.folder.removeprefix('trials/')}"
        tags = {TRIAL: trial.folder, "study": self._study.name, "recipe": trial.recipe}
        run = self._client.create_run(self._experiment, tags=tags, run_name=name).info.run_id
        recipe = trial.config.of_roles("recipe")
        self._client.log_batch(run, params=[Param(name, str(value)) for name, value in recipe.items()])
        self._runs[trial.folder], self._num_logged[trial.folder] = run, 0

    def idle(self) -> None:
        """Nothing: what is written stays."""

    def close(self) -> None:
        """Nothing: a trial that was interrupted stays as running, and goes on with the study."""

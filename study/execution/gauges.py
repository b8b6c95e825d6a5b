"""A study's numbers as Prometheus gauges, in the metrics that each node of Ray's gives out. Imports Ray.

Ray 2.60 gives out what was set since its last report, and forgets it after two more. So the numbers of trials that run
are set again and again, however long an epoch is; those of a trial that has ended are gone within half a minute.
"""

import time
from collections import Counter

from ray.util.metrics import Gauge

from study.record.trial import Trial
from trainable.report import Row

OF_TRIAL = {
    "study_trial_epoch": "Epochs that the trial has finished",
    "study_trial_score": "The score by which it is judged, see --objective, after its last epoch",
    "study_trial_best": "The highest score so far",
    "study_trial_images_per_second": "Training images per second in its last epoch",
    "study_trial_gpu_memory_bytes": "The most memory of a GPU that it has held so far; 0 on a CPU",
}
TRIALS = "study_trials"
MIN_SECONDS = 1.0  # between two times of setting all of them
STATES = ("running", "complete", "stopped", "failed")


class Gauges:
    """Keeps the gauges of the study called ``study``; Ray gives out their names with "ray_" before them."""

    def __init__(self, study: str) -> None:
        self._of_trial = {name: Gauge(name, text, ("study", "trial")) for name, text in OF_TRIAL.items()}
        self._trials = Gauge(TRIALS, "Trials in each state", ("study", "state"))
        self._study = study
        self._states: dict[str, str] = {}  # of each trial
        self._values: dict[str, dict[str, float]] = {}  # of each that runs
        self._shown = 0.0

    def on_change(self, trial: Trial) -> None:
        name = trial.folder.removeprefix("trials/")
        self._states[name] = trial.status
        if trial.status != "running":
            self._values.pop(name, None)
        elif trial.row is not None:
            self._values[name] = _values(trial, trial.row)
        if time.monotonic() - self._shown > MIN_SECONDS:
            self.idle()

    def idle(self) -> None:
        """Sets all gauges again."""
        self._shown = time.monotonic()
        numbers = Counter(self._states.values())
        for state in STATES:
            self._trials.set(numbers[state], {"study": self._study, "state": state})
        for trial, values in self._values.items():
            for gauge, value in values.items():
                self._of_trial[gauge].set(value, {"study": self._study, "trial": trial})

    def close(self) -> None:
        """Nothing: they are gone with this process."""


def _values(trial: Trial, row: Row) -> dict[str, float]:
    return {
        "study_trial_epoch": row["epoch"],
        "study_trial_score": row[trial.objective.name],
        "study_trial_best": trial.best[-1],
        "study_trial_images_per_second": row["num_train_images"] / max(row["train_seconds"], 1e-9),
        "study_trial_gpu_memory_bytes": trial.gpu_bytes,
    }

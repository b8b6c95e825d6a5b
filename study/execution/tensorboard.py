"""A study's curves for TensorBoard: results/NAME/tensorboard, a run for each trial. Its package is an extra."""

import shutil
from pathlib import Path
from typing import Any

from study.record.trial import Trial
from trainable.records import read_rows
from trainable.report import Row

FOLDER = "tensorboard"
WHOLE = "whole"  # a file in a run's folder: all of the trial is there, and it has ended


class TensorBoard:
    """Writes the scalars of each epoch, and the recipe (TensorBoard's "hparams") before the first of them.

    A trial that was there before, and not to its end, is written anew.
    """

    def __init__(self, study: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._study, self._make = study, SummaryWriter
        self._writers: dict[int, Any] = {}  # of the trials that run
        self._num_written: dict[int, int] = {}  # epochs of each trial

    def on_change(self, trial: Trial) -> None:
        folder = self._study / FOLDER / trial.folder.removeprefix("trials/")
        if trial.number not in self._writers:
            if trial.status != "running" and (trial.number in self._num_written or (folder / WHOLE).exists()):
                return
            shutil.rmtree(folder, ignore_errors=True)
            self._begin(trial, folder)
        for row in new_rows(self._study, trial, self._num_written[trial.number]):
            for name, value in scalars(row).items():
                self._writers[trial.number].add_scalar(name, value, row["epoch"])
        self._num_written[trial.number] = len(trial.best)
        self._writers[trial.number].flush()
        if trial.status != "running":
            self._writers.pop(trial.number).close()
            (folder / WHOLE).touch()

    def _begin(self, trial: Trial, folder: Path) -> None:
        from torch.utils.tensorboard.summary import hparams

        writer: Any = self._make(str(folder))
        self._writers[trial.number] = writer
        self._num_written[trial.number] = 0
        # SummaryWriter.add_hparams would make a run of its own, that has ended
        experiment, start, _ = hparams(trial.config.of_roles("recipe"), {trial.objective.best: 0.0})
        for summary in (experiment, start):
            writer.file_writer.add_summary(summary)

    def idle(self) -> None:
        """Nothing: what is written stays."""

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()


def new_rows(study: Path, trial: Trial, num_known: int) -> list[Row]:
    """The trial's rows after the first ``num_known``; from the disk where it is more than the last."""
    if len(trial.best) <= num_known:
        return []
    if len(trial.best) == num_known + 1 and trial.row is not None:
        return [trial.row]
    return read_rows(study / trial.folder, trial.objective)[num_known : len(trial.best)]


def scalars(row: Row) -> dict[str, float]:
    """What of a row can be drawn as a curve."""
    return {
        name: value
        for name, value in row.items()
        if isinstance(value, int | float) and name not in ("epoch", "ended_unix_seconds")
    }

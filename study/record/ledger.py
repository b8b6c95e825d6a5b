"""What happened, on disk: the one source of truth about a study.

study.journal (Optuna's) holds the trials and their states, trials/N/ each trial's config and rows. After a crash
rows flow one way: last.pt, then epochs.jsonl, then the journal.
"""

import contextlib
import json
from bisect import insort
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import TrialState

from study.record.entries import JOURNAL, STATUS, goes_on, left_alone, own_entries, read_entry, trial_folder
from study.record.files import has_rows, numbers_with_rows, write_atomically, write_study
from study.record.journal import Journal, drop_torn_line
from study.record.lock import LOCK, locked
from study.record.rows import check_rows, recover_rows
from study.record.standings import Standings
from study.record.trial import Trial
from trainable.cli import UsageError
from trainable.config import TrialConfig
from trainable.files import append, inside
from trainable.records import read_config, read_rows
from trainable.report import Row


class Ledger:
    """A study's record, for the one process that drives it.

    ``folder`` None keeps everything in memory. ``asked`` becomes its study.json, once the study is ours to drive.
    ``say`` is told what had to be repaired. ``check`` is called once nobody else can change the study any more, and
    before anything is changed here. ``keeps_last``: whether a trial that has ended for this reason keeps its last.pt,
    to go on from; it is four times as large as all that is cut from it.

    Raises:
        UsageError: another process drives the study, or files are damaged beyond repair; all of them.
    """

    def __init__(
        self,
        folder: Path | None,
        asked: dict[str, Any] | None = None,
        say: Callable[[str], None] = lambda text: None,
        check: Callable[[], None] = lambda: None,
        keeps_last: Callable[[str], bool] = lambda reason: False,
    ) -> None:
        self.folder, self.say, self.keeps_last = folder, say, keeps_last
        self.trials: dict[int, Trial] = {}
        self.standings = Standings()
        self.ranked: list[tuple[float, int]] = []  # (best, number) of the trials that have ended, ascending
        if folder is None:
            self._journal = Journal(None, say)
            return
        self._lock = locked(folder)
        try:
            check()
            self._journal = Journal(folder / JOURNAL, say)
            self._load_all()
        except (UsageError, OSError):
            self._lock.release()
            raise
        if asked is not None:
            write_study(folder, asked)

    @property
    def study(self) -> optuna.Study:
        """The journal as Optuna sees it."""
        return self._journal.study

    def close(self) -> None:
        """Lets another process drive the study."""
        if self.folder is not None:
            self._lock.release()

    def trial_folder(self, number: int) -> Path:
        assert self.folder is not None
        return self.folder / self.trials[number].folder

    def add(
        self,
        config: TrialConfig,
        recipe: str,
        params: dict[str, Any],
        distributions: dict[str, BaseDistribution],
        folder: str | None = None,
    ) -> Trial:
        """Enters a new trial; in the journal it is one line, so it is there whole or not at all.

        ``folder`` in the study's (default: "trials/N"): where another trial has left its files, it goes on from them.
        """
        number = len(self.trials)
        attributes = {"recipe": recipe} if folder is None else {"recipe": recipe, "folder": folder}
        trial = Trial(number, config, recipe, folder or trial_folder(number))
        if self.folder is not None:
            place = inside(self.folder, trial.folder)
            if not self.trials:  # later it is there, or somebody has taken it away
                place.parent.mkdir(exist_ok=True)
            place.mkdir(exist_ok=True)
            self._write_config(trial)
        self._journal.add(number, params, distributions, attributes)
        self.trials[number] = trial
        if self.folder is not None:
            self._take_rows(trial, reported={})
        return trial

    def gone(self) -> Path | None:
        """What was in the study's folder and is no longer there, the folder itself or the outermost of it."""
        if self.folder is None:
            return None
        if not (self.folder / LOCK).exists():  # the folder itself may be there again: Ray Tune makes it for its own
            return self.folder
        folders = [trial.folder for trial in self.trials.values()]
        places = [JOURNAL, *{str(Path(folder).parent): None for folder in folders}, *folders]
        return next((self.folder / place for place in places if not (self.folder / place).exists()), None)

    def left_behind(self, folder: str) -> TrialConfig | None:
        """The config of a trial whose line in the journal got lost, or was about to be written."""
        if self.folder is None or not (self.folder / folder / "config.json").exists():
            return None
        return read_config(self.folder / folder)

    def has_rows(self, folder: str) -> bool:
        """Whether there are a trial's results in ``folder``, whatever the journal knows."""
        return self.folder is not None and has_rows(self.folder / folder)

    def lost(self) -> set[int]:
        """The numbers of the trials that have results on disk and no entry in the journal."""
        return numbers_with_rows(self.folder) - self.trials.keys() if self.folder is not None else set()

    def take_end(self, number: int) -> None:
        """Enters again the end of a trial whose entry got lost; its files tell it, but for a failure."""
        folder, trial = self.trial_folder(number), self.trials[number]
        if not trial.best or not (folder / "validation.npz").exists():  # which is cut from last.pt at its end
            return
        from trainable.loop import stop_reason

        reason = stop_reason(trial.config, read_rows(folder, trial.objective))
        state = TrialState.COMPLETE if reason else TrialState.PRUNED
        self._end(number, state, reason or f"stopped at {len(trial.best)}")

    def lengthen(self, number: int, epochs: int) -> None:
        """Gives a trial ``epochs`` at most; it goes on where it had ended at fewer.

        Whoever is killed in between does the rest the next time: the entry in the journal comes before the config.
        """
        trial = self.trials[number]
        before = trial.config.epochs
        if goes_on(trial.status, trial.reason, len(trial.best), epochs):
            for name in ("best.pt", "validation.npz"):  # cut anew from last.pt at the end
                (self.trial_folder(number) / name).unlink(missing_ok=True)
            self._journal.take_up(number, trial.folder)
            self.ranked.remove((trial.best[-1], number))
            trial.status, trial.reason = "running", ""
        elif trial.status == "complete":
            self.standings.end(before, trial.best[-1], epochs)
        if before < epochs:
            trial.config = replace(trial.config, epochs=epochs)
            self._write_config(trial)

    def record(self, number: int, row: Row) -> None:
        """Enters an epoch's row; one that is there already, announced again, changes nothing."""
        trial = self.trials[number]
        if row["epoch"] <= len(trial.best):
            return
        if row["epoch"] != len(trial.best) + 1:
            raise RuntimeError(f"trial {number}: epoch {row['epoch']} came after epoch {len(trial.best)}")
        if self.folder is not None:
            append(self.trial_folder(number) / "epochs.jsonl", json.dumps(row) + "\n")
        self._enter(trial, row)
        self._journal.report(number, row["epoch"], trial.best[-1])

    def complete(self, number: int, reason: str) -> None:
        """The trial ended by itself."""
        self._end(number, TrialState.COMPLETE, reason)

    def stop(self, number: int, reason: str) -> None:
        """A scheduler stopped the trial."""
        self._end(number, TrialState.PRUNED, reason)

    def fail(self, number: int, reason: str) -> None:
        """The trial came to nothing."""
        self._end(number, TrialState.FAIL, reason)

    def running(self) -> list[Trial]:
        return [trial for trial in self.trials.values() if trial.status == "running"]

    def _end(self, number: int, state: TrialState, reason: str) -> None:
        trial = self.trials[number]
        if self.folder is not None and state != TrialState.FAIL:
            from trainable import checkpoint

            try:
                checkpoint.finish(self.trial_folder(number))
            except checkpoint.CheckpointError as error:
                state, reason = TrialState.FAIL, str(error)
        # the best epoch counts, whichever was the last
        values = trial.best[-1:] if state == TrialState.COMPLETE else None
        self._journal.end(number, state, values, reason)
        trial.status, trial.reason = STATUS[state], reason
        self._place(trial)
        self._trim(trial)

    def _trim(self, trial: Trial) -> None:
        """Takes away what a trial that has ended leaves on disk and nobody will want."""
        if self.folder is not None and trial.status != "failed" and not self.keeps_last(trial.reason):
            with contextlib.suppress(OSError):  # space is all that is lost
                (self.trial_folder(trial.number) / "last.pt").unlink(missing_ok=True)

    def _place(self, trial: Trial) -> None:
        """Gives a trial that has ended its place among the others."""
        if trial.best:
            insort(self.ranked, (trial.best[-1], trial.number))
            if trial.status == "complete":
                self.standings.end(len(trial.best), trial.best[-1], trial.config.epochs)

    def _enter(self, trial: Trial, row: Row) -> None:
        trial.best.append(row[trial.objective.best])
        trial.row = row
        self.standings.enter(len(trial.best), trial.best[-1])
        num_micro_batches = row.get("num_micro_batches", trial.config.num_micro_batches)
        if num_micro_batches != trial.config.num_micro_batches:  # the worker ran out of memory and went on with smaller
            trial.config = replace(trial.config, num_micro_batches=num_micro_batches)
            if self.folder is not None:
                self._write_config(trial)

    def _write_config(self, trial: Trial) -> None:
        assert self.folder is not None
        write_atomically(self.folder / trial.folder / "config.json", json.dumps(trial.config.to_dict(), indent=1))

    def _load_all(self) -> None:
        assert self.folder is not None
        problems: list[str] = []
        found = self._journal.study.get_trials(deepcopy=False)
        for number, frozen in enumerate(own_entries(self.folder, found)):
            try:
                self._load(number, frozen)
            except UsageError as error:
                problems += error.problems
        if problems:
            raise UsageError(problems)
        for trial in self.trials.values():
            if trial.status != "running":
                self._trim(trial)  # whoever wrote its end may have been killed then
        if others := left_alone(self.folder, found):
            self.say(others)

    def _load(self, number: int, frozen: optuna.trial.FrozenTrial) -> None:
        """Takes up a trial that the journal knows, and brings what came after its last entry there."""
        assert self.folder is not None
        entry = read_entry(self.folder, number, frozen)
        config = read_config(self.folder / entry.folder)
        trial = Trial(number, config, entry.recipe, entry.folder, entry.status, entry.reason)
        self.trials[number] = trial
        self._journal.know(number, frozen)
        self._take_rows(trial, entry.reported)
        if trial.status != "running":
            self._place(trial)

    def _take_rows(self, trial: Trial, reported: Mapping[int, float]) -> None:
        """Enters the rows on disk, and reports what a running trial's entry in the journal lacks."""
        folder, is_running = self.trial_folder(trial.number), trial.status == "running"
        path = folder / "epochs.jsonl"
        torn = path.exists() and drop_torn_line(path)
        if torn:
            self.say(f"{path}: a half-written last line was dropped")
        if is_running or torn or len(read_rows(folder, trial.objective)) < len(reported):
            recover_rows(folder, trial.objective)
        rows = read_rows(folder, trial.objective)
        check_rows(folder, rows, reported, trial.objective)
        for row in rows:
            self._enter(trial, row)
            if row["epoch"] not in reported and is_running:
                self._journal.report(trial.number, row["epoch"], trial.best[-1])

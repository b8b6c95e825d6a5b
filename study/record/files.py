"""The files of a study: their formats, and how they are read; reading takes no lock and changes nothing.

A file is replaced whole or added to by lines, so one that is being written is read as it was before.
"""

import json
import os
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from study.record.confirmation import (
    CONFIRMATION_FORMAT,
    CURVE_FORMAT,
    Confirmation,
    LearningCurve,
    confirmation_problems,
    curve_problems,
)
from study.record.entries import JOURNAL, STUDY_NAME, goes_on, left_alone, own_entries, read_entry, trial_folder
from study.record.formats import (
    ENSEMBLE_FORMAT,
    MODEL_FORMAT,
    EnsembleModel,
    Looks,
    Mistake,
    Model,
    Study,
    ensemble_problems,
    looks_problems,
    mistake_problems,
    model_problems,
    study_problems,
)
from study.record.rows import check_rows
from trainable import objectives, records
from trainable.cli import UsageError
from trainable.config import TrialConfig
from trainable.decoding import decode, read_file, read_versioned
from trainable.files import replacing
from trainable.records import STUDY_FORMAT, read_config, read_rows
from trainable.report import Row


@dataclass(frozen=True)
class TrialRecord:
    """A trial for those who only read: its entry in the journal and its rows."""

    number: int
    status: str
    reason: str
    recipe: str
    config: TrialConfig
    rows: list[Row]

    @property
    def score(self) -> float | None:
        """The objective at the best epoch; None before the first."""
        return self.rows[-1][objectives.named(self.config.objective).best] if self.rows else None


def num_ended(trials: Sequence[TrialRecord]) -> int:
    """How many of the trials have come to their end; an interrupted one may yet get further."""
    return sum(trial.status != "running" for trial in trials)


def read_trials(
    folder: Path, study: Study | None = None, say: Callable[[str], None] = lambda text: None
) -> list[TrialRecord]:
    """The trials of a study, in the order of their numbers; takes no lock and changes nothing.

    Where ``study`` is given, they must be of its classes. ``say`` is told of trials that are not the study's own.

    Raises:
        UsageError: files are damaged or lost, so that a ranking would be wrong; all of them.
    """
    found = numbers_with_rows(folder)  # before the journal, where a study that is running enters a trial first
    everything = _read_journal(folder, len(found))
    entries = own_entries(folder, everything)
    trials: list[TrialRecord] = []
    problems: list[str] = []
    for number, frozen in enumerate(entries):
        # the journal before the rows: a study that is running writes it last
        try:
            entry = read_entry(folder, number, frozen)
            place = folder / entry.folder
            config = read_config(place)
            objective = objectives.named(config.objective)
            if study and config.objective != study.objective:
                raise UsageError([f"{place}: is judged by {objective.words}, and the study by {study.judged_by.words}"])
            rows = read_rows(place, objective, len(study.class_names) if study else None)
            check_rows(place, rows, entry.reported, objective)
            if len(rows) > config.epochs:
                raise UsageError([f"{place}: has {len(rows)} epochs, and by its config.json at most {config.epochs}"])
        except UsageError as error:
            problems += error.problems
            continue
        epochs = max(config.epochs, study.epochs if study else 0)  # they may just have been raised
        status = "running" if goes_on(entry.status, entry.reason, len(rows), epochs) else entry.status
        reason = entry.reason if status == entry.status else ""
        trials.append(TrialRecord(number, status, reason, entry.recipe, replace(config, epochs=epochs), rows))
    if any(number >= len(entries) for number in found):
        problems.append(_lost(folder, len(entries), len(found)))
    if problems:
        raise UsageError(problems)
    if others := left_alone(folder, everything):
        say(others)
    return trials


def _read_journal(folder: Path, num_found: int) -> list[optuna.trial.FrozenTrial]:
    path = folder / JOURNAL
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        if not path.is_file() or not path.stat().st_size:  # Optuna would make one
            raise UsageError([_lost(folder, 0, num_found)])
        check_last_line(path)
        storage = JournalStorage(JournalFileBackend(str(path)))
        if not any(study.study_name == STUDY_NAME for study in storage.get_all_studies()):
            raise UsageError([_lost(folder, 0, num_found)])
        return optuna.load_study(study_name=STUDY_NAME, storage=storage).get_trials(deepcopy=False)
    except UsageError:
        raise
    except Exception as error:  # Optuna's journal raises what its parser raises
        raise UsageError([damaged_journal(path, error)]) from error


def check_last_line(path: Path) -> None:
    """Refuses a journal whose last whole line is no JSON: Optuna passes over it, and stumbles once there is another.

    Raises:
        ValueError: it is no JSON.
    """
    lines = path.read_bytes().rpartition(b"\n")[0].rsplit(b"\n", 1)
    if lines[-1]:
        json.loads(lines[-1])


def _lost(folder: Path, num_known: int, num_found: int) -> str:
    return (
        f"{folder / JOURNAL}: knows of {num_known} trials, and trials/ holds the results of {num_found}; "
        f"{_search_command(folder)} puts it right, and until then nothing is ranked"
    )


def _search_command(folder: Path) -> str:
    """The command that began or resumed the study, quoted anew: it stands in a file of somebody's."""
    try:
        words = shlex.split(read_study(folder).invocations[-1]["command"])
    except (UsageError, KeyError, IndexError, ValueError):
        words = []
    is_search = words[:3] == ["python", "-m", "study.search"]
    return shlex.join(words) if is_search else "the study.search command that made it"


def numbers_with_rows(folder: Path) -> set[int]:
    """The numbers of the trials in whose folders there are results, whatever the journal says."""
    try:
        names = os.listdir(folder / "trials")
    except (FileNotFoundError, NotADirectoryError):
        return set()
    numbers = [int(name) for name in names if re.fullmatch("0|[1-9][0-9]{0,8}", name)]
    return {number for number in numbers if has_rows(folder / trial_folder(number))}


def has_rows(folder: Path) -> bool:
    """Whether the trial in ``folder`` has finished an epoch, by its files."""
    path = folder / "epochs.jsonl"
    return (path.is_file() and path.stat().st_size > 0) or (folder / "last.pt").exists()


def read_study(folder: Path) -> Study:
    """What was asked: the content of study.json. The door to a study: the whole folder is checked first.

    Raises:
        UsageError: there is none, it cannot be read or is damaged, its format is unknown, or the folder holds links.
    """
    return records.read_study(folder, Study, study_problems)


def read_confirmation(folder: Path) -> Confirmation | None:
    """The content of the study's confirm.json; None where there is none.

    Raises:
        UsageError: it cannot be read or is damaged, or its format is unknown.
    """
    path = folder / "confirm.json"
    if not path.exists():
        return None
    return read_versioned(path, CONFIRMATION_FORMAT, Confirmation, confirmation_problems)


def read_model(folder: Path) -> Model:
    """The content of the study's winner/model.json.

    Raises:
        UsageError: it cannot be read or is damaged, or its format is unknown.
    """
    path = folder / "winner" / "model.json"
    return read_versioned(path, MODEL_FORMAT, Model, model_problems)


def read_learning_curve(folder: Path, num_classes: int) -> LearningCurve | None:
    """The content of the study's learning_curve.json; None where there is none.

    Raises:
        UsageError: it cannot be read or is damaged, or its format is unknown.
    """
    path = folder / "learning_curve.json"
    if not path.exists():
        return None
    return read_versioned(path, CURVE_FORMAT, LearningCurve, lambda found: curve_problems(found, num_classes))


def read_ensemble(folder: Path) -> EnsembleModel:
    """The content of the study's winner/ensemble/ensemble.json.

    Raises:
        UsageError: there is none, it cannot be read or is damaged, or its format is unknown.
    """
    path = folder / "winner" / "ensemble" / "ensemble.json"
    if not path.exists():
        raise UsageError(
            [f"{path}: not found; one recipe alone did best, or the winner is of an earlier version or a --refit"]
        )
    return read_versioned(path, ENSEMBLE_FORMAT, EnsembleModel, ensemble_problems)


def read_mistakes(folder: Path) -> list[Mistake]:
    """The validation images that the study's winner gets most wrong, see ``winner.write``; none without a winner.

    Raises:
        UsageError: they cannot be read, or are damaged.
    """
    path = folder / "winner" / "mistakes.json"
    return decode(read_file(path), list[Mistake], path, mistake_problems) if path.exists() else []


def read_looks(folder: Path) -> Looks | None:
    """What there is to look at of the study's winner; None without a winner, or with one of an earlier version.

    Raises:
        UsageError: it cannot be read, or is damaged.
    """
    path = folder / "winner" / "looks.json"
    return decode(read_file(path), Looks, path, looks_problems) if path.exists() else None


def write_study(folder: Path, content: dict[str, Any]) -> None:
    write_atomically(folder / "study.json", json.dumps({"format": STUDY_FORMAT, **content}, indent=1))


def write_atomically(path: Path, content: str | bytes) -> None:
    """The file holds the old content or the new one, never a part. A text is written in UTF-8."""
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def damaged(path: Path, error: Exception) -> str:
    return f"{path}: damaged, cannot be read ({type(error).__name__}: {error})"


def damaged_journal(path: Path, error: Exception) -> str:
    return f"{damaged(path, error)}; once it is moved away, the command that wrote it builds it anew from the trials"

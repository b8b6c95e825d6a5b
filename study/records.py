"""The files of a study: their formats, and how they are read; reading takes no lock and changes nothing.

A file is replaced whole or added to by lines, so one that is being written is read as it was before.
"""

import base64
import json
import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from trainable.config import TrialConfig, UsageError

FORMAT = 1
DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)  # what numpy's load may raise
CONFIRMATION_FORMAT = 1  # of confirm.json
STUDY_NAME = "study"  # in the journal
STATUS = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "stopped", TrialState.FAIL: "failed",
          TrialState.RUNNING: "running"}  # fmt: skip
STATE = {status: state for state, status in STATUS.items()}

Row = dict[str, Any]


@dataclass(frozen=True)
class TrialRecord:
    """A trial for those who only read: its entry in the journal and its rows."""

    number: int
    status: str
    reason: str
    recipe: str
    config: TrialConfig
    rows: list[Row]


def num_ended(trials: Sequence[TrialRecord]) -> int:
    """How many of the trials have come to their end; an interrupted one may yet get further."""
    return sum(trial.status != "running" for trial in trials)


def read_trials(folder: Path) -> list[TrialRecord]:
    """The trials of a study, in the order of their numbers; takes no lock and changes nothing.

    Raises:
        UsageError: files are damaged, so that a ranking would be wrong; all of them.
    """
    path = folder / "study.journal"
    if not path.exists():
        return []
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.load_study(study_name=STUDY_NAME, storage=JournalStorage(JournalFileBackend(str(path))))
    except KeyError:  # cut before its first entry
        return []
    except Exception as error:  # Optuna's journal raises what its parser raises
        raise UsageError([damaged(path, error)]) from error
    trials: list[TrialRecord] = []
    problems: list[str] = []
    for frozen in study.get_trials(deepcopy=False):
        # the journal first: a study that is running writes it last
        attributes = frozen.user_attrs
        place = folder / attributes.get("folder", trial_folder(frozen.number))
        try:
            rows = read_rows(place)
            if len(rows) < len(frozen.intermediate_values):
                raise UsageError([too_few_rows(place, len(rows), len(frozen.intermediate_values))])
            config = read_config(place)
        except UsageError as error:
            problems += error.problems
            continue
        trials.append(
            TrialRecord(
                frozen.number, STATUS[frozen.state], attributes.get("reason", ""), attributes["recipe"], config, rows
            )
        )
    if problems:
        raise UsageError(problems)
    return trials


def trial_folder(number: int) -> str:
    """Where a search puts a trial, in the study's folder."""
    return f"trials/{number}"


def read_rows(folder: Path) -> list[Row]:
    """The rows in a trial's epochs.jsonl, in the order of the epochs; a half-written last line is left out.

    Raises:
        UsageError: a line is damaged, or rows are out of order.
    """
    path = folder / "epochs.jsonl"
    if not path.exists():
        return []
    text = path.read_text(errors="replace")
    lines = text[: text.rfind("\n") + 1].splitlines()
    try:
        rows = [json.loads(line) for line in lines]
        if [row["epoch"] for row in rows] != list(range(1, len(rows) + 1)):
            raise ValueError("its epochs are not 1, 2, 3, …")
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError([f"{path}: damaged, cannot be read ({error})"]) from error
    return rows


def read_config(folder: Path) -> TrialConfig:
    """A trial's config.

    Raises:
        UsageError: config.json is missing or damaged.
    """
    path = folder / "config.json"
    try:
        return TrialConfig.from_record(json.loads(path.read_text()))
    except OSError as error:
        raise UsageError([f"{path}: cannot be read ({error.strerror})"]) from error
    except (ValueError, AttributeError, UsageError) as error:
        raise UsageError([f"{path}: damaged, cannot be read ({error})"]) from error


def read_study(folder: Path) -> dict[str, Any]:
    """What was asked: the content of study.json.

    Raises:
        UsageError: there is none, it cannot be read, or its format is unknown.
    """
    try:
        content: dict[str, Any] = json.loads((folder / "study.json").read_text())
    except OSError as error:
        raise UsageError([f"{folder}: holds no study (study.json: {error.strerror})"]) from error
    except ValueError as error:
        raise UsageError([f"{folder / 'study.json'}: damaged, cannot be read ({error})"]) from error
    if content.get("format") != FORMAT:
        raise UsageError([f"{folder}: has format {content.get('format')!r}, and this version reads {FORMAT}"])
    return content


def read_confirmation(folder: Path) -> dict[str, Any] | None:
    """The content of the study's confirm.json; None where there is none.

    Raises:
        UsageError: it cannot be read, or its format is unknown.
    """
    path = folder / "confirm.json"
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UsageError([f"{path}: damaged, cannot be read ({error})"]) from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != CONFIRMATION_FORMAT:
        raise UsageError([f"{path}: has format {found!r}, and this version reads {CONFIRMATION_FORMAT}"])
    return content


def read_mistakes(folder: Path) -> list[dict[str, Any]]:
    """The validation images that the study's winner gets most wrong, see ``winner.write``; none without a winner.

    Raises:
        UsageError: they cannot be read.
    """
    path = folder / "winner" / "mistakes.json"
    try:
        content = json.loads(path.read_text("utf-8"))
        return [
            {
                "label": str(found["label"]),
                "predicted": str(found["predicted"]),
                "probability": float(found["probability"]),
                "png": base64.b64encode(base64.b64decode(found["png"], validate=True)).decode(),
            }
            for found in content
        ]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError([f"{path}: damaged, cannot be read ({error})"]) from error


def write_study(folder: Path, content: dict[str, Any]) -> None:
    write_atomically(folder / "study.json", json.dumps({"format": FORMAT, **content}, indent=1))


def write_atomically(path: Path, text: str) -> None:
    """The file holds the old text or the new one, never a part."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, "utf-8")
    os.replace(partial, path)


def damaged(path: Path, error: Exception) -> str:
    return f"{path}: damaged, cannot be read ({type(error).__name__}: {error})"


def too_few_rows(folder: Path, num_rows: int, num_reported: int) -> str:
    return f"{folder / 'epochs.jsonl'}: has {num_rows} rows where the journal knows of {num_reported} epochs"

"""What a study's journal (Optuna's) says of its trials: an entry each, among those of other programs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from trainable.cli import UsageError
from trainable.files import inside

JOURNAL = "study.journal"
STUDY_NAME = "study"  # in the journal
STATUS = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "stopped",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}
CONTINUES = "continues"  # the attribute of an entry that takes the place of another one of the study's
STATE = {status: state for state, status in STATUS.items()}


def trial_folder(number: int) -> str:
    """Where a search puts a trial, in the study's folder."""
    return f"trials/{number}"


@dataclass(frozen=True)
class Entry:
    """What the journal says of a trial."""

    folder: str  # in the study's
    status: str
    reason: str
    recipe: str
    reported: Mapping[int, float]  # after each epoch, the best score so far


def _is_text(value: Any) -> bool:
    """Whether it is a str that can be written down: JSON has letters that UTF-8 has not."""
    return isinstance(value, str) and value.encode(errors="replace").decode() == value


def is_own(frozen: optuna.trial.FrozenTrial) -> bool:
    """Whether this program has entered the trial in the journal, in which others may enter some, too."""
    return frozen.state != TrialState.WAITING and "recipe" in frozen.user_attrs


def own_entries(folder: Path, found: Sequence[optuna.trial.FrozenTrial]) -> list[optuna.trial.FrozenTrial]:
    """The entries of the study's trials in the order of their numbers, among those ``found`` in its journal.

    Optuna lets no trial go on that has ended. So one that is taken up again has a further entry, which names its number
    and counts from then on.

    Raises:
        UsageError: an entry is to go on from a trial that is not there.
    """
    entries: list[optuna.trial.FrozenTrial] = []
    for frozen in filter(is_own, found):
        number = frozen.user_attrs.get(CONTINUES)
        if number is None:
            entries.append(frozen)
        elif isinstance(number, int) and 0 <= number < len(entries):
            entries[number] = frozen
        else:
            what = f"{CONTINUES} must be the number of a trial before it, not {number!r:.40}"
            raise UsageError([f"{folder / JOURNAL}: damaged, cannot be used (trial {frozen.number}: {what})"])
    return entries


def goes_on(status: str, reason: str, num_epochs: int, epochs: int) -> bool:
    """Whether a trial that has ended is to be taken up again: all that ended it was its limit, now ``epochs``."""
    return status == "complete" and reason == "epochs" and num_epochs < epochs


def left_alone(folder: Path, found: Sequence[optuna.trial.FrozenTrial]) -> str:
    """A sentence on the trials of other programs among those ``found`` in the journal; "" where there are none.

    They count in Optuna's numbers and not in the study's, where a number is also the name of a folder.
    """
    numbers = [frozen.number for frozen in found if not is_own(frozen)]
    if not numbers:
        return ""
    shown = ", ".join(map(str, numbers[:5])) + (", …" if len(numbers) > 5 else "")
    what = "a trial" if len(numbers) == 1 else f"{len(numbers)} trials"
    return (
        f"{folder / JOURNAL}: another program has added {what} ({shown} in Optuna's count); "
        "left alone, neither run nor ranked"
    )


def read_entry(folder: Path, number: int, frozen: optuna.trial.FrozenTrial) -> Entry:
    """The entry of the study's trial ``number`` in the journal of the study in ``folder``.

    Raises:
        UsageError: it is not of this program's making, or names a folder elsewhere.
    """
    where = f"{folder / JOURNAL}: damaged, cannot be used (trial {number}: "
    attributes = {"folder": trial_folder(number), "reason": "", **frozen.user_attrs}
    inside(folder, attributes["folder"])
    for name in ("recipe", "reason"):
        if not _is_text(attributes.get(name)) or (name == "recipe" and not attributes[name]):
            raise UsageError([f"{where}{name} must be a text, not {attributes.get(name)!r:.40})"])
    if frozen.state not in STATUS:
        raise UsageError([f"{where}its state is {frozen.state.name.lower()}, and it is of another program)"])
    return Entry(
        attributes["folder"],
        STATUS[frozen.state],
        attributes["reason"],
        attributes["recipe"],
        frozen.intermediate_values,
    )

"""What is known from an earlier study: its best recipes, which another one tries first."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.record import files
from study.record.formats import Study
from study.record.recipes import COURSE, SEARCHED
from study.space.parameters import Space, active_values
from trainable.config import TrialConfig

NUM_KNOWN = 5


@dataclass(frozen=True)
class Known:
    """The best recipes of an earlier study, as values of this one's space."""

    study: str = ""  # its folder's name
    recipes: tuple[Mapping[str, Any], ...] = ()  # best first
    trials: tuple[int, ...] = ()  # their numbers there
    left_out: tuple[int, ...] = ()  # those better than the last of them that cannot be had in this space

    @property
    def words(self) -> str:
        """What comes of it, in a sentence."""
        text = f"--after {self.study}: has no recipe that this space can have"
        if self.trials:
            places = ", ".join(str(len(COURSE) + place) for place in range(len(self.trials)))
            text = f"--after {self.study}: trials {places} are the recipes of its trials {_listed(self.trials)}"
        if self.left_out:
            text += f"; left out, as they are not in this space: {_listed(self.left_out)}"
        return text


def begin_with(
    after: Path | None, before: Study | None, space: Space | None, base: TrialConfig | None, notes: list[str]
) -> Known:
    """What a study begins with, of which a note is added; one that goes on (``before``) keeps to what it began with.

    Raises:
        UsageError: see ``known_recipes``.
    """
    if before:
        return Known(before.after, tuple(before.known))
    if not after or not space or not base:
        return Known()
    known = known_recipes(after.absolute(), space, base)
    notes.append(known.words)
    return known


def known_recipes(folder: Path, space: Space, base: TrialConfig) -> Known:
    """The best NUM_KNOWN recipes of the study in ``folder`` that ``space`` can have beside the fields of ``base``.

    Its trials are ranked by their best scores, which need not be of the same images as those of the study to come. What
    it did not search is as in ``base``.

    Raises:
        UsageError: there is no study, or it is damaged.
    """
    study = files.read_study(folder)
    ended = [trial for trial in files.read_trials(folder, study) if trial.status in ("complete", "stopped")]
    best = study.judged_by.best
    ended = [trial for trial in ended if trial.rows and trial.recipe == SEARCHED]
    ended.sort(key=lambda trial: (-trial.rows[-1][best], trial.number))
    recipes: dict[int, Mapping[str, Any]] = {}
    left_out: list[int] = []
    for trial in ended:
        if len(recipes) == NUM_KNOWN:
            break
        values = _within(trial.config, study.searched, space, base)
        if values is None:
            left_out.append(trial.number)
        elif values not in recipes.values():
            recipes[trial.number] = values
    return Known(folder.name, tuple(recipes.values()), tuple(recipes), tuple(left_out))


def _within(config: TrialConfig, searched: Space, space: Space, base: TrialConfig) -> dict[str, Any] | None:
    """The recipe of ``config`` as values of the space; None if the space cannot have what was ``searched`` there."""
    theirs = config.to_dict()
    values = active_values(space, theirs.__getitem__)
    if not all(parameter.contains(values[parameter.name]) for parameter in space if parameter.name in values):
        return None
    ours = {**base.to_dict(), **values}
    is_same = all(ours[found.name] == theirs[found.name] for found in searched if found.active(theirs))
    return values if is_same else None


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))

"""What all trials of a study have in common, so that a study which goes on may not change it."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from study.record.entries import goes_on, trial_folder
from study.record.files import read_trials
from study.record.formats import Study
from trainable.cli import UsageError, attempt
from trainable.config import TrialConfig
from trainable.images.listing import shortened
from trainable.images.origins import NAMED
from trainable.images.pool import Pool

# by their keys in study.json, and what people call them
ONE_PROTOCOL = {
    "data.data": "--data",
    "data.labels": "--labels",
    "data.minority": "--minority",
    "data.imbalance": "--imbalance",
    "data.keep": "--keep",
    "data.seed": "--seed",
    "data.val_fraction": "--val-fraction",
    "data.folds": "--folds",
    "data.group": "--group",
    "data.image_size": "--image-size",
    "data.include": "--include",
    "data.exclude": "--exclude",
    "data.skip_bad_files": "--skip-bad-files",
    "data.squash": "--squash",
    "objective": "--objective",
    "epochs": "--epochs",
    "space": "--space",
    "algorithm": "--algorithm",
    "scheduler": "--scheduler",
    "precision": "--precision",
    "after": "--after",
}
ANEW = "use another --name for a new study"


def are_others(before: Study, data: str) -> bool:
    """Whether ``--data`` can only mean other images than the study's: a folder's may have moved, but not these."""
    return data != before.data.data and not NAMED.keys().isdisjoint({data, before.data.data})


def check(before: Study, folder: Path, asked: dict[str, Any], data: str, base: TrialConfig | None) -> list[str]:
    """What comes of going on with the study in ``folder`` as ``asked``, with ``data`` as given, a sentence each.

    Raises:
        UsageError: it would be another study.
    """
    problems = differences(before, asked)
    if base and not are_others(before, data):
        problems += other_settings(before, base)
    told = attempt(problems, longer, before, folder, base.epochs) if base and base.epochs > before.epochs else None
    if problems:
        raise UsageError(problems)
    return [told] if told else []


def differences(before: Study, asked: dict[str, Any]) -> list[str]:
    """What would mix two protocols in one study, a sentence each."""
    old = {**asdict(before), **{f"data.{key}": value for key, value in asdict(before.data).items()}}
    old["data.imbalance"] = before.data.spec.imbalance
    different = {
        key: value for key, value in asked.items() if key in ONE_PROTOCOL and _plain(old[key]) != _plain(value)
    }
    if not are_others(before, different.get("data.data", before.data.data)):  # the same images may lie elsewhere
        different.pop("data.data", None)
        different.pop("data.labels", None)
    if "data.imbalance" in different:  # which says all of it
        different.pop("data.keep", None)
    if different.get("epochs", 0) > before.epochs:
        different.pop("epochs")  # see ``longer``
    return [_difference(before, ONE_PROTOCOL[key], old[key], value) for key, value in different.items()]


def longer(before: Study, folder: Path, epochs: int) -> str:
    """What comes of giving the study in ``folder`` more ``epochs`` than it had, in a sentence.

    Raises:
        UsageError: its trials' rows would not be those of a study begun so, or what they went on from is gone.
    """
    from trainable.loop import bound_to_length

    trials = read_trials(folder, before)
    bound: dict[str, list[int]] = {}
    for trial in trials:
        for name in bound_to_length(trial.config, epochs) if trial.rows else ():
            bound.setdefault(f"{name}={getattr(trial.config, name)}", []).append(trial.number)
    flag = f"--epochs {epochs} instead of {before.epochs}"
    problems = [
        f"{flag}: {field} goes by the number of epochs, so {_trials(numbers)} would have had other epochs "
        f"from the beginning; {ANEW}"
        for field, numbers in bound.items()
    ]
    ended = [trial.number for trial in trials if goes_on(trial.status, trial.reason, len(trial.rows), epochs)]
    if gone := [number for number in ended if not (folder / trial_folder(number) / "last.pt").exists()]:
        problems.append(f"{flag}: {_trials(gone)} cannot go on, as last.pt is gone; {ANEW}")
    if problems:
        raise UsageError(problems)
    taken_up = f"{_trials(ended)} had reached {before.epochs} and will go on" if ended else "no trial had reached them"
    if before.scheduler == "none":
        return f"{flag}: {taken_up}"
    ages = f"{before.scheduler} judges at the ages of a study of {before.epochs_of_scheduler} epochs, as it began"
    return f"{flag}: {taken_up}; {ages}, and what it has stopped stays so"


def _trials(numbers: Sequence[int]) -> str:
    return f"trial{'s' * (len(numbers) > 1)} {shortened(list(map(str, numbers)), 5)}"


def other_settings(before: Study, base: TrialConfig) -> list[str]:
    """The fields of all trials that were set otherwise when the study began."""
    if not before.config:  # earlier versions wrote none down, and set none
        return []
    old, new = (config.of_roles("recipe") for config in (TrialConfig.from_record(before.config), base))
    return [_difference(before, "--set", f"{name}={old[name]}", f"{name}={new[name]}")
            for name in old if old[name] != new[name]]  # fmt: skip


def changes(before: Study, pool: Pool) -> list[str]:
    """That the images are others than those that the study began with."""
    if pool.fingerprint == before.fingerprint:
        return []
    moved = before.data.data != pool.spec.data
    problems = [_difference(before, "--data", before.data.data, pool.spec.data)] if moved else []
    return [*problems, f"the images have changed since the study {before.name} began; {ANEW}"]


def _difference(before: Study, flag: str, old: Any, new: Any) -> str:
    return f"the study {before.name} was started with {flag} {_plain(old)}, now {_plain(new)}; {ANEW}"


def _plain(value: Any) -> Any:
    if value == "":
        return "nothing"
    if isinstance(value, bool):
        return "on" if value else "off"
    return list(value) if isinstance(value, tuple) else value

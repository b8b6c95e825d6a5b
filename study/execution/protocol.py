"""What all trials of a study have in common, so that a study which goes on may not change it."""

from dataclasses import asdict
from typing import Any

from study.record.formats import Study
from trainable.config import TrialConfig
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
    "data.group": "--group",
    "data.image_size": "--image-size",
    "data.include": "--include",
    "data.exclude": "--exclude",
    "data.skip_bad_files": "--skip-bad-files",
    "data.squash": "--squash",
    "epochs": "--epochs",
    "space": "--space",
    "algorithm": "--algorithm",
    "scheduler": "--scheduler",
    "precision": "--precision",
}
ANEW = "use another --name for a new study"


def are_others(before: Study, data: str) -> bool:
    """Whether ``--data`` can only mean other images than the study's: a folder's may have moved, but not these."""
    return data != before.data.data and not NAMED.keys().isdisjoint({data, before.data.data})


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
    return [_difference(before, ONE_PROTOCOL[key], old[key], value) for key, value in different.items()]


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
    if isinstance(value, bool):
        return "on" if value else "off"
    return list(value) if isinstance(value, tuple) else value

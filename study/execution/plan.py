"""A study that may start: everything is checked here, and nothing written."""

import argparse
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from study.execution.machine import Resources, machine_resources, with_precision
from study.record import environment, files
from study.record.formats import Study
from study.record.recipes import COURSE
from study.space import parameters
from study.space.designs import grid
from study.space.parameters import Space
from trainable.arguments import data_spec, default_config
from trainable.cli import UsageError, attempt
from trainable.config import TrialConfig
from trainable.files import check_folder
from trainable.images import loading
from trainable.images.origins import origin
from trainable.images.pool import Pool, class_counts
from trainable.images.splits import Split, check_split, split

# what all trials of a study have in common: its keys in study.json, and what people call it
ONE_PROTOCOL = {
    "data.data": "--data",
    "data.minority": "--minority",
    "data.keep": "--keep",
    "data.seed": "--seed",
    "data.val_fraction": "--val-fraction",
    "data.group": "--group",
    "data.image_size": "--image-size",
    "epochs": "--epochs",
    "space": "--space",
    "algorithm": "--algorithm",
    "scheduler": "--scheduler",
    "precision": "--precision",
}


@dataclass(frozen=True)
class StudyPlan:
    """A study that may start: everything checked, nothing written yet."""

    folder: Path
    pool: Pool
    drawn: Split
    space: Space
    base: TrialConfig
    precision_reason: str  # why the base has its precision, to be read after "bfloat16: "
    num_trials: int
    algorithm: str
    scheduler: str
    resources: Resources
    time_budget_seconds: float | None
    command: str
    warnings: list[str]
    before: Study | None  # study.json of the study that is resumed

    def record(self) -> dict[str, Any]:
        """What goes into study.json."""
        invocation = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "command": self.command, "trials": self.num_trials}
        parts = {"train": self.drawn.train, "val": self.drawn.val, "audit": self.drawn.audit}
        counts = {name: class_counts(self.pool, positions) for name, positions in parts.items()}
        # those the study began with: by them a confirmation tells whether test/ is still what it was
        test_counts = self.before.class_counts.test if self.before else None
        return {
            "name": self.folder.name,
            "data": self.pool.spec.to_dict(),
            "fingerprint": self.pool.fingerprint,
            "class_names": list(self.pool.class_names),
            "minority": list(self.pool.spec.minority or ()),
            "leaks": self.pool.leaks,
            "class_counts": counts | {"test": test_counts or self.pool.test_counts},
            "config": self.base.to_dict(),
            "precision": self.base.precision,
            "precision_reason": self.precision_reason,
            "seed": self.base.seed,
            "epochs": self.base.epochs,
            "trials": max(self.num_trials, self.before.trials if self.before else 0),
            "space": parameters.to_tables(self.space),
            "algorithm": self.algorithm,
            "scheduler": self.scheduler,
            **self.resources.to_dict(),
            "invocations": [*(self.before.invocations if self.before else []), invocation],
            **environment.record(),
        }


def preflight(arguments: argparse.Namespace, problems: list[str], command: str) -> StudyPlan:
    """Checks everything before anything starts.

    Raises:
        UsageError: everything that is wrong, ``problems`` first.
    """
    problems = list(problems)
    name = arguments.name or Path(arguments.data).name
    if not name or name in (".", "..") or "/" in name or name.startswith(".") or not name.isprintable():
        problems.append(f"--name must be a plain folder name, not {name!r}")
    folder = Path(arguments.results).absolute() / name
    before = attempt(problems, _study_before, folder)
    space = attempt(problems, parameters.load, arguments.space or parameters.DEFAULT_SPACE)
    resources = attempt(problems, machine_resources, arguments)
    pool = attempt(problems, _load_data, arguments, before)
    if pool is None or space is None or resources is None:
        raise UsageError(problems)

    usual = origin(pool.spec.data)
    num_trials = arguments.trials or (before.trials if before else usual.trials)
    base = default_config(
        pool.spec.data,
        arguments.seed,
        epochs=arguments.epochs or (before.epochs if before else usual.epochs),
        num_threads=resources.cpus_per_trial,
    )
    drawn = split(pool, base.split_seed, base.cut_seed)
    found, warnings = check_split(pool, drawn)
    problems += found
    if arguments.algorithm == "grid":
        warnings += _grid_warnings(space, num_trials)
    if problems:
        raise UsageError(problems)
    base, reason = with_precision(base, arguments.precision, before, pool, resources)
    plan = StudyPlan(
        folder=folder,
        pool=pool,
        drawn=drawn,
        space=space,
        base=base,
        precision_reason=reason,
        num_trials=num_trials,
        algorithm=arguments.algorithm,
        scheduler=arguments.scheduler,
        resources=resources,
        time_budget_seconds=arguments.time_budget,
        command=command,
        warnings=warnings,
        before=before,
    )
    if before and (mixed := _differences(before, plan.record())):
        raise UsageError(mixed)
    return plan


def _grid_warnings(space: Space, num_trials: int) -> list[str]:
    num_points, num_asked = len(grid(space)), num_trials - len(COURSE)
    if num_asked == num_points:
        return []
    reached = (
        "all of them are tried, and no more trials" if num_asked > num_points else f"{num_asked} of them are tried"
    )
    return [f"note: the grid has {num_points} points; {reached}"]


def _study_before(folder: Path) -> Study | None:
    if not (folder / "study.json").exists() and not (folder / "study.journal").exists():
        if folder.exists() and not folder.is_dir():
            raise UsageError([f"{folder}: is in the way, the study needs a folder there"])
        if (folder / "trials").exists():
            raise UsageError([f"{folder}: has trials but no study.json, so the study's settings are unknown"])
        check_folder(folder)
        return None
    return files.read_study(folder)


def _load_data(arguments: argparse.Namespace, before: Study | None) -> Pool:
    spec = data_spec(arguments)
    if before:  # a study keeps to what it began with, also when test/ has been moved away since
        spec = replace(spec, own_test=before.data.own_test)
    return loading.load(spec)


def _differences(before: Study, now: dict[str, Any]) -> list[str]:
    """What would mix two protocols in one study, a sentence each. The same images may lie elsewhere."""
    old = {**asdict(before), **{f"data.{key}": value for key, value in asdict(before.data).items()}}
    new = {**now, **{f"data.{key}": value for key, value in now["data"].items()}}
    name, anew = before.name, "use another --name for a new study"
    problems = [
        f"the study {name} was started with {flag} {_plain(old[key])}, now {_plain(new[key])}; {anew}"
        for key, flag in ONE_PROTOCOL.items()
        if _plain(old[key]) != _plain(new[key])
        and not (key == "data.data" and old["fingerprint"] == new["fingerprint"])
    ]
    if old["fingerprint"] != new["fingerprint"]:
        problems.append(f"the images have changed since the study {name} began; {anew}")
    return problems


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value

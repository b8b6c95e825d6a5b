"""A study that may start: everything is checked here, and nothing written."""

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from study.execution import objectives, protocol, spaces, trying, watchers
from study.execution.cluster import room_problems
from study.execution.machine import Resources, machine_resources, with_precision
from study.execution.objectives import CostTable, Named
from study.record import environment, files
from study.record.formats import Study
from study.record.lock import check_unlocked
from study.space import parameters
from study.space.parameters import Space
from study.strategy.known import Known, begin_with
from trainable.arguments import FOLDER_FLAGS, data_spec, default_config
from trainable.cli import MAX_NAME, UsageError, attempt, shown
from trainable.config import TrialConfig, parse_assignments
from trainable.files import check_folder, check_writable
from trainable.images import loading
from trainable.images.origins import origin
from trainable.images.pool import DataSpec, Pool
from trainable.images.splits import Split, check_split, part_counts, split


@dataclass(frozen=True)
class StudyPlan:
    """A study that may start: everything checked, nothing written yet."""

    folder: Path
    pool: Pool
    drawn: Split
    space: Space
    space_reason: str  # its name, and why it is that one
    base: TrialConfig
    precision_reason: str  # why the base has its precision, to be read after "bfloat16: "
    num_trials: int
    known: Known
    algorithm: str
    scheduler: str
    resources: Resources
    time_budget_seconds: float | None
    keep_checkpoints: bool
    watchers: tuple[str, ...]  # see execution.watchers
    command: str
    warnings: list[str]
    before: Study | None  # study.json of the study that is resumed

    @property
    def epochs_of_scheduler(self) -> int:
        """Those that the study began with, see ``Study``."""
        return self.before.epochs_of_scheduler if self.before else self.base.epochs

    @property
    def train_counts(self) -> list[int]:
        """Training images of each class."""
        return part_counts(self.pool, self.drawn)["train"]

    def keeps_last(self, reason: str) -> bool:
        """Whether a trial that has ended for ``reason`` keeps its last.pt: more epochs may be asked of some later."""
        return self.keep_checkpoints or reason == "epochs"

    def check_again(self) -> None:
        """What was found in the folder must still be there: to be called under the study's lock.

        Raises:
            UsageError: another command has begun the study meanwhile, or changed it.
        """
        if _study_before(self.folder) != self.before:
            done = "has begun this study" if self.before is None else "was at this study"
            raise UsageError([f"{self.folder}: another command {done} meanwhile; the same command checks it anew"])

    def record(self) -> dict[str, Any]:
        """What goes into study.json."""
        invocation = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "command": self.command, "trials": self.num_trials}
        # those the study began with: by them a confirmation tells whether test/ is still what it was
        test_counts = self.before.class_counts.test if self.before else None
        return {
            "name": self.folder.name,
            "data": self.pool.spec.to_dict(),
            "fingerprint": self.pool.fingerprint,
            "skipped_files": list(self.pool.skipped),
            "class_names": list(self.pool.class_names),
            "minority": list(self.pool.spec.minority or ()),
            "leaks": self.pool.leaks,
            "class_counts": part_counts(self.pool, self.drawn) | {"test": test_counts or self.pool.test_counts},
            "config": self.base.to_dict(),
            "precision": self.base.precision,
            "precision_reason": self.precision_reason,
            "objective": self.base.objective,
            "seed": self.base.seed,
            "epochs": self.base.epochs,
            "first_epochs": self.epochs_of_scheduler,
            "trials": max(self.num_trials, self.before.trials if self.before else 0),
            "space": parameters.to_tables(self.space),
            "after": self.known.study,
            "known": [dict(values) for values in self.known.recipes],
            "algorithm": self.algorithm,
            "scheduler": self.scheduler,
            **self.resources.to_dict(),
            "invocations": [*(self.before.invocations if self.before else []), invocation],
            **environment.record(),
        }


def preflight(arguments: argparse.Namespace, problems: list[str], command: str) -> StudyPlan:
    """Checks everything before anything starts. What takes long, decoding images or a download, comes last.

    Raises:
        UsageError: everything that is wrong, ``problems`` first.
    """
    problems = list(problems)
    folder = attempt(problems, _folder, arguments)
    before = attempt(problems, _study_before, folder) if folder else None
    if folder:
        attempt(problems, check_unlocked, folder)
    problems += watchers.problems(arguments.watchers)
    space = attempt(problems, spaces.read, arguments, before)
    resources = attempt(problems, machine_resources, arguments, folder)
    spec = attempt(problems, _data_spec, arguments, before)
    objective = attempt(problems, objectives.read, arguments.objective, before)
    base = attempt(problems, _base, arguments, before, resources, space)
    notes: list[str] = []
    known = attempt(problems, begin_with, arguments.after, before, space, base, notes) or Known()
    if before and folder:
        asked = _asked(arguments, base, space, spec)
        notes += attempt(problems, protocol.check, before, folder, asked, arguments.data, base) or []

    def look(pool: Pool) -> None:
        problems.extend(room_problems(resources.nodes if resources else (), len(pool.labels), pool.spec.image_size))
        notes.extend(_first_look(pool, before, base, space, objective, problems))

    pool = attempt(problems, loading.load, spec, print, look) if spec else None
    if pool is None:
        raise UsageError(problems)
    if before and (changed := protocol.changes(before, pool)):
        raise UsageError(changed)
    num_trials = arguments.trials or (before or origin(pool.spec.data)).trials
    drawn = split(pool, base.split_seed, base.cut_seed)
    few, warnings = check_split(pool, drawn)
    if few:
        raise UsageError(few)
    warnings += notes + (spaces.grid_warnings(space, num_trials) if arguments.algorithm == "grid" else [])
    probed, reason = with_precision(trying.to_probe(space, base), arguments.precision, before, pool, resources)
    base = replace(base, precision=probed.precision, objective=objective.text(pool.class_names))
    return StudyPlan(
        folder=folder,
        pool=pool,
        drawn=drawn,
        space=space,
        space_reason=spaces.reason(arguments, before),
        base=base,
        precision_reason=reason,
        num_trials=num_trials,
        known=known,
        algorithm=arguments.algorithm,
        scheduler=arguments.scheduler,
        resources=resources,
        time_budget_seconds=arguments.time_budget,
        keep_checkpoints=arguments.keep_checkpoints,
        watchers=tuple(dict.fromkeys(arguments.watchers)),
        command=command,
        warnings=warnings,
        before=before,
    )


def _first_look(
    pool: Pool,
    before: Study | None,
    base: TrialConfig | None,
    space: Space | None,
    objective: Named | CostTable | None,
    known: list[str],
) -> list[str]:
    """Notes on how the space goes with the images, of which names and numbers are there and no pixel yet.

    Raises:
        UsageError: they do not go together, or problems are ``known`` already.
    """
    found: list[str] = []
    settled: dict[str, Any] = {"data.minority": pool.spec.minority}
    if objective and (text := attempt(found, objective.text, pool.class_names)):
        settled["objective"] = text
    found += protocol.differences(before, settled) if before else []
    notes: list[str] = []
    if base:
        found += check_split(pool, split(pool, base.split_seed, base.cut_seed))[0]
    if base and space:
        size = pool.spec.image_size
        notes = attempt(found, trying.check_networks, space, base, len(pool.class_names), size) or []
    if known or found:
        raise UsageError(found)
    return notes


def _folder(arguments: argparse.Namespace) -> Path:
    """Where the study goes."""
    name = Path(arguments.data).name if arguments.name is None else arguments.name
    is_plain = name.isprintable() and "/" not in name and not name.startswith(".") and len(name.encode()) <= MAX_NAME
    if not name or not is_plain:
        rule = f"a plain folder name of at most {MAX_NAME} bytes"
        raise UsageError([f"--name must be {rule}, not {shown(name)}"])
    return Path(arguments.results).absolute() / name


def _study_before(folder: Path) -> Study | None:
    if not (folder / "study.json").exists() and not (folder / "study.journal").exists():
        if folder.exists() and not folder.is_dir():
            raise UsageError([f"{folder}: is in the way, the study needs a folder there"])
        if (folder / "trials").exists():
            raise UsageError([f"{folder}: has trials but no study.json, so the study's settings are unknown"])
        check_folder(folder)
        check_writable(folder, "--results")
        return None
    study = files.read_study(folder)
    check_writable(folder, "--results")
    return study


def _data_spec(arguments: argparse.Namespace, before: Study | None) -> DataSpec:
    spec = data_spec(arguments)
    if before:  # a study keeps to what it began with, also when test/ has been moved away since
        names = FOLDER_FLAGS if protocol.are_others(before, spec.data) else ("minority", *FOLDER_FLAGS)
        kept = [name for name in names if getattr(arguments, name) is None]
        spec = replace(spec, **{name: getattr(before.data, name) for name in ("own_test", "split_names", *kept)})
    return spec


def _base(
    arguments: argparse.Namespace, before: Study | None, resources: Resources | None, space: Space | None
) -> TrialConfig:
    """The course's recipe with the study's settings; of its precision only what has been asked for.

    Raises:
        UsageError: the fields that are set break a rule, or do not go with the space.
    """
    given = parse_assignments(arguments.set)
    values = {**given, "epochs": arguments.epochs or (before or origin(arguments.data)).epochs}
    if resources:
        values["num_threads"] = resources.cpus_per_trial
    if before:
        values["precision"] = before.precision
    if arguments.precision not in (None, "auto"):
        values["precision"] = arguments.precision
    base = default_config(arguments.data, arguments.seed, **values)
    if space and (problems := trying.base_problems(base, list(given), space)):
        raise UsageError(problems)
    return base


def _asked(
    arguments: argparse.Namespace, base: TrialConfig | None, space: Space | None, spec: DataSpec | None
) -> dict[str, Any]:
    """What the study is to be, by the keys of ONE_PROTOCOL; without what is unknown, and which classes are minority."""
    asked: dict[str, Any] = {"algorithm": arguments.algorithm, "scheduler": arguments.scheduler}
    if arguments.after:
        asked["after"] = arguments.after.absolute().name
    if base:
        asked |= {"epochs": base.epochs, "precision": base.precision}
    if space:
        asked["space"] = parameters.to_tables(space)
    if spec:
        settled = spec.with_usual_fractions()
        asked |= {f"data.{key}": value for key, value in settled.to_dict().items() if key != "minority"}
        asked["data.imbalance"] = settled.imbalance
    return asked

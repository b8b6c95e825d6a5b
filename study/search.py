"""python -m study.search: runs a study, resumes it, or extends it."""

import argparse
import os
import shlex
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.execution.machine import add_machine_flags, machine_resources
from study.space.parameters import ALGORITHMS
from study.strategy.scheduler import SCHEDULERS
from trainable.arguments import add_data_flags, data_spec, default_config, default_epochs
from trainable.cli import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    Parser,
    UsageError,
    attempt,
    checked,
    fail,
    one_of,
    positive_int,
    seed,
)
from trainable.command import command
from trainable.config import TrialConfig
from trainable.files import check_folder

if TYPE_CHECKING:
    from study.execution.machine import Resources
    from study.record.formats import Study
    from study.space.parameters import Space
    from trainable.images.pool import Pool
    from trainable.images.splits import Split

DEFAULT_TRIALS = {"digits": 16}


@dataclass(frozen=True)
class Plan:
    """A study that may start: everything checked, nothing written yet."""

    folder: Path
    pool: "Pool"
    drawn: "Split"
    space: "Space"
    base: TrialConfig
    num_trials: int
    algorithm: str
    scheduler: str
    resources: "Resources"
    time_budget_seconds: float | None
    command: str
    warnings: list[str]
    before: "Study | None"  # study.json of the study that is resumed

    def record(self) -> dict[str, Any]:
        """What goes into study.json."""
        from study.record import environment
        from study.space import parameters
        from trainable.images.pool import class_counts

        invocation = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "command": self.command, "trials": self.num_trials}
        counts = {name: class_counts(self.pool, positions) for name, positions in
                  [("train", self.drawn.train), ("val", self.drawn.val), ("audit", self.drawn.audit)]}  # fmt: skip
        # those the study began with: by them a confirmation tells whether test/ is still what it was
        test_counts = self.before.class_counts.test if self.before else None
        return {
            "name": self.folder.name,
            "data": self.pool.spec.to_dict(),
            "fingerprint": self.pool.fingerprint,
            "class_names": list(self.pool.class_names),
            "minority": list(self.pool.spec.minority or ()),
            "class_counts": counts | {"test": test_counts or self.pool.test_counts},
            "config": self.base.to_dict(),
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


@command("study.search", resumable=True)
def main(argv: list[str] | None = None) -> int:
    parser = _parser()
    arguments = parser.parse(argv)
    try:
        plan = preflight(arguments, parser.problems)
    except UsageError as error:
        fail(parser.prog, error.problems)
    return run(plan)


def _parser() -> Parser:
    parser = Parser("study.search", "Runs a study; the same command resumes it, more --trials extend it.")
    add_data_flags(parser)
    group = parser.add_argument_group("study")
    group.add_argument("--name", default=None, help="the study's name (default: the data's name)")
    group.add_argument("--results", default="results", metavar="DIR", help="the study goes to DIR/NAME")
    group.add_argument(
        "--trials",
        type=positive_int,
        default=None,
        help="trials in all, the course's two recipes among them (default: digits 16, else 50)",
    )
    group.add_argument("--epochs", type=positive_int, default=None, help="epochs at most (default: digits 20, else 50)")
    group.add_argument("--seed", type=seed, default=0, help="draws the splits, the cut, the proposals, the trainings")
    group.add_argument(
        "--space",
        default=None,
        type=Path,
        metavar="FILE",
        help="the search space, TOML (default: study/default_space.toml)",
    )
    group.add_argument("--algorithm", type=one_of(ALGORITHMS), default="tpe",
                       help=f"how trials are proposed: {', '.join(ALGORITHMS)}")  # fmt: skip
    group.add_argument("--scheduler", type=one_of(SCHEDULERS), default="asha",
                       help=f"how trials are stopped early: {', '.join(SCHEDULERS)}")  # fmt: skip
    group.add_argument(
        "--time-budget",
        default=None,
        metavar="SECONDS",
        type=checked(float, "above 0", lambda v: v > 0),
        help="pause the study after so long; the same command goes on (default: no limit)",
    )
    add_machine_flags(parser)
    return parser


def preflight(arguments: argparse.Namespace, problems: list[str]) -> Plan:
    """Checks everything before anything starts.

    Raises:
        UsageError: everything that is wrong, ``problems`` first.
    """
    problems = list(problems)

    from study.space import parameters as spaces

    name = arguments.name or Path(arguments.data).name
    if not name or name in (".", "..") or "/" in name or name.startswith("."):
        problems.append(f"--name must be a plain folder name, not {name!r}")
    folder = Path(arguments.results).absolute() / name
    before = attempt(problems, _study_before, folder)
    space = attempt(problems, spaces.load, arguments.space or spaces.DEFAULT_SPACE)
    resources = attempt(problems, machine_resources, arguments)
    pool = attempt(problems, _load_data, arguments, before)
    if pool is None or space is None or resources is None:
        raise UsageError(problems)

    from trainable.images.splits import check_split, split

    num_trials = arguments.trials or (before.trials if before else DEFAULT_TRIALS.get(pool.spec.data, 50))
    base = default_config(
        pool.spec.data,
        arguments.seed,
        epochs=arguments.epochs or (before.epochs if before else default_epochs(pool.spec.data)),
        num_threads=resources.cpus_per_trial,
    )
    drawn = split(pool, base.split_seed, base.cut_seed)
    found, warnings = check_split(pool, drawn)
    problems += found
    if arguments.algorithm == "grid":
        warnings += _grid_warnings(space, num_trials)
    plan = Plan(
        folder, pool, drawn, space, base, num_trials, arguments.algorithm, arguments.scheduler, resources,
        arguments.time_budget, "python -m study.search " + shlex.join(sys.argv[1:]), warnings, before,
    )  # fmt: skip
    if before and not problems:
        problems += _differences(before, plan.record())
    if problems:
        raise UsageError(problems)
    return plan


def _grid_warnings(space: "Space", num_trials: int) -> list[str]:
    from study.record.recipes import COURSE_RECIPES
    from study.space.designs import grid

    num_points, num_asked = len(grid(space)), num_trials - len(COURSE_RECIPES)
    if num_asked == num_points:
        return []
    reached = (
        "all of them are tried, and no more trials" if num_asked > num_points else f"{num_asked} of them are tried"
    )
    return [f"note: the grid has {num_points} points; {reached}"]


def _study_before(folder: Path) -> "Study | None":
    from study.record import files

    if not (folder / "study.json").exists() and not (folder / "study.journal").exists():
        if folder.exists() and not folder.is_dir():
            raise UsageError([f"{folder}: is in the way, the study needs a folder there"])
        if (folder / "trials").exists():
            raise UsageError([f"{folder}: has trials but no study.json, so what was asked of them is not known"])
        check_folder(folder)
        return None
    return files.read_study(folder)


def _load_data(arguments: argparse.Namespace, before: "Study | None") -> "Pool":
    from dataclasses import replace

    from trainable.images import loading

    spec = data_spec(arguments)
    if before and before.data.data == spec.data:
        # a study keeps to what it began with, also when test/ has been moved away since
        spec = replace(spec, own_test=before.data.own_test)
    return loading.load(spec)


def _differences(before: "Study", now: dict[str, Any]) -> list[str]:
    """What would mix two protocols in one study, a sentence each."""
    old = {**asdict(before), **{f"data.{key}": value for key, value in asdict(before.data).items()}}
    new = {**now, **{f"data.{key}": value for key, value in now["data"].items()}}
    names = {
        "data.data": "--data", "data.minority": "--minority", "data.keep": "--keep", "data.seed": "--seed",
        "data.val_fraction": "--val-fraction", "data.image_size": "--image-size", "epochs": "--epochs",
        "space": "--space", "fingerprint": "the images", "algorithm": "--algorithm", "scheduler": "--scheduler",
    }  # fmt: skip
    return [
        f"the study {before.name} was begun with another {flag}: "
        + ("they are not the same any more" if key == "fingerprint" else f"{_plain(old[key])}, now {_plain(new[key])}")
        + "; use another --name for a new study"
        for key, flag in names.items()
        if _plain(old[key]) != _plain(new[key])
    ]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def run(plan: Plan) -> int:
    """Runs the study of ``plan`` to its ranking; the exit status."""
    from study import analyze
    from study.execution.display import Display
    from study.execution.runner import Pause, Runner
    from study.execution.tune import drive
    from study.findings import ranking
    from study.record.ledger import Ledger
    from study.strategy import scheduler
    from study.strategy.searcher import Searcher
    from trainable.images.splits import count_lines

    try:
        plan.folder.mkdir(parents=True, exist_ok=True)
        ledger = Ledger(plan.folder, plan.record(), say=print)
        searcher = Searcher(ledger, plan.space, plan.base, plan.algorithm, plan.num_trials)
    except UsageError as error:
        fail("study.search", error.problems)
    except OSError as error:
        fail("study.search", [f"{error.filename}: cannot be written ({error.strerror})"])
    display = Display(ledger, plan.space, plan.num_trials, plan.base.epochs, plan.resources.num_slots)
    display.say("\n".join([*count_lines(plan.pool, plan.drawn), *plan.warnings]))
    display.say(_opening(plan, len(ledger.trials)))
    pause = Pause(plan.time_budget_seconds)
    rule = scheduler.make(plan.scheduler, plan.base.epochs)
    runner = Runner(ledger, searcher, rule, pause, display.on_change)
    failure = drive(runner, plan.pool, plan.resources, display)
    ledger.close()
    try:
        found = ranking.rank(plan.folder)
        display.say("\n" + "\n".join(found.lines()))
        ranking.write(found, plan.folder)
    except UsageError as error:
        failure = "; ".join([*([failure] if failure else []), *error.problems])
    except OSError as error:
        failure = failure or f"{error.filename}: cannot be written ({error.strerror})"
    if not failure:
        display.say("\n" + analyze.page(plan.folder, found, in_a_hurry=pause.interrupted))
    if failure:
        print(f"study.search: {failure}", file=sys.stderr)
        return EXIT_FAILED
    if pause.requested and (ledger.running() or len(ledger.trials) < plan.num_trials):
        display.say(f"paused; to go on: {plan.command}")
    return EXIT_INTERRUPTED if pause.interrupted else 0


def _opening(plan: Plan, num_known: int) -> str:
    where = f"on {plan.resources.gpus} GPU(s)" if plan.resources.gpus else "on the CPU"
    known = f", {num_known} of them there already" if num_known else ""
    return (
        f"study {plan.folder.name}: {plan.num_trials} trials of at most {plan.base.epochs} epochs{known}\n"
        f"{plan.resources.num_slots} at a time {where}, {plan.algorithm} with scheduler {plan.scheduler}; "
        f"files in {os.path.relpath(plan.folder)}"
    )


if __name__ == "__main__":
    sys.exit(main())

"""python -m study.confirm: the best recipes and the course's on fresh seeds, then, once, on the test images."""

import argparse
import os
import shlex
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.execution.machine import add_machine_flags, machine_resources
from study.strategy.scheduler import Never
from trainable.cli import EXIT_FAILED, EXIT_INTERRUPTED, Parser, UsageError, attempt, checked, fail, positive_int
from trainable.command import command

if TYPE_CHECKING:
    import numpy as np

    from study.confirmation.runs import Recipe
    from study.execution.display import Display
    from study.execution.machine import Resources
    from study.record.confirmation import Confirmation
    from study.record.formats import Study
    from trainable.images.pool import Pool


@dataclass(frozen=True)
class Plan:
    """A confirmation that may start: everything checked, nothing written yet."""

    folder: Path  # the study's
    study: "Study"
    pool: "Pool"
    test: tuple["np.ndarray", "np.ndarray"]  # pixels and labels, see data.load_test
    recipes: "list[Recipe]"  # the best first, then those of the course that are not among them
    seeds: list[int]
    top: int
    num_trials: int  # of the study, that have ended
    resources: "Resources"
    reopen_reason: str | None
    command: str
    before: "Confirmation | None"  # confirm.json

    @property
    def runs_folder(self) -> Path:
        return self.folder / "confirm"

    def record(self) -> dict[str, Any]:
        """What goes into confirm/study.json: what was asked last, and of what machine."""
        from study.record import environment

        return {
            "name": self.folder.name,
            "time": _now(),
            "command": self.command,
            "recipes": [recipe.name for recipe in self.recipes],
            "seeds": self.seeds,
            **self.resources.to_dict(),
            **environment.record(),
        }


@command("study.confirm", resumable=True)
def main(argv: list[str] | None = None) -> int:
    parser = _parser()
    arguments = parser.parse(argv)
    again = "python -m study.confirm " + shlex.join(sys.argv[1:] if argv is None else argv)
    try:
        return run(preflight(arguments, parser.problems, again))
    except UsageError as error:
        fail(parser.prog, error.problems)


def _parser() -> Parser:
    parser = Parser(
        "study.confirm",
        "Runs a study's best recipes and the course's on fresh seeds, then scores the winner and the course's on the "
        "test images, once. The same command goes on after an interruption. The seal on the test images is a record "
        "in confirm.json, not a lock.",
    )
    parser.add_argument("folder", type=Path, metavar="results/NAME", help="the study's folder")
    group = parser.add_argument_group("confirmation")
    group.add_argument("--top", type=positive_int, default=3, help="trials of the ranking that are confirmed")
    group.add_argument(
        "--seeds",
        type=checked(int, "a whole number of at least 2", lambda v: v >= 2),
        default=5,
        help="fresh seeds that each recipe is run on",
    )
    group.add_argument(
        "--reopen-test",
        default=None,
        metavar="REASON",
        help="score on the test images again, after they have been opened; the reason is recorded for every reader",
    )
    add_machine_flags(parser)
    return parser


def preflight(arguments: argparse.Namespace, problems: list[str], command: str) -> Plan:
    """Checks everything before anything starts; loads the test images, too, as hours later is late to miss them.

    Raises:
        UsageError: everything that is wrong, ``problems`` first.
    """
    from study.confirmation.runs import choose, fresh_seeds, mixed_runs
    from study.record import files

    problems = list(problems)
    folder = arguments.folder.absolute()
    study = attempt(problems, files.read_study, folder)
    if study is None:
        raise UsageError(problems)
    before = attempt(problems, files.read_confirmation, folder)
    problems += _seal_problems(before, arguments.reopen_test)
    trials = attempt(problems, files.read_trials, folder, study)
    recipes = attempt(problems, choose, trials, arguments.top) if trials is not None else None
    resources = attempt(problems, machine_resources, arguments)
    pool = attempt(problems, _load_pool, study)
    if pool is None or recipes is None or resources is None:
        raise UsageError(problems)

    # a seal that holds is not broken to look for more problems
    test = attempt(problems, _load_test, pool) if not problems else None
    seeds = fresh_seeds(study.seed, arguments.seeds, trials)
    problems += mixed_runs(folder / "confirm", recipes, seeds)
    if problems or test is None:
        raise UsageError(problems)
    return Plan(folder, study, pool, test, recipes, seeds, arguments.top, files.num_ended(trials), resources,
                arguments.reopen_test, command, before)  # fmt: skip


def _seal_problems(before: "Confirmation | None", reopen_reason: str | None) -> list[str]:
    opened = before.test.opened if before and before.test else None
    if opened is None:
        return [] if reopen_reason is None else ["--reopen-test: the test images have not been opened yet"]
    if reopen_reason is None:
        return [f"the test images were opened on {opened}, and every further look makes their score less honest; "
                "--reopen-test REASON opens them again, and the reason is recorded"]  # fmt: skip
    return [] if reopen_reason.strip() else ["--reopen-test must give a reason"]


def _load_pool(study: "Study") -> "Pool":
    from trainable.images import loading

    pool = loading.load(study.data.spec)
    problems = []
    if pool.fingerprint != study.fingerprint:
        problems.append(f"the images of {pool.spec.data} are no longer those of the study")
    test_counts = study.class_counts.test
    if test_counts and pool.test_counts and list(pool.test_counts) != test_counts:
        problems.append(f"the test images of {pool.spec.data} are no longer those of the study: "
                        f"{sum(pool.test_counts)}, {sum(test_counts)} when it began")  # fmt: skip
    if problems:
        raise UsageError(problems)
    return pool


def _load_test(pool: "Pool") -> "tuple[np.ndarray, np.ndarray]":
    from trainable.images import loading

    pixels, labels = loading.load_test(pool)
    missing = [pool.class_names[name] for name in pool.minority if not (labels == name).any()]
    if missing:
        raise UsageError([f"class {name}: no test image, so its F1 on them cannot be told" for name in missing])
    return pixels, labels


def run(plan: Plan) -> int:
    """Runs what is missing, scores it, opens the test images; the exit status.

    Raises:
        UsageError: the folder cannot be written to, or another process is at it; nothing has been done.
    """
    from study.record.ledger import locked

    try:
        lock = locked(plan.folder)  # no search may extend the study meanwhile
    except OSError as error:
        raise UsageError([f"{error.filename or plan.folder}: cannot be written ({error.strerror})"]) from error
    try:
        return _run(plan)
    finally:
        lock.release()


def _run(plan: Plan) -> int:
    from study.confirmation.runs import Runs
    from study.execution.display import Display
    from study.execution.runner import Pause, Runner
    from study.execution.tune import drive
    from study.record.ledger import Ledger
    from trainable.images.splits import count_lines, split

    try:
        plan.runs_folder.mkdir(exist_ok=True)
        ledger = Ledger(plan.runs_folder, plan.record(), say=print)
        runs = Runs(ledger, plan.recipes, plan.seeds, plan.resources.cpus_per_trial)
    except OSError as error:
        raise UsageError([f"{error.filename}: cannot be written ({error.strerror})"]) from error
    display = Display(ledger, plan.study.searched,
                      len(ledger.trials) + runs.num_new, plan.study.epochs, plan.resources.num_slots,
                      are_named=True)  # fmt: skip
    drawn = split(plan.pool, plan.seeds[0], plan.seeds[0])
    display.say("\n".join(count_lines(plan.pool, drawn)))
    display.say(_opening(plan, len(runs.left)))
    pause, failure = Pause(None), None
    if runs.left:
        runner = Runner(ledger, runs, Never(), pause, display.on_change)
        failure = drive(runner, plan.pool, plan.resources, display)
    ledger.close()
    if pause.interrupted:
        display.say(f"paused; to go on: {plan.command}")
        return EXIT_INTERRUPTED
    failures = [failure] if failure else runs.failures
    if not failures:
        try:
            finish(plan, display)
        except UsageError as error:
            anew = f"what cannot be put right is trained anew once {plan.runs_folder} is moved away"
            failures = [*error.problems, anew]
    for text in failures:
        print(f"study.confirm: {text}", file=sys.stderr)
    if failures:
        print(f"study.confirm: nothing is lost, the same command goes on: {plan.command}", file=sys.stderr)
    return EXIT_FAILED if failures else 0


def _opening(plan: Plan, num_left: int) -> str:
    where = f"on {plan.resources.gpus} GPU(s)" if plan.resources.gpus else "on the CPU"
    num_runs = len(plan.recipes) * len(plan.seeds)
    known = f", {num_runs - num_left} of them there already" if num_left < num_runs else ""
    return (
        f"confirmation of {plan.folder.name}: {len(plan.recipes)} recipes ({', '.join(r.name for r in plan.recipes)})\n"
        f"on {len(plan.seeds)} fresh seeds each, {num_runs} runs of at most {plan.study.epochs} epochs{known}\n"
        f"{plan.resources.num_slots} at a time {where}, none stopped by a scheduler; "
        f"files in {os.path.relpath(plan.runs_folder)}"
    )


def finish(plan: Plan, display: "Display") -> None:
    """Scores the runs, opens the test images, and leaves confirm.json; prints both.

    Raises:
        UsageError: a run's files are damaged, or confirm.json cannot be written.
    """
    from study import analyze
    from study.confirmation import scoring, winner
    from study.findings import ranking
    from study.findings.verdict import Verdict
    from study.record.confirmation import OnTestImages, Reopening

    content = scoring.summary(plan, scoring.measure(plan), _now())
    test_before = plan.before.test if plan.before else None
    if test_before is None:  # else the record of the opening stays as it is until there is a newer one
        _write(plan.folder, content)
    display.say("\n" + "\n".join(Verdict(content).confirmation_lines()))
    display.say("\nwriting the winner's model, its decision offsets and exported programs")
    winner.write(plan, content)
    opened, reopened = _now(), list[Reopening]()
    if test_before is not None:
        assert plan.reopen_reason is not None
        reopened = [*test_before.reopened, Reopening(time=opened, reason=plan.reopen_reason)]
        opened = test_before.opened
    recipes, differences = scoring.measure_test(plan, content.winner)
    test = OnTestImages(opened=opened, reopened=reopened, recipes=recipes, differences=differences)
    content = replace(content, test=test)
    _write(plan.folder, content)  # before anybody sees a score
    display.say("\n" + "\n".join(Verdict(content).test_lines()))
    display.say("\n" + analyze.page(plan.folder, ranking.rank(plan.folder)))


def _write(folder: Path, content: "Confirmation") -> None:
    from study.record.files import write_atomically
    from trainable.decoding import to_json

    try:
        write_atomically(folder / "confirm.json", to_json(content))
    except OSError as error:
        raise UsageError([f"{folder / 'confirm.json'}: cannot be written ({error.strerror})"]) from error


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


if __name__ == "__main__":
    sys.exit(main())

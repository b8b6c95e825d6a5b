"""python -m study.search: runs a study, resumes it, or extends it."""

import argparse
import os
import shlex
import sys
from typing import TYPE_CHECKING

from study.execution.machine import add_machine_flags
from study.space.parameters import ALGORITHMS, SPACES
from study.strategy.scheduler import SCHEDULERS
from trainable.arguments import add_data_flags, add_precision_flag
from trainable.cli import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    Parser,
    UsageError,
    checked,
    fail,
    file_path,
    one_of,
    positive_int,
    printable,
    seed,
    unwritable,
)
from trainable.command import command, output_is_essential
from trainable.config import OBJECTIVES
from trainable.images import origins

if TYPE_CHECKING:
    from study.execution.display import Display
    from study.execution.plan import StudyPlan
    from study.execution.runner import Pause


@command("study.search", resumable=True)
def main(argv: list[str] | None = None) -> int:
    parser = _parser()
    arguments = parser.parse(argv)
    again = "python -m study.search " + shlex.join(sys.argv[1:] if argv is None else argv)

    from trainable.progress import stage

    with stage("loading libraries"):
        from study.execution.plan import preflight

    try:
        plan = preflight(arguments, parser.problems, again)
    except UsageError as error:
        fail(parser.prog, error.problems)
    return show(plan) if arguments.dry_run else run(plan)


def _parser() -> Parser:
    parser = Parser("study.search", "Runs a study; the same command resumes it, more --trials extend it.")
    add_data_flags(parser)
    group = parser.add_argument_group("study")
    group.add_argument("--name", default=None, help="the study's name (default: the data's name)")
    group.add_argument("--results", type=file_path, default="results", metavar="DIR", help="the study goes to DIR/NAME")
    group.add_argument(
        "--trials",
        type=positive_int,
        default=None,
        help=f"trials in all, the course's two recipes among them (default: {origins.words('trials')})",
    )
    epochs = f"epochs at most; if raised, trials that had reached them go on (default: {origins.words('epochs')})"
    group.add_argument("--epochs", type=positive_int, default=None, help=epochs)
    group.add_argument("--seed", type=seed, default=0, help="draws the splits, the cut, the proposals, the trainings")
    _add_search_flags(group)
    group.add_argument(
        "--time-budget",
        default=None,
        metavar="SECONDS",
        type=checked(float, "above 0 and at most 1000000000", lambda v: 0 < v <= 1e9),
        help="pause the study after so long; the same command goes on (default: no limit)",
    )
    dry = "show the images, the search space, what would run and about how long; start nothing, write no results"
    group.add_argument("--dry-run", action="store_true", help=dry)
    group.add_argument(
        "--keep-checkpoints",
        action="store_true",
        help="keep last.pt of every trial (default: of those that reached --epochs)",
    )
    add_watcher_flags(parser)
    add_machine_flags(parser)
    add_precision_flag(parser.add_argument_group("precision"), "auto; a study that goes on keeps its own")
    return parser


def add_watcher_flags(parser: Parser) -> None:
    """The flags of tools in which people follow a study as it runs."""
    group = parser.add_argument_group("live curves")
    places = {"tensorboard": "to RESULTS/NAME/tensorboard", "mlflow": "to where MLFLOW_TRACKING_URI points"}
    for name, place in places.items():
        text = f"write them {place}, too; needs the package {name}"
        group.add_argument(f"--{name}", dest="watchers", action="append_const", const=name, default=[], help=text)


def _add_search_flags(group: argparse._ArgumentGroup) -> None:
    """What is tried, in what order, and for how long."""
    group.add_argument(
        "--space",
        default=None,
        type=file_path,
        metavar="SPACE",
        help=f"the search space: {', '.join(SPACES)}, or a TOML file (default: {origins.words('space')})",
    )
    group.add_argument(
        "--objective",
        default=None,
        type=file_path,
        metavar="OBJECTIVE",
        help=f"what trials are judged by: {', '.join(OBJECTIVES)}, or the file of a table of costs: a column "
        "true_class and, for each class, one that says what it costs to predict it (default: minority_f1)",
    )
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a field of every trial's config that the space leaves alone, repeatable; see python -m trainable --help",
    )
    proposed = f"how trials are proposed: {', '.join(ALGORITHMS)}"
    group.add_argument("--algorithm", type=one_of(ALGORITHMS), default="tpe", help=proposed)
    stopped = f"how trials are stopped early: {', '.join(SCHEDULERS)}"
    group.add_argument("--scheduler", type=one_of(SCHEDULERS), default="asha", help=stopped)
    after = "an earlier study whose five best recipes are tried first, after the course's two"
    group.add_argument("--after", type=file_path, default=None, metavar="results/OTHER", help=after)


def show(plan: "StudyPlan") -> int:
    """Prints what ``run`` would do, and does nothing of it; the exit status."""
    from study.execution.dry_run import lines
    from study.record.files import read_trials
    from trainable.images.splits import count_lines

    output_is_essential()
    try:
        known = read_trials(plan.folder, plan.before) if plan.before else []
    except UsageError as error:
        fail("study.search", error.problems)
    opening = [*count_lines(plan.pool, plan.drawn), plan.pool.minority_line, *plan.warnings]
    for line in [
        *opening,
        *lines(plan, known),
        *_opening(plan, len(known)).split("\n"),
        "dry run: nothing was started",
    ]:
        print(printable(line))
    return 0


def run(plan: "StudyPlan") -> int:
    """Runs the study of ``plan`` to its ranking; the exit status.

    Raises:
        FailedError: Ray cannot be started; nothing has been written then.
    """
    from study.execution.machine import ray_running
    from study.execution.runner import Pause
    from study.findings import advice, ranking, summary
    from study.report import page
    from trainable.progress import stage

    pause = Pause(plan.time_budget_seconds)
    with ray_running(plan.resources, "study.search", plan.folder.name):
        display, failure = _run_trials(plan, pause)
    try:
        with stage("ranking the trials"):
            found = ranking.rank(plan.folder)
        verdict, more = summary.verdict_of(plan.folder), summary.more_images_of(plan.folder, found.study)
        head = advice.lines(found, verdict, more)
        display.say("\n" + "\n".join([*found.lines(), "", *head]))
        ranking.write(found, plan.folder)
    except UsageError as error:
        failure = failure or "; ".join(error.problems)
    except OSError as error:
        failure = failure or unwritable(error)
    if failure:
        print(f"study.search: {failure}", file=sys.stderr)
        return EXIT_FAILED
    with stage("writing report.html"):
        written = page.write_if_quick(found, plan.folder, in_a_hurry=pause.interrupted)
    display.say("\n" + written)
    if pause.requested and (display.ledger.running() or len(display.ledger.trials) < plan.num_trials):
        why = ""
        if pause.is_out_of_time and not pause.interrupted:
            kept = "those before them are kept" if display.num_new_epochs else "no other one was finished in it"
            why = f"the time budget is spent; epochs that were running are given up, {kept}; "
        display.say(f"{why}paused; to go on: {plan.command}")
    return EXIT_INTERRUPTED if pause.interrupted else 0


def _run_trials(plan: "StudyPlan", pause: "Pause") -> "tuple[Display, str | None]":
    """Runs the trials; what has shown them, and why it broke off, if it did."""
    from study.execution.display import Display
    from study.execution.dry_run import budget_lines
    from study.execution.runner import Runner
    from study.execution.trying import steps_lines
    from study.execution.tune import drive
    from study.execution.watchers import makers
    from study.record.ledger import Ledger
    from study.strategy import scheduler
    from study.strategy.searcher import Searcher
    from trainable import objectives
    from trainable.images.splits import count_lines

    try:
        plan.folder.mkdir(parents=True, exist_ok=True)
        ledger = Ledger(plan.folder, plan.record(), say=print, check=plan.check_again, keeps_last=plan.keeps_last)
        searcher = Searcher(ledger, plan.space, plan.base, plan.algorithm, plan.num_trials, plan.known.recipes)
    except UsageError as error:
        fail("study.search", error.problems)
    except OSError as error:
        fail("study.search", [unwritable(error)])
    objective = objectives.named(plan.base.objective)
    display = Display(ledger, plan.space, plan.num_trials, plan.base.epochs, plan.resources.num_slots, objective)
    display.say("\n".join([*count_lines(plan.pool, plan.drawn), plan.pool.minority_line, *plan.warnings]))
    display.say(_opening(plan, len(ledger.trials)))
    display.say("\n".join([*steps_lines(plan.space, plan.base, plan.train_counts), *budget_lines(plan)]))
    rule = scheduler.make(plan.scheduler, plan.epochs_of_scheduler)
    runner = Runner(ledger, searcher, rule, pause, display.on_change)
    watchers = makers(plan.folder.name, plan.folder, plan.watchers)
    failure = drive(runner, plan.pool, plan.resources, display, "study.search", watchers)
    ledger.close()
    return display, failure


def _opening(plan: "StudyPlan", num_known: int) -> str:
    where = f"on {plan.resources.gpus} GPU(s)" if plan.resources.gpus else "on the CPU"
    known = f", {num_known} of them there already" if num_known else ""
    return (
        f"study {plan.folder.name}: {plan.num_trials} trials of at most {plan.base.epochs} epochs{known}\n"
        f"{plan.resources.num_slots} at a time {where}, {plan.algorithm} with scheduler {plan.scheduler}; "
        f"files in {os.path.relpath(plan.folder)}\nspace: {plan.space_reason}\n"
        f"{plan.base.precision}: {plan.precision_reason}"
    )


if __name__ == "__main__":
    sys.exit(main())

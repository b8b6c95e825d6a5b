"""The stages of a confirmation, in turn: the runs, their scores, the winner, the test images. Uses torch and Ray."""

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from study.confirmation import ensemble, scoring, winner
from study.confirmation.plan import ConfirmationPlan, now
from study.confirmation.runs import Runs
from study.confirmation.trained import open_runs
from study.execution.display import Display
from study.execution.machine import ray_running
from study.execution.runner import Pause, Runner
from study.execution.watchers import makers
from study.findings.verdict import Verdict
from study.record.confirmation import OnTestImages, Reopening
from study.record.files import write_atomically
from study.record.ledger import Ledger
from study.record.lock import locked
from study.strategy.scheduler import Never
from trainable.cli import EXIT_FAILED, EXIT_INTERRUPTED, UsageError, unwritable
from trainable.decoding import to_json
from trainable.images.splits import count_lines, split
from trainable.progress import stage


def carry_out(plan: ConfirmationPlan, page: Callable[[Path], str]) -> int:
    """Runs what is missing, scores it, opens the test images; the exit status.

    ``page`` writes the page of the study in a folder, and says where it is.

    Raises:
        UsageError: the folder cannot be written to, or another process is at it, or was; nothing has been done.
        FailedError: Ray cannot be started.
    """
    with ExitStack() as ray:
        if not plan.is_trained:
            ray.enter_context(ray_running(plan.resources, "study.confirm", plan.folder.name))
        try:
            lock = locked(plan.folder)  # no search may extend the study meanwhile
        except OSError as error:
            raise UsageError([unwritable(error)]) from error
        try:
            plan.check_again()
            return _carry_out(plan, page, ray.close)
        finally:
            lock.release()


def _carry_out(plan: ConfirmationPlan, page: Callable[[Path], str], end_ray: Callable[[], None]) -> int:
    try:
        plan.runs_folder.mkdir(exist_ok=True)
        ledger = Ledger(plan.runs_folder, plan.record(), say=print)
        runs = Runs(ledger, plan.recipes, plan.seeds, plan.resources.cpus_per_trial)
    except OSError as error:
        raise UsageError([unwritable(error)]) from error
    study, num_runs = plan.study, len(ledger.trials) + runs.num_new
    display = Display(
        ledger, study.searched, num_runs, study.epochs, plan.resources.num_slots, study.judged_by, are_named=True
    )
    display.say("\n".join(count_lines(plan.pool, split(plan.pool, plan.seeds[0], plan.seeds[0]))))
    display.say(_opening(plan, len(runs.left)))
    pause, failure = Pause(None), None
    if runs.left:
        from study.execution.tune import drive

        runner = Runner(ledger, runs, Never(), pause, display.on_change)
        watchers = makers(f"{plan.folder.name}, confirmation", plan.runs_folder, ())
        failure = drive(runner, plan.pool, plan.resources, display, "study.confirm", watchers)
    ledger.close()
    end_ray()
    if pause.interrupted:
        display.say(f"paused; to go on: {plan.command}")
        return EXIT_INTERRUPTED
    failures = [failure] if failure else runs.failures
    if not failures:
        try:
            _conclude(plan, display.say)
            display.say("\n" + page(plan.folder))
        except UsageError as error:
            anew = f"if a file cannot be repaired, move {plan.runs_folder} away and its runs are trained again"
            failures = [*error.problems, anew]
        except OSError as error:
            failures = [unwritable(error)]
    for text in failures:
        print(f"study.confirm: {text}", file=sys.stderr)
    if failures:
        print(f"study.confirm: nothing is lost, the same command goes on: {plan.command}", file=sys.stderr)
    return EXIT_FAILED if failures else 0


def _opening(plan: ConfirmationPlan, num_left: int) -> str:
    where = f"on {plan.resources.gpus} GPU(s)" if plan.resources.gpus else "on the CPU"
    num_runs = len(plan.recipes) * len(plan.seeds)
    known = f", {num_runs - num_left} of them there already" if num_left < num_runs else ""
    return (
        f"confirmation of {plan.folder.name}: {len(plan.recipes)} recipes ({', '.join(r.name for r in plan.recipes)})\n"
        f"on {len(plan.seeds)} fresh seeds each, {num_runs} runs of at most {plan.study.epochs} epochs{known}\n"
        f"{plan.resources.num_slots} at a time {where}, none stopped by a scheduler; "
        f"files in {os.path.relpath(plan.runs_folder)}"
    )


def _conclude(plan: ConfirmationPlan, say: Callable[[str], None]) -> None:
    """Scores the runs, opens the test images, and leaves confirm.json and winner/; says what is in them.

    Raises:
        UsageError: a run's files are damaged.
        OSError: something cannot be written.
    """
    runs = open_runs(plan)
    content = scoring.summary(plan, scoring.measure(runs), now())
    with stage("choosing an ensemble"):
        content = replace(content, ensemble=ensemble.choose(runs, content.winner))
    test_before = plan.before.test if plan.before else None
    if test_before is None:  # else the record of the opening stays as it is until there is a newer one
        write_atomically(plan.folder / "confirm.json", to_json(content))
    say("\n" + "\n".join(Verdict(content).confirmation_lines()))
    say("\nwriting the winner's model, its decision offsets and exported programs")
    assert content.ensemble is not None
    with stage("writing winner/"):
        winner.write(plan.folder, plan.study.name, runs[content.winner], plan.pool)
        if not content.ensemble.is_one:
            ensemble.write(plan.folder, runs, content.ensemble)
    opened, reopened = now(), list[Reopening]()
    if test_before is not None:
        assert plan.reopen_reason is not None
        reopened = [*test_before.reopened, Reopening(time=opened, reason=plan.reopen_reason)]
        opened = test_before.opened
    names, seed = plan.pool.class_names, plan.study.seed
    recipes, differences = scoring.measure_test(runs, content.winner, plan.test, names, seed)
    test = OnTestImages(opened=opened, reopened=reopened, recipes=recipes, differences=differences)
    content = replace(content, test=test)
    write_atomically(plan.folder / "confirm.json", to_json(content))  # before anybody sees a score
    say("\n" + "\n".join(Verdict(content).test_lines()))

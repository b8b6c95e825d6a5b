"""Runs a study's trials through Ray Tune: thin adapters between Tune's hooks and the ledger. Imports Ray."""

import logging
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.execution.runner import FolderError, TooManyFailuresError
from trainable.cli import UsageError

os.environ |= {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # under "uv run" Ray would start each worker through uv in a copy of the checkout, half a minute late
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # Tune's own snapshots are never read
}

import ray
from ray import tune
from ray.tune.experiment import Trial as RayTuneTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher as TuneSearcher

from study.record.ledger import Ledger, Trial
from study.strategy.scheduler import Scheduler, is_cut
from trainable import command
from trainable.files import SCRATCH
from trainable.images.pool import Pool
from trainable.tune import RayTrial

if TYPE_CHECKING:
    from study.execution.display import Display
    from study.execution.machine import Resources
    from study.execution.runner import Pause, Source
    from study.record.ledger import Ledger
    from study.strategy.scheduler import Scheduler
    from trainable.images.pool import Pool

# Tune cannot write its snapshots to a full disk, and says so with a traceback; they are never read
logging.getLogger("ray.tune.execution.experiment_state").setLevel(logging.CRITICAL + 1)

MAX_ATTEMPTS = 3
MAX_FAILURES_IN_A_ROW = 10


class _Session:
    """What the adapters share. Tune pickles its searcher and scheduler; nobody reads that, so nothing goes in."""

    def __init__(
        self, ledger: Ledger, source: Source, scheduler: Scheduler, pause: Pause, num_slots: int,
        on_change: Callable[[Trial], None],
    ) -> None:  # fmt: skip
        self.ledger, self.source, self.scheduler, self.pause = ledger, source, scheduler, pause
        self.num_slots, self.on_change = num_slots, on_change
        self.active: dict[str, int] = {}  # Tune's id of each trial under way -> its number
        self.errors: dict[str, str] = {}
        self.failures_in_a_row: list[str] = []
        self.broken: str | None = None  # why
        self.error: Exception | None = None  # the first that a hook has raised

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return object, ()

    @contextmanager
    def hook(self) -> Iterator[None]:
        """Keeps what is raised for the end of the run: Tune would call the hooks again because of it, and hide it."""
        try:
            yield
        except Exception as error:
            self.error = self.error or error

    @property
    def is_readonly(self) -> bool:
        return self.broken is not None or self.error is not None

    @property
    def hopeless(self) -> bool:
        return len(self.failures_in_a_row) >= MAX_FAILURES_IN_A_ROW

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Writing to the ledger; after a failure what is half written must be repaired before anything is added."""
        try:
            yield
        except OSError as error:
            self.broken = f"{error.filename or self.ledger.folder}: cannot be written ({error.strerror or error})"
        except UsageError as error:
            self.broken = "; ".join(error.problems)

    def next_config(self, tune_id: str) -> dict[str, Any] | str | None:
        if self.pause.requested or self.hopeless or self.is_readonly:
            return None if self.active else TuneSearcher.FINISHED
        if len(self.active) >= self.num_slots:
            return None
        trial = None
        with self._writing():
            trial = self.source.next()
        if trial is None:
            # FINISHED is final: Tune would not even restart a worker that dies now
            return None if self.active else TuneSearcher.FINISHED
        self.on_change(trial)
        self.active[tune_id] = trial.number
        return {
            "number": trial.number,
            "folder": str(self.ledger.trial_folder(trial.number)),
            "trial": trial.config.to_dict(),
        }

    def on_result(self, tune_id: str, result: dict[str, Any]) -> bool:
        """Enters a result; True if the trial is to be stopped."""
        number = self.active[tune_id]
        row = _row(result)
        if row and not self.is_readonly:
            with self._writing():
                self.ledger.record(number, row)
            self.on_change(self.ledger.trials[number])
        return self.pause.requested or self.is_readonly or self._is_cut(number)

    def on_end(self, tune_id: str, result: dict[str, Any] | None, error: bool) -> None:
        number = self.active.pop(tune_id)
        result = result or {}
        reason = self.errors.pop(tune_id, "unknown") if error else result.get("failure")
        self.broken = self.broken or result.get("unwritable")
        if not self.is_readonly:
            with self._writing():
                self._enter_end(number, result, reason)
        self.on_change(self.ledger.trials[number])

    def _enter_end(self, number: int, result: dict[str, Any], failure: str | None) -> None:
        ledger, trial = self.ledger, self.ledger.trials[number]
        if failure is not None:
            ledger.fail(number, failure)
            self.failures_in_a_row.append(f"trial {number}: {failure}")
            return
        row = _row(result)
        if row:
            ledger.record(number, row)
        if result.get("reason"):
            ledger.complete(number, result["reason"])
        elif self._is_cut(number):
            ledger.stop(number, f"scheduler, epoch {len(trial.best)}")
        else:
            return  # paused, and stays running in the ledger
        self.failures_in_a_row.clear()

    def _is_cut(self, number: int) -> bool:
        return is_cut(self.scheduler, self.ledger.trials[number], self.ledger.standings)


class _TuneSearcher(TuneSearcher):
    def __init__(self, session: _Session) -> None:
        super().__init__()
        self._session = session

    # "FINISHED" is a str, which Ray's own annotation leaves out
    def suggest(self, trial_id: str) -> Any:
        with self._session.hook():
            return self._session.next_config(trial_id)
        return None  # there was an error, and the next call says so

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        with self._session.hook():
            self._session.on_end(trial_id, result, error)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger has it all."""

    def restore(self, checkpoint_path: str) -> None:
        raise AssertionError("a study is resumed from its ledger")


class _TuneScheduler(FIFOScheduler):
    def __init__(self, session: _Session) -> None:
        super().__init__()
        self._session = session

    def on_trial_result(self, tune_controller: Any, trial: RayTuneTrial, result: dict[str, Any]) -> str:
        with self._session.hook():
            if not self._session.on_result(trial.trial_id, result):
                return TrialScheduler.CONTINUE
        return TrialScheduler.STOP

    def on_trial_error(self, tune_controller: Any, trial: RayTuneTrial) -> None:
        # Tune's own get_error looks where the file will only be copied to later
        with self._session.hook():
            if trial.error_file is not None:
                self._session.errors[trial.trial_id] = _last_failure(Path(trial.error_file).read_text())


def _last_failure(text: str) -> str:
    """The last failure in a trial's error file: the end of its traceback, or what Ray says of a dead worker."""
    lines = [line.strip() for line in text.rpartition("Failure # ")[2].splitlines()[1:] if line.strip()]
    has_traceback = any(line.startswith('File "') for line in lines)
    return lines[-1 if has_traceback else 0] if lines else "unknown"


def _row(flat_result: dict[str, Any]) -> dict[str, Any]:
    """The epoch's row in a result, which Tune has flattened."""
    return {key.removeprefix("row/"): value for key, value in flat_result.items() if key.startswith("row/")}


def run(
    ledger: Ledger, source: Source, scheduler: Scheduler, pool: Pool, resources: Resources, pause: Pause,
    on_change: Callable[[Trial], None],
) -> None:  # fmt: skip
    """Runs trials until the source has no more or a pause is asked for; Ray must be up.

    Raises:
        TooManyFailuresError: ten trials in a row have failed.
        FolderError: the folder cannot be written to; what is there is whole.
    """
    assert ledger.folder is not None
    session = _Session(ledger, source, scheduler, pause, resources.num_slots, on_change)
    scratch = ledger.folder / SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)  # which leaves a link as it is
    if scratch.is_symlink():
        raise FolderError(f"{scratch}: is a symbolic link, and Ray would write behind it")
    trainable = tune.with_resources(
        tune.with_parameters(RayTrial, pool=pool), {"cpu": resources.cpus_per_trial, "gpu": resources.gpus_per_trial}
    )
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=_TuneSearcher(session), scheduler=_TuneScheduler(session), num_samples=10**9, reuse_actors=True
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(scratch.absolute()),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=MAX_ATTEMPTS - 1),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
        ),
    )
    # Tune would start one worker, wait for it, and only then start the next
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(resources.num_slots)
    tuner.fit()
    shutil.rmtree(scratch, ignore_errors=True)
    if session.error:
        raise session.error
    if session.broken:
        raise FolderError(session.broken)
    if session.hopeless:
        raise TooManyFailuresError(session.failures_in_a_row[0])


def _start_ray(**options: Any) -> Any:
    """``ray.init``, which would leave its own handlers in the place of ours.

    What it starts never sees a SIGTERM or SIGHUP that is meant for this process, also where a closed terminal,
    ``timeout`` or a cluster's scheduler sends one to all: blocked signals are inherited. (SIGINT Ray blocks itself.)
    """
    handlers = {number: signal.getsignal(number) for number in command.SIGNALS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})
    try:
        return ray.init(**options, logging_level=logging.ERROR, log_to_driver=False)
    except BaseException as error:
        ray.shutdown()  # what has been started of it
        if isinstance(error, SystemExit):  # of Ray's handler, while it was there
            raise KeyboardInterrupt from None
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def drive(
    ledger: "Ledger", source: "Source", scheduler: "Scheduler", pool: "Pool", resources: "Resources", pause: "Pause",
    display: "Display",
) -> str | None:  # fmt: skip
    """Starts Ray and runs trials until the source has no more or a pause is asked for; why it broke off, or None."""
    from study.execution import tune
    from study.execution.machine import ray_running
    from study.execution.runner import FolderError, TooManyFailuresError

    with pause.on_signals(display.say), ray_running(resources) as dashboard:
        if dashboard:
            display.say(f"dashboard: {dashboard} (its token: ray get-auth-token)")
        with display.shown():
            try:
                tune.run(ledger, source, scheduler, pool, resources, pause, display.on_change)
            except TooManyFailuresError as error:
                return f"{tune.MAX_FAILURES_IN_A_ROW} trials in a row have failed, the first was {error}"
            except FolderError as error:
                return f"{error}; nothing is lost, the same command goes on once this is put right"
    return None

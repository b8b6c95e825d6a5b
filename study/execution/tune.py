"""Runs a study's trials through Ray Tune: thin adapters between Tune's hooks and the runner. Imports Ray."""

import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

# sets what Ray reads when it is imported
from study.execution.machine import Resources, ray_running  # isort: skip
from ray import tune
from ray.tune.experiment import Trial as RayTuneTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher as TuneSearcher

from study.execution import cluster
from study.execution.runner import MAX_FAILURES_IN_A_ROW, FolderError, Runner, TooManyFailuresError
from study.execution.watchers import Watcher, watched
from study.record.trial import Trial
from trainable.files import SCRATCH
from trainable.images.pool import Pool
from trainable.tune import RayTrial

if TYPE_CHECKING:
    from study.execution.display import Display

# Tune cannot write its snapshots to a full disk, and says so with a traceback; they are never read
logging.getLogger("ray.tune.execution.experiment_state").setLevel(logging.CRITICAL + 1)

MAX_ATTEMPTS = 3
MAX_STARTING = 10_000  # workers at a time: as many as the session hands out trials
SECONDS_BETWEEN_LOOKS = 2.0


class _Session:
    """What the adapters share. Tune pickles its searcher and scheduler; nobody reads that, so nothing goes in."""

    def __init__(self, runner: Runner, num_slots: Callable[[], int]) -> None:
        self.runner, self.num_slots = runner, num_slots
        self.numbers: dict[str, int] = {}  # Tune's id of each trial under way -> its number
        self.attempts: Counter[int] = Counter()  # by trial; Tune gives a trial up whose worker dies as it is reused
        self.again: list[Trial] = []  # their workers have died, and they go on from their last epochs
        self.failures: dict[str, str] = {}  # Tune's id -> what its error file says
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

    def next_config(self, tune_id: str) -> dict[str, Any] | str | None:
        trial = None
        if self.error is None and (self.runner.stops or len(self.numbers) < self.num_slots()):
            trial = self.again.pop(0) if self.again and not self.runner.stops else self.runner.next()
        if trial is None:
            # FINISHED is final: Tune would not even restart a worker that dies now
            return None if self.numbers else TuneSearcher.FINISHED
        self.numbers[tune_id] = trial.number
        self.attempts[trial.number] += 1
        return {
            "number": trial.number,
            "folder": str(self.runner.ledger.trial_folder(trial.number)),
            "trial": trial.config,
        }

    def on_result(self, tune_id: str, result: dict[str, Any]) -> bool:
        """Enters what a trial reports; True if it goes no further."""
        return self.error is not None or self.runner.report(self.numbers[tune_id], result["report"])

    def on_end(self, tune_id: str, result: dict[str, Any] | None, error: bool) -> None:
        number = self.numbers.pop(tune_id)
        if self.error is None and error:
            reason = self.failures.pop(tune_id, "unknown")
            if self.attempts[number] < MAX_ATTEMPTS:
                self.again.append(self.runner.ledger.trials[number])
                return
            self.runner.fail(number, reason)
        elif self.error is None and result and result["done"] and number in self.runner.active:
            self.runner.report(number, result["report"])  # its last report, of which on_result is not told
        self.runner.leave(number)


class _Slots:
    """How many trials may run at a time; ``say`` is told of machines that join the cluster or leave it meanwhile."""

    def __init__(self, resources: Resources, say: Callable[[str], None]) -> None:
        self._resources, self._say, self._number = resources, say, resources.num_slots
        self._names = {node.name for node in resources.nodes}
        self._looked = time.monotonic()

    def __call__(self) -> int:
        if self._resources.address is not None and time.monotonic() - self._looked > SECONDS_BETWEEN_LOOKS:
            self._look()
            self._looked = time.monotonic()
        return self._number

    def _look(self) -> None:
        wants = self._resources.cpus_per_trial, self._resources.gpus_per_trial
        slots = {node.name: node.num_slots(*wants) for node in cluster.alive() if node.num_slots(*wants)}
        for name in sorted(slots.keys() ^ self._names):
            joined = "has joined the cluster and gets work"
            self._say(f"node {name} {joined if name in slots else 'has left the cluster; its trials go on elsewhere'}")
        self._names = set(slots)
        if self._resources.grows:
            self._number = sum(slots.values())


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
        self._keeps_workers = False

    def on_trial_add(self, tune_controller: Any, trial: RayTuneTrial) -> None:
        """Tells Tune before the first trial to keep all workers whose trials are over for the next trials.

        By itself it keeps one; of two trials that end together, the other's worker is ended and a new one started,
        which takes seconds. There is no setting for it, and another version of Ray may have it elsewhere.
        """
        super().on_trial_add(tune_controller, trial)
        if not self._keeps_workers:
            with suppress(AttributeError):
                kept = tune_controller._tune_controller._actor_cache
                kept.increase_max(trial.placement_group_factory, by=MAX_STARTING)
            self._keeps_workers = True

    def choose_trial_to_run(self, tune_controller: Any) -> RayTuneTrial | None:
        """None: Tune starts waiting trials by itself, and gives a free worker to one that has none.

        What FIFO chooses is the trial that has waited longest, for a worker that is starting. It would get the free
        one, the starting one would be ended, and one more be started for the next trial: where trials are shorter than
        the start of a worker, for ever.
        """
        return None

    def on_trial_result(self, tune_controller: Any, trial: RayTuneTrial, result: dict[str, Any]) -> str:
        with self._session.hook():
            if not self._session.on_result(trial.trial_id, result):
                return TrialScheduler.CONTINUE
        return TrialScheduler.STOP

    def on_trial_error(self, tune_controller: Any, trial: RayTuneTrial) -> None:
        # Tune's own get_error looks where the file will only be copied to later
        with self._session.hook():
            if trial.error_file is not None:
                self._session.failures[trial.trial_id] = _last_failure(Path(trial.error_file).read_text())


class _OutOfTimeError(BaseException):
    """Goes through all of Tune, which would else wait for the epochs that are running."""


class _Clock(tune.Callback):
    def __init__(self, session: _Session) -> None:
        self._session = session

    def on_step_begin(self, iteration: int, trials: list[RayTuneTrial], **info: Any) -> None:
        if self._session.runner.pause.is_out_of_time:
            raise _OutOfTimeError


def _last_failure(text: str) -> str:
    """The last failure in a trial's error file: the end of its traceback, or what Ray says of a dead worker."""
    lines = [line.strip() for line in text.rpartition("Failure # ")[2].splitlines()[1:] if line.strip()]
    has_traceback = any(line.startswith('File "') for line in lines)
    return lines[-1 if has_traceback else 0] if lines else "unknown"


def run(runner: Runner, pool: Pool, resources: Resources, say: Callable[[str], None]) -> None:
    """Runs trials until the runner hands out no more; Ray must be up. ``say`` is told of machines that come and go.

    Raises:
        TooManyFailuresError, FolderError: see ``Runner.raise_what_broke_it``.
    """
    assert runner.ledger.folder is not None
    session = _Session(runner, _Slots(resources, say))
    scratch = runner.ledger.folder / SCRATCH
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
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            callbacks=[_Clock(session)],
        ),
    )
    # Tune would start one worker, wait for it, and only then start the next
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(MAX_STARTING)
    with suppress(_OutOfTimeError):  # what the workers are at ends with Ray
        tuner.fit()
    shutil.rmtree(scratch, ignore_errors=True)
    with suppress(OSError):  # where the study was moved away, it is empty: Tune has made it for its own
        runner.ledger.folder.rmdir()
    if session.error:
        raise session.error
    runner.raise_what_broke_it()


def drive(
    runner: Runner,
    pool: Pool,
    resources: Resources,
    display: "Display",
    program: str,
    watchers: dict[str, Callable[[], Watcher]],
) -> str | None:
    """Runs trials until there are no more or a pause is asked for; why it broke off, or None.

    ``watchers`` are made by these functions, and told of by these names.

    Raises:
        FailedError: Ray is not up yet, and cannot be started.
    """
    assert runner.ledger.folder is not None
    with (
        runner.pause.on_signals(display.say),
        ray_running(resources, program, runner.ledger.folder.name),
        watched(runner, watchers, display.say),
        display.shown(),
    ):
        try:
            run(runner, pool, resources, display.say)
        except TooManyFailuresError as error:
            return f"{MAX_FAILURES_IN_A_ROW} trials in a row have failed, the first was {error}"
        except FolderError as error:
            return str(error)
    return None

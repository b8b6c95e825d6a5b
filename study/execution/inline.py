"""Runs trials one after the other in this process: no Ray, nothing to be killed, the same files."""

from study.execution.runner import Runner
from trainable.images.pool import Pool
from trainable.worker import Worker


def run(runner: Runner, pool: Pool) -> None:
    """Runs trials until the runner hands out no more. An exception is not caught: here somebody wants to see it.

    Raises:
        TooManyFailuresError, FolderError: see ``Runner.raise_what_broke_it``.
    """
    worker = Worker(pool)
    while (trial := runner.next()) is not None:
        worker.begin(trial.number, runner.ledger.trial_folder(trial.number), trial.config)
        while not runner.report(trial.number, worker.step()):
            pass
        runner.leave(trial.number)
    runner.raise_what_broke_it()

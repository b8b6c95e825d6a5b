"""Others who see a study as it runs: gauges, TensorBoard, MLflow. None of them holds it up, and none can end it."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Protocol

from study.execution.runner import Runner
from study.record.trial import Trial

IDLE_SECONDS = 3.0  # less than Ray takes between two reports of its metrics
PATIENCE_SECONDS = 10.0  # at the end of a study, for what a watcher has not yet been told


class Watcher(Protocol):
    """Sees each trial that there is at the start, and then each entry."""

    def on_change(self, trial: Trial) -> None:
        """The trial was begun or taken up, has a new row, or has ended; what it raises drops the watcher."""
        ...

    def idle(self) -> None:
        """Nothing has changed for IDLE_SECONDS."""
        ...

    def close(self) -> None:
        """There is nothing more to see for now."""
        ...


class _Watch:
    """One watcher in a thread of its own, which a server that does not answer may hold up, and nothing else."""

    def __init__(self, name: str, make: Callable[[], Watcher], say: Callable[[str], None]) -> None:
        self._name, self._make, self._say = name, make, say
        self._entries: SimpleQueue[Trial | None] = SimpleQueue()
        self._is_over = False
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def tell(self, trial: Trial) -> None:
        if not self._is_over:
            self._entries.put(replace(trial, best=list(trial.best)))  # as it is now: the driver goes on with its own

    def end(self) -> None:
        self._entries.put(None)
        self._thread.join(PATIENCE_SECONDS)
        if self._thread.is_alive():
            self._is_over = True
            self._say(f"{self._name}: has not taken all within {PATIENCE_SECONDS:.0f} s of the end, and is left behind")

    def _watch(self) -> None:
        try:
            watcher = self._make()
            while True:
                try:
                    trial = self._entries.get(timeout=IDLE_SECONDS)
                except Empty:
                    watcher.idle()
                    continue
                if trial is None:
                    break
                watcher.on_change(trial)
            watcher.close()
        except Exception as error:  # whatever another's library raises
            if not self._is_over:
                reason = " ".join(str(error).split())[:300]
                self._say(f"{self._name}: {type(error).__name__}: {reason}; the study goes on without it")
        self._is_over = True


@contextmanager
def watched(runner: Runner, makers: dict[str, Callable[[], Watcher]], say: Callable[[str], None]) -> Iterator[None]:
    """While this is open, each watcher is told of what the runner enters; ``say`` is told which of them fails."""
    with ExitStack() as stack:
        for name, make in makers.items():
            watch = _Watch(name, make, say)
            stack.callback(watch.end)
            for trial in runner.ledger.trials.values():
                watch.tell(trial)
            runner.listeners.append(watch.tell)
        yield


def problems(names: Sequence[str]) -> list[str]:
    """A sentence for each watcher whose package is not installed."""
    return [
        f"--{name} needs the package {name}, which is not installed: uv sync --extra {name}"
        for name in names
        if find_spec(name) is None
    ]


def makers(title: str, folder: Path, names: Sequence[str]) -> dict[str, Callable[[], Watcher]]:
    """What makes each watcher of the study in ``folder``, by its name: gauges that call it ``title``, and ``names``."""

    def gauges() -> Watcher:
        from study.execution.gauges import Gauges

        return Gauges(title)

    def tensorboard() -> Watcher:
        from study.execution.tensorboard import TensorBoard

        return TensorBoard(folder)

    def mlflow() -> Watcher:
        from study.execution.mlflow import MLflow

        return MLflow(folder)

    asked = {"tensorboard": tensorboard, "mlflow": mlflow}
    return {"gauges": gauges, **{name: asked[name] for name in names}}

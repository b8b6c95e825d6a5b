"""The trial as a Ray Tune Trainable: a worker's reports as Tune's results. Imports Ray."""

import os
import threading
import time
from pathlib import Path
from typing import Any

import ray
from ray import tune

from trainable.images.pool import Pool
from trainable.worker import Worker


class RayTrial(tune.Trainable):
    """Runs a ``Worker`` for Ray Tune; an actor serves one trial after the other.

    Its config has ``number``, ``folder`` (the trial's, absolute) and ``trial`` (a ``TrialConfig``). A result has its
    ``report``: of a table Tune would copy each field several times, and keep statistics of it.
    """

    def setup(self, config: dict[str, Any], pool: Pool) -> None:  # type: ignore[override]  # tune.with_parameters
        if ray.is_initialized():  # in a worker of Ray's, and not in a test's own process
            _end_with_parent()
        self._worker = Worker(pool)
        self._began_with = "/".join(Path(config["folder"]).parts[-3:])
        self.reset_config(config)

    def __repr__(self) -> str:
        """What Ray's dashboard calls the actor for good: "digits/trials/3 and later"."""
        return f"{self._began_with} and later"

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._worker.begin(new_config["number"], Path(new_config["folder"]), new_config["trial"])
        return True

    def step(self) -> dict[str, Any]:
        report = self._worker.step()
        return {"report": report, "training_iteration": report.num_epochs, "done": report.is_last}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        raise AssertionError("the trial keeps its own checkpoints; Tune is told not to ask for any")

    def load_checkpoint(self, checkpoint: Any) -> None:
        raise AssertionError("the trial goes on from its own last.pt")


def _end_with_parent() -> None:
    """Ends this process once its parent, Ray's raylet, has ended.

    Ray does so itself only where orphans go to process 1; a desktop's session manager, too, may adopt them.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

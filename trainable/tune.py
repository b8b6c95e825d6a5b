"""The trial as a Ray Tune Trainable: the same loop, with a checkpoint before each report. Imports Ray."""

import dataclasses
import os
import threading
import time
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune

from trainable import checkpoint, loop
from trainable.config import TrialConfig
from trainable.data import Pool

TRACE = "STUDY_TRACE"  # environment: a file that gets a line "trial epoch" as each epoch starts, whatever comes of it


class RayTrial(tune.Trainable):
    """Runs ``trainable.loop`` for Ray Tune; goes on from the trial's ``last.pt`` where there is one.

    Its config has ``number``, ``folder`` (the trial's, absolute) and ``trial`` (the fields of a TrialConfig).
    A result has ``row``, the epoch's row; or ``failure``, the reason why the trial came to nothing; or ``unwritable``,
    why its checkpoint could not be written, which is not the trial's fault. ``reason`` says why a trial is done.
    An actor serves one trial after the other and keeps the images meanwhile.
    """

    def setup(self, config: dict[str, Any], pool: Pool) -> None:  # type: ignore[override]  # tune.with_parameters
        if ray.is_initialized():  # in a worker of Ray's, and not in a test's own process
            _end_with_parent()
        self._pool = pool
        self._images: dict[tuple[int, int], loop.TrialImages] = {}
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._number, self._last = new_config["number"], Path(new_config["folder"]) / "last.pt"
        self._begin(TrialConfig.from_dict(new_config["trial"]))
        # the driver may have missed the last report: it is made again first, and costs nothing
        self._announced = len(self._state.rows) == 0
        return True

    def _begin(self, config: TrialConfig) -> None:
        """Starts the trial, or goes on with it."""
        for name in ("_state", "_rows"):  # the last trial's memory goes to this one, or to another worker
            vars(self).pop(name, None)
        torch.cuda.empty_cache()
        key = (config.split_seed, config.cut_seed)
        if key not in self._images:
            device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
            self._images = {key: loop.trial_images(self._pool, *key, device)}
        self._trial_images = self._images[key]
        if self._last.exists():
            content = checkpoint.read(self._last)
            # a worker before this one may have run out of memory, and the driver not have heard of it
            known = checkpoint.stored_config(content, self._last).num_micro_batches
            config = dataclasses.replace(config, num_micro_batches=max(known, config.num_micro_batches))
            self._state = checkpoint.restore(content, config, self._trial_images, self._last)
        else:
            self._state = loop.new_state(config, self._trial_images)
        self._rows = loop.run(self._state, self._trial_images)

    def step(self) -> dict[str, Any]:
        if self._announced:
            num_rows = len(self._state.rows)
            try:
                self._run_epoch()
            except loop.DivergedError as error:
                return {"failure": str(error), "done": True, "training_iteration": num_rows + 1}
            try:
                checkpoint.save(self._state, self._trial_images, self._last)
            except OSError as error:
                unwritable = f"{self._last}: cannot be written ({error.strerror or error})"
                return {"unwritable": unwritable, "done": True, "training_iteration": num_rows + 1}
        self._announced = True
        rows = self._state.rows
        reason = loop.stop_reason(self._state.config, rows)
        return {"row": rows[-1], "training_iteration": len(rows), "done": reason is not None, "reason": reason or ""}

    def _run_epoch(self) -> None:
        """Trains an epoch; where the GPU's memory does not suffice, again from the last checkpoint in smaller parts."""
        while True:
            if TRACE in os.environ:
                with open(os.environ[TRACE], "a") as file:
                    file.write(f"{self._number} {len(self._state.rows) + 1}\n")
            try:
                next(self._rows)
                return
            except torch.OutOfMemoryError:
                config = self._state.config
                num_micro_batches = 2 * config.num_micro_batches
                if num_micro_batches > config.batch_size // 2:  # batch norm needs two images
                    raise
            # outside of the handler, which would keep the failed step's tensors alive
            self._begin(dataclasses.replace(config, num_micro_batches=num_micro_batches))

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

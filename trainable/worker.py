"""A place where trials run one after the other, with a checkpoint before each report. Knows no tuner."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import torch

from trainable import checkpoint, loop
from trainable.config import TrialConfig
from trainable.images.pool import Pool
from trainable.images.trial import TrialImages, trial_images
from trainable.report import Report

Draw = Callable[[Pool, int, int, torch.device], TrialImages]  # from the pool, the split's seed and the cut's
TRACE = "STUDY_TRACE"  # environment: a file that gets a line "trial epoch" as each epoch starts, whatever comes of it


class Worker:
    """Runs ``trainable.loop``; goes on from a trial's ``last.pt`` where there is one.

    It serves one trial after the other and keeps the images meanwhile.
    """

    def __init__(self, pool: Pool, draw: Draw = trial_images) -> None:
        """``draw`` says which of the pool's images a trial has for what."""
        self._pool, self._draw = pool, draw
        self._images: dict[tuple[int, int], TrialImages] = {}

    def begin(self, number: int, folder: Path, config: TrialConfig) -> None:
        """Takes up the trial ``number``, whose files lie in ``folder``.

        Raises:
            CheckpointError: its last.pt is damaged, or of another config.
        """
        self._number, self._last = number, folder / "last.pt"
        self._start(config)
        # the driver may have missed the last report: it is made again first, and costs nothing
        self._announced = len(self._state.rows) == 0

    def _start(self, config: TrialConfig) -> None:
        for name in ("_state", "_rows"):  # the last trial's memory goes to this one, or to another worker
            vars(self).pop(name, None)
        torch.cuda.empty_cache()
        if torch.cuda.is_initialized():
            torch.cuda.reset_peak_memory_stats()
        key = (config.split_seed, config.cut_seed)
        if key not in self._images:
            device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
            self._images = {key: self._draw(self._pool, *key, device)}
        images = self._images[key]
        if self._last.exists():
            content = checkpoint.read(self._last)
            # a worker before this one may have run out of memory, and the driver not have heard of it
            known = checkpoint.stored_config(content, self._last).num_micro_batches
            config = dataclasses.replace(config, num_micro_batches=max(known, config.num_micro_batches))
            self._state = checkpoint.restore(content, config, images, self._last)
        else:
            self._state = loop.new_state(config, images)
        self._rows, self._trial_images = loop.run(self._state, images), images

    def step(self) -> Report:
        """Trains an epoch, keeps it on disk, and reports it; the first time the last one that is there already."""
        if self._announced:
            num_epochs = len(self._state.rows) + 1
            try:
                self._run_epoch()
            except loop.DivergedError as error:
                return Report(num_epochs, failure=str(error))
            try:
                checkpoint.save(self._state, self._trial_images, self._last)
            except OSError as error:
                return Report(num_epochs, unwritable=f"{self._last}: cannot be written ({error.strerror or error})")
        self._announced = True
        rows = self._state.rows
        gpu_bytes = torch.cuda.max_memory_reserved() if torch.cuda.is_initialized() else 0
        return Report(len(rows), rows[-1], loop.stop_reason(self._state.config, rows) or "", gpu_bytes=gpu_bytes)

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
            self._start(dataclasses.replace(config, num_micro_batches=num_micro_batches))

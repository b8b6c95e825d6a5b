"""The trial as a Ray Tune Trainable: the same loop, with a checkpoint before each report. Imports Ray."""

from pathlib import Path
from typing import Any

import torch
from ray import tune

from trainable import checkpoint, loop
from trainable.config import TrialConfig
from trainable.data import Pool


class RayTrial(tune.Trainable):
    """Runs ``trainable.loop`` for Ray Tune; goes on from the trial's ``last.pt`` where there is one.

    Its config has ``number``, ``folder`` (the trial's, absolute) and ``trial`` (the fields of a TrialConfig).
    A result has ``row``, the epoch's row; or ``failure``, the reason why the trial came to nothing; ``reason`` says
    why a trial is done. An actor serves one trial after the other and keeps the images meanwhile.
    """

    def setup(self, config: dict[str, Any], pool: Pool) -> None:  # type: ignore[override]  # tune.with_parameters
        self._pool = pool
        self._images: dict[tuple[int, int], loop.TrialImages] = {}
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._last = Path(new_config["folder"]) / "last.pt"
        config = TrialConfig.from_dict(new_config["trial"])
        for name in ("_state", "_rows"):  # the last trial's memory goes to this one, or to another worker
            vars(self).pop(name, None)
        torch.cuda.empty_cache()
        key = (config.split_seed, config.cut_seed)
        if key not in self._images:
            device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
            self._images = {key: loop.trial_images(self._pool, *key, device)}
        images = self._images[key]
        if self._last.exists():
            self._state = checkpoint.restore(checkpoint.read(self._last), config, images, self._last)
        else:
            self._state = loop.new_state(config, images)
        # the driver may have missed the last report: it is made again first, and costs nothing
        self._announced = len(self._state.rows) == 0
        self._rows = loop.run(self._state, images)
        return True

    def step(self) -> dict[str, Any]:
        rows = self._state.rows
        if self._announced:
            try:
                next(self._rows)
            except loop.DivergedError as error:
                return {"failure": str(error), "done": True, "training_iteration": len(rows) + 1}
            images = self._images[self._state.config.split_seed, self._state.config.cut_seed]
            checkpoint.save(self._state, images, self._last)
        self._announced = True
        reason = loop.stop_reason(self._state.config, rows)
        return {"row": rows[-1], "training_iteration": len(rows), "done": reason is not None, "reason": reason or ""}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        raise AssertionError("the trial keeps its own checkpoints; Tune is told not to ask for any")

    def load_checkpoint(self, checkpoint: Any) -> None:
        raise AssertionError("the trial goes on from its own last.pt")

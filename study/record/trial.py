"""A trial as the driver knows it."""

from dataclasses import dataclass, field

from trainable import objectives
from trainable.config import TrialConfig
from trainable.objectives import Objective
from trainable.report import Row


@dataclass
class Trial:
    """A trial as the driver knows it."""

    number: int
    config: TrialConfig
    recipe: str  # "course, shuffled", "course, weighted" or "searched"; of a confirmation's run: its name there
    folder: str  # in the study's, "trials/N"
    status: str = "running"  # or "complete", "stopped" (by the scheduler), "failed"
    reason: str = ""  # why it ended
    best: list[float] = field(default_factory=list)  # the objective's running best after each epoch
    row: Row | None = None  # the last
    gpu_bytes: int = 0  # of a GPU's memory, the most that it has held, as its worker says; not on disk

    @property
    def objective(self) -> Objective:
        """What it is judged by."""
        return objectives.named(self.config.objective)

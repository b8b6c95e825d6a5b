"""What a trial says after an epoch, or instead of one."""

from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Report:
    """An epoch's row, or why there is none; and why the trial is over, if it is."""

    num_epochs: int  # that the trial has got to, the one that came to nothing among them
    row: Row | None = None  # of the last epoch
    reason: str = ""  # why the trial is over by itself
    failure: str = ""  # why it has come to nothing
    unwritable: str = ""  # why its checkpoint could not be written, which is not the trial's fault
    gpu_bytes: int = 0  # of a GPU's memory, the most that the trial has held in this process

    @property
    def is_last(self) -> bool:
        return bool(self.reason or self.failure or self.unwritable)

"""A trial's rows against what else is known of them: the journal's scores, and last.pt, which is written first."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from trainable.cli import UsageError
from trainable.files import append
from trainable.objectives import Objective
from trainable.records import read_rows
from trainable.report import Row


def check_rows(folder: Path, rows: Sequence[Row], reported: Mapping[int, float], objective: Objective) -> None:
    """Refuses the rows of the trial in ``folder`` where they are not those that the journal was told.

    Raises:
        UsageError: there are too few, or they have other scores.
    """
    path = folder / "epochs.jsonl"
    if len(rows) < len(reported):
        raise UsageError([f"{path}: has {len(rows)} rows where the journal knows of {len(reported)} epochs"])
    known = {row["epoch"]: row.get(objective.best) for row in rows}
    for epoch, best in reported.items():
        if known.get(epoch) != best:
            scores = f"{known.get(epoch)} is the best score after epoch {epoch}, in the journal {best}"
            raise UsageError([f"{path}: {scores}; one of the two is of another study"])


def recover_rows(folder: Path, objective: Objective) -> None:
    """Brings epochs.jsonl up to last.pt, which is written first.

    Raises:
        UsageError: last.pt is damaged.
    """
    path = folder / "last.pt"
    if not path.exists():
        return
    from trainable import checkpoint

    num_known = len(read_rows(folder, objective))
    try:
        missing = checkpoint.read(path)["rows"][num_known:]
    except checkpoint.CheckpointError as error:
        raise UsageError([f"{error}; without this file the trial would begin anew"]) from error
    if missing:
        append(folder / "epochs.jsonl", "".join(json.dumps(row) + "\n" for row in missing))

"""``study.confirm --refit``: the winner trained once more, on training and validation images together. Uses torch."""

import shutil
import statistics
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from study.confirmation import afterwards, winner
from study.confirmation.afterwards import WinnersPlan
from study.confirmation.trained import adjustment
from study.confirmation.winner import Made
from study.execution.runner import Pause
from study.record.recipes import shown
from study.statistics.offsets import Offsets
from trainable import checkpoint
from trainable.cli import printable
from trainable.config import TrialConfig
from trainable.decoding import read_file
from trainable.images.pool import Pool
from trainable.images.splits import split
from trainable.images.trial import TrialImages, images_of
from trainable.progress import stage
from trainable.report import Report

NEVER = 1_000_000  # epochs of patience


@dataclass(frozen=True)
class Refit:
    """How long the winner is trained, and where."""

    plan: WinnersPlan

    @property
    def best_epochs(self) -> list[int]:
        """Those that the validation images chose, on each seed."""
        return [rows[-1]["best_epoch"] for rows in self.plan.rows]

    @property
    def epochs(self) -> int:
        """The median of them, the lower one of two."""
        return statistics.median_low(self.best_epochs)

    @property
    def place(self) -> Path:
        return self.plan.folder / "confirm" / f"{self.plan.recipe}-{self.plan.seeds[0]}-refit"

    @property
    def rule(self) -> str:
        return (
            f"the confirmed winner's recipe on its first fresh seed, trained once more for {self.epochs} epochs on "
            "training and validation images together (on the fresh seeds the validation images had chosen epochs "
            f"{', '.join(map(str, self.best_epochs))}); no validation image has judged this model"
        )


def make(plan: WinnersPlan, pause: Pause) -> str:
    """Trains, and puts the model into winner/; why that failed, if it did.

    The loop goes on judging by the validation images, which are now trained on: nothing is made of that.

    Raises:
        UsageError, CheckpointError: a file is damaged.
        OSError: something cannot be written.
    """
    refit = Refit(plan)
    print(f"{shown(plan.recipe)}: {refit.epochs} epochs on training and validation images together")

    def is_over(report: Report) -> bool:
        assert report.row is not None
        print(f"epoch {report.num_epochs}/{refit.epochs} train loss {report.row['train_loss']:.4f}")
        return report.num_epochs >= refit.epochs

    config = plan.run_config(plan.seeds[0])
    report = afterwards.train(plan.pool, _draw, refit.place, replace(config, patience=NEVER), pause, is_over)
    if report is None or report.failure or report.unwritable:
        return "" if report is None else report.failure or report.unwritable
    with stage("writing winner/"):
        _write(refit, config)
    print(printable(f"{plan.folder / 'winner'}: {refit.rule}"))
    return ""


def _draw(pool: Pool, split_seed: int, cut_seed: int, device: torch.device) -> TrialImages:
    drawn = split(pool, split_seed, cut_seed).parts[0]  # one network, also where there were folds
    return images_of(pool, replace(drawn, train=np.union1d(drawn.train, drawn.val)), device)


def _write(refit: Refit, config: TrialConfig) -> None:
    plan = refit.plan
    content = checkpoint.read(refit.place / "last.pt")
    weights, path = content["average"] or content["model"], refit.place / "best.pt"
    checkpoint.write_model(path, config.to_dict(), content["rows"][-1], weights)
    images = _draw(plan.pool, config.split_seed, config.cut_seed, torch.device("cpu"))
    unchosen = Offsets(adjustment(config, images.train_counts, refit.epochs), 0.0, 0.0)
    made = Made(plan.study.name, refit.rule, plan.recipe, plan.seeds[0], config, images, unchosen, None)
    winner.write_model(plan.folder, made, read_file(path), plan.pool, ())
    shutil.rmtree(refit.place, ignore_errors=True)

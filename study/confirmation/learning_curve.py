"""``study.confirm --learning-curve``: the winner on a quarter and on half of the training images. Uses torch."""

import shutil
from functools import partial
from pathlib import Path

import torch

from study.confirmation import afterwards
from study.confirmation.afterwards import WinnersPlan
from study.execution.runner import Pause
from study.record.confirmation import CurvePoint, LearningCurve
from study.record.files import write_atomically
from trainable import checkpoint, objectives
from trainable.decoding import to_json
from trainable.images.pool import Pool
from trainable.images.splits import part_counts, split, subset
from trainable.images.trial import TrialImages, images_of
from trainable.progress import stage
from trainable.report import Report, Row

SHARES = (0.25, 0.5)


def make(plan: WinnersPlan, pause: Pause) -> str:
    """Trains what is missing, seed by seed, and writes learning_curve.json; why that failed, if it did.

    Each seed's validation images, and all else that it draws, are those of the confirmation: the whole of the training
    images needs no run.

    Raises:
        CheckpointError: a run's last.pt is damaged.
        OSError: something cannot be written.
    """
    points, places = [], []
    for share in SHARES:
        rows = []
        for seed in plan.seeds:
            place = plan.folder / "confirm" / f"{plan.recipe}-{seed}-at-{100 * share:.0f}"
            report = _train(plan, share, seed, place, pause)
            if report is None or report.failure or report.unwritable:
                return "" if report is None else report.failure or report.unwritable
            rows.append(checkpoint.read(place / "last.pt")["rows"])
            places.append(place)
            print(f"{_name(share, seed)}: {len(rows[-1])} epochs", flush=True)
        points.append(_point(plan, share, rows))
    points.append(_point(plan, 1.0, plan.rows))
    curve = LearningCurve(recipe=plan.recipe, seeds=plan.seeds, objective=plan.config.objective, points=points)
    write_atomically(plan.folder / "learning_curve.json", to_json(curve))
    for place in places:
        shutil.rmtree(place, ignore_errors=True)
    return ""


def _name(share: float, seed: int) -> str:
    return f"{100 * share:.0f} % of the training images, seed {seed}"


def _train(plan: WinnersPlan, share: float, seed: int, place: Path, pause: Pause) -> Report | None:
    draw, config = partial(_draw, share), plan.run_config(seed)
    with stage(_name(share, seed)) as tell:

        def is_over(found: Report) -> bool:
            tell(f"{_name(share, seed)}, epoch {found.num_epochs} of at most {config.epochs}")
            return bool(found.reason)

        return afterwards.train(plan.pool, draw, place, config, pause, is_over)


def _draw(share: float, pool: Pool, split_seed: int, cut_seed: int, device: torch.device) -> TrialImages:
    return images_of(pool, subset(pool, split(pool, split_seed, cut_seed), share, split_seed), device)


def _point(plan: WinnersPlan, share: float, rows: list[list[Row]]) -> CurvePoint:
    """What the best epochs of the runs, one of each seed, came to on their validation images."""
    drawn, best = split(plan.pool, plan.seeds[0], plan.seeds[0]), objectives.named(plan.config.objective).best
    drawn = drawn if share == 1 else subset(plan.pool, drawn, share, plan.seeds[0])
    return CurvePoint(
        share=share,
        images=part_counts(plan.pool, drawn)["train"],
        scores=[found[-1][best] for found in rows],
        class_f1=[found[found[-1]["best_epoch"] - 1]["f1"] for found in rows],
    )

"""What a confirmation's runs are worth: their validation scores, the audit images, the test images. Uses torch."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from study.confirmation.runs import Recipe
from study.confirmation.winner import fit_offsets
from study.record import validation
from study.record.confirmation import Confirmation, ConfirmedRecipe, ConfirmedScore, Difference, Estimate, RecipeOnTest
from study.statistics import seeds
from study.statistics.intervals import Intervals, Resamples
from trainable import checkpoint
from trainable.cli import UsageError
from trainable.evaluation import evaluate, predict
from trainable.images.splits import split
from trainable.images.trial import TrialImages, trial_images
from trainable.metrics import confusion_matrix, minority_f1, recall_per_class
from trainable.parts.networks import ConvNet

if TYPE_CHECKING:
    from study.confirm import Plan

OPTIMISTIC_REASON = "the validation images are the folder's own and cannot be redrawn: the search has chosen on them"


@dataclass(frozen=True)
class Measured:
    """What the R recipes' runs on the S seeds came to, float64 (R, S) each, in [0, 1]."""

    scores: np.ndarray  # minority F1, each epoch chosen on one half of the validation images and scored on the other
    scores_adjusted: np.ndarray  # the same after logit adjustment
    val_recall: np.ndarray  # of the minority classes, at the best epoch
    audit_recall: np.ndarray | None  # of the best epoch's model on what the cut removed; None: nothing was cut


def measure(plan: "Plan") -> Measured:
    """Reads the runs' predictions, and has their models judge the images that the cut kept from them.

    Raises:
        UsageError: a run's files are damaged.
    """
    num_classes, minority = len(plan.pool.class_names), list(plan.pool.minority)
    table = np.full((4, len(plan.recipes), len(plan.seeds)), np.nan)

    def minority_recall(confusion: np.ndarray) -> float:
        there = [name for name in minority if confusion[name].any()]  # of a tiny class the cut may remove none
        return float(recall_per_class(confusion)[there].mean())

    for column, seed, images in _images_by_seed(plan):
        audit = split(plan.pool, seed, seed).audit
        for index, recipe in enumerate(plan.recipes):
            folder = plan.runs_folder / recipe.run_folder(seed)
            labels, predictions, adjusted = _read_predictions(folder, recipe, images)
            # the same halves for all recipes
            cell = table[:, index, column]
            cell[0] = seeds.two_halves(labels, predictions, num_classes, minority, seed).score
            cell[1] = seeds.two_halves(labels, adjusted, num_classes, minority, seed).score
            confusions = [confusion_matrix(labels, row, num_classes) for row in predictions]
            best = max(confusions, key=lambda confusion: minority_f1(confusion, minority))  # the earlier where equal
            cell[2] = minority_recall(best)
            if len(audit):
                logits = evaluate(_best_model(folder, recipe, images), images, torch.from_numpy(audit))
                predicted = logits.argmax(1).cpu().numpy()
                cell[3] = minority_recall(confusion_matrix(plan.pool.labels[audit], predicted, num_classes))
    return Measured(table[0], table[1], table[2], None if np.isnan(table[3]).any() else table[3])


def measure_test(plan: "Plan", winner: str) -> tuple[dict[str, RecipeOnTest], list[Difference]]:
    """The test scores of the winner and the course's recipes, each run's best epoch, and how far the winner is beyond.

    The one place where test images meet a model. The adjustment's prior is the training images'; nothing is fitted to
    the test images.

    Raises:
        UsageError: a run's best.pt is damaged.
    """
    recipes = [recipe for recipe in plan.recipes if recipe.is_course or recipe.name == winner]
    pixels, labels = plan.test
    num_classes, num_seeds = len(plan.pool.class_names), len(plan.seeds)
    predictions = np.empty((3, len(recipes), num_seeds, len(labels)), np.min_scalar_type(num_classes))
    for column, seed, images in _images_by_seed(plan):
        # normalised as the run's training images were
        test_images = replace(images, pixels=torch.from_numpy(pixels).to(images.pixels.device))
        for index, recipe in enumerate(recipes):
            model = _best_model(plan.runs_folder / recipe.run_folder(seed), recipe, images)
            logits = evaluate(model, test_images, torch.arange(len(labels)))
            predictions[:2, index, column] = predict(logits, images, recipe.config).numpy()
            run = plan.runs_folder / recipe.run_folder(seed)
            fitted, _ = fit_offsets(run, images, plan.pool.minority, seed)  # to this run's validation images
            predictions[2, index, column] = (logits.cpu().numpy() + fitted.values).argmax(axis=1)
    # the same resamples for all runs
    resamples = Resamples(labels, num_classes, plan.pool.minority, seed=plan.study.seed)
    raw, adjusted, shifted = (resamples.score(part.reshape(-1, len(labels))) for part in predictions)
    means = seeds.means_on_images(raw, num_seeds)
    first = next(index for index, recipe in enumerate(recipes) if recipe.name == winner)
    recipes_on_test = {
        recipe.name: RecipeOnTest(
            scores=raw.minority_f1.reshape(-1, num_seeds)[index].tolist(),
            scores_adjusted=adjusted.minority_f1.reshape(-1, num_seeds)[index].tolist(),
            scores_offsets=shifted.minority_f1.reshape(-1, num_seeds)[index].tolist(),
            mean=float(means.estimate[index]),
            **_ends(means, index),
            confusion=confusion_matrix(np.tile(labels, num_seeds), predictions[0, index].ravel(), num_classes).tolist(),
        )
        for index, recipe in enumerate(recipes)
    }
    differences = [
        Difference(
            first=winner,
            second=recipe.name,
            **_difference(seeds.difference_on_images(raw, num_seeds, first, index), ()),
            adjusted=Estimate(**_difference(seeds.difference_on_images(adjusted, num_seeds, first, index), ())),
        )
        for index, recipe in enumerate(recipes)
        if index != first
    ]
    return recipes_on_test, differences


def _images_by_seed(plan: "Plan") -> Iterator[tuple[int, int, TrialImages]]:
    """(position, seed, images split and normalised as the runs on that seed had them), behind a progress bar."""
    device = torch.device("cuda" if plan.resources.gpus and torch.cuda.is_available() else "cpu")
    for column, seed in enumerate(tqdm(plan.seeds, "scoring", unit=" seeds", disable=None, leave=False)):
        yield column, seed, trial_images(plan.pool, seed, seed, device)


def _read_predictions(folder: Path, recipe: Recipe, images: TrialImages) -> list[np.ndarray]:
    """A run's validation labels (n,) and its predictions in each epoch, raw and adjusted, (num_epochs, n) each."""
    names, max_epochs = ["labels", "predictions", "predictions_adjusted"], recipe.config.epochs
    return validation.read(folder / "validation.npz", names, images.num_classes, len(images.val), max_epochs)


def _best_model(folder: Path, recipe: Recipe, images: TrialImages) -> ConvNet:
    try:
        return checkpoint.best_model(
            folder / "best.pt", recipe.config, images.num_classes, images.image_size, images.pixels.device
        )
    except checkpoint.CheckpointError as error:
        raise UsageError([str(error)]) from error


def summary(plan: "Plan", measured: Measured, time: str) -> Confirmation:
    """The content of confirm.json, its test part left open; ``time`` in ISO format."""
    scores, names = measured.scores, [recipe.name for recipe in plan.recipes]
    means = seeds.recipe_means(scores)
    differences = seeds.paired_differences(scores)
    adjusted = seeds.paired_differences(measured.scores_adjusted)
    chosen = seeds.confirmed(scores)
    winner = seeds.winner(scores)
    # the winner with every other, and the course's two with each other: does balancing help?
    course = sorted((index for index, recipe in enumerate(plan.recipes) if recipe.is_course),
                    key=lambda index: -plan.recipes[index].trial)  # fmt: skip
    pairs = [(winner, other) for other in range(len(names)) if other != winner]
    pairs += [(course[0], course[1])] if winner not in course else []
    is_optimistic = plan.pool.num_own_val > 0
    return Confirmation(
        study=plan.study.name,
        time=time,
        top=plan.top,
        epochs=plan.study.epochs,
        seeds=plan.seeds,
        optimistic=is_optimistic,
        optimistic_reason=OPTIMISTIC_REASON if is_optimistic else "",
        num_trials=plan.num_trials,
        recipes=[
            ConfirmedRecipe(
                name=recipe.name,
                trial=recipe.trial,
                config=recipe.config.to_dict(),
                search_score=recipe.search_score,
                scores=scores[index].tolist(),
                scores_adjusted=measured.scores_adjusted[index].tolist(),
                mean=float(means.estimate[index]),
                **_ends(means, index),
                val_recall=measured.val_recall[index].tolist(),
                audit_recall=measured.audit_recall[index].tolist() if measured.audit_recall is not None else None,
            )
            for index, recipe in enumerate(plan.recipes)
        ],
        differences=[
            Difference(
                first=names[pair[0]],
                second=names[pair[1]],
                **_difference(differences, pair),
                adjusted=Estimate(**_difference(adjusted, pair)),
            )
            for pair in pairs
        ],
        winner=names[winner],
        confirmed=ConfirmedScore(
            chosen=[names[index] for index in chosen.chosen],
            scores=chosen.scores.tolist(),
            estimate=float(chosen.mean.estimate),
            **_ends(chosen.mean, ()),
        ),
        test=None,
    )


def _ends(intervals: Intervals, index: Any) -> dict[str, float]:
    """The ends of a score's interval: Student's t knows nothing of 0 and 1, between which it must lie."""
    return {"low": max(float(intervals.low[index]), 0.0), "high": min(float(intervals.high[index]), 1.0)}


def _difference(intervals: Intervals, pair: tuple[int, ...]) -> dict[str, float]:
    """Of two scores; within [-1, 1], where it must lie."""
    return {name: float(np.clip(getattr(intervals, name)[pair], -1, 1)) for name in ("estimate", "low", "high")}

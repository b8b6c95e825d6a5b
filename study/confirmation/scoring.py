"""What a confirmation's runs are worth: their validation scores, the audit images, the test images. Uses torch."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from study.confirmation import classes
from study.confirmation.plan import ConfirmationPlan
from study.confirmation.trained import TrainedRun, TrainedRuns
from study.record.confirmation import Confirmation, ConfirmedRecipe, ConfirmedScore, Difference, Estimate, RecipeOnTest
from study.record.recipes import is_course
from study.statistics import seeds
from study.statistics.intervals import Intervals
from study.statistics.resamples import Resamples
from trainable.evaluation import evaluate, likelihoods, predict
from trainable.images.pool import SealedImages
from trainable.metrics import confusion_matrix, recall_per_class
from trainable.parts.averaging import networks_of
from trainable.progress import counted

OPTIMISTIC_REASON = "the validation images are from the folder's val/, the same that the search chose by"
WITH_FOLDS = "with folds all images are for validation on each seed, the same that the search chose by"


@dataclass(frozen=True)
class Measured:
    """What the R recipes' runs on the S seeds came to, float64 (R, S) each, in [0, 1]."""

    scores: np.ndarray  # the objective, each epoch chosen on one half of the validation images and scored on the other
    scores_adjusted: np.ndarray  # the same after logit adjustment
    val_recall: np.ndarray  # of the minority classes, at the best epoch
    audit_recall: np.ndarray | None  # of the best epoch's model on what the cut removed; None: nothing was cut


def measure(runs: TrainedRuns) -> Measured:
    """Reads the runs' predictions, and has their models judge the images that the cut kept from them.

    Raises:
        UsageError: a run's files are damaged.
    """
    num_seeds = len(next(iter(runs.values())))
    table = np.full((4, len(runs), num_seeds), np.nan)
    for column in _shown(num_seeds):
        for index, of_recipe in enumerate(runs.values()):
            table[:, index, column] = _measure_run(of_recipe[column])
    return Measured(table[0], table[1], table[2], None if np.isnan(table[3]).any() else table[3])


def _measure_run(run: TrainedRun) -> tuple[float, float, float, float]:
    """A run's cell in each array of ``Measured``; NaN where nothing was cut."""
    labels, num_classes, minority = run.labels, run.images.num_classes, run.images.minority

    def minority_recall(confusion: np.ndarray) -> float:
        there = [name for name in minority if confusion[name].any()]  # of a tiny class the cut may remove none
        return float(recall_per_class(confusion)[there].mean())

    # the same halves for all recipes
    score, adjusted = (
        seeds.two_halves(labels, predictions, num_classes, minority, run.seed, run.groups, run.objective)
        for predictions in run.judged
    )
    best = confusion_matrix(labels, run.predictions[run.best_epoch - 1], num_classes)
    audit_recall = math.nan
    if len(run.drawn.audit):  # with folds each network has one of its own
        kept = [torch.from_numpy(part.audit) for part in run.drawn.parts]
        pairs = zip(networks_of(run.model), kept, strict=True)
        logits = torch.cat([evaluate(network, run.images, positions) for network, positions in pairs])
        predicted, truth = run.objective.decide(logits.cpu().numpy()), run.images.labels[torch.cat(kept)].numpy()
        audit_recall = minority_recall(confusion_matrix(truth, predicted, num_classes))
    return score, adjusted, minority_recall(best), audit_recall


def measure_test(
    runs: TrainedRuns, winner: str, test: SealedImages, class_names: Sequence[str], seed: int
) -> tuple[dict[str, RecipeOnTest], list[Difference]]:
    """The test scores of the winner and the course's recipes, each run's best epoch, and how far the winner is beyond.

    The one place where test images meet a model. The adjustment's prior is the training images'; nothing is fitted to
    the test images. ``seed`` draws the resamples.

    Raises:
        UsageError: a run's best.pt is damaged.
    """
    tested = [name for name in runs if is_course(name) or name == winner]
    labels, images, num_seeds = test.labels, runs[winner][0].images, len(runs[winner])
    pixels = torch.from_numpy(test.pixels).to(images.pixels.device)
    by_seed = [[_predict_test(runs[name][column], pixels) for name in tested] for column in _shown(num_seeds)]
    found = [by_seed[column][index] for index in range(len(tested)) for column in range(num_seeds)]
    # the same resamples for all runs
    resamples = Resamples(
        labels, images.num_classes, images.minority, seed=seed, groups=test.groups, objective=runs[winner][0].objective
    )
    raw, adjusted, shifted = (resamples.score(np.stack([judged[part] for _, judged in found])) for part in range(3))
    predictions = np.stack([predicted for predicted, _ in found]).reshape(len(tested), num_seeds, -1)
    means = seeds.means_on_images(raw, num_seeds)
    scores, scores_adjusted, scores_offsets = (
        part.score.reshape(-1, num_seeds).tolist() for part in (raw, adjusted, shifted)
    )
    all_labels, first = np.tile(labels, num_seeds), tested.index(winner)
    recipes = {
        name: RecipeOnTest(
            scores=scores[index],
            scores_adjusted=scores_adjusted[index],
            scores_offsets=scores_offsets[index],
            mean=float(means.estimate[index]),
            **_ends(means, index),
            confusion=confusion_matrix(all_labels, predictions[index].ravel(), images.num_classes).tolist(),
            classes=classes.by_class(resamples, labels, predictions[index], class_names, images.minority),
            false_alarms=classes.false_alarms(resamples, labels, predictions[index], images.minority),
            as_in_winner=True,
        )
        for index, name in enumerate(tested)
    }
    differences = [
        Difference(
            first=winner,
            second=name,
            **_difference(seeds.difference_on_images(raw, num_seeds, first, index), ()),
            adjusted=Estimate(**_difference(seeds.difference_on_images(adjusted, num_seeds, first, index), ())),
        )
        for index, name in enumerate(tested)
        if name != winner
    ]
    return recipes, differences


def _predict_test(run: TrainedRun, pixels: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """What a run's model says of images: the classes, as in winner/, (n,), and what the objective looks at, (3, n, …).

    That is as it is, after logit adjustment, and as in winner/: with decision offsets and temperature.
    """
    images = run.images.on(pixels)  # normalised as the run's training images were
    objective, config = run.objective, run.recipe.config
    logits = evaluate(run.model, images, torch.arange(len(pixels)))
    in_winner = run.as_in_winner(logits.cpu().numpy())
    named, shifted = objective.decide(in_winner), objective.judged(in_winner, images.minority)
    plain, adjusted = predict(logits, images, config, run.best_epoch).numpy()
    if objective.of_scores:
        return named, np.stack([*likelihoods(logits, images, config, run.best_epoch).numpy(), shifted])
    decided = adjusted if objective.is_adjusted else plain
    return named, np.stack([decided, adjusted, shifted])


def _shown(num_seeds: int) -> Iterable[int]:
    """The seeds' positions, while it is shown how far they are."""
    return counted(range(num_seeds), "scoring", num_seeds, "seeds")


def summary(plan: ConfirmationPlan, measured: Measured, time: str) -> Confirmation:
    """The content of confirm.json, its test part left open; ``time`` in ISO format."""
    scores, names = measured.scores, [recipe.name for recipe in plan.recipes]
    means = seeds.recipe_means(scores)
    differences = seeds.paired_differences(scores)
    adjusted = seeds.paired_differences(measured.scores_adjusted)
    # plain shuffling is the simplest; what is searched must beat both beyond doubt to replace them
    course = [index for index, recipe in enumerate(plan.recipes) if recipe.is_course]
    course.sort(key=lambda index: -plan.recipes[index].trial)
    chosen = seeds.confirmed(scores, simple=course[::-1])
    winner = seeds.best_recipe(scores, course[::-1])
    # the winner with every other, and the course's two with each other: does balancing help?
    pairs = [(winner, other) for other in range(len(names)) if other != winner]
    pairs += [(course[0], course[1])] if winner not in course else []
    reason = OPTIMISTIC_REASON if plan.pool.num_own_val else WITH_FOLDS if plan.pool.spec.folds else ""
    return Confirmation(
        study=plan.study.name,
        objective=plan.study.objective,
        time=time,
        top=plan.top,
        epochs=plan.study.epochs,
        seeds=plan.seeds,
        optimistic=bool(reason),
        optimistic_reason=reason,
        num_trials=plan.num_trials,
        recipes=[
            ConfirmedRecipe(
                name=recipe.name,
                trial=recipe.trial,
                config=recipe.config.to_dict(),
                search_score=recipe.search_score,
                stopped_at=recipe.stopped_at,
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

"""What fresh seeds say about recipes, and what choosing among them cost: functions of scores, nothing is trained here.

An array ``scores`` is float (num_recipes, num_seeds): R recipes, each run with the same S fresh seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from study.statistics.intervals import Intervals, discordance, smoothed, t_quantile, wilson
from study.statistics.resamples import Scores
from trainable.images.drawing import are_alone, draw_groups
from trainable.objectives import MINORITY_F1, Objective
from trainable.streams import derive

NUM_SIMULATED = 1000  # confirmations, to learn how much choosing spreads a score


def recipe_means(scores: np.ndarray, confidence: float = 0.95) -> Intervals:
    """Each recipe's mean over seeds with its Student t interval, shape (R,); S of at least 2."""
    num_seeds = scores.shape[1]
    half = t_quantile(num_seeds - 1, confidence) * scores.std(axis=1, ddof=1) / np.sqrt(num_seeds)
    mean = scores.mean(axis=1)
    return Intervals(mean, mean - half, mean + half)


def paired_differences(scores: np.ndarray, confidence: float = 0.95) -> Intervals:
    """The mean of the row's recipe less that of the column's, shape (R, R); R and S of at least 2.

    Two-way layout with one residual deviation for all recipes, on (R - 1)(S - 1) degrees of freedom: what a seed does
    to all recipes cancels. Each interval holds for its own pair.
    """
    layout = _two_way(scores)
    half = t_quantile(layout.degrees_of_freedom, confidence) * np.sqrt(2 * layout.residual_square / scores.shape[1])
    mean = scores.mean(axis=1)
    estimate = mean[:, None] - mean[None, :]
    half_widths = np.full_like(estimate, half)
    np.fill_diagonal(half_widths, 0)  # a recipe against itself
    return Intervals(estimate, estimate - half_widths, estimate + half_widths)


@dataclass(frozen=True)
class _TwoWay:
    """Mean squares of the two-way layout: score = recipe + seed + residual."""

    recipe_square: float
    seed_square: float
    residual_square: float
    degrees_of_freedom: int  # of the residuals


def _two_way(scores: np.ndarray) -> _TwoWay:
    num_recipes, num_seeds = scores.shape
    recipes = scores.mean(axis=1, keepdims=True) - scores.mean()
    seeds = scores.mean(axis=0, keepdims=True) - scores.mean()
    residuals = scores - scores.mean() - recipes - seeds
    freedom = (num_recipes - 1) * (num_seeds - 1)
    return _TwoWay(
        num_seeds * (recipes**2).sum() / (num_recipes - 1),
        num_recipes * (seeds**2).sum() / (num_seeds - 1),
        (residuals**2).sum() / freedom,
        freedom,
    )


def best_recipe(scores: np.ndarray, simple: Sequence[int] = ()) -> int:
    """The recipe to use: the one with the highest mean, or the first of ``simple`` that it does not beat beyond doubt.

    ``simple`` are recipes that another must beat to replace them, the simplest first. Beyond doubt is where the
    interval of ``paired_differences`` is above 0; of a single seed it never is. Equal means go to the earlier recipe.
    """
    return int(_choose(scores, simple, scores))


def _choose(scores: np.ndarray, simple: Sequence[int], known: np.ndarray, confidence: float = 0.95) -> np.ndarray:
    """``best_recipe`` of each of many scores, (...), from (..., R, S); how noisy they are, ``known`` says."""
    means = scores.mean(axis=-1)
    chosen = means.argmax(axis=-1)
    if not simple:
        return chosen
    doubt: np.ndarray | float = np.inf
    if known.shape[-1] > 1:
        freedom = (known.shape[-2] - 1) * (known.shape[-1] - 1)
        of_seeds = known.mean(axis=-2, keepdims=True) - known.mean(axis=(-2, -1), keepdims=True)
        square = ((known - known.mean(axis=-1, keepdims=True) - of_seeds) ** 2).sum(axis=(-2, -1)) / freedom
        doubt = t_quantile(freedom, confidence) * np.sqrt(2 * square / scores.shape[-1])
    for recipe in reversed(simple):
        chosen = np.where(means.max(axis=-1) - means[..., recipe] - doubt <= 0, recipe, chosen)
    return chosen


@dataclass(frozen=True)
class Confirmed:
    """The score to expect of a recipe chosen as the winner was."""

    chosen: np.ndarray  # int64 (S,): the recipe that the other seeds choose
    scores: np.ndarray  # float64 (S,): its score with the seed left out
    mean: Intervals  # of those scores, shape ()


def confirmed(scores: np.ndarray, confidence: float = 0.95, simple: Sequence[int] = ()) -> Confirmed:
    """Leave one seed out: the others choose (``best_recipe``), and the choice is scored on it; R and S of at least 2.

    The winner's own mean is the highest of R noisy means and so too high; here no score takes part in the choice it
    is read from. The interval is for the mean of the chosen recipes' true scores. The S scores are not independent,
    as each takes part in the choice of all others, and where recipes are close their mean varies up to twice as much
    as they let on: so its variance is that of the two-way layout, with the residuals' part simulated (`_spread`), and
    Satterthwaite's degrees of freedom.
    """
    layout = _two_way(scores)
    chosen, left_out = _leave_one_out(scores, simple)
    # the mean's variance = seed's / S + residual's × spread, and E[seed square] = R × seed's + residual's
    spread = _spread(scores, layout, simple) - 1 / scores.size
    parts = np.array([layout.seed_square / scores.size, layout.residual_square * spread])
    variance = parts.sum()
    freedoms = np.array([scores.shape[1] - 1, layout.degrees_of_freedom])
    freedom = variance**2 / (parts**2 / freedoms).sum() if variance else 1.0
    half = t_quantile(freedom, confidence) * np.sqrt(variance)
    mean = left_out.mean()
    return Confirmed(chosen, left_out, Intervals(mean, mean - half, mean + half))


def _leave_one_out(scores: np.ndarray, simple: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The recipe that the other seeds choose and its score, (..., S) each, from (..., R, S).

    One seed alone knows no noise, and would always choose the simplest: of two seeds both say how noisy they are.
    """
    others = [np.delete(scores, seed, axis=-1) for seed in range(scores.shape[-1])]
    chosen = np.stack([_choose(some, simple, some if some.shape[-1] > 1 else scores) for some in others], axis=-1)
    return chosen, np.take_along_axis(scores, chosen[..., None, :], axis=-2)[..., 0, :]


def _spread(scores: np.ndarray, layout: _TwoWay, simple: Sequence[int]) -> float:
    """Variance of the left-out scores' mean around the chosen recipes' truth, for residuals of variance 1.

    1 / S if one recipe stands out, nearly 2 / S if all are equal. Simulated with recipes as far apart as the scores
    suggest: their means, shrunk towards each other by what noise alone would spread them.
    """
    if not layout.residual_square:
        return 1 / scores.shape[1]
    shrink = max(0.0, 1 - layout.residual_square / layout.recipe_square) if layout.recipe_square else 0.0
    truth = shrink * scores.mean(axis=1) / np.sqrt(layout.residual_square)
    rng = np.random.default_rng(derive("confirmation", *scores.shape))
    residuals = rng.standard_normal((NUM_SIMULATED, *scores.shape))
    chosen, left_out = _leave_one_out(truth[:, None] + residuals, simple)
    return float(((left_out - truth[chosen]).mean(axis=-1) ** 2).mean())


def means_on_images(scores: Scores, num_seeds: int, confidence: float = 0.95) -> Intervals:
    """Each recipe's mean over S seeds on the same images, with its interval over seeds and images, shape (R,).

    ``scores`` are of R × S runs, the S of a recipe in a row; S of at least 2. Wilson's interval as for a single run.
    Pseudo-counts bring a recipe as much as a run: errors that were not seen could be of all seeds.
    """
    f1, added = (values.reshape(-1, num_seeds).mean(axis=1) for values in smoothed(scores))
    runs = scores.score.reshape(-1, num_seeds)
    variance, freedom = _over_seeds_and_images(runs, scores.resampled.reshape(*runs.shape, -1), scores)
    return wilson(runs.mean(axis=1), f1, variance + added, t_quantile(freedom, confidence))


def difference_on_images(
    scores: Scores, num_seeds: int, first: int, second: int, confidence: float = 0.95
) -> Intervals:
    """The mean of the recipe ``first`` less that of ``second``, paired by seed and image, shape (); see above.

    Student's t. As between two runs, one image more is added for each seed on which only one of the two errs.
    """
    one, other = (slice(index * num_seeds, (index + 1) * num_seeds) for index in (first, second))
    gaps = scores.score[one] - scores.score[other]
    variance, freedom = _over_seeds_and_images(gaps, scores.resampled[one] - scores.resampled[other], scores)
    unseen = discordance(scores)
    variance = variance + (unseen[one] + unseen[other]).mean() / num_seeds
    half = t_quantile(freedom, confidence) * np.sqrt(variance)
    return Intervals(gaps.mean(), gaps.mean() - half, gaps.mean() + half)


def _over_seeds_and_images(runs: np.ndarray, resampled: np.ndarray, scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    """Variance of the mean of ``runs`` (..., S) over fresh seeds and fresh images, and its degrees of freedom, (...).

    ``resampled`` (..., S, N) is the same on resamples of the images. The variance between seeds holds a run's own luck
    with the images, too, so only what the images do to all seeds alike is added to it: the mean covariance of two
    seeds over the resamples. Seeds that agree by chance could then make the mean surer than the images alone allow,
    and their part is the least there is. Satterthwaite's degrees of freedom.
    """
    num_seeds = runs.shape[-1]
    seeds = runs.var(axis=-1, ddof=1) / num_seeds
    images = resampled.mean(axis=-2, dtype=np.float64).var(axis=-1)  # of the mean over these seeds
    single = resampled.var(axis=-1, dtype=np.float64).mean(axis=-1)  # of a run
    common = np.maximum(images - (single - images) / (num_seeds - 1), 0)
    variance = seeds + common
    parts = seeds**2 / (num_seeds - 1) + common**2 / scores.degrees_of_freedom
    freedom = np.divide(variance**2, parts, out=np.ones_like(variance), where=parts > 0)
    are_alone = variance <= images  # or nothing was seen to vary: the images are what is known of
    return np.where(are_alone, images, variance), np.where(are_alone, scores.degrees_of_freedom, freedom)


def two_halves(
    labels: np.ndarray,
    predictions: np.ndarray,
    num_classes: int,
    minority: Sequence[int],
    seed: int,
    groups: np.ndarray | None = None,
    objective: Objective = MINORITY_F1,
) -> float:
    """Chooses the epoch by the objective on one half of the images and scores it on the other, both ways, averaged.

    ``labels`` and ``predictions`` are whole numbers in [0, num_classes), shapes (n,) and (num_epochs, n). The halves
    are stratified by class and drawn by ``seed``, ``groups`` (n,) whole; ties go to the earlier epoch. The best
    epoch's score on all images is the highest of many and so too high.
    """
    second = second_half(labels, num_classes, seed, groups)
    halves = [
        [objective.score(labels[half], epoch[half], num_classes, minority) for epoch in predictions]
        for half in (~second, second)
    ]
    chosen = int(np.argmax(halves[0])), int(np.argmax(halves[1]))
    return (halves[1][chosen[0]] + halves[0][chosen[1]]) / 2


def second_half(labels: np.ndarray, num_classes: int, seed: int, groups: np.ndarray | None = None) -> np.ndarray:
    """bool (n,): every other image of each class in random order; chance decides who gets an odd one.

    With ``groups`` (n,), whole groups with as nearly half of each class.
    """
    if groups is not None and not are_alone(groups):
        halves = (np.bincount(labels, minlength=num_classes) / 2).tolist()
        return np.isin(np.arange(len(labels)), draw_groups(labels, groups, halves, "halves", seed))
    rng = np.random.default_rng(derive("halves", seed))
    second = np.empty(len(labels), bool)
    for name in range(num_classes):
        images = rng.permutation(np.flatnonzero(labels == name))
        second[images] = (np.arange(len(images)) + rng.integers(2)) % 2
    return second

"""Whether the intervals cover, the tied group holds the best, and the confirmed score is unbiased: by simulation.

Images are drawn from a population whose confusion is known, so that the true F1 is too. Needs no images and no GPU.
"""

import argparse
import time
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from scipy import special
from tqdm import tqdm

from benchmarks.harness import Figure, Outcome, Row
from study.statistics import intervals, seeds
from study.statistics.intervals import Intervals
from study.statistics.resamples import Resamples
from trainable.cli import Parser, positive_int, seed
from trainable.metrics import f1_per_class
from trainable.streams import derive

NUM_CLASSES, MINORITY = 10, [0, 1, 2]
POSITIVES = (20, 50, 500)  # validation images of a minority class
MAJORITY_TIMES = 10  # as many of a majority class
TRUE_F1 = (0.4, 0.7, 0.9, 0.97)
CORRELATION = 0.7  # of two models' latent difficulty of an image
NUM_EPOCHS, EPOCH_CORRELATION = 20, 0.8
WITHIN = 0.7  # correlation of the difficulty of two images of one group
GROUP_SIZES = {"1": (1,), "6": (6,), "1 to 12": (1, 1, 2, 3, 6, 12)}
SAME_SIZES = 20  # data sets, between which the sizes of groups are drawn anew
GROUPED = ((100, 0.7), (100, 0.9), (300, 0.9), (300, 0.97))  # images of a minority class, and true F1
NUM_TRIALS = 50
NUM_SEEDS = 5
SEED_DEVIATIONS = (0.0, 0.5, 1.5)  # of the seeds' true F1, in standard errors of a model on the images
MOST_EPOCH_SETS = 300  # the epochs' figures are far off and need fewer data sets
BLOCK_IMAGES = 4_000_000  # images simulated at a time, over all data sets and models


def add_flags(parser: Parser) -> None:
    group = parser.add_argument_group("benchmark")
    group.add_argument("--seed", type=seed, default=0, help="draws the data sets")
    group.add_argument("--sets", type=positive_int, default=2000, help="data sets of a setting")
    group.add_argument("--studies", type=positive_int, default=2000, help="studies of a setting of the tied group")
    group.add_argument("--resamples", type=positive_int, default=1000, help="bootstrap resamples")


def run(arguments: argparse.Namespace) -> Outcome:
    work: list[Callable[[], Row]] = [partial(speed, arguments.resamples)]
    for name in POPULATIONS:
        for positives in POSITIVES:
            for f1 in TRUE_F1:
                work.append(partial(coverage, name, positives, f1, arguments))
    for positives in POSITIVES:
        for f1 in TRUE_F1:
            work.append(partial(best_epoch, positives, f1, arguments))
    for positives in (20, 50):
        for f1 in (0.7, 0.9):
            for deficits in ("equal", "spread"):
                work.append(partial(tied_group, positives, f1, deficits, arguments))
    for spread in (0.0, 1 / np.sqrt(5), 1.0):
        work.append(partial(confirming, spread, 0.0, arguments))
    work.append(partial(confirming, 0.0, 0.3, arguments))
    for positives in (50, 500):
        for f1 in (0.7, 0.9):
            for deviation in SEED_DEVIATIONS:
                work.append(partial(seeds_and_images, positives, f1, deviation, arguments))
    for sizes in GROUP_SIZES:
        for positives, f1 in GROUPED:
            work.append(partial(grouped, sizes, positives, f1, arguments))
    rows = [piece() for piece in tqdm(work, unit=" settings", disable=None, leave=False)]
    figures = [
        Figure(f"{row['what']}: {name.replace('_', ' ')}", row["unit"], [value])
        for row in rows
        for name, value in row["measured"].items()
    ]
    return Outcome(rows, figures, ratio_of="none; each figure is over all of its setting's data sets")


def speed(num_resamples: int) -> Row:
    """1,000 trials on 5,000 images: seconds of the first draw, the scores, and all that is made of them."""
    rng = np.random.default_rng(derive("calibration", 0))
    labels = rng.integers(NUM_CLASSES, size=5000)
    predictions = np.where(rng.random((1000, 5000)) < 0.8, labels, rng.integers(NUM_CLASSES, size=(1000, 5000)))

    def analyse() -> dict[str, float]:
        times = [time.perf_counter()]
        resamples = Resamples(labels, NUM_CLASSES, MINORITY, num_resamples)
        times.append(time.perf_counter())
        scores = resamples.score(predictions)
        times.append(time.perf_counter())
        intervals.intervals(scores)
        intervals.difference(scores, np.arange(1000), 0)
        times.append(time.perf_counter())
        intervals.tied_with_best(scores)
        times.append(time.perf_counter())
        names = ("draw", "scores", "intervals", "tied_group")
        return {f"{name}_seconds": float(step) for name, step in zip(names, np.diff(times), strict=True)}

    measured = analyse()
    tracemalloc.start()
    analyse()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    measured["peak_megabytes_beside_the_predictions"] = peak / 1e6
    return {"what": "1,000 trials × 5,000 images", "unit": "s or MB", "measured": measured}


def coverage(name: str, positives: int, f1: float, arguments: argparse.Namespace) -> Row:
    """How often the 95 % intervals of a model and of the difference of two hold the truth."""
    population = POPULATIONS[name]
    models = [population(f1, positives), population(1 - 1.2 * (1 - f1), positives)]
    truth = [true_f1(model, positives) for model in models]
    counts = class_counts(positives)
    resamples = Resamples(labels_of(counts), NUM_CLASSES, MINORITY, arguments.resamples, arguments.seed)
    rng = _generator("coverage", name, positives, f1, arguments)
    tally = _Tally()
    for size in _blocks(arguments.sets, 2 * counts.sum()):
        scores = resamples.score(np.concatenate(list(draw(models, counts, CORRELATION, size, rng))))
        pairs = np.arange(size)
        first = intervals.intervals(scores)
        tally.add("one model", Intervals(first.estimate[:size], first.low[:size], first.high[:size]), truth[0])
        tally.add("difference of two", intervals.difference(scores, pairs, pairs + size), truth[0] - truth[1])
    return {
        "what": f"coverage, {name} errors, {positives} positives, F1 {f1}",
        "unit": "%",
        "sets": arguments.sets,
        "true_f1": truth,
        "measured": {key: 100 * tally.covered(key) for key in ("one model", "difference of two")},
        "missed_below_and_above_percent": {key: tally.missed(key) for key in ("one model", "difference of two")},
        "mean_width": {key: tally.width(key) for key in ("one model", "difference of two")},
    }


def best_epoch(positives: int, f1: float, arguments: argparse.Namespace) -> Row:
    """The same where the best of 20 equally good epochs is taken, and the bias of it and of the two-halves rule."""
    model, counts = even_errors(f1, positives), class_counts(positives)
    labels, truth = labels_of(counts), true_f1(model, positives)
    resamples = Resamples(labels, NUM_CLASSES, MINORITY, arguments.resamples, arguments.seed)
    rng = _generator("best_epoch", positives, f1, arguments)
    num_sets = min(arguments.sets, MOST_EPOCH_SETS)
    tally, best_scores, half_scores = _Tally(), [], []
    for size in _blocks(num_sets, NUM_EPOCHS * counts.sum()):
        epochs = np.stack(list(draw([model] * NUM_EPOCHS, counts, EPOCH_CORRELATION, size, rng)))  # (epochs, sets, n)
        best = np.stack([epochs[f1_of(epochs[:, index], labels).argmax(), index] for index in range(size)])
        found = intervals.intervals(resamples.score(best))
        tally.add("best", found, truth)
        best_scores += found.estimate.tolist()
        half_scores += [
            seeds.two_halves(labels, epochs[:, index], NUM_CLASSES, MINORITY, index) for index in range(size)
        ]
    deviation = float(np.std(best_scores))
    return {
        "what": f"best of {NUM_EPOCHS} epochs, {positives} positives, F1 {f1}",
        "unit": "%, SE",
        "sets": num_sets,
        "true_f1": truth,
        "measured": {
            "coverage": 100 * tally.covered("best"),
            "bias": (np.mean(best_scores) - truth) / deviation,
            "bias of two halves": (np.mean(half_scores) - truth) / deviation,
        },
    }


def tied_group(positives: int, f1: float, deficits: str, arguments: argparse.Namespace) -> Row:
    """50 trials: the best, one truly 6 paired standard errors below it, the others equal or 0 to 3 below."""
    counts = class_counts(positives)
    rng = _generator("tied_group", positives, f1, deficits, arguments)
    error = _paired_error(f1, f1, positives, rng)
    below = f1
    for _ in range(4):  # the error depends on how far below
        below = f1 - 6 * _paired_error(f1, below, positives, rng)
    between = np.zeros(NUM_TRIALS - 2) if deficits == "equal" else np.linspace(0.1, 3, NUM_TRIALS - 2) * error
    models = [even_errors(float(target), positives) for target in [f1, below, *(f1 - between)]]
    resamples = Resamples(labels_of(counts), NUM_CLASSES, MINORITY, arguments.resamples, arguments.seed)
    tied = np.empty((arguments.studies, NUM_TRIALS), bool)
    for study in range(arguments.studies):
        predictions = np.concatenate(list(draw(models, counts, CORRELATION, 1, rng)))
        tied[study] = intervals.tied_with_best(resamples.score(predictions))
    return {
        "what": f"tied group, others {deficits}, {positives} positives, F1 {f1}",
        "unit": "%, trials",
        "studies": arguments.studies,
        "paired_error": error,
        "measured": {
            "holds the best": 100 * float(tied[:, 0].mean()),
            "leaves out 6 SE below": 100 * float(1 - tied[:, 1].mean()),
            "mean size of 50": float(tied.sum(axis=1).mean()),
        },
    }


def _paired_error(first: float, second: float, positives: int, rng: np.random.Generator) -> float:
    """Standard error of the difference of two models' F1 on the same images."""
    scores = _drawn_scores([first, second], positives, rng)
    return float(np.std(scores[0] - scores[1]))


def _drawn_scores(f1: list[float], positives: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Scores of a model of each true ``f1`` on the same 400 sets of images."""
    counts = class_counts(positives)
    models = [even_errors(value, positives) for value in f1]
    return [f1_of(predictions, labels_of(counts)) for predictions in draw(models, counts, CORRELATION, 400, rng)]


def confirming(spread: float, image_share: float, arguments: argparse.Namespace) -> Row:
    """50 recipes searched, the best three and two others confirmed on 5 seeds: what each score is off by.

    A run's score has variance 1: 0.3 of it the seed's, common to all recipes, the rest the run's own. ``spread`` is
    the standard deviation of the recipes' truth. Of the run's own noise ``image_share`` stays with the recipe on
    these validation images, whatever the seed: fresh seeds cannot show it, only fresh images can.
    """
    num_recipes, num_seeds, seed_share = 50, 5, 0.3
    rng = _generator("confirming", spread, image_share, arguments)
    errors: dict[str, list[float]] = {"search score": [], "plain maximum": [], "confirmed score": []}
    tally = _Tally()
    for _ in range(arguments.sets):
        truth = rng.normal(0, spread, num_recipes)
        images = rng.normal(0, np.sqrt(image_share), num_recipes)
        own = np.sqrt(1 - seed_share - image_share)
        search = truth + images + rng.normal(0, np.sqrt(seed_share + own**2), num_recipes)
        best = search.argmax()
        picked = np.array([0, 1, *[index for index in np.argsort(-search) if index > 1][:3]])
        of_seeds = rng.normal(0, np.sqrt(seed_share), num_seeds)
        scores = (truth + images)[picked, None] + of_seeds + rng.normal(0, own, (len(picked), num_seeds))
        result, means = seeds.confirmed(scores), seeds.recipe_means(scores)
        expected = float(truth[picked][result.chosen].mean())
        errors["search score"].append(search[best] - truth[best])
        errors["plain maximum"].append(scores.mean(axis=1).max() - truth[picked[seeds.best_recipe(scores)]])
        errors["confirmed score"].append(float(result.mean.estimate) - expected)
        tally.add("confirmed score", result.mean, expected)
        naive = seeds.recipe_means(result.scores[None, :])
        tally.add("t over the left-out scores alone", naive, expected)
        tally.add("each recipe's mean", means, truth[picked])
        gaps = seeds.paired_differences(scores)
        upper = np.triu_indices(len(picked), 1)
        tally.add(
            "difference of two recipes",
            Intervals(gaps.estimate[upper], gaps.low[upper], gaps.high[upper]),
            (truth[picked][:, None] - truth[picked])[upper],
        )
    unit = 1 / np.sqrt(num_seeds)  # a recipe's standard error over the seeds
    measured = {f"bias of {name}, in SE": float(np.mean(values)) / unit for name, values in errors.items()}
    measured |= {f"coverage of {name}": 100 * tally.covered(name) for name in tally.hits}
    noise = f", {image_share:g} of the variance the images'" if image_share else ""
    return {
        "what": f"confirming, recipes' spread {spread / unit:.3g} SE{noise}",
        "unit": "SE or %",
        "sets": arguments.sets,
        "measured": measured,
    }


def seeds_and_images(positives: int, f1: float, deviation: float, arguments: argparse.Namespace) -> Row:
    """A recipe's mean over 5 seeds on one set of images, all drawn anew, and its difference to a recipe below it.

    Each seed's model has a true F1 of its own; the truth is their mean over all seeds.
    """
    counts, truth = class_counts(positives), [f1, 1 - 1.2 * (1 - f1)]
    rng = _generator("seeds_and_images", positives, f1, deviation, arguments)
    spread = deviation * float(np.std(_drawn_scores([f1], positives, rng)[0]))
    resamples = Resamples(labels_of(counts), NUM_CLASSES, MINORITY, arguments.resamples, arguments.seed)
    tally = _Tally()
    for size in _blocks(arguments.sets, 2 * NUM_SEEDS * counts.sum()):
        # three deviations at most, on both sides: no F1 beyond 1, and the mean stays
        of_seeds = spread * np.clip(rng.standard_normal((size, 2, NUM_SEEDS)), -3, 3)
        predictions = []
        for values in (np.array(truth)[:, None] + of_seeds).reshape(size, -1):
            models = [even_errors(value, positives) for value in values]
            predictions += list(draw(models, counts, CORRELATION, 1, rng))
        scores = resamples.score(np.concatenate(predictions))
        alone = seeds.recipe_means(scores.score.reshape(-1, NUM_SEEDS))
        tally.add("mean over seeds and images", seeds.means_on_images(scores, NUM_SEEDS), np.tile(truth, size))
        tally.add("t over the seeds alone", alone, np.tile(truth, size))
        for first in range(0, 2 * size, 2):
            gap = seeds.difference_on_images(scores, NUM_SEEDS, first, first + 1)
            tally.add("difference of two recipes", gap, truth[0] - truth[1])
    what = f"seeds {deviation:g} SE apart on the same images, {positives} positives, F1 {f1}"
    return _all_of(tally, what, truth, arguments)


def grouped(sizes: str, positives: int, f1: float, arguments: argparse.Namespace) -> Row:
    """As ``coverage``, of images that come in groups, of ``sizes``, drawn anew every few sets."""
    models = [even_errors(f1, positives), even_errors(1 - 1.2 * (1 - f1), positives)]
    truth = [true_f1(model, positives) for model in models]
    rng = _generator("grouped", sizes, positives, f1, arguments)
    tally = _Tally()
    for start in range(0, arguments.sets, SAME_SIZES):
        counts, groups = draw_groups_of(sizes, positives, rng)
        labels, size = labels_of(counts), min(SAME_SIZES, arguments.sets - start)
        predictions = np.concatenate(list(draw(models, counts, CORRELATION, size, rng, groups)))
        by_group, by_image = (
            Resamples(labels, NUM_CLASSES, MINORITY, arguments.resamples, arguments.seed, groups=units).score(
                predictions
            )
            for units in (groups, None)
        )
        pairs = np.arange(size)
        tally.add("a model", intervals.intervals(by_group), np.repeat(truth, size))
        tally.add("the difference of two", intervals.difference(by_group, pairs, pairs + size), truth[0] - truth[1])
        tally.add("a model, by image", intervals.intervals(by_image), np.repeat(truth, size))
    return _all_of(tally, f"groups of {sizes}, {positives} positives, F1 {f1}", truth, arguments)


def _all_of(tally: "_Tally", what: str, truth: list[float], arguments: argparse.Namespace) -> Row:
    """All that ``tally`` has counted, by what it is of."""
    return {
        "what": what,
        "unit": "%",
        "sets": arguments.sets,
        "true_f1": truth,
        "measured": {f"coverage of {name}": 100 * tally.covered(name) for name in tally.hits},
        "missed_below_and_above_percent": {name: tally.missed(name) for name in tally.hits},
        "mean_width": {name: tally.width(name) for name in tally.hits},
    }


def draw_groups_of(sizes: str, positives: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(images of each class, the group of each image): groups of one class each, about ``class_counts`` images."""
    known = np.array(GROUP_SIZES[sizes])
    drawn = [rng.choice(known, round(count / known.mean())) for count in class_counts(positives)]
    groups = np.concatenate(drawn)
    return np.array([of_class.sum() for of_class in drawn]), np.repeat(np.arange(len(groups)), groups)


def _generator(*setting: Any) -> np.random.Generator:
    """A stream of its own for each setting; the last of ``setting`` are the arguments, with the seed."""
    *parts, arguments = setting
    return np.random.default_rng(derive("calibration", arguments.seed, *"/".join(map(str, parts)).encode()))


class _Tally:
    """Counts what intervals hold."""

    def __init__(self) -> None:
        self.hits: dict[str, list[np.ndarray]] = {}

    def add(self, name: str, found: Intervals, truth: float | np.ndarray) -> None:
        where = np.stack(np.broadcast_arrays(truth < found.low, truth > found.high, found.high - found.low))
        self.hits.setdefault(name, []).append(where.reshape(3, -1))

    def _mean(self, name: str) -> Any:
        return np.concatenate(self.hits[name], axis=1).mean(axis=1)

    def covered(self, name: str) -> float:
        return float(1 - self._mean(name)[:2].sum())

    def missed(self, name: str) -> list[float]:
        return [100 * float(share) for share in self._mean(name)[:2]]

    def width(self, name: str) -> float:
        return float(self._mean(name)[2])


def class_counts(positives: int) -> np.ndarray:
    """Validation images of each class, int64 (NUM_CLASSES,)."""
    return np.array([positives if name in MINORITY else MAJORITY_TIMES * positives for name in range(NUM_CLASSES)])


def labels_of(counts: np.ndarray) -> np.ndarray:
    return np.repeat(np.arange(len(counts)), counts)


def even_errors(f1: float, positives: int) -> np.ndarray:
    """Probabilities (true, predicted): each minority class has ``f1``, as many false positives as negatives, and its
    errors lie evenly with all others."""
    counts, num_minority = class_counts(positives), len(MINORITY)
    confusion = np.zeros((NUM_CLASSES, NUM_CLASSES))
    confusion[MINORITY] = (1 - f1) / (NUM_CLASSES - 1)
    from_majority = positives * (1 - f1) * (1 - (num_minority - 1) / (NUM_CLASSES - 1))
    confusion[num_minority:, MINORITY] = from_majority / counts[num_minority:].sum()
    return _with_diagonal(confusion)


def uneven_errors(f1: float, positives: int) -> np.ndarray:
    """Probabilities (true, predicted): minority classes of unlike F1 (mean ``f1``), one that is missed, one that is
    called too often, one between; errors lie with one other class each, half of the middle one's with a minority."""
    counts = class_counts(positives)
    confusion = np.zeros((NUM_CLASSES, NUM_CLASSES))
    missed, called = np.empty(3), np.empty(3)
    for name, (times, share) in enumerate([(0.7, 0.85), (1.0, 0.5), (1.3, 0.15)]):
        loss = times * (1 - f1)
        # F1 = 2 TP / (2 TP + errors) with TP = positives - share × errors
        errors = 2 * positives * loss / (1 - loss + 2 * share * loss)
        missed[name], called[name] = share * errors, (1 - share) * errors
    lent = min(missed[1], called[2]) / 2  # of the middle class, called the last
    confusion[0, 3], confusion[1, 4], confusion[2, 5] = missed / positives
    confusion[1, 4] -= lent / positives
    confusion[1, 2] = lent / positives
    called[2] -= lent
    for name in MINORITY:
        confusion[6 + name, name] = called[name] / counts[6 + name]
    return _with_diagonal(confusion)


POPULATIONS = {"even": even_errors, "uneven": uneven_errors}


def _with_diagonal(confusion: np.ndarray) -> np.ndarray:
    np.fill_diagonal(confusion, 0)
    np.fill_diagonal(confusion, 1 - confusion.sum(axis=1))
    if confusion.min() < 0:
        raise ValueError(f"more errors than images: {confusion.min()}")
    return confusion


def true_f1(model: np.ndarray, positives: int) -> float:
    """Minority F1 of the expected confusion."""
    return float(f1_per_class(model * class_counts(positives)[:, None])[MINORITY].mean())


def f1_of(predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Minority F1 of each row of ``predictions`` (any, n), float64 (any,)."""
    called = [predictions == name for name in MINORITY]
    f1 = [
        2 * call[:, labels == name].sum(axis=1) / ((labels == name).sum() + call.sum(axis=1))
        for name, call in zip(MINORITY, called, strict=True)
    ]
    return np.mean(f1, axis=0)


def draw(
    models: list[np.ndarray],
    counts: np.ndarray,
    correlation: float,
    num_sets: int,
    rng: np.random.Generator,
    groups: np.ndarray | None = None,
) -> Iterator[np.ndarray]:
    """Predictions of each model on the same images, int8 (num_sets, n) a model; images come sorted by class.

    An image has a latent difficulty, normal, part of it (``correlation``) common to all models; a model errs on the
    hardest, into one class or another by how hard they are. Of either part, ``WITHIN`` is common to images of one of
    ``groups`` (numbers from 0, (n,)).
    """

    def normal() -> np.ndarray:
        own = rng.standard_normal((num_sets, counts.sum()), np.float32)
        if groups is None:
            return own
        shared = rng.standard_normal((num_sets, groups.max() + 1), np.float32)[:, groups]
        return np.sqrt(WITHIN) * shared + np.sqrt(1 - WITHIN) * own

    common = np.sqrt(correlation) * normal()
    ends = np.cumsum(counts)
    # each class's predictions, the right one first, and the difficulties at which one gives way to the next
    order = np.array([[name, *[other for other in range(NUM_CLASSES) if other != name]] for name in range(NUM_CLASSES)])
    shares = np.take_along_axis(np.array(models), order[None], axis=2).cumsum(axis=2)[:, :, :-1]
    for bounds in special.ndtri(np.minimum(shares, 1)):
        difficulty = np.sqrt(1 - correlation) * normal() + common
        predictions = np.empty(common.shape, np.int8)
        for name, (end, count) in enumerate(zip(ends, counts, strict=True)):
            images = difficulty[:, end - count : end]
            drawn = np.full(images.shape, name, np.int8)
            wrong = images > bounds[name, 0]
            drawn[wrong] = order[name, np.searchsorted(bounds[name], images[wrong])]
            predictions[:, end - count : end] = drawn
        yield predictions


def _blocks(num_sets: int, images_of_set: int) -> Iterator[int]:
    """Numbers of data sets that add up to ``num_sets``, few enough at a time."""
    most = max(1, BLOCK_IMAGES // int(images_of_set))
    while num_sets > 0:
        yield min(most, num_sets)
        num_sets -= most

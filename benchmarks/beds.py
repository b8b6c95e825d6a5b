"""Whether the bed fitted to recorded curves is like them: recipes it has not seen, and its noise beside the real."""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import stats
from sklearn.model_selection import KFold

from benchmarks.harness import Figure, Outcome, Row
from study.execution.surrogate import DIGITS_CURVES, Curves, Surrogate, read_curves
from study.space import parameters
from trainable.cli import Parser, positive_int, seed


def add_flags(parser: Parser) -> None:
    parser.add_argument("--curves", default=None, metavar="FILE", help="recorded curves (digits)")
    parser.add_argument("--folds", type=positive_int, default=5, help="the recipes of each are held out in turn")
    parser.add_argument("--seed", type=seed, default=0, help="draws the folds and the noise")


def run(arguments: argparse.Namespace) -> Outcome:
    curves = read_curves(Path(arguments.curves or DIGITS_CURVES), parameters.load(parameters.COURSE_SPACE))
    rows: list[Row] = []
    means = np.empty((len(curves.points), curves.num_epochs))
    made_up = np.empty_like(curves.scores)
    folds = KFold(arguments.folds, shuffle=True, random_state=arguments.seed)
    for number, (known, held_out) in enumerate(folds.split(curves.points)):
        bed = Surrogate(_some(curves, known))
        for index in held_out:
            means[index] = bed.mean_at(curves.points[index])
            for column in range(made_up.shape[1]):
                made_up[index, column] = bed.train_at(curves.points[index], arguments.seed + 1000 * index + column)
            rows.append({"recipe": int(index), "fold": number, "expected": means[index].round(4).tolist()})
    real, best = curves.scores, curves.scores.max(axis=2)
    top = best.mean(axis=1) >= np.median(best.mean(axis=1))
    expected = means.max(axis=1)
    first_rung = -(-curves.num_epochs // 5) - 1
    checks: dict[str, object] = {
        "held out: rank correlation of best F1, all recipes": _rank(expected, best.mean(axis=1)),
        "held out: rank correlation of best F1, better half": _rank(expected[top], best.mean(axis=1)[top]),
        "one seed with the other: rank correlation of best F1, all recipes": _rank(*best.T[:2]),
        "one seed with the other: rank correlation of best F1, better half": _rank(*best[top].T[:2]),
        f"held out: rank correlation of F1 after epoch {first_rung + 1}":
            _rank(means[:, first_rung], real.mean(axis=1)[:, first_rung]),
    }  # fmt: skip
    figures: list[Figure] = []
    for name, measure in (("best F1, between seeds", _between_seeds), ("F1, from an epoch to the next", _steps)):
        for who, chosen in (("all recipes", np.ones_like(top)), ("better half", top)):
            one, other = measure(real[chosen]), measure(made_up[chosen])
            figures += [Figure(f"{name}, {who}: {whose}", "F1", values.tolist())
                        for whose, values in (("recorded", one), ("made up", other))]  # fmt: skip
            checks[f"{name}, {who}: root mean square, recorded and made up"] = [_size(one), _size(other)]
            checks[f"{name}, {who}: distance of distributions (Kolmogorov-Smirnov)"] = float(
                stats.ks_2samp(one, other).statistic
            )
    alike = [_alike(real[top]), _alike(made_up[top])]
    checks["seeds' difference, one epoch with the next, better half: correlation, recorded and made up"] = alike
    return Outcome(rows, figures, ratio_of="none", checks=checks)


def _some(curves: Curves, chosen: np.ndarray) -> Curves:
    return replace(curves, points=curves.points[chosen], scores=curves.scores[chosen],
                   epoch_seconds=curves.epoch_seconds[chosen])  # fmt: skip


def _rank(one: np.ndarray, other: np.ndarray) -> float:
    return float(stats.spearmanr(one, other).statistic)


def _size(values: np.ndarray) -> float:
    return float(np.sqrt((values**2).mean()))


def _between_seeds(scores: np.ndarray) -> np.ndarray:
    best = scores.max(axis=2)
    return np.abs(best[:, 0] - best[:, 1])


def _steps(scores: np.ndarray) -> np.ndarray:
    """In the second half of the epochs, where curves hardly rise any more."""
    return np.abs(np.diff(scores[:, :, scores.shape[2] // 2 :], axis=2)).ravel()


def _alike(scores: np.ndarray) -> float:
    differences = (scores[:, 0] - scores[:, 1])[:, scores.shape[2] // 2 :]
    return float(np.corrcoef(differences[:, :-1].ravel(), differences[:, 1:].ravel())[0, 1])

"""A test bed fitted to recorded learning curves: a smooth model of the mean curve over the space, and of the noise."""

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from study.execution.beds import locate, values_at
from study.space.parameters import Space
from trainable.cli import UsageError, shown
from trainable.config import TrialConfig
from trainable.files import check_plain
from trainable.objectives import MINORITY_F1, OBJECTIVES, Objective

DIGITS_CURVES = Path(__file__).with_name("digits_curves.csv")
FLOOR = 0.01  # scores of 0 and 1 have no logit
NUM_COMPONENTS = 4  # of a mean curve
NUM_LIKE = 12  # recipes whose seeds' differences make the noise of another


@dataclass(frozen=True)
class Curves:
    """Recorded learning curves of some configs, each trained with several seeds."""

    space: Space
    points: np.ndarray  # float64 (num_configs, num_fields), see ``locate``
    scores: np.ndarray  # float64 (num_configs, num_seeds, num_epochs), in [0, 1]
    epoch_seconds: np.ndarray  # float64 (num_configs,)
    objective: Objective = MINORITY_F1  # whose scores they are

    @property
    def num_epochs(self) -> int:
        return self.scores.shape[2]


def read_curves(path: Path, space: Space) -> Curves:
    """Reads a table as ``benchmarks.curves`` writes it: a row for each config and seed.

    Raises:
        UsageError: the file cannot be read, or holds something else; what is wrong first.
    """
    try:
        check_plain(path)
        table = pd.read_csv(path, comment="#")
        return _curves(table, space)
    except OSError as error:
        reason: object = error.strerror or error
    except ValueError as error:
        reason = str(error).splitlines()[0]
    raise UsageError([f"--curves {path}: cannot be read ({reason})"])


def _curves(table: pd.DataFrame, space: Space) -> Curves:
    """The curves in the table.

    Raises:
        ValueError: a column is missing, or values are no such curves.
    """
    epochs = [name for name in table if re.fullmatch(r"epoch_\d+", name)]
    needed = ["config", *(parameter.name for parameter in space), "epoch_seconds"]
    if missing := [name for name in needed if name not in table] + ([] if epochs else ["epoch_1"]):
        raise ValueError(f"it has no column {', '.join(missing)}")
    scores, seconds = table[epochs].to_numpy(float), table["epoch_seconds"].to_numpy(float)
    if not len(table) or not ((scores >= 0) & (scores <= 1)).all() or not ((seconds >= 0) & (seconds < 1e9)).all():
        raise ValueError("it must have rows with scores from 0 to 1 and seconds of at least 0")
    grouped = table.groupby("config", sort=True)
    if len(set(grouped.size())) > 1:
        raise ValueError("it must have as many seeds of each config")
    judged_by = set(table.get("objective", [MINORITY_F1.name]))  # the first tables did not say
    if len(judged_by) > 1 or not judged_by <= set(OBJECTIVES):
        raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, the same in all rows")
    firsts = grouped.first().to_dict("records")
    for values in firsts:
        for parameter in space:
            if parameter.active(values) and not parameter.contains(values[parameter.name]):
                rule = f"{parameter.name} must be a value of the space"
                raise ValueError(f"{rule}, not {shown(values[parameter.name])}")
    if len(grouped) < NUM_LIKE or len(table) < 2 * len(grouped):
        raise ValueError(f"it must have at least {NUM_LIKE} configs with two seeds each")
    return Curves(
        space,
        np.array([locate(space, values) for values in firsts]),
        np.stack([group[epochs].to_numpy(float) for _, group in grouped]),
        grouped["epoch_seconds"].mean().to_numpy(float),
        OBJECTIVES[judged_by.pop()],
    )


class Surrogate:
    """What recorded curves say of all recipes of their space.

    On the logit scale a recipe's mean curve is made of the NUM_COMPONENTS main ones (principal components), whose
    shares are Gaussian processes over the space. The noise of a training is a random mixture of what the seeds of the
    NUM_LIKE recipes with the most similar mean curves differ by: so it is as large, and as alike from epoch to epoch,
    as theirs, and another one each time.
    """

    def __init__(self, curves: Curves) -> None:
        self.curves, self.space = curves, curves.space

    @property
    def num_epochs(self) -> int:
        return self.curves.num_epochs

    @property
    def objective(self) -> Objective:
        return self.curves.objective

    @cached_property
    def best(self) -> float:
        rng = np.random.default_rng(0)
        centres, spread, found = np.full((1, len(self.space)), 0.5), 1.0, -np.inf
        for _ in range(8):  # ever nearer to the best so far
            shares = centres[rng.integers(len(centres), size=2048)]
            shares = np.clip(shares + spread * rng.uniform(-1, 1, shares.shape), 0, 1)
            points = [locate(self.space, values_at(self.space, share)) for share in shares]
            worths = _from_logit(self._model(np.array(points))).max(axis=1)
            centres, spread, found = shares[worths.argsort()[-16:]], spread / 2, max(found, worths.max())
        return float(found)

    def worth(self, config: TrialConfig) -> float:
        return float(self.mean_at(self._point(config)).max())

    def train(self, config: TrialConfig, seed: int) -> np.ndarray:
        return self.train_at(self._point(config), seed)

    def epoch_seconds(self, config: TrialConfig) -> float:
        """Those of the nearest recipe."""
        distances = ((self.curves.points - self._point(config)) ** 2).sum(axis=1)
        return float(self.curves.epoch_seconds[distances.argmin()])

    def mean_at(self, point: np.ndarray) -> np.ndarray:
        """The score after each epoch without noise, float64 (num_epochs,); ``point`` (num_fields,), see ``locate``."""
        return _from_logit(self._model(point[None])[0])

    def train_at(self, point: np.ndarray, seed: int) -> np.ndarray:
        """A training, float64 (num_epochs,)."""
        mean = self._model(point[None])[0]
        alike = ((self._fitted - mean) ** 2).sum(axis=1).argsort()[:NUM_LIKE]
        shares = np.random.default_rng(seed).standard_normal(len(alike)) / np.sqrt(len(alike))
        return _from_logit(mean + shares @ self._differences[alike])

    def _point(self, config: TrialConfig) -> np.ndarray:
        return locate(self.space, config.to_dict())

    @cached_property
    def _model(self) -> Callable[[np.ndarray], np.ndarray]:
        """Mean curves on the logit scale (n, num_epochs) at points (n, num_fields)."""
        means = _to_logit(self.curves.scores).mean(axis=1)
        centre = means.mean(axis=0)
        axes = np.linalg.svd(means - centre, full_matrices=False)[2][:NUM_COMPONENTS]
        shares = (means - centre) @ axes.T
        scale = np.maximum(shares.std(axis=0), 1e-12)
        num_fields = self.curves.points.shape[1]
        kernel = WhiteKernel(0.05, (1e-3, 2))
        for length, bounds in ((1.0, (0.05, 20.0)), (3.0, (1.0, 50.0))):  # what knobs do together, and each alone
            kernel = kernel + ConstantKernel(1.0) * Matern([length] * num_fields, bounds, nu=2.5)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a knob that does nothing has no length
            process = GaussianProcessRegressor(kernel, random_state=0).fit(self.curves.points, shares / scale)
        return lambda points: (process.predict(points) * scale) @ axes + centre

    @cached_property
    def _fitted(self) -> np.ndarray:
        return self._model(self.curves.points)

    @cached_property
    def _differences(self) -> np.ndarray:
        """How far a training of each recipe is from the mean of very many, float64 (num_configs, num_epochs)."""
        scores = _to_logit(self.curves.scores)
        num_seeds = scores.shape[1]
        return (scores[:, 0] - scores.mean(axis=1)) * np.sqrt(num_seeds / (num_seeds - 1))


def _to_logit(scores: np.ndarray) -> np.ndarray:
    return logit(np.clip(scores, FLOOR, 1 - FLOOR))


def _from_logit(values: np.ndarray) -> np.ndarray:
    return np.clip((expit(values) - FLOOR) / (1 - 2 * FLOOR), 0, 1)

"""What more images would bring: the winner's learning curve over a quarter, half and all of the training images."""

from dataclasses import dataclass

import numpy as np

from study.record.confirmation import LearningCurve
from study.statistics.intervals import Intervals
from study.statistics.seeds import recipe_means
from study.words import signed


@dataclass(frozen=True)
class Gain:
    """What a class's F1 gained from the last doubling of the images, over the seeds."""

    name: str
    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class MoreImages:
    """The curve, and the class that gains most."""

    curve: LearningCurve
    gain: Gain

    @property
    def scores(self) -> Intervals:
        """Mean score at each share, with Student's t interval over the seeds, (points,)."""
        return recipe_means(np.array([point.scores for point in self.curve.points]))

    @property
    def is_known(self) -> bool:
        """Whether the class that gains most gains beyond doubt."""
        return self.gain.low > 0

    @property
    def words(self) -> str:
        rise = f"from {100 * self.curve.points[-2].share:.0f} % of the training images to all, {signed(self.gain)}"
        if self.is_known:
            return f"more images of {self.gain.name} would help most: its F1 rises by most {rise}"
        return f"no class is seen to gain from more images; {self.gain.name} rises by most {rise}"


def of(curve: LearningCurve, class_names: list[str]) -> MoreImages:
    """Paired by seed; the interval is that of the class's own gain, and which gains most was chosen by its mean."""
    fewer, all_images = (np.array(point.class_f1) for point in curve.points[-2:])  # (seeds, classes)
    found = recipe_means((all_images - fewer).T)
    best = int(found.estimate.argmax())
    low, high = max(found.low[best], -1.0), min(found.high[best], 1.0)
    return MoreImages(curve, Gain(class_names[best], float(found.estimate[best]), float(low), float(high)))

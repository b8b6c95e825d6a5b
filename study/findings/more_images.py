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
        fewer = f"{100 * self.curve.points[-2].share:.0f} %"
        higher = f"with all training images its F1 is higher by {signed(self.gain)} than with {fewer}"
        if self.is_known:
            return f"more images of {self.gain.name} would help most: {higher}"
        nothing = "no class is seen to gain from more images"
        return f"{nothing}; most of all {self.gain.name} might: {higher}" if self.gain.estimate > 0 else nothing


def of(curve: LearningCurve, class_names: list[str]) -> MoreImages:
    """Paired by seed. Which class gains most is chosen by its mean, so the intervals hold for all classes at once."""
    fewer, all_images = (np.array(point.class_f1) for point in curve.points[-2:])  # (seeds, classes)
    found = recipe_means((all_images - fewer).T, 1 - 0.05 / len(class_names))  # Bonferroni
    best = int(found.estimate.argmax())
    low, high = max(found.low[best], -1.0), min(found.high[best], 1.0)
    return MoreImages(curve, Gain(class_names[best], float(found.estimate[best]), float(low), float(high)))

"""What a recipe is worth that was chosen as the best of many on the same images.

BBC-CV: Tsamardinos et al. 2018, "Bootstrapping the out-of-sample predictions for efficient and accurate
cross-validation", section 3.2.
"""

import numpy as np

from study.statistics.intervals import Interval, smoothed, t_quantile, wilson
from study.statistics.resamples import Resamples, Scores

TIE = 1e-5
LEFT_OUT = (1 - 1 / np.e, 1 / np.e)  # shares of the images in a resample, and out of it


def corrected(scores: Scores, resamples: Resamples, judged: np.ndarray, confidence: float = 0.95) -> Interval | None:
    """The score of the best of T trials without the luck of having been chosen on these images.

    On each resample the trial is chosen that is best there, and scored on the images that the resample has left out;
    the mean of that. It is a little too low rather than too high: who chooses on a resample chooses a little worse.
    The scores' variance is that of the images left out, a share of 1/e of all, and is brought to that of all
    as for a jackknife that leaves out so many (Shao & Wu 1989, "A general theory for jackknife variance estimation");
    the interval is Wilson's, as for a trial. ``judged`` is what ``scores`` are made of, (T, n, …), with ``resamples``.

    None where no resample leaves out an image of each class.
    """
    # equal scores differ in their last bits, and rounding may part them; the earlier one counts
    chosen = (scores.resampled >= scores.resampled.max(axis=0) - TIE).argmax(axis=0)
    found = resamples.left_out(judged, chosen)
    found = found[~np.isnan(found)]
    if not len(found):
        return None
    estimate, best = np.array(found.mean()), int(scores.score.argmax())
    smooth, added = (values[best] for values in smoothed(scores))
    variance = found.var() * LEFT_OUT[1] / LEFT_OUT[0] + added
    t = t_quantile(scores.degrees_of_freedom, confidence)
    ends = wilson(estimate, np.clip(estimate + smooth - scores.score[best], 0.001, 0.999), variance, t)
    return Interval(float(estimate), float(ends.low), float(ends.high))

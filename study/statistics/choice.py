"""What a recipe is worth that was chosen as the best of many on the same images.

Repeated halves instead of bootstrap resamples, but else as BBC-CV (Tsamardinos et al. 2018, "Bootstrapping the
out-of-sample predictions for efficient and accurate cross-validation", section 3.2). What choosing on all images is
worth beyond choosing on half of them is shrunken (Efron & Morris 1973, "Stein's estimation rule and its competitors").
"""

import numpy as np

from study.statistics.intervals import Interval, smoothed, t_quantile, wilson
from study.statistics.resamples import Resamples, Scores

TIE = 1e-5
NUM_REPEATS = 50


def corrected(scores: Scores, resamples: Resamples, judged: np.ndarray, confidence: float = 0.95) -> Interval:
    """The score of the best of T trials without the luck of having been chosen on these images.

    The images are dealt into two halves. For each half the trial is chosen that is best on the other, and all images
    together are scored as the chosen ones saw them; the mean over 50 deals. Nothing has judged there what it chose. Who
    chooses on half of the images chooses a little worse, though. By how much, these images overstate: to it is added
    what the best of all is ahead of those that the halves chose, times the share of the spread between the trials'
    scores that is no noise, see ``_reliability``. ``judged`` is what ``scores`` are made of, (T, n, …), with
    ``resamples``. The interval is Wilson's, as for a trial, with the mean variance of a deal's score.
    """
    halves = resamples.parts(2, NUM_REPEATS)
    others = np.concatenate([halves != 0, halves != 1])
    there = resamples.counting(others).score(judged).resampled
    # equal scores differ in their last bits, and rounding may part them; the earlier one counts
    chosen = (there >= there.max(axis=0) - TIE).argmax(axis=0)
    by_half = chosen.reshape(2, NUM_REPEATS).T
    found = resamples.score(judged[np.take_along_axis(by_half, halves, axis=1), np.arange(halves.shape[1])])
    ahead = scores.score.max() - scores.score[chosen].mean()
    estimate = min(found.score.mean() + _reliability(scores) * ahead, 1.0)
    smooth, added = (values.mean() for values in smoothed(found))
    variance = found.resampled.var(axis=1, dtype=np.float64).mean() + added
    ends = wilson(
        estimate,
        np.clip(estimate + smooth - found.score.mean(), 0.001, 0.999),
        variance,
        t_quantile(scores.degrees_of_freedom, confidence),
    )
    return Interval(float(estimate), float(ends.low), float(ends.high))


def _reliability(scores: Scores) -> float:
    """Which share of the variance between the trials' scores would be left on endlessly many images, in [0, 1].

    The spread is that of the better half around the median: bad trials, which no choice ever meets, would widen it.
    """
    if len(scores.score) < 2:
        return 0.0
    ahead = scores.score - np.median(scores.score)
    seen = (ahead[ahead >= 0] ** 2).mean()
    noise = scores.resampled - scores.resampled.mean(axis=1, keepdims=True)
    return float(max(1 - noise.var(axis=0, ddof=1, dtype=np.float64).mean() / seen, 0)) if seen else 0.0

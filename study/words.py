"""Numbers and names in words, as people read them."""

import math
from typing import Protocol


class WithEnds(Protocol):
    """An estimate with the ends of its interval."""

    @property
    def estimate(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


def duration(seconds: float) -> str:
    """ "2 h 05 min", "3 min 20 s" or "12 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def signed(interval: WithEnds) -> str:
    return f"{interval.estimate:+.4f} ({interval.low:+.4f} to {interval.high:+.4f})"


def known(score: float | None) -> bool:
    return score is not None and math.isfinite(score)


def f1(score: float | None) -> str:
    """Four decimals; "-" where there is none."""
    return f"{score:.4f}" if known(score) else "-"


def ends(low: float | None, high: float | None) -> str:
    return f"{f1(low)} to {f1(high)}" if known(low) else "unknown"


def f1_with_ends(score: float, low: float | None, high: float | None) -> str:
    return f"{score:.4f} (95 % {ends(low, high)})" if known(low) else f"{score:.4f}"

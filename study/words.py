"""Numbers and names in words, as people read them."""

import math
from typing import Protocol, TypeGuard


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


def end(value: float, digits: int, sign: str) -> str:
    """``digits`` decimals, or as many as show that ``value`` is not 0: an interval that ends just above 0 is beside
    words that say so."""
    if value == 0 or not math.isfinite(value) or float(f"{value:.{digits}f}") != 0:
        return f"{value:{sign}.{digits}f}"
    return f"{value:{sign}.{-math.floor(math.log10(abs(value)))}f}"


def signed(interval: WithEnds, digits: int = 4) -> str:
    return f"{interval.estimate:+.{digits}f} ({ends(interval.low, interval.high, digits, '+')})"


def known(score: float | None) -> TypeGuard[float]:
    return score is not None and math.isfinite(score)


def f1(score: float | None) -> str:
    """Four decimals; "-" where there is none."""
    return f"{score:.4f}" if known(score) else "-"


def ends(low: float | None, high: float | None, digits: int = 4, sign: str = "") -> str:
    if not known(low) or not known(high):
        return "unknown"
    return f"{end(low, digits, sign)} to {end(high, digits, sign)}"


def f1_with_ends(score: float, low: float | None, high: float | None) -> str:
    return f"{score:.4f} (95 % {ends(low, high)})" if known(low) else f"{score:.4f}"


def count(number: int, noun: str) -> str:
    """ "1 epoch", "3 epochs"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

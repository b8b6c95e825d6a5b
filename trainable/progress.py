"""What takes long shows that it goes on: a bar in a terminal; elsewhere, in a log say, a line every half minute."""

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

try:
    import tqdm
except ImportError:  # where trials alone are trained, with torch, numpy and Pillow: nothing is shown there
    tqdm = None  # type: ignore[assignment]

T = TypeVar("T")

LOG_SECONDS = 30.0  # between two lines where there is no terminal


def counted(items: Iterable[T], what: str, total: int, unit: str) -> Iterator[T]:
    """The ``items``, while it is shown how many of ``total`` are done."""
    if tqdm is None:
        yield from items
        return
    with _bar(what, "{desc}: {n_fmt} of {total_fmt}{unit} after {elapsed}", total=total, unit=f" {unit}") as bar:
        for item in items:
            yield item
            bar.update()


@contextmanager
def stage(what: str) -> Iterator[Callable[[str], None]]:
    """While this is open, it is shown what is being done, and for how long already; the function says it anew."""
    if tqdm is None:
        yield lambda now: None
        return
    is_over = threading.Event()
    line = "{desc}: {elapsed}"
    with _bar(what, line, bar_format=line) as bar:

        def show() -> None:
            while not is_over.wait(bar.mininterval):
                bar.refresh()

        thread = threading.Thread(target=show, daemon=True)
        thread.start()
        try:
            yield lambda now: bar.set_description_str(now, refresh=False)
        finally:
            is_over.set()
            thread.join()


def _bar(what: str, line: str, **options: Any) -> "tqdm.tqdm[Any]":
    """``line`` is how it looks where there is no terminal."""
    if sys.stderr.isatty():
        return tqdm.tqdm(desc=what, leave=False, mininterval=0.5, **options)
    options |= {"bar_format": line, "mininterval": LOG_SECONDS, "maxinterval": 2 * LOG_SECONDS, "delay": LOG_SECONDS}
    return tqdm.tqdm(desc=what, leave=False, file=_Lines(), **options)


class _Lines:
    """Standard error, for a bar whose every look is to be a line of its own."""

    def write(self, text: str) -> None:
        if text.strip():
            print(text.strip(), file=sys.stderr)

    def flush(self) -> None:
        sys.stderr.flush()

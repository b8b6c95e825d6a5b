"""Which classes are the minority where nobody names them, and the names that people type."""

from collections.abc import Sequence

import numpy as np

from trainable.cli import printable
from trainable.images.listing import normal

MAX_SHOWN = 12


def usual(class_names: Sequence[str], counts: Sequence[int]) -> tuple[tuple[str, ...], str]:
    """The classes with at most half as many images as is usual, and in words what that is.

    Usual is the number of a class that has more than half of all images; where there is none, an equal share. So beside
    one dominant class the others are the minority, and of a long tail its rare end. Where that finds none, the median
    class is usual: one class of few may make an equal share so small that it has nearly half of it.
    """
    found, rule = _at_most_half(class_names, counts)
    if found:
        return found, rule
    median = float(np.median(counts))
    half = median / 2
    few = tuple(name for name, count in zip(class_names, counts, strict=True) if count <= half)
    return few, f"at most half of the median of the classes' images: {half:g} of {median:g}"


def _at_most_half(class_names: Sequence[str], counts: Sequence[int]) -> tuple[tuple[str, ...], str]:
    total, largest = sum(counts), max(counts)
    if 2 * largest > total:
        name = printable(class_names[list(counts).index(largest)])
        typical, words = float(largest), f"half as many images as {name} {largest}, which has more than half of all"
    else:
        typical = total / len(counts)
        words = f"half of an equal share of the {total} images, which is {typical / 2:g}"
    found = tuple(name for name, count in zip(class_names, counts, strict=True) if count <= typical / 2)
    return found, f"at most {words}"


def line(minority: Sequence[str], class_names: Sequence[str], counts: Sequence[int], what: str, rule: str) -> str:
    """The minority and its ``counts`` as a line for people: of ``what``, and by which rule, if nobody chose it."""
    by_name = dict(zip(class_names, counts, strict=True))
    shown = [f"{printable(name)} {by_name[name]}" for name in minority]
    more = [f"{len(shown) - MAX_SHOWN} more"] if len(shown) > MAX_SHOWN else []
    return f"minority, with its {what}: {', '.join(shown[:MAX_SHOWN] + more)}" + (f" ({rule})" if rule else "")


def named(texts: Sequence[str], class_names: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """The classes that the texts name, each once, and what in them names none. Commas part names, but a name may hold
    some: the longest that there is counts.
    """
    known = {normal(name).strip(): name for name in class_names} | {normal(name): name for name in class_names}
    found: list[str] = []
    unknown: list[str] = []
    for text in texts:
        parts = text.split(",")
        while parts:
            for length in range(len(parts), 0, -1):
                name = normal(",".join(parts[:length]))
                if match := known.get(name, known.get(name.strip())):
                    found.append(match)
                    break
            else:
                unknown += [name.strip()] if name.strip() else []
            del parts[:length]
    return tuple(dict.fromkeys(found)), unknown

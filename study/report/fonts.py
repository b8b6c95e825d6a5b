"""Which fonts of this machine have the letters of class names, for the pictures; browsers do this for the page."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib import font_manager

USUAL = "DejaVu Sans"  # comes with matplotlib


@dataclass(frozen=True)
class Lettering:
    """Class names as pictures can show them."""

    families: list[str]  # of fonts; the first that has a letter draws it
    names: list[str]  # of the classes; what no font can draw is left out, and the class's number is added
    num_changed: int

    @property
    def note(self) -> str:
        """What the reader of the pictures should know; empty where all names are as they are."""
        if not self.num_changed:
            return ""
        are = "name has" if self.num_changed == 1 else "names have"
        return f"figures/: {self.num_changed} class {are} letters that no font here can draw; numbers stand for them"


def lettering(names: Sequence[str]) -> Lettering:
    """Looks through the machine's fonts as far as ``names`` need it: a study in English opens one."""
    families = [USUAL]
    missing = {ord(letter) for name in names for letter in name} - _letters(font_manager.findfont(USUAL))
    others = {font.name: font.fname for font in font_manager.fontManager.ttflist if _is_plain(font)} if missing else {}
    while missing and others:
        # the one that has most of them; of equal ones the first by name, so that a picture is the same tomorrow
        best = max(sorted(others), key=lambda family: len(missing & _letters(others[family])))
        if not missing & _letters(others[best]):
            break
        families.append(best)
        missing = missing - _letters(others[best])
    shown = [_without(missing, name, number) for number, name in enumerate(names, 1)]
    return Lettering(families, shown, sum(map(str.__ne__, names, shown)))


def _without(missing: set[int], name: str, number: int) -> str:
    kept = "".join(letter for letter in name if ord(letter) not in missing)
    if kept == name:
        return name
    return f"{kept.strip()} (class {number})" if kept.strip() else f"class {number}"


def _is_plain(font: font_manager.FontEntry) -> bool:
    """Neither bold nor italic nor narrow; nor matplotlib's font of last resort, which has a box for every letter."""
    look = (font.style, font.variant, font.weight, font.stretch)
    return look == ("normal", "normal", 400, "normal") and not font.name.startswith("Last Resort")


@functools.cache
def _letters(path: str) -> frozenset[int]:
    """The code points that the font in ``path`` can draw."""
    try:
        return frozenset(font_manager.get_font(path).get_charmap())
    except (OSError, RuntimeError, ValueError):  # damaged, or gone since matplotlib looked
        return frozenset()

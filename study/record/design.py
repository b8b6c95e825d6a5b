"""Which trials no scheduler stops: the course's recipes, and points of a design that was chosen in advance."""

from study.record.recipes import COURSE

DESIGN_EVERY = 8  # searched trials: one of them is a point of the design


def place(index: int) -> int | None:
    """Which point of the design the ``index``-th searched trial (from 0) is; None if it is none.

    The design is a Sobol sequence of its own, so that its few points are spread over the choices of each field.
    """
    return index // DESIGN_EVERY if index >= 0 and index % DESIGN_EVERY == 0 else None


def is_protected(number: int) -> bool:
    """Whether no scheduler stops the trial: the course's recipes, which others are held to, and points of the design.

    What is left of the others has been chosen by score; the design is a part of the space that has not.
    """
    return number < len(COURSE) or place(number - len(COURSE)) is not None

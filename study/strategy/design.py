"""Which searched trials are points of a design, chosen in advance and run in full. Imports nothing: --help needs it."""

DESIGN_EVERY = 8  # searched trials: one of them is a point of the design


def place(index: int) -> int | None:
    """Which point of the design the ``index``-th searched trial (from 0) is; None if it is none.

    The design is a Sobol sequence of its own, so that its few points are spread over the choices of each field.
    """
    return index // DESIGN_EVERY if index >= 0 and index % DESIGN_EVERY == 0 else None

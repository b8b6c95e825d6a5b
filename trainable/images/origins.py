"""What is usual for images of an origin, where nobody says anything else. Imports nothing: ``--help`` shows it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Origin:
    """The defaults of a study, or a trial, of such images."""

    keep: float = 1.0  # fraction of the minority's training images: nothing is cut
    val_fraction: float = 0.2
    num_minority: int | None = None  # so many of the first classes; None: those with few images
    epochs: int = 50  # at most; as long as in the course
    trials: int = 50
    space: str = "full"  # see ``study.space``
    flip: bool = True


FOLDER = Origin()
NAMED = {
    "cifar10": Origin(keep=0.1, val_fraction=0.1, num_minority=3),
    # a quick start; and a mirrored digit is no digit
    "digits": Origin(keep=0.03, num_minority=3, epochs=20, trials=16, space="course", flip=False),
}


def origin(data: str) -> Origin:
    """Of ``--data``: a name, or a folder's path."""
    return NAMED.get(data, FOLDER)


def words(field: str) -> str:
    """The defaults of one field, for ``--help``: "cifar10 0.1, digits 0.03, else 1"."""
    usual = getattr(FOLDER, field)
    named = {name: getattr(found, field) for name, found in NAMED.items()}
    return ", ".join([*(f"{name} {_shown(value)}" for name, value in named.items() if value != usual),
                      f"else {_shown(usual)}"])  # fmt: skip


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"

"""Which files count: ``--include`` and ``--exclude``, matched against paths relative to the data folder."""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Globs:
    """Patterns of whole paths like "train/cat/*.png"; ``*`` stands for anything, also for slashes."""

    include: tuple[str, ...] = ()  # none: all
    exclude: tuple[str, ...] = ()

    def take(self, path: str) -> bool:
        """Whether the file counts."""
        return (not self.include or _matches(path, self.include)) and not self.prune(path)

    def prune(self, path: str) -> bool:
        """Whether the file or folder, with all that is in it, is left out."""
        return _matches(path, self.exclude)


ALL = Globs()


def _matches(path: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(path, pattern) for pattern in patterns)

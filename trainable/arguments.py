"""The flags that a single trial and a study share. Imports nothing heavy: ``--help`` answers at once."""

import argparse
import os
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from trainable.config import TrialConfig, UsageError

if TYPE_CHECKING:
    from trainable.images.pool import DataSpec

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130

T = TypeVar("T")


def checked(parse: Callable[[str], T], rule: str, check: Callable[[T], bool]) -> Callable[[str], T]:
    """An argparse type: ``parse`` the text, and refuse what breaks the rule in a sentence with the value."""

    def convert(text: str) -> T:
        try:
            value = parse(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be {rule}, not {text!r}") from None
        if not check(value):
            raise argparse.ArgumentTypeError(f"must be {rule}, not {text!r}")
        return value

    return convert


def one_of(names: Sequence[str]) -> Callable[[str], str]:
    """An argparse type: one of ``names``; unlike argparse's choices it lets other mistakes be told too."""
    return checked(str, f"one of {', '.join(names)}", lambda text: text in names)


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        # a default of None is settled later, and the help says how
        return action.help if action.default is None else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """argparse that goes on after a bad value, so that all problems can be told at once."""

    def __init__(self, prog: str, description: str, epilog: str | None = None) -> None:
        """``epilog`` is shown below the flags, its lines as they are."""
        wrapped = textwrap.fill(description, 80)
        super().__init__(prog, description=wrapped, epilog=epilog, formatter_class=_Help, allow_abbrev=False)
        self.problems: list[str] = []

    def parse(self, argv: list[str] | None) -> argparse.Namespace:
        """The arguments; what is wrong with them is in ``problems``, and the default stands in for it."""
        arguments, unknown = self.parse_known_args(argv)
        self.problems += [f"{text}: no such argument" for text in unknown]
        return arguments

    def _get_value(self, action: argparse.Action, arg_string: str) -> object:
        try:
            return super()._get_value(action, arg_string)
        except argparse.ArgumentError as error:
            self.problems.append(f"{'/'.join(action.option_strings) or action.dest} {error.message}")
            return action.default

    def error(self, message: str) -> NoReturn:
        fail(self.prog, [*self.problems, message])


def fail(program: str, problems: list[str]) -> NoReturn:
    """Prints one line for each problem and exits with 2."""
    for problem in problems:
        print(f"{program}: {printable(problem)}", file=sys.stderr)
    raise SystemExit(EXIT_USAGE)


def printable(text: object) -> str:
    """The text with what could drive a terminal written out, as in a Python string."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(text))


def attempt(problems: list[str], part: Callable[..., Any], *values: Any) -> Any:
    """What ``part`` returns; None where it refuses, and then its problems are added to ``problems``."""
    try:
        return part(*values)
    except UsageError as error:
        problems.extend(error.problems)
        return None


def positive_int(text: str) -> float:
    return checked(int, "a whole number of at least 1", lambda v: v >= 1)(text)


def seed(text: str) -> float:
    return checked(int, "a whole number from 0 to 2^32 - 1", lambda v: 0 <= v < 2**32)(text)


def add_data_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that say which images, and how they are split and cut."""
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data",
        default="cifar10",
        metavar="SOURCE",
        help="cifar10, digits, or a folder with train/<class>/* and, optionally, val/ and test/",
    )
    group.add_argument("--data-dir", default="data", metavar="DIR", help="where CIFAR-10 lies or is downloaded to")
    group.add_argument(
        "--minority",
        default=None,
        metavar="A,B,...",
        help="names of the classes that matter, separated by commas (default: cifar10 and digits: the "
        "first three; a folder: those with fewer than half the median class's images)",
    )
    group.add_argument(
        "--keep",
        default=None,
        metavar="FRACTION",
        type=checked(float, "in (0, 1]", lambda v: 0 < v <= 1),
        help="fraction of the minority's training images that is kept (default: cifar10 0.1, "
        "digits 0.03, a folder 1: nothing is cut)",
    )
    group.add_argument(
        "--val-fraction",
        default=None,
        metavar="FRACTION",
        type=checked(float, "in (0, 1)", lambda v: 0 < v < 1),
        help="fraction of the training images that becomes validation, where there is no val/ "
        "(default: cifar10 0.1, else 0.2)",
    )
    group.add_argument(
        "--image-size",
        default=32,
        metavar="PIXELS",
        type=checked(int, "a whole number from 16 to 96", lambda v: 16 <= v <= 96),
        help="images are resized to this many pixels on each side",
    )
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "imbalance-study"
    group.add_argument("--cache-dir", default=str(cache), metavar="DIR", help="where decoded images are kept")


def data_spec(arguments: argparse.Namespace) -> "DataSpec":
    """The ``DataSpec`` that the flags describe."""
    from trainable.images.pool import DataSpec

    named = arguments.data in ("cifar10", "digits")
    return DataSpec(
        data=arguments.data if named else str(Path(arguments.data).expanduser().absolute()),
        data_dir=str(Path(arguments.data_dir).expanduser().absolute()),
        cache_dir=str(Path(arguments.cache_dir).expanduser().absolute()),
        image_size=arguments.image_size,
        minority=minority_names(arguments.minority),
        keep=arguments.keep,
        val_fraction=arguments.val_fraction,
        seed=arguments.seed,
    )


def minority_names(text: str | None) -> tuple[str, ...] | None:
    """``"cat, dog"`` as names, each once.

    Raises:
        UsageError: the text is there but names nothing.
    """
    if text is None:
        return None
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise UsageError([f"--minority must name at least one class, not {text!r}"])
    return names


def default_config(data: str, seed: int, /, **values: object) -> TrialConfig:
    """The course's recipe for these data, its seeds all ``seed``; a mirrored digit is no digit: there the flip is off.

    Raises:
        UsageError: ``values``, which come before all that, break the rules of their fields.
    """
    base = {"flip": data != "digits", "seed": seed, "split_seed": seed, "cut_seed": seed}
    return TrialConfig.from_dict({**base, **values})


def default_epochs(data: str) -> int:
    """How long a trial may get where nobody says it: the course's 50; on the digits 20, for a quick start."""
    return 20 if data == "digits" else 50


def num_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

"""What every command line here shares: flags that are checked, problems told all at once, exit codes."""

import argparse
import os
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, ParamSpec, TypeVar


class UsageError(Exception):
    """Bad input, found before anything started; ``problems`` holds one sentence for each mistake."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class FailedError(Exception):
    """Something has failed while running, and its one sentence says all of it: exit status 1."""


EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130

MOST = 10**6  # of anything that is counted: epochs, trials, images in a batch
MAX_NAME, MAX_PATH = 255, 3500  # bytes: what file systems take, with room for what a command adds to a path
MAX_SHOWN = 100  # characters


T = TypeVar("T")
P = ParamSpec("P")


def checked(parse: Callable[[str], T], rule: str, check: Callable[[T], bool]) -> Callable[[str], T]:
    """An argparse type: ``parse`` the text, and refuse what breaks the rule in a sentence with the value."""

    def convert(text: str) -> T:
        broken = argparse.ArgumentTypeError(f"must be {rule}, not {shown(text)}")
        try:
            value = parse(text)
        except ValueError:
            raise broken from None
        if not check(value):
            raise broken
        return value

    return convert


def one_of(names: Sequence[str]) -> Callable[[str], str]:
    """An argparse type: one of ``names``; unlike argparse's choices it lets other mistakes be told too."""
    return checked(str, f"one of {', '.join(names)}", lambda text: text in names)


def file_path(text: str) -> Path:
    """An argparse type: a path, its ``~`` written out."""
    try:
        text.encode()
        path = Path(text).expanduser()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"must be a path in UTF-8, not {shown(text)}") from None
    except RuntimeError:  # there is no such user, or nobody knows where this one's home is
        user = shown(text.split("/")[0])
        raise argparse.ArgumentTypeError(f"must be a path, and there is no folder {user}") from None
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"must be a path, not {shown(text)}")
    if len(os.fsencode(path)) > MAX_PATH or any(len(os.fsencode(part)) > MAX_NAME for part in path.parts):
        rule = f"a path of at most {MAX_PATH} bytes, each of its names of at most {MAX_NAME}"
        raise argparse.ArgumentTypeError(f"must be {rule}, not {shown(text)}")
    return path


def regex(text: str) -> str:
    """An argparse type: a regular expression, as text."""
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"must be a regular expression, not {text!r} ({error})") from None
    return text


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        # a default of None is settled later, and the help says how; an empty list says nothing
        return action.help if action.default in (None, []) else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """argparse that goes on after a bad value, so that all problems can be told at once."""

    def __init__(self, prog: str, description: str, epilog: str | None = None) -> None:
        """``epilog`` is shown below the flags, its lines as they are."""
        wrapped = textwrap.fill(description, 80)
        super().__init__(prog, description=wrapped, epilog=epilog, formatter_class=_Help, allow_abbrev=False)
        self.problems: list[str] = []
        self.given: set[str] = set()  # the destinations of the flags that have been used

    def parse(self, argv: list[str] | None) -> argparse.Namespace:
        """The arguments; what is wrong with them is in ``problems``, and the default stands in for it."""
        texts = sys.argv[1:] if argv is None else argv
        arguments, unknown = self.parse_known_args(texts)
        try:
            os.getcwd()
        except OSError as error:
            self.error(f"the current folder is gone ({error.strerror})")
        flags = {text.split("=")[0] for text in texts}
        self.given = {action.dest for action in self._actions if flags & set(action.option_strings)}
        self.problems += [f"{text}: no such argument" for text in unknown]
        return arguments

    def _get_value(self, action: argparse.Action, arg_string: str) -> object:
        try:
            return super()._get_value(action, arg_string)
        except argparse.ArgumentError as error:
            problem = f"{'/'.join(action.option_strings) or action.dest} {error.message}"
            if not action.option_strings:  # nothing could stand in for it
                self.error(problem)
            self.problems.append(problem)
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


def shown(value: object) -> str:
    """A value in a sentence; of a long one its beginning."""
    try:
        text = repr(value)
    except ValueError:  # Python writes out no whole number of more than 4,300 digits
        return "a number of more than 4300 digits"
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def attempt(problems: list[str], part: Callable[P, Any], *values: P.args, **named: P.kwargs) -> Any:
    """What ``part`` returns; None where it refuses, and then its problems are added to ``problems``.

    A file that it cannot read or write is such a problem, too.
    """
    try:
        return part(*values, **named)
    except UsageError as error:
        problems.extend(error.problems)
    except OSError as error:
        if error.filename is None:  # no file, but a fault of ours
            raise
        problems.append(os_sentence(error))
    return None


def os_sentence(error: OSError) -> str:
    """Which file cannot be used, and why."""
    return f"{error.filename}: cannot be used ({error.strerror or error})"


def unwritable(error: OSError) -> str:
    """Which file or folder cannot be written, and why."""
    return f"{error.filename or 'a file'}: cannot be written ({error.strerror or error})"


def whole(low: int, high: int = MOST) -> Callable[[str], int]:
    """An argparse type: a whole number of that range."""
    return checked(int, f"a whole number from {low} to {high}", lambda value: low <= value <= high)


positive_int = whole(1)


def seed(text: str) -> int:
    return checked(int, "a whole number from 0 to 2^32 - 1", lambda v: 0 <= v < 2**32)(text)

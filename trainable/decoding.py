"""JSON files of results as typed values: what a file may hold is written down as types, and pydantic checks it.

A reader gives a value of its type, or refuses with a sentence for each thing that is wrong: the file, the field, the
rule, the value. Keys that a type does not name are allowed, since files gain fields; a key that the first version of
a format did not write has a default.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, from_json

from trainable.cli import UsageError

MAX_TOLD = 5  # things that are wrong in one file

# a number is a number, and not a text that looks like one; NaN and infinities are none
EXACT = ConfigDict(strict=True, allow_inf_nan=False)
EXACT_WITH_MORE = ConfigDict(**EXACT, extra="allow")

Count = Annotated[int, Field(ge=0, le=10**15)]  # a float holds it exactly, and no sum of such overflows
Positive = Annotated[int, Field(ge=1, le=10**15)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
Place = Annotated[str, Field(pattern=r"\A[^\x00]*\z")]  # a path
Share = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(gt=0, le=1)]
# beyond this bound, sums and squares overflow
Number = Annotated[float, Field(ge=-1e150, le=1e150)]
Amount = Annotated[float, Field(ge=0, le=1e150)]

T = TypeVar("T")
Rule = Callable[[Any], Iterable[str]]  # what is wrong with a value whose fields are right one by one, a sentence each


@cache
def adapter(kind: Any) -> TypeAdapter[Any]:
    """What checks and builds values of a type; made once, when the first is read."""
    return TypeAdapter(kind)


def decode(content: bytes, kind: type[T], path: Path, rule: Rule = lambda value: ()) -> T:
    """The JSON text ``content`` of the file at ``path`` as a value of the type ``kind``.

    Raises:
        UsageError: it is no JSON, or not what ``kind`` and ``rule`` say; a sentence for each thing that is wrong.
    """
    try:
        value: T = adapter(cast(Any, kind)).validate_json(content)
    except ValidationError as error:
        raise refusal(path, [words(found) for found in error.errors(include_url=False)]) from error
    if problems := list(rule(value)):
        raise refusal(path, problems)
    return value


def refusal(path: Path, problems: Sequence[str]) -> UsageError:
    """That the file at ``path`` is damaged: a sentence for each of ``problems``, the first few in full."""
    more = len(problems) - MAX_TOLD
    told = list(problems[:MAX_TOLD]) + ([f"{more} more such things are wrong in it"] if more > 0 else [])
    return UsageError([f"{path}: damaged, cannot be used ({problem:.300})" for problem in told])


# what a value must be, by pydantic's kind of error; {ge} and the like are the bound
RULES = {
    "string_type": "a text",
    "string_pattern_mismatch": "a path",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a table of fields",
    "dataclass_type": "a table of fields",
    "greater_than_equal": "at least {ge}",
    "greater_than": "above {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "below {lt}",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
}


def words(error: ErrorDetails) -> str:
    """What is wrong, by pydantic, as a sentence without its end: "f1[2] must be a number, not 'x'"."""
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"]).lstrip(".")
    if error["type"] == "missing":
        return f"{place} is missing"
    if error["type"] == "json_invalid":
        return error["msg"]
    context = {name: f"{v:g}" if isinstance(v, float) else v for name, v in error.get("ctx", {}).items()}
    rule = RULES.get(error["type"]) or f"otherwise ({error['msg']})"
    found = f"of {context['actual_length']}" if "actual_length" in context else shown(error["input"])
    return f"{place or 'its content'} must be {rule.format(**context)}, not {found}"


def shown(value: Any) -> str:
    """A value from a file in a sentence; of what is large, only what it is."""
    if isinstance(value, list | dict):
        return f"a {'list' if isinstance(value, list) else 'table'} of {len(value)}"
    if isinstance(value, int) and abs(value) >= 10**20:
        return f"a number of {value.bit_length()} bits"
    return f"{value!r:.40}"


def read_file(path: Path) -> bytes:
    """The content of a file.

    Raises:
        UsageError: it is not there, or cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError([f"{path}: cannot be read ({error.strerror or error})"]) from error


def check_format(content: bytes, path: Path, known: int) -> None:
    """Refuses a file of another format than the one ``known``, before its fields are looked at.

    Raises:
        UsageError: its format is another, or it is no JSON object.
    """
    try:
        value = from_json(content)
    except ValueError as error:
        raise UsageError([f"{path}: damaged, cannot be read ({error})"]) from error
    found = value.get("format") if isinstance(value, dict) else None
    if found != known or isinstance(found, bool):
        raise UsageError([f"{path}: has format {found!r:.40}, and this version reads {known}"])


def read_versioned(path: Path, known: int, kind: type[T], rule: Rule = lambda value: ()) -> T:
    """The file at ``path``, of the format ``known``, as a value of the type ``kind``.

    Raises:
        UsageError: it cannot be read or is damaged, or its format is another.
    """
    content = read_file(path)
    check_format(content, path, known)
    return decode(content, kind, path, rule)


def unique_problems(field: str, names: Sequence[str]) -> Iterable[str]:
    """That ``names`` are not all different; nothing where they are."""
    twice = [name for name in names if names.count(name) > 1] if len(set(names)) < len(names) else []
    if twice:
        yield f"{field} must differ from each other, and {twice[0]!r:.40} comes twice"


def to_json(value: Any) -> str:
    """A dataclass as it stands in its file."""
    return json.dumps(asdict(value), indent=1)

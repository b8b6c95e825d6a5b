"""Prints docs/toolbox.md, made from the fields of a trial's config: python scripts/toolbox.py > docs/toolbox.md."""

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file, it knows its own folder alone

from study.space import parameters
from trainable.config import FIELDS
from trainable.options import Option

HEAD = """# The toolbox: every field of a trial's config

Made from the fields themselves by `python scripts/toolbox.py > docs/toolbox.md`. A single trial takes any of them by
`--set FIELD=VALUE`; a study takes those of a recipe for all its trials in the same way, or searches them
([search.md](search.md)). "Searched in" names the spaces that do so. The defaults are the recipe of the course this
study grew out of.
"""
COLUMNS = ("field", "what it is", "values", "default", "only where", "searched in", "paper")
ROLES = {
    "protocol": "The same for all trials of a study, which sets it by a flag; no part of a recipe.",
    "seed": "Set by the study.",
    "machine": "Set by the study; no part of a recipe.",
}


def lines() -> Iterator[str]:
    """The document, line by line."""
    yield HEAD
    spaces = {name: {found.name for found in parameters.load(path)} for name, path in parameters.SPACES.items()}
    for part, role in dict.fromkeys((found.part, found.role) for found in FIELDS.values()):
        yield f"## {part.capitalize()}" + (f" ({role})" if role == "protocol" else "") + "\n"
        if role in ROLES:
            yield f"{ROLES[role]}\n"
        yield _row(*COLUMNS)
        yield _row(*["---"] * len(COLUMNS))
        for found in FIELDS.values():
            if (found.part, found.role) == (part, role):
                searched = ", ".join(name for name, names in spaces.items() if found.name in names)
                yield _row(*_cells(found), searched, found.paper)
        yield ""


def _cells(found: Option) -> tuple[str, ...]:
    default = str(found.default).lower() if found.kind is bool else f"{found.default}"
    return f"`{found.name}`", found.help, found.words, f"`{default}`", found.condition()


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def document() -> str:
    """docs/toolbox.md."""
    return "\n".join(lines()).rstrip() + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())

"""The house's rule: imports point down and never in a circle, the heavy ones stay where they belong, files stay short.

All imports of the product count: those inside functions and those for type checking, too.
"""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(path for package in ("study", "trainable") for path in (ROOT / package).rglob("*.py"))

# as CONTRIBUTING.md draws them, from the ground up; rooms on one floor import nothing of each other
FLOORS = [
    ("words",),
    ("trainable",),
    ("space",),
    ("record",),
    ("strategy", "statistics"),
    ("execution", "findings"),
    ("confirmation", "report"),
    ("doors",),
]
MAX_FLOORS = 6  # of rooms in study/, the doors among them
MAX_MODULE, MAX_FUNCTION = 300, 60  # lines

# What breaks a rule today. These sets may only shrink: what is not in them is refused, and so is what need not be.
KNOWN_UPWARD: set[tuple[str, str]] = set()
KNOWN_LONG_MODULES: set[str] = set()
KNOWN_LONG_FUNCTIONS: set[str] = set()


def name_of(path):
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path):
    return ast.parse(path.read_text())


def imported(path):
    """The dotted names that a file imports, anywhere in it; of ``from a import b`` both a and a.b, a file perhaps."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = [*package[: len(package) - node.level + 1]] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def file_of(dotted):
    """The product's file of that name, or None."""
    there = ROOT.joinpath(*dotted.split("."))
    return next((path for path in (there.with_suffix(".py"), there / "__init__.py") if path in FILES), None)


@cache
def arrows():
    """Who imports whom: pairs of files of the product."""
    pairs = {(path, file_of(dotted)) for path in FILES for dotted in imported(path)}
    return {(name_of(one), name_of(other)) for one, other in pairs if other is not None and one != other}


def room_of(name):
    package, *folders, file = name.split("/")
    if package == "trainable":
        return "trainable"
    return folders[0] if folders else {"words.py": "words", "__init__.py": "words"}.get(file, "doors")


def circle(pairs):
    """A circle among the pairs (importer, imported): names, the first of which is the last too; [] if there is none."""
    graph = {}
    for one, other in pairs:
        graph.setdefault(one, set()).add(other)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def floors_of_rooms():
    """{room: floor} in study/, counted from 1: a room's floor is one above the highest that it imports."""
    below = {}
    for one, other in arrows() - KNOWN_UPWARD:
        rooms = room_of(one), room_of(other)
        if not {*rooms} & {"trainable", "words"} and rooms[0] != rooms[1]:
            below.setdefault(rooms[0], set()).add(rooms[1])
    floors = {}
    for room in TopologicalSorter(below).static_order():
        floors[room] = 1 + max((floors[other] for other in below.get(room, ())), default=0)
    return floors


def assert_only(found, known):
    assert set(found) - known == set(), "breaks the rule"
    assert known - set(found) == set(), "breaks the rule no more: take it out of the known ones"


def test_all_files_and_their_imports_are_seen():
    assert len(FILES) > 60
    assert len(arrows()) > 200
    assert ("study/search.py", "trainable/images/splits.py") in arrows()  # for type checking alone
    assert ("study/analyze.py", "study/findings/ranking.py") in arrows()  # inside a function
    assert {room_of(name_of(path)) for path in FILES} == {room for floor in FLOORS for room in floor}


def test_no_files_import_each_other_in_a_circle():
    assert circle([("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")])
    assert circle(arrows() - KNOWN_UPWARD) == []


def test_no_arrow_runs_up_or_to_a_neighbour():
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    assert_only(
        {
            (one, other)
            for one, other in arrows()
            if room_of(one) != room_of(other) and floor[room_of(other)] >= floor[room_of(one)]
        },
        KNOWN_UPWARD,
    )


def test_the_study_has_at_most_six_floors_of_rooms():
    floors = floors_of_rooms()
    for number in range(max(floors.values()), 0, -1):
        print(f"floor {number}: {', '.join(sorted(room for room in floors if floors[room] == number))}")
    assert set(floors) == {room for rooms in FLOORS for room in rooms} - {"trainable", "words"}
    assert max(floors.values()) <= MAX_FLOORS


def test_trainable_knows_neither_the_study_nor_optuna_and_only_tune_py_knows_ray():
    for path in (ROOT / "trainable").rglob("*.py"):
        names = {dotted.split(".")[0] for dotted in imported(path)}
        assert not names & {"study", "optuna"}, path
        assert ("ray" in names) == (path.name == "tune.py"), path


def test_of_the_study_only_execution_knows_ray():
    users = {name_of(path) for path in FILES if "ray" in {dotted.split(".")[0] for dotted in imported(path)}}
    assert users == {f"study/execution/{name}.py" for name in ("cluster", "gauges", "machine", "servers", "tune")} | {
        "trainable/tune.py"
    }


def test_no_module_is_longer_than_300_lines():
    assert_only(
        {name_of(path) for path in FILES if len(path.read_text().splitlines()) > MAX_MODULE}, KNOWN_LONG_MODULES
    )


def test_no_function_is_longer_than_60_lines():
    functions = [
        (path, node)
        for path in FILES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert len(functions) > 300
    long = {f"{name_of(p)}: {f.name}" for p, f in functions if f.end_lineno - f.lineno + 1 > MAX_FUNCTION}
    assert_only(long, KNOWN_LONG_FUNCTIONS)


@pytest.mark.parametrize("name", [name_of(path) for path in FILES if path.name == "__init__.py"])
def test_a_rooms_first_file_says_in_a_sentence_what_it_is_for_and_nothing_else(name):
    content = tree(ROOT / name).body
    assert len(content) <= 1
    assert ast.get_docstring(tree(ROOT / name)) or name.count("/") == 1  # the two packages have none

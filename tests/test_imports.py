"""The house's rule: imports point one way, and the heavy ones stay where they belong."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests import studies

ROOT = Path(__file__).parent.parent


def imported(path):
    """The top-level packages that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]


def test_trainable_knows_neither_the_study_nor_optuna_and_only_tune_py_knows_ray():
    for path in (ROOT / "trainable").rglob("*.py"):
        names = set(imported(path))
        assert not names & {"study", "optuna"}, path
        assert ("ray" in names) == (path.name == "tune.py"), path


def test_of_the_study_only_execution_knows_ray():
    users = {path.relative_to(ROOT).as_posix() for path in (ROOT / "study").rglob("*.py") if "ray" in imported(path)}
    assert users == {"study/execution/machine.py", "study/execution/tune.py"}


# Each list is imported in one process, in its order: what a module brings is there for all that follow, so those that
# may bring least come first.
LIGHT = [
    ("study.simulate", {"ray", "torch", "optuna", "numpy"}),
    ("study.search", {"ray", "torch", "optuna", "numpy"}),
    ("study.confirm", {"ray", "torch", "optuna", "numpy"}),
    ("study.findings.verdict", {"ray", "torch", "optuna", "numpy"}),
    ("trainable.__main__", {"ray", "torch", "numpy"}),
    ("trainable.parts.corrections", {"ray", "torch", "numpy"}),
    ("study.statistics.effects", {"ray", "torch", "torchvision", "optuna"}),
    ("study.statistics.importance", {"ray", "torch", "torchvision", "optuna"}),
    ("study.findings.balancing", {"ray", "torch", "torchvision", "optuna"}),
    ("study.report.charts", {"ray", "torch", "torchvision"}),
    ("study.report.pictures", {"ray", "torch", "torchvision"}),
    ("study.report.page", {"ray", "torch", "torchvision"}),
    ("study.findings.ranking", {"ray", "torch", "torchvision"}),
    ("study.findings.summary", {"ray", "torch", "torchvision"}),
    ("study.analyze", {"ray", "torch", "torchvision"}),
    ("study.strategy.searcher", {"ray", "torch"}),
    ("study.confirmation.runs", {"ray", "torch"}),
    ("study.execution.runner", {"ray", "torch"}),
    ("study.execution.simulated", {"ray", "torch"}),
]
WITH_TORCH = [
    ("trainable.worker", {"ray", "torchvision", "sklearn", "optuna", "study"}),
    ("trainable.loop", {"ray", "torchvision", "sklearn", "optuna", "study"}),
    ("trainable.tune", {"torchvision", "sklearn", "optuna", "study"}),
]
SCORING = [("study.confirmation.scoring", {"ray", "torchvision", "sklearn"})]

IMPORT_ALL = """
import importlib, sys
for pair in sys.argv[1:]:
    module, *absent = pair.split()
    importlib.import_module(module)
    print(module, *{name.split(".")[0] for name in sys.modules} & {*absent})
"""


@pytest.mark.parametrize("modules", [LIGHT, WITH_TORCH, SCORING])
def test_a_module_brings_no_heavy_import_it_does_not_need(modules):
    pairs = [" ".join([module, *absent]) for module, absent in modules]
    out = subprocess.check_output([sys.executable, "-c", IMPORT_ALL, *pairs], text=True)
    assert out.splitlines() == [module for module, _ in modules]


def test_a_whole_analysis_brings_neither_ray_nor_torch(tmp_path):
    folder = studies.write(tmp_path / "study", num_trials=4)
    code = "import sys; from study import analyze; analyze.main(sys.argv[1:]); print(*sys.modules)"
    out = subprocess.check_output([sys.executable, "-c", code, str(folder)], text=True)
    loaded = {name.split(".")[0] for name in out.splitlines()[-1].split()}
    assert {"plotly", "matplotlib", "itables"} <= loaded
    assert not loaded & {"ray", "torch", "torchvision"}

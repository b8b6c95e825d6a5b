"""What a module brings into a process of its own: the heavy imports stay where they belong."""

import subprocess
import sys

import pytest

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

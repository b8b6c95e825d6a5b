"""What the unit tier promises: a test starts no process and trains nothing, so that all of it takes a minute."""

import subprocess

import pytest

from trainable import loop


@pytest.fixture(autouse=True)
def _no_process_and_no_training(monkeypatch):
    start = subprocess.Popen

    def only_git(command, *arguments, **options):
        """A study.json names the commit."""
        assert command[0] == "git", f"a unit test starts no process: {command}; see the tiers in CONTRIBUTING.md"
        return start(command, *arguments, **options)

    def never(*arguments):
        raise AssertionError("a unit test trains nothing; see the tiers in CONTRIBUTING.md")

    monkeypatch.setattr(subprocess, "Popen", only_git)
    monkeypatch.setattr(loop, "run", never)

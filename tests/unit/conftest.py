"""What the unit tier promises: a test starts no process and trains nothing, so that all of it takes a minute."""

import subprocess

import pytest

from trainable import loop


@pytest.fixture(autouse=True)
def _no_process_and_no_training(monkeypatch):
    start = subprocess.Popen.__init__

    def only_git(process, command, *arguments, **options):
        """A study.json names the commit."""
        assert command[0] == "git", f"a unit test starts no process: {command}; see the tiers in CONTRIBUTING.md"
        start(process, command, *arguments, **options)

    def never(*arguments):
        raise AssertionError("a unit test trains nothing; see the tiers in CONTRIBUTING.md")

    monkeypatch.setattr(subprocess.Popen, "__init__", only_git)  # the class stays: Ray has classes of it
    monkeypatch.setattr(loop, "run", never)

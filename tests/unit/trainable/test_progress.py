"""What long work shows: a bar in a terminal, a line now and then elsewhere; and that the work goes on all the same."""

import io
import os
import sys
import time

import pytest

from trainable import command, progress


class Screen(io.StringIO):
    """In the place of standard error from now on; in the test itself, as pytest has its own while fixtures are made."""

    def __init__(self, monkeypatch, is_terminal):
        super().__init__()
        self.isatty = lambda: is_terminal
        monkeypatch.setattr(sys, "stderr", self)


def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_terminal_shows_at_once_what_is_being_done_then_for_how_long_and_at_the_end_no_more(monkeypatch):
    terminal = Screen(monkeypatch, True)
    with progress.stage("starting") as tell:
        assert "starting: 00:00" in terminal.getvalue()
        tell("started")
        wait_for(lambda: "started: 0" in terminal.getvalue())
    assert terminal.getvalue().split("\r")[-1].strip() == ""
    assert list(progress.counted(iter("abc"), "counting", 3, "letters")) == ["a", "b", "c"]
    assert "counting:   0%" in terminal.getvalue()


def test_elsewhere_nothing_is_said_of_what_is_soon_done(monkeypatch):
    screen = Screen(monkeypatch, False)
    with progress.stage("starting"):
        assert list(progress.counted("abc", "counting", 3, "letters")) == ["a", "b", "c"]
    assert screen.getvalue() == ""


def test_elsewhere_what_takes_long_says_so_on_lines_of_their_own(monkeypatch):
    screen = Screen(monkeypatch, False)
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.01)
    with progress.stage("starting"):
        wait_for(lambda: screen.getvalue().count("starting: 00:00\n") > 2)
    for _ in progress.counted("abc", "counting", 3, "letters"):
        time.sleep(0.02)
    lines = screen.getvalue().split("\n")
    assert lines.pop() == ""
    assert set(lines) == {"starting: 00:00", *(f"counting: {n} of 3 letters after 00:00" for n in (1, 2, 3))}


def test_an_error_amid_the_work_is_the_works_and_ends_what_is_shown(monkeypatch):
    terminal = Screen(monkeypatch, True)
    with pytest.raises(ValueError, match="mine"), progress.stage("starting"):
        raise ValueError("mine")
    with pytest.raises(ZeroDivisionError):
        sum(1 / number for number in progress.counted([1, 0], "counting", 2, "numbers"))
    assert terminal.getvalue().split("\r")[-1].strip() == ""


def test_a_screen_that_fails_ends_no_work(monkeypatch):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w", buffering=1) as stream:
        monkeypatch.setattr(sys, "stderr", command._Output(stream, lambda text: None))
        monkeypatch.setattr(progress, "LOG_SECONDS", 0.01)
        with progress.stage("starting"):
            time.sleep(0.05)
        assert len(list(progress.counted("abc", "counting", 3, "letters"))) == 3

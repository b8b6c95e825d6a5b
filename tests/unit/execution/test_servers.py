import os
import stat
import sys
from pathlib import Path

import pytest

from study.execution import servers

LONG = "/tmp/" + "x" * 64  # 69 characters, as a batch system makes them


@pytest.fixture(autouse=True)
def _plain(monkeypatch, tmp_path):
    for name in ("TMPDIR", "RAY_TMPDIR", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")  # so that what is set here is taken back
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_without_any_wish_it_is_the_usual_folder():
    assert servers.temporary_folder() == "/tmp"
    assert servers.problems() == []


@pytest.mark.parametrize("wish", [LONG, "/nowhere/at/all", "/dev/null", "relative", "/proc", "\n", "/tmp/é" * 9])
def test_a_tmpdir_that_is_too_long_for_sockets_or_cannot_be_used_is_passed_over(monkeypatch, wish):
    if wish == LONG:
        Path(LONG).mkdir(exist_ok=True)
    monkeypatch.setenv("TMPDIR", wish)
    assert servers.temporary_folder() == "/tmp"
    assert servers.problems() == []


@pytest.mark.parametrize("wish", [LONG, "/nowhere/at/all", "/dev/null", "relative", "/proc", ""])
def test_a_folder_that_is_named_for_ray_itself_and_cannot_be_used_is_told(monkeypatch, wish):
    if wish == LONG:
        Path(LONG).mkdir(exist_ok=True)
    monkeypatch.setenv("RAY_TMPDIR", wish)
    monkeypatch.setenv("TMPDIR", "/tmp")
    (problem,) = servers.problems()
    assert problem.startswith(f"{wish}: Ray needs a temporary folder that can be written to")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="macOS has shorter sockets")
def test_the_longest_folder_that_is_taken_is_the_longest_that_rays_sockets_fit_in(monkeypatch):
    from ray._private.utils import validate_socket_filepath

    session = f"session_2026-11-26_07-00-00_123456_{2**22}"  # the largest process id of Linux
    for length, fits in [(servers.MAX_FOLDER_BYTES, True), (servers.MAX_FOLDER_BYTES + 1, False)]:
        folder = Path("/tmp/" + "y" * (length - 5))
        folder.mkdir(exist_ok=True)
        monkeypatch.setenv("TMPDIR", str(folder))
        assert (servers.temporary_folder() == str(folder)) == fits
        socket = f"{folder}/ray/{session}/sockets/plasma_store"
        if fits:
            validate_socket_filepath(socket)
        else:
            with pytest.raises(OSError, match="AF_UNIX path length"):
                validate_socket_filepath(socket)
        folder.rmdir()


def test_a_token_that_is_made_here_is_readable_by_nobody_else(tmp_path):
    before = os.umask(0)
    try:
        servers._provide_token()
    finally:
        os.umask(before)
    path = tmp_path / ".ray/auth_token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(path.read_text()) == 64
    assert "RAY_AUTH_TOKEN" not in os.environ


def test_a_token_that_is_there_stays_as_it_is(tmp_path):
    (tmp_path / ".ray").mkdir()
    path = tmp_path / ".ray/auth_token"
    path.write_text("mine")
    path.chmod(0o640)
    servers._provide_token()
    assert path.read_text() == "mine"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("home", ["/proc/nowhere", "/dev/null"])
def test_without_a_home_there_is_a_token_for_this_run(monkeypatch, home):
    monkeypatch.setenv("HOME", home)
    servers._provide_token()
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64

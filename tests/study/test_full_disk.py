"""Confirmations whose disk, one of their own, is full at their end."""

import shutil

import pytest

from study import confirm
from tests import disk, studies
from tests.conftest import DIGITS_STUDY

CONFIRM = ["--top", "1", "--seeds", "2"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A study whose runs on fresh seeds have all ended; nothing is made of them yet."""
    results = tmp_path_factory.mktemp("results")
    studies.finish(studies.begin(*DIGITS_STUDY, "--trials", "2", "--results", results))
    studies.train(studies.begin_confirmation(results / "digits", *CONFIRM))
    for path in (results / "digits").glob("*/*/last.pt"):
        path.unlink()
    return results / "digits"


def files_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "study.json"}


def leave(small, kilobytes):
    """Fills the small disk but for so much."""
    with (small / "filler").open("wb") as file:
        file.write(bytes(shutil.disk_usage(small).free - 1024 * kilobytes))


# where the first file of winner/ is the one too many, and where each of the later ones is
ROOM = {"weights": 40, "programs": 1100, "the last program": 2500}


def test_a_disk_that_is_full_while_the_winner_is_written_is_told_in_a_sentence_and_the_same_command_goes_on(
    trained, tmp_path, capsys
):
    with disk.small_disk(tmp_path / "small", "100m") as small:
        folder = shutil.copytree(trained, small / "digits")
        before = files_of(folder)
        for kilobytes in ROOM.values():
            leave(small, kilobytes)
            assert confirm.main([str(folder), *CONFIRM]) == 1
            out, err = capsys.readouterr()
            where, again = err.splitlines()
            assert where == f"study.confirm: {folder}/winner: cannot be written (No space left on device)"
            assert again.startswith(
                "study.confirm: nothing is lost, the same command goes on: python -m study.confirm "
            )
            assert "confirmed score:" in out
            after = files_of(folder)
            assert {path.name for path in after.keys() - before.keys()} <= {"confirm.json", "study.journal", ".lock"}
            assert all(after[path] == content for path, content in before.items())
            (small / "filler").unlink()
        assert confirm.main([str(folder), *CONFIRM]) == 0
        assert capsys.readouterr().err == ""
        assert (folder / "winner/model.onnx").stat().st_size > 100_000

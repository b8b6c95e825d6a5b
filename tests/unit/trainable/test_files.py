import os

import pytest

from trainable import files
from trainable.cli import UsageError


def test_a_new_file_takes_the_old_ones_place_only_once_it_is_whole(tmp_path):
    path = tmp_path / "ranking.csv"
    path.write_text("old")
    with files.replacing(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    with pytest.raises(TypeError), files.replacing(path) as file:
        file.writelines([b"half", "no bytes"])
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["ranking.csv"]


def test_a_link_in_a_files_place_is_replaced_and_never_written_through(tmp_path):
    (tmp_path / "elsewhere").write_text("mine")
    for name in ("replaced", "appended"):
        (tmp_path / name).symlink_to("elsewhere")
    with files.replacing(tmp_path / "replaced") as file:
        file.write(b"new")
    with pytest.raises(OSError, match="symbolic links"):
        files.append(tmp_path / "appended", "more")
    assert (tmp_path / "elsewhere").read_text() == "mine"
    assert (tmp_path / "replaced").read_text() == "new"


def test_a_results_folder_may_itself_lie_behind_a_link_and_may_hold_rays_scratch(tmp_path):
    (tmp_path / "disk/study/.tune").mkdir(parents=True)
    (tmp_path / "disk/study/study.json").touch()
    (tmp_path / "disk/study/.tune/link").symlink_to("/")
    (tmp_path / "results").symlink_to("disk")
    (tmp_path / "latest").symlink_to("disk/study")
    for folder in ("disk/study", "results/study", "latest", "none", "disk/study/study.json"):
        files.check_folder(tmp_path / folder)


def test_of_many_links_a_few_are_named_and_the_others_counted(tmp_path):
    for index in range(30):
        (tmp_path / f"link-{index:02d}").symlink_to("nowhere")
    with pytest.raises(UsageError) as caught:
        files.check_folder(tmp_path)
    assert len(caught.value.problems) == 6
    assert caught.value.problems[0].startswith(f"{tmp_path / 'link-00'}: is a symbolic link")
    assert "holds 25 more" in caught.value.problems[-1]


@pytest.mark.parametrize("name", ["/etc", "..", "../study-2/trials/1", "trials/../..", ".", "", "a\0b", 7, None, ["x"],
                                  "out/inside"])  # fmt: skip
def test_a_name_read_from_a_file_that_leads_out_of_the_folder_is_refused(tmp_path, name):
    study = tmp_path / "study"
    study.mkdir()
    (study / "out").symlink_to(tmp_path)
    with pytest.raises(UsageError, match="does not lie in that folder") as caught:
        files.inside(study, name)
    assert "\n" not in caught.value.problems[0]
    assert files.inside(study, "trials/7") == study / "trials/7"


def test_what_killed_processes_left_half_written_is_removed_and_nothing_else(tmp_path):
    left = [".0123456789abcdef.partial", ".ranking.csv.partial", "trials/0/last.partial", "trials/0/best.partial",
            "trials/0/validation.partial.npz", "trials/0/.config.json.partial", "confirm/x-1/.ab.partial",
            ".winner.partial/winner/weights.pt", ".a_1b2c3d.partial/winner/model.pt2"]  # fmt: skip
    whole = ["ranking.csv", "trials/0/last.pt", "winner/weights.pt", "figures/partial.png", "partial", ".lock"]
    for name in [*left, *whole]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    files.remove_partials(tmp_path)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == set(whole)
    assert not list(tmp_path.glob(".*.partial"))

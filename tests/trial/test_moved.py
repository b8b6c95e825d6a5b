"""A study whose images have moved: the fingerprint says which they are, paths only where. And paths as flags."""

import json
import os
import pwd
import shutil
import tempfile
from pathlib import Path

import pytest
from PIL import Image

from study import analyze, confirm, predict, search, simulate
from study.confirmation import plan
from study.record import files
from tests import studies
from trainable import __main__ as trainable
from trainable.arguments import data_spec
from trainable.cli import UsageError

ASKED = ["--image-size", "16", "--epochs", "1", "--trials", "3", "--gpus", "0", "--minority", "fox"]


@pytest.fixture
def begun(image_folder, tmp_path):
    """A study on the folder, begun: a function that begins or resumes it with other places."""

    def run(data=image_folder, cache="cache"):
        return studies.begin("--data", data, "--cache-dir", tmp_path / cache, "--name", "mine", "--results",
                             tmp_path / "results", "--space", "course", *ASKED)  # fmt: skip

    for path in sorted((image_folder / "train/cat").iterdir()):  # enough of each class
        for name in ("cat", "dog", "fox"):
            for index in range(2):
                Image.effect_noise((16, 16), 90).save(image_folder / f"train/{name}/{path.stem}{index}.png")
    run()
    return run


def moves(image_folder, tmp_path, how):
    new = tmp_path / "elsewhere" / "photos"
    new.parent.mkdir()
    if how == "moved":
        shutil.move(image_folder, new)
    elif how == "copied":
        shutil.copytree(image_folder, new)
    elif how == "linked":
        new.symlink_to(image_folder)
    return new


@pytest.mark.parametrize("how", ["moved", "copied", "linked"])
def test_a_search_goes_on_with_its_images_at_another_path(begun, image_folder, tmp_path, how):
    before = files.read_study(tmp_path / "results/mine")
    new = moves(image_folder, tmp_path, how)
    begun(new, cache="another cache")
    after = files.read_study(tmp_path / "results/mine")
    assert after.fingerprint == before.fingerprint
    assert after.data.data == str(new)


def test_a_search_refuses_other_images_at_another_path(begun, image_folder, tmp_path):
    new = moves(image_folder, tmp_path, "copied")
    Image.new("RGB", (16, 16), (1, 2, 3)).save(new / "train/cat/00.png")
    with pytest.raises(UsageError) as refusal:
        begun(new)
    assert any("was started with --data" in problem for problem in refusal.value.problems)
    assert any("the images have changed" in problem for problem in refusal.value.problems)


def test_a_search_that_began_without_test_goes_on_without_at_another_path(begun, image_folder, tmp_path):
    new = moves(image_folder, tmp_path, "copied")
    shutil.copytree(new / "train", new / "test")
    assert begun(new).pool.spec.own_test is False


def confirmed_pool(folder, *flags):
    parser = confirm._parser()
    arguments = parser.parse([str(folder), *map(str, flags)])
    return plan.load_pool(files.read_study(folder), arguments, [])


@pytest.mark.parametrize("how", ["moved", "copied", "linked"])
def test_a_confirmation_takes_the_new_places_of_the_images(begun, image_folder, tmp_path, how):
    new = moves(image_folder, tmp_path, how)
    cache = tmp_path / "its own cache"
    pool = confirmed_pool(tmp_path / "results/mine", "--data", new, "--cache-dir", cache)
    assert pool.spec.data == str(new)
    assert list(cache.iterdir())
    if how != "moved":  # without the flags: where they were
        assert confirmed_pool(tmp_path / "results/mine").spec.data == str(image_folder)


def test_a_confirmation_refuses_other_images(begun, image_folder, tmp_path):
    new = moves(image_folder, tmp_path, "copied")
    (new / "train/fox/00.png").unlink()
    with pytest.raises(UsageError, match="no longer those of the study"):
        confirmed_pool(tmp_path / "results/mine", "--data", new)


def refused(main, capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert stop.value.code == 2
    return capsys.readouterr().err.splitlines()


@pytest.fixture
def trained(begun, image_folder, tmp_path, capsys):
    """A trial of the study, as a search would have left it."""
    config = begun().base
    values = {name: str(value) for name, value in config.to_dict().items() if name != "epochs"}
    sets = [text for name, value in values.items() for text in ("--set", f"{name}={value}")]
    asked = ["--data", str(image_folder), "--cache-dir", str(tmp_path / "cache"), *ASKED[:4], *ASKED[-2:]]
    assert trainable.main([*asked, *sets, "--json"]) == 0
    trial = tmp_path / "results/mine/trials/0"
    trial.mkdir(parents=True)
    (trial / "config.json").write_text(json.dumps(config.to_dict()))
    (trial / "epochs.jsonl").write_text(capsys.readouterr().out)
    return trial


def test_a_replay_takes_the_new_places_of_the_images_and_refuses_others(trained, image_folder, tmp_path, capsys):
    new = moves(image_folder, tmp_path, "moved")
    assert "is no folder" in refused(trainable.main, capsys, "--replay", trained)[0]
    places = ["--data", str(new), "--cache-dir", str(tmp_path / "other")]
    assert trainable.main(["--replay", str(trained), *places]) == 0
    assert "1 epochs, no difference" in capsys.readouterr().err
    (new / "train/fox/00.png").unlink()
    assert "no longer those of the study" in refused(trainable.main, capsys, "--replay", trained, *places)[0]


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--keep", "0.5"], "--keep"),
        (["--minority=fox"], "--minority"),
        (["--seed", "3", "--val-fraction", "0.3"], "--seed, --val-fraction"),
        (["--set", "dropout=0.1", "--epochs=3"], "--epochs, --set"),
        (["--image-size", "32"], "--image-size"),
    ],
)
def test_a_replay_refuses_what_it_would_ignore(tmp_path, capsys, flags, named):
    told = refused(trainable.main, capsys, "--replay", tmp_path, *flags)
    assert told[0] == f"trainable: --replay takes everything from the study, so {named} cannot be given with it"


def test_a_tilde_is_ones_own_home_in_every_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    parsers = [
        (search._parser(), ["--results=~/x", "--space=~/x", "--cache-dir=~/x", "--data-dir=~/x", "--data=~/x"]),
        (trainable._parser(), ["--replay=~/x"]),
        (confirm._parser(), ["~/x"]),
        (predict._parser(), ["~/x", "~/x"]),
        (simulate._parser(), ["--curves=~/x"]),
    ]
    found = []
    for parser, flags in parsers:
        arguments = parser.parse(flags)
        assert parser.problems == []
        for name in ("results", "space", "replay", "folder", "curves"):
            found += [getattr(arguments, name)] if hasattr(arguments, name) else []
        found += getattr(arguments, "images", [])
        if hasattr(arguments, "keep") and arguments.data == "~/x":
            spec = data_spec(arguments)
            found += [spec.data, spec.data_dir, spec.cache_dir]
    assert set(map(str, found)) == {str(tmp_path / "home/x")}
    assert len(found) == 10


@pytest.fixture
def homeless(monkeypatch):
    """As a user whom the machine does not know, as in many containers."""

    def unknown(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(RuntimeError):
        Path.home()


@pytest.mark.parametrize("command", [search, trainable, confirm, analyze, predict, simulate])
def test_help_needs_no_home(homeless, capsys, command):
    with pytest.raises(SystemExit) as stop:
        command.main(["--help"])
    assert stop.value.code == 0
    assert "--help" in capsys.readouterr().out


def test_without_a_home_a_cache_folder_must_be_given_but_only_where_one_is_needed(
    homeless, image_folder, tmp_path, capsys
):
    asked = ["--data", str(image_folder), "--epochs", "1", "--image-size", "16"]
    sentence = "trainable: --cache-dir must be given, as this user has no home folder for it"
    assert refused(trainable.main, capsys, *asked) == [sentence]
    assert sentence not in refused(trainable.main, capsys, *asked, "--cache-dir", tmp_path / "c", "--keep", "0.01")
    assert trainable.main(["--data", "digits", *asked[2:], "--set", "num_threads=1"]) == 0


def test_another_users_files_are_told_in_a_sentence(capsys):
    if os.geteuid():
        pytest.skip("needs the right to be another user")
    with tempfile.TemporaryDirectory() as there:
        os.chmod(there, 0o777)
        folder = studies.write(Path(there) / "study", num_trials=4)
        assert analyze.main([str(folder)]) == 0  # also loads all that is not another user's to read
        capsys.readouterr()
        for name in ("study.json", "trials", "trials/0/epochs.jsonl", "trials/0/config.json", "."):
            mode = (folder / name).stat().st_mode
            (folder / name).chmod(0)
            os.seteuid(54321)
            try:
                status = analyze.main([str(folder)])
            except SystemExit as end:
                status = end.code
            finally:
                os.seteuid(0)
                (folder / name).chmod(mode)
            out, err = capsys.readouterr()
            assert status in (1, 2), name
            (line,) = err.splitlines()
            assert "Permission denied" in line
            assert "Errno" not in line
            assert out == ""

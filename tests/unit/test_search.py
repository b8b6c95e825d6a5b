"""What is found before a study starts, in this process."""

import json
import shutil
import socket
import time

import pytest
import ray  # noqa: F401  # which makes a class of subprocess.Popen while it is still one

from study import search
from study.confirmation.runs import Recipe
from study.execution.machine import Resources, with_precision
from study.execution.plan import preflight
from study.record.ledger import Ledger
from tests import studies
from trainable.cli import UsageError
from trainable.config import TrialConfig

SETTINGS = ["--data", "digits", "--image-size", "16", "--precision", "float32"]


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        search.main([*SETTINGS, *arguments])
    assert caught.value.code == 2
    return capsys.readouterr().err


@pytest.fixture
def folder(tmp_path):
    """A study's folder with a journal and a trial, but without its study.json."""
    path = tmp_path / "digits"
    path.mkdir()
    ledger = Ledger(path)
    ledger.add(TrialConfig(), "course, shuffled", {}, {})
    ledger.close()
    return path


def test_a_study_without_its_study_json_is_refused_in_a_sentence(folder, tmp_path, capsys):
    before = sorted(path.name for path in folder.rglob("*"))
    assert "holds no study (study.json: No such file" in refused(capsys, "--results", str(tmp_path))
    (folder / "study.journal").unlink()
    assert "has trials but no study.json" in refused(capsys, "--results", str(tmp_path))
    assert sorted(path.name for path in folder.rglob("*")) == [name for name in before if name != "study.journal"]


def plan_of(tmp_path, *arguments):
    parser = search._parser()
    return preflight(parser.parse([*SETTINGS, "--results", str(tmp_path), *arguments]), parser.problems, "again")


@pytest.mark.parametrize(
    ("num_trials", "note"),
    [(8, "6 of them are tried"), (14, None), (40, "all of them are tried, and no more trials")],
)
def test_a_grid_says_how_many_points_it_has(tmp_path, num_trials, note):
    (tmp_path / "space.toml").write_text(
        '[sampler]\nchoices = ["shuffle", "weighted"]\n[sampler_power]\nlow = 0.5\nhigh = 1.0\n'
        'when = { sampler = "weighted" }\n[dropout]\nlow = 0.0\nhigh = 0.5\n'
    )
    plan = plan_of(
        tmp_path, "--algorithm", "grid", "--space", str(tmp_path / "space.toml"), "--trials", str(num_trials)
    )
    notes = [warning for warning in plan.warnings if "grid" in warning]
    assert notes == ([] if note is None else [f"note: the grid has 12 points; {note}"])


def test_a_file_in_the_studys_place_is_told(tmp_path):
    (tmp_path / "digits").write_text("")
    with pytest.raises(UsageError, match="is in the way"):
        plan_of(tmp_path)


def test_a_study_keeps_its_test_counts_when_the_test_images_are_away_or_others(image_folder, tmp_path):
    test = image_folder / "test"
    shutil.copytree(image_folder / "train", test)
    asked = ["--data", str(image_folder), "--val-fraction", "0.7", "--cache-dir", str(tmp_path / "cache")]

    def begun():
        """study.json as the command writes it before the first trial, and the test images that it counts today."""
        plan = studies.begin(*SETTINGS, "--results", tmp_path, *asked)
        return json.loads((plan.folder / "study.json").read_text()), plan.pool.test_counts

    first, _ = begun()
    assert first["class_counts"]["test"] == [20, 20, 8]
    test.rename(image_folder / "away")
    second, today = begun()
    assert today is None
    (image_folder / "away").rename(test)
    (test / "fox/00.png").unlink()
    third, today = begun()
    assert today == (20, 20, 7)
    for name in ("data", "fingerprint", "class_counts"):
        assert first[name] == second[name] == third[name]


def test_an_address_where_nothing_listens_is_refused_at_once(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    start = time.monotonic()
    err = refused(capsys, "--results", str(tmp_path), "--address", f"127.0.0.1:{port}")
    assert f"--address 127.0.0.1:{port}: nothing answers there (Connection refused)" in err
    assert time.monotonic() - start < 30
    assert not list(tmp_path.iterdir())


def test_a_study_records_the_arguments_it_was_given_and_not_those_of_the_process(tmp_path, monkeypatch):
    plans = []
    monkeypatch.setattr(search, "run", lambda plan: plans.append(plan) or 0)
    assert search.main([*SETTINGS, "--results", str(tmp_path / "a b"), "--trials", "3"]) == 0
    assert plans[0].command == f"python -m study.search {' '.join(SETTINGS)} --results '{tmp_path / 'a b'}' --trials 3"


def fake_probe(monkeypatch, precision, reason):
    from trainable import probe

    monkeypatch.setattr(probe, "probe", lambda *_: probe.Choice(precision, reason))


def auto(tmp_path, *arguments):
    parser = search._parser()
    asked = ["--data", "digits", "--image-size", "16", "--results", str(tmp_path), *arguments]
    return preflight(parser.parse(asked), parser.problems, "again")


@pytest.mark.parametrize("asked", [[], ["--precision", "auto"]])
def test_a_new_study_trains_in_what_the_probe_says_and_then_keeps_to_it(tmp_path, monkeypatch, asked):
    fake_probe(monkeypatch, "bfloat16", "9 × as fast as float32 here")
    plan = auto(tmp_path, *asked)
    assert plan.base.precision == plan.record()["precision"] == plan.record()["config"]["precision"] == "bfloat16"
    assert search._opening(plan, 0).splitlines()[-1] == "bfloat16: 9 × as fast as float32 here"
    plan.folder.mkdir()
    Ledger(plan.folder, plan.record()).close()
    fake_probe(monkeypatch, "float32", "bfloat16 is 0.1 × as fast here")
    again = auto(tmp_path, *asked)
    assert (again.base.precision, again.precision_reason) == ("bfloat16", "9 × as fast as float32 here")
    assert auto(tmp_path, "--precision", "bfloat16").base.precision == "bfloat16"
    with pytest.raises(UsageError, match="was started with --precision bfloat16, now float32"):
        auto(tmp_path, "--precision", "float32")


@pytest.mark.parametrize(
    ("asked", "probed"),
    [
        ([], "convnet"),
        (["--set", "network=resnet18"], "resnet18"),
        (["--space", "full"], "resnet32"),
        (["--space", "all.toml"], "densenet_bc"),
        (["--space", "torchvision.toml"], "torchvision/resnet18"),
    ],
)
def test_the_slowest_network_that_may_be_trained_decides_the_precision(tmp_path, monkeypatch, asked, probed):
    from trainable import probe

    (tmp_path / "all.toml").write_text('[network]\nchoices = ["densenet_bc", "convnet", "resnet18", "resnet32"]\n')
    (tmp_path / "torchvision.toml").write_text('[network]\nchoices = ["torchvision/resnet18", "densenet_bc"]\n')
    networks = []
    monkeypatch.setattr(
        probe, "probe", lambda config, *_: networks.append(config.network) or probe.Choice("float32", "")
    )
    auto(tmp_path, *(str(tmp_path / word) if word.endswith(".toml") else word for word in asked))
    assert networks == [probed]


def test_a_study_from_before_there_was_a_choice_goes_on_in_float32(tmp_path, monkeypatch):
    fake_probe(monkeypatch, "bfloat16", "9 × as fast as float32 here")
    plan = auto(tmp_path, "--precision", "float32")
    record = plan.record()
    for name in ("precision", "precision_reason"):
        del record[name]
    del record["config"]["precision"]
    plan.folder.mkdir()
    Ledger(plan.folder, record).close()
    assert auto(tmp_path).base.precision == "float32"


def test_a_precision_in_study_json_that_there_is_not_is_refused(tmp_path):
    plan = auto(tmp_path, "--precision", "float32")
    plan.folder.mkdir()
    Ledger(plan.folder, {**plan.record(), "precision": "float8"}).close()
    with pytest.raises(UsageError, match="precision must be 'float32' or 'bfloat16', not 'float8'"):
        auto(tmp_path)


def test_the_machines_of_a_cluster_are_not_guessed_from_this_one(monkeypatch):
    fake_probe(monkeypatch, "bfloat16", "9 × as fast as float32 here")
    for gpus, expected in [(0, "float32"), (2, "bfloat16")]:
        there = Resources(1, 1, float(gpus > 0), gpus, address="10.0.0.1:6379")
        assert with_precision(TrialConfig(), "auto", None, None, there)[0].precision == expected


def test_a_confirmation_runs_in_the_precision_of_the_search():
    recipe = Recipe("trial-4", 4, TrialConfig(precision="bfloat16"), 0.5)
    assert recipe.run_config(seed=8, num_threads=2).precision == "bfloat16"

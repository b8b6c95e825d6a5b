"""What a space asks of networks, weights and images, found before a study starts."""

import re

import pytest
import torch

from study import search
from study.execution import trying
from study.execution.plan import preflight
from study.record.ledger import Ledger
from study.space import parameters
from study.strategy.searcher import Searcher
from tests import studies
from trainable import probe
from trainable.arguments import default_config
from trainable.cli import UsageError
from trainable.config import TrialConfig
from trainable.parts.networks import ConvNet

SETTINGS = ["--data", "digits", "--image-size", "16", "--precision", "float32"]


def space(**tables):
    return parameters.from_tables(tables, {}, "test")


def plan_of(tmp_path, *arguments):
    parser = search._parser()
    return preflight(parser.parse([*SETTINGS, "--results", str(tmp_path), *arguments]), parser.problems, "again")


def problems_of(tmp_path, *arguments):
    with pytest.raises(UsageError) as refusal:
        plan_of(tmp_path, *arguments)
    return refusal.value.problems


def test_a_folders_space_is_not_that_of_digits_and_a_study_keeps_what_it_began_with(tmp_path):
    studies.write_photos(tmp_path / "photos", {"cat": 40, "fox": 30})
    asked = ["--data", tmp_path / "photos", "--minority", "fox", "--image-size", 16, "--precision", "float32",
             "--cache-dir", tmp_path / "cache", "--results", tmp_path / "results"]  # fmt: skip
    digits, folder = plan_of(tmp_path), studies.begin(*asked, "--name", "new")
    assert digits.space == parameters.load(parameters.SPACES["course"])
    assert digits.space_reason == "course (default for digits)"
    assert folder.space == parameters.load(parameters.SPACES["full"])
    assert folder.space_reason.startswith("full (default for image folders and cifar10; --space course for")
    # as one from before there was another default
    began = studies.begin(*asked, "--name", "old", "--space", "course")
    assert (began.space, began.space_reason) == (digits.space, "course")
    again = studies.begin(*asked, "--name", "old")
    assert (again.space, again.space_reason) == (digits.space, "the one that the study began with")
    with pytest.raises(UsageError, match="--space"):
        studies.begin(*asked, "--name", "old", "--space", "full")


@pytest.mark.parametrize(
    ("tables", "num_images", "line"),
    [
        # 862 images in batches of 128: 7, of which 8 make a step, or 1
        (
            {"accumulation_steps": {"choices": [8, 1, 2, 4]}},
            862,
            "1 to 7 (862 images in batches of 128, 1 to 8 to a step)",
        ),
        (
            {"batch_size": {"choices": [256, 32]}, "accumulation_steps": {"low": 1, "high": 4}},
            862,
            "1 to 27 (862 images in batches of 32 to 256, 1 to 4 to a step)",
        ),
        (
            {"batch_size": {"choices": [16]}, "accumulation_steps": {"choices": [1]}},
            862,
            "54 (862 images in batches of 16, 1 to a step)",
        ),
        (
            {"dropout": {"low": 0.0, "high": 0.5}},
            45_000,
            "176 (45000 images in batches of 128, 2",
        ),  # 352 batches, two to a step
        ({"batch_size": {"low": 2, "high": 4}, "accumulation_steps": {"choices": [1]}}, 80, "20 to 40 ("),
        ({"batch_size": {"low": 2, "high": 4}, "accumulation_steps": {"choices": [1]}}, 77, "19 to 38 ("),
        ({"accumulation_steps": {"choices": [2, 4, 8]}}, 862, "1 to 4 (862 images in batches of 128, 2 to 8"),
        ({"batch_size": {"choices": [32, 128]}}, 862, "4 to 14 (862 images in batches of 32 to 128, 2"),
        ({"dropout": {"choices": [0.1, 0.2]}}, 129, "1 (129 images in batches of 128, 2 to a step)"),
        ({"batch_size": {"low": 16, "high": 64}}, 10_000, "79 to 313 (10000 images in batches of 16 to 64, 2"),
    ],
)
def test_the_optimizer_steps_of_an_epoch_are_told_at_both_ends_and_few_are_warned_of(tables, num_images, line):
    told, *notes = trying.steps_lines(space(**tables), TrialConfig(), [num_images])
    assert told.startswith(f"optimizer steps in an epoch: {line}")
    is_few = int(line.split()[0]) < 20
    assert [note.startswith("note: fewer than 20 steps in an epoch are few") for note in notes] == [True] * is_few


@pytest.mark.parametrize(
    ("given", "problems"),
    [
        (["--set", "dropout=0.1"], ["--set dropout: the space searches it"]),
        (["--set", "seed=3", "--set", "num_threads=1"],
         ["--set seed: is set by a flag of its own, or by the study",
          "--set num_threads: is set by a flag of its own, or by the study"]),
        (["--set", "dropuot=1"], [re.compile("--set dropuot: no such field")]),
        (["--set", "focal_gamma=1"], [re.compile("focal_gamma has no effect unless loss is 'focal'")]),
        (["--set", "weights=none/there.pt"], [re.compile("weights: .*/none/there.pt is no file that is there")]),
        (["--set", "network=torchvision/vit_b_16"], [re.compile("does not take images of 16×16 pixels")]),
        (["--set", "frozen_epochs=2", "--epochs", "2"], [re.compile("frozen_epochs must be below epochs, 2, not 2")]),
        (["--space", "finetune", "--epochs", "2"],
         ["--epochs must be above frozen_epochs, up to 2 in the space, not 2"]),
        (["--space", "finetune", "--epochs", "4", "--set", "head_epochs=2"],
         ["--epochs must be above frozen_epochs plus head_epochs, up to 4 in the space, not 4"]),
    ],
)  # fmt: skip
def test_what_does_not_go_with_the_space_is_refused_and_nothing_written(tmp_path, monkeypatch, given, problems):
    monkeypatch.chdir(tmp_path)
    found = problems_of(tmp_path, *given)
    assert len(found) == len(problems)
    for text, expected in zip(found, problems, strict=True):
        assert expected.search(text) if isinstance(expected, re.Pattern) else text == expected
    assert list(tmp_path.iterdir()) == []


def test_a_field_without_effect_beside_what_is_set_for_all_is_refused():
    searched = space(width={"low": 0.5, "high": 2.0})
    base = default_config("digits", 0, network="resnet32")
    assert trying.base_problems(base, ["network"], searched) == [
        "--set network=resnet32: width, which the space searches, has no effect then"
    ]
    assert trying.base_problems(default_config("digits", 0), [], searched) == []


def test_each_network_of_the_space_is_tried_with_each_of_its_weights(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(ConvNet(7, 16, 0.3).state_dict(), path)
    base = default_config("digits", 0, weights=str(path))
    first, second = trying.check_networks(space(dropout={"low": 0.1, "high": 0.2}), base, 10, 16)
    assert first == f"weights: classifier.9.weight is 10×256 here and 7×256 in {path}, and starts anew"
    assert second.startswith("weights: classifier.9.bias")
    with pytest.raises(UsageError) as refusal:
        trying.check_networks(space(network={"choices": ["convnet", "resnet32", "resnet18"]}), base, 10, 16)
    assert len(refusal.value.problems) == 2
    assert all(problem.startswith(f"weights: {path} is of another network") for problem in refusal.value.problems)


def test_fields_for_weights_without_weights_are_told(tmp_path):
    notes = trying.check_networks(parameters.load(parameters.SPACES["finetune"]), default_config("digits", 0), 10, 16)
    assert notes == ["note: backbone_rate and frozen_epochs searched, but no weights are given to start from"]


def test_what_is_set_for_all_trials_is_the_studys_and_goes_on_with_it_alone(tmp_path):
    asked = ["--set", "network=resnet32", "--set", "sampler_power=0.5", "--set", "sampler=weighted", "--trials", "4"]
    (tmp_path / "space.toml").write_text("[dropout]\nlow = 0\nhigh = 0.5\n")
    asked += ["--space", str(tmp_path / "space.toml")]
    plan = studies.begin(*SETTINGS, "--results", tmp_path, *asked)
    assert plan_of(tmp_path, *asked).base == plan.base
    (problem,) = problems_of(tmp_path, "--trials", "4", "--space", str(tmp_path / "space.toml"),
                             "--set", "sampler_power=0.5", "--set", "sampler=weighted")  # fmt: skip
    assert problem == (
        "the study digits was started with --set network=resnet32, now network=convnet; "
        "use another --name for a new study"
    )
    searcher = Searcher(Ledger(plan.folder), plan.space, plan.base, "tpe", 4)
    configs = [searcher.next().config for _ in range(4)]
    assert {config.network for config in configs} == {"resnet32"}
    # the course's two recipes have samplers of their own
    assert [(config.sampler, config.sampler_power) for config in configs] == [
        ("shuffle", 1.0), ("weighted", 1.0), ("weighted", 0.5), ("weighted", 0.5)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("networks", "precision"),
    [(["convnet", "resnet32"], "bfloat16"), (["convnet", "torchvision/resnet18"], "float32")],
)
def test_with_a_network_of_torchvisions_a_study_on_a_cpu_is_in_float32(tmp_path, monkeypatch, networks, precision):
    """In bfloat16 these give other numbers each time there."""
    monkeypatch.setattr(probe, "compare", lambda steps: probe.Choice("bfloat16", "9 × as fast"))
    (tmp_path / "space.toml").write_text(f"[network]\nchoices = {networks}\n")
    parser = search._parser()
    asked = ["--data", "digits", "--image-size", "16", "--results", str(tmp_path), "--set", "dropout=0.1"]
    plan = preflight(parser.parse([*asked, "--space", str(tmp_path / "space.toml"), "--gpus", "0"]), [], "again")
    assert (plan.base.precision, plan.base.network, plan.base.dropout) == (precision, "convnet", 0.1)
    assert ("other numbers each time" in plan.precision_reason) == (precision == "float32")

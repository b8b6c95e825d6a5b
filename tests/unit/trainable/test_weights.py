from dataclasses import replace
from pathlib import Path

import pytest
import torch

from trainable.cli import UsageError
from trainable.config import TrialConfig
from trainable.parts import networks, torchvision_networks, weights
from trainable.parts.heads import head_name

RESNET = "torchvision/resnet18"


def make(name, num_classes=4, image_size=32, width=1.0, seed=0):
    torch.manual_seed(seed)
    config = replace(TrialConfig(), network=name, dropout=0.1, width=width)
    return networks.make(config, num_classes, image_size)


def tensors_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("wraps", [False, True])
@pytest.mark.parametrize("name", ["convnet", "resnet32", RESNET, "torchvision/mobilenet_v3_small"])
def test_a_file_of_weights_is_the_start_of_all_but_a_head_for_other_classes(tmp_path, name, wraps):
    there, here = make(name, num_classes=6, seed=1), make(name, num_classes=4)
    path = tmp_path / "weights.pt"
    state = there.state_dict()
    torch.save({"format": 1, "model": state} if wraps else state, path)
    before, head = tensors_of(here), head_name(here)
    said = weights.fill(here, weights.read(str(path), name), str(path))
    for key, tensor in here.state_dict().items():
        assert torch.equal(tensor, before[key] if key.startswith(head) else state[key]), key
    num_in = here.get_parameter(f"{head}.weight").shape[1]
    assert said == [
        f"weights: {head}.weight is 4×{num_in} here and 6×{num_in} in {path}, and starts anew",
        f"weights: {head}.bias is 4 here and 6 in {path}, and starts anew",
    ]


def test_a_head_for_as_many_classes_is_taken_too():
    there, here = make("resnet32", seed=1), make("resnet32")
    assert weights.fill(here, tensors_of(there), "file") == []
    assert all(torch.equal(tensor, there.state_dict()[key]) for key, tensor in here.state_dict().items())


def test_weights_for_images_of_another_size_leave_the_layer_that_depends_on_it_fresh():
    here = make("convnet", image_size=16)
    said = weights.fill(here, tensors_of(make("convnet", image_size=32, seed=1)), "file")
    assert said == ["weights: classifier.1.weight is 512×512 here and 512×2048 in file, and starts anew"]


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda found: found.pop("layer1.0.conv1.weight"),
         "file is of another network, it has no layer1.0.conv1.weight"),
        (lambda found: found.update({"bn1.weight": torch.full((64,), torch.nan)}),
         "bn1.weight of file holds values that are no finite numbers"),
        (lambda found: found.update({name: tensor.new_zeros(9, 9) for name, tensor in found.items()}),
         "file is of another network, no shape fits (conv1.weight is 64×3×7×7 here and 9×9 in file, and starts anew)"),
    ],
)  # fmt: skip
def test_weights_of_another_network_are_refused_and_change_nothing(spoil, sentence):
    here, found = make(RESNET), tensors_of(make(RESNET, seed=1))
    before = tensors_of(here)
    spoil(found)
    with pytest.raises(UsageError) as error:
        weights.fill(here, found, "file")
    assert error.value.problems == [f"weights: {sentence}"]
    assert all(torch.equal(tensor, before[key]) for key, tensor in here.state_dict().items())


class Trap:
    def __reduce__(self):
        return Path.touch, (Path("trapped"),)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "is no file that is there"),
        (b"no archive", "cannot be read ("),
        ([1, 2], "holds no state dict"),
        ({"model": {"epoch": 3}}, "holds no state dict"),
        ({"a": Trap()}, "cannot be read ("),
    ],
)
def test_what_holds_no_weights_is_refused_in_a_sentence_and_nothing_in_it_runs(
    tmp_path, monkeypatch, content, sentence
):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(UsageError) as error:
        weights.read(str(path), "convnet")
    (problem,) = error.value.problems
    assert problem.startswith(f"weights: {path} {sentence}")
    assert "\n" not in problem
    assert not Path("trapped").exists()


def test_a_folder_is_no_file_of_weights(tmp_path):
    with pytest.raises(UsageError, match="is no file"):
        weights.read(str(tmp_path), "convnet")


def test_the_names_of_torchvisions_older_densenet_files_are_understood(tmp_path):
    there, here = make("torchvision/densenet121", seed=1), make("torchvision/densenet121")
    old = {
        name.replace("norm1", "norm.1")
        .replace("norm2", "norm.2")
        .replace("conv1", "conv.1")
        .replace("conv2", "conv.2"): t
        for name, t in there.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "old.pth")
    assert weights.fill(here, weights.read(str(tmp_path / "old.pth"), "torchvision/densenet121"), "old") == []
    for name, parameter in here.named_parameters():
        assert torch.equal(parameter, there.state_dict()[name])


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """An empty folder for downloads, and no way out: nothing listens where the requests are sent."""
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    previous = torch.hub._hub_dir
    torch.hub._hub_dir = None
    yield tmp_path / "hub" / "checkpoints"
    torch.hub._hub_dir = previous


def test_without_a_network_a_download_is_refused_with_what_to_put_where(offline):
    with pytest.raises(UsageError) as error:
        weights.read("default", RESNET)
    (problem,) = error.value.problems
    url = torchvision_networks.weights_url("resnet18")
    path = offline / url.rpartition("/")[2]
    assert problem.startswith(f"weights: {url} cannot be downloaded (")
    assert problem.endswith(f"; put that file into {offline}, or name another")
    torch.save(make(RESNET, num_classes=1000, seed=1).state_dict(), path)
    found = weights.read("default", RESNET)
    here = make(RESNET)
    assert [sentence.split()[1] for sentence in weights.fill(here, found, "default")] == ["fc.weight", "fc.bias"]
    assert torch.equal(here.get_parameter("conv1.weight"), found["conv1.weight"])


@pytest.mark.parametrize("name", ["convnet", "resnet18"])
def test_torchvision_has_no_weights_for_a_network_of_the_house(offline, name):
    with pytest.raises(UsageError, match=f"torchvision has none for '{name}'"):
        weights.read("default", name)

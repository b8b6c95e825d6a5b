"""study.predict on a made-up winner: a network of random weights and class names that could do harm."""

import io
import json
import os
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from study import predict
from study.confirmation import ensemble, winner
from tests import studies
from tests.studies import EVIL
from trainable.config import TrialConfig
from trainable.images.decoding import decoded
from trainable.parts.networks import ConvNet

NAMES = [EVIL, "dog", "\x1b[31mred"]
MEAN, STD, OFFSETS, TEMPERATURE = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25], [0.5, 0.0, -0.25], 1.7
SIZE = 16
NAN = float("nan")


@pytest.fixture
def folder(tmp_path):
    """A study with a winner and nothing else."""
    there = tmp_path / "results" / "study" / "winner"
    there.mkdir(parents=True)
    torch.manual_seed(0)
    network = ConvNet(3, SIZE, 0.3)
    for _ in range(3):  # batch norm has statistics of its own
        network(torch.rand(32, 3, SIZE, SIZE))
    with torch.no_grad():
        network.classifier[-1].weight *= 20  # else all images look alike
    config = TrialConfig()
    torch.save(
        {"format": 1, "config": config.to_dict(), "row": {}, "model": network.state_dict()}, there / "weights.pt"
    )
    model = studies.model(config, NAMES, SIZE, mean=MEAN, std=STD, offsets=OFFSETS, temperature=TEMPERATURE)
    (there / "model.json").write_text(json.dumps(model))
    return there.parent


@pytest.fixture
def images(tmp_path):
    """A folder of images: larger ones, one with alpha, one turned by its EXIF tag, in a folder below."""
    rng = np.random.default_rng(0)
    root = tmp_path / "images"
    (root / "below").mkdir(parents=True)
    for name, mode in [("a.png", "RGB"), ("b.webp", "RGB"), ("below/c.png", "RGBA"), ("below/d.png", "L")]:
        pixels = rng.integers(0, 256, (20, 30, 4), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(root / name)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(root / "turned.jpg", exif=exif)
    return root


def probabilities_by_hand(folder, path, squash=True):
    """The whole way from file to probabilities in plain steps."""
    network = ConvNet(3, SIZE, 0.3)
    network.load_state_dict(torch.load(folder / "winner" / "weights.pt", weights_only=True)["model"])
    network.eval()
    image = Image.open(path)
    if path.name == "turned.jpg":
        image = image.transpose(Image.Transpose.ROTATE_270)
    if image.mode == "RGBA":  # in front of grey
        background = Image.new("RGBA", image.size, (128, 128, 128, 255))
        image = Image.alpha_composite(background, image)
    image = image.convert("RGB")
    if squash:
        square = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    else:  # 16 by 11 of 30 by 20; the edges once more, two or three times
        is_wide, places = image.width > image.height, [0, 0, *range(11), 10, 10, 10]
        small = np.asarray(image.resize((16, 11) if is_wide else (11, 16), Image.Resampling.BILINEAR))
        square = small[places] if is_wide else small[:, places]
    pixels = np.asarray(square, np.float64) / 255
    scaled = torch.tensor((pixels - MEAN) / STD, dtype=torch.float32).permute(2, 0, 1)
    with torch.no_grad():
        logits = (network(scaled[None])[0].double().numpy() + OFFSETS) / TEMPERATURE
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()


@pytest.mark.parametrize("squash", [None, True, False])  # None: a winner from before there was a choice
def test_probabilities_are_those_of_the_plain_steps(folder, images, capsys, squash):
    if squash is not None:
        _edit(folder / "winner", squash=squash)
    files = sorted(path for path in images.rglob("*") if path.is_file())
    assert predict.main([str(folder), str(images), "--json", "--batch-size", "2"]) == 0
    out, err = capsys.readouterr()
    found = [json.loads(line) for line in out.splitlines()]
    assert err == ""
    assert [row["image"] for row in found] == [str(path) for path in files]
    for row, path in zip(found, files, strict=True):
        expected = probabilities_by_hand(folder, path, squash is not False)
        assert list(row["probabilities"]) == NAMES
        assert list(row["probabilities"].values()) == pytest.approx(expected, abs=1e-5)
        assert row["class"] == NAMES[expected.argmax()]
        assert row["probability"] == max(row["probabilities"].values())
    assert len({row["class"] for row in found}) > 1 or len({row["probability"] for row in found}) == len(files)


def test_the_table_says_the_same_and_drives_no_terminal(folder, images, capsys):
    assert predict.main([str(folder), str(images / "a.png"), str(images / "below" / "c.png"), "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert predict.main([str(folder), str(images / "a.png"), str(images / "below" / "c.png")]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["image", "class", "probability", "next"]
    for line, row in zip(lines, rows, strict=True):
        assert f"{row['probability']:.4f}" in line
        assert predict.printable(row["class"])[:20] in line
        assert "\x1b" not in line
    assert predict.printable(NAMES[2]) == r"\x1b[31mred"
    assert predict.printable(EVIL) == EVIL


def test_where_mistakes_have_costs_the_class_is_the_one_of_the_least_expected_cost(folder, images, capsys):
    costs = [[0, 1, 9], [7, 0, 2], [1, 1, 0]]
    text = "costs:" + ";".join(",".join(map(str, row)) for row in costs)
    _edit(folder / "winner", config={**TrialConfig().to_dict(), "objective": text})
    predict.main([str(folder), str(images), "--json"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for row in rows:
        shares = list(row["probabilities"].values())
        expected = [sum(share * costs[true][name] for true, share in enumerate(shares)) for name in range(3)]
        assert row["class"] == NAMES[expected.index(min(expected))]
        assert row["probability"] == row["probabilities"][row["class"]]
    assert any(row["probability"] < max(row["probabilities"].values()) for row in rows)
    predict.main([str(folder), str(images)])
    for line, row in zip(capsys.readouterr().out.splitlines()[1:], rows, strict=True):
        likeliest_other = max(value for name, value in row["probabilities"].items() if name != row["class"])
        assert line.endswith(f"{likeliest_other:.4f}")


def test_a_truncated_image_is_told_and_the_others_are_classified(folder, images, capsys):
    whole = (images / "a.png").read_bytes()
    (images / "cut.png").write_bytes(whole[: len(whole) // 2])
    assert predict.main([str(folder), str(images), "--json"]) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 5
    (line,) = err.splitlines()
    assert line.startswith(f"study.predict: {images / 'cut.png'}: cannot be read as an image")


def test_all_that_is_no_image_is_told_at_once_and_nothing_is_classified(folder, images, tmp_path, capsys):
    (images / "text.png").write_text("no image at all")
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("a text")
    with pytest.raises(SystemExit) as exit_:
        predict.main([str(folder), str(images), str(tmp_path / "gone.png"), str(tmp_path / "empty"),
                      str(tmp_path / "notes.txt"), "--batch-size", "0"])  # fmt: skip
    assert exit_.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "study.predict: --batch-size must be a whole number from 1 to 1000000, not '0'",
        f"study.predict: {tmp_path / 'empty'}: holds no image",
        f"study.predict: {images / 'text.png'}: cannot be read as an image (of no known kind, or damaged)",
        f"study.predict: {tmp_path / 'gone.png'}: cannot be read as an image (No such file or directory)",
        f"study.predict: {tmp_path / 'notes.txt'}: cannot be read as an image (of no known kind, or damaged)",
    ]


def test_what_a_folder_holds_besides_images_is_said(folder, images, capsys):
    (images / "notes.txt").write_text("a text")
    (images / ".hidden.png").write_text("not looked at")
    assert predict.main([str(folder), str(images), "--json"]) == 0
    assert capsys.readouterr().err == f"{images}: 1 file(s) left out, not images by their names\n"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda there: (there / "model.json").unlink(), r"model.json: not found; python -m study.confirm .* makes it"),
        (lambda there: (there / "model.json").write_text("{"), "model.json: damaged, cannot be read"),
        (lambda there: (there / "model.json").write_text("[]"), "has format None, and this version reads 1"),
        (lambda there: (there / "model.json").write_text('{"format": 1}'), "model.json: damaged, cannot be used"),
        (lambda there: (there / "weights.pt").write_bytes(b"PK no weights"), "weights.pt: damaged, cannot be read"),
        (lambda there: (there / "model.json").write_text("[" * 10**6), "model.json: damaged, cannot be read"),
        (lambda there: _edit(there, offsets=[0.0]), "offsets must be 3 numbers"),
        (lambda there: _edit(there, offsets=[0.0, NAN, 0.0]), r"offsets\[1\] must be a finite number, not nan"),
        (lambda there: _edit(there, offsets=[0.0, 1e30, 0.0]), r"offsets\[1\] must be at most 100, not 1e\+30"),
        (lambda there: _edit(there, offsets=["0", 0, 0]), r"offsets\[0\] must be a number, not '0'"),
        (lambda there: _edit(there, offsets=[0, [0.0], 0]), r"offsets\[1\] must be a number, not a list of 1"),
        (lambda there: _edit(there, mean=[0.0, 1.0]), "mean must be a list of at least 3, not of 2"),
        (lambda there: _edit(there, mean=[0.0, 1.0, -0.1]), r"mean\[2\] must be at least 0, not -0.1"),
        (lambda there: _edit(there, mean=[True, 0.0, 0.0]), r"mean\[0\] must be a number, not True"),
        (lambda there: _edit(there, std=[0.0, 1.0, 1.0]), r"std\[0\] must be above 0, not 0"),
        (lambda there: _edit(there, std=[0.5, float("inf"), 0.5]), r"std\[1\] must be a finite number"),
        (lambda there: _edit(there, std="abc"), "std must be a list, not 'abc'"),
        (
            lambda there: _edit(there, class_names=["a", "b", 3], minority=["a"]),
            r"class_names\[2\] must be a text, not 3",
        ),
        (lambda there: _edit(there, class_names="abc"), "class_names must be a list, not 'abc'"),
        (lambda there: _edit(there, class_names=["a"] * 10**6), "class_names must be a list of at most 1000, not of 1"),
        (lambda there: _edit(there, image_size=10**6), "image_size must be at most 320, not 1000000"),
        (lambda there: _edit(there, image_size=16.0), "image_size must be a whole number, not 16.0"),
        (
            lambda there: _edit(there, config={"dropout": 2}),
            "cannot be used .config: dropout must be",
        ),
        (lambda there: _edit(there, config=[]), "model.json: damaged, cannot be used"),
        (lambda there: _weights(there, NAN), "weights.pt: damaged, the network's features.0.weight holds values"),
        (lambda there: _weights(there, 1e38), "damaged, cannot be used .its weights are too large to give prob"),
        (
            lambda there: _edit(there, std=[1e-45] * 3),
            "damaged, cannot be used .its weights are too large to give prob",
        ),
        (lambda there: _edit(there, image_size=24), r"weights.pt: the network's classifier.1.weight is"),
    ],
)
def test_a_winner_that_is_not_there_or_damaged_is_refused_in_a_sentence(folder, images, capsys, damage, said):
    damage(folder / "winner")
    with pytest.raises(SystemExit) as exit_:
        predict.main([str(folder), str(images)])
    assert exit_.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert all(str(folder) in line for line in err.splitlines())
    assert re.search(said, err)


def test_where_no_probabilities_come_of_an_image_that_is_said_and_no_nan(folder, images, capsys, monkeypatch):
    """Weights that are finite, but so large that some image, and not those that are tried at first, is too much."""
    found = winner.read(folder)
    with torch.no_grad():
        found.classifier.network.classifier[-1].bias[:] = float("inf")
    monkeypatch.setattr(winner, "read", lambda _: found)
    assert predict.main([str(folder), str(images), "--json"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"study.predict: {folder / 'winner'}: its weights are too large to give probabilities\n"


def _weights(there, value):
    """As an earlier version's file, without a checksum, may hold them after damage."""
    content = torch.load(there / "weights.pt", weights_only=True)
    content["model"]["features.0.weight"][0, 0, 0] = value
    torch.save(content, there / "weights.pt")


def _edit(there, **values):
    path = there / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


class Trap:
    """Would make a folder when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_weights_that_hold_code_are_refused_and_it_does_not_run(folder, images, tmp_path, capsys):
    torch.save({"format": 1, "model": Trap(str(tmp_path / "sprung"))}, folder / "winner" / "weights.pt")
    with pytest.raises(SystemExit):
        predict.main([str(folder), str(images)])
    assert not (tmp_path / "sprung").exists()
    assert "damaged, cannot be read" in capsys.readouterr().err


def test_folding_batch_norm_changes_no_prediction(folder):
    found = winner.read(folder)
    network = ConvNet(3, SIZE, 0.3)
    network.load_state_dict(torch.load(folder / "winner" / "weights.pt", weights_only=True)["model"])
    network.eval()
    images = torch.randn(300, 3, SIZE, SIZE)
    with torch.no_grad():
        plain, folded = network(images), found.classifier.network(images)
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in found.classifier.network.modules())
    torch.testing.assert_close(folded, plain, rtol=1e-4, atol=1e-4)
    assert (folded.argmax(1) == plain.argmax(1)).all()
    assert len(plain.argmax(1).unique()) > 1


@pytest.mark.parametrize(
    ("scale", "expected"), [({"I": [0, 4096]}, lambda v: v >> 4), ({}, lambda v: v >> 8), (None, lambda v: v >> 8)]
)
def test_deep_images_are_read_by_the_scale_of_the_training_images(folder, tmp_path, capsys, scale, expected):
    values = np.random.default_rng(0).integers(0, 4096, (SIZE, SIZE), np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    Image.fromarray(expected(values).astype(np.uint8)).save(tmp_path / "plain.png")
    if scale is not None:
        _edit(folder / "winner", scale=scale)
    assert predict.main([str(folder), str(tmp_path / "deep.png"), str(tmp_path / "plain.png"), "--json"]) == 0
    deep, plain = (json.loads(line)["probabilities"] for line in capsys.readouterr().out.splitlines())
    assert deep == plain


@pytest.fixture
def ensemble_folder(folder):
    """The winner, and an ensemble of it and another network that counts twice."""
    there = folder / "winner" / "ensemble"
    there.mkdir()
    shutil.copy(folder / "winner" / "weights.pt", there / "weights-0.pt")
    torch.manual_seed(1)
    other, config = ConvNet(3, SIZE, 0.0), TrialConfig(dropout=0.0)
    with torch.no_grad():
        other.classifier[-1].weight *= 20
    torch.save(
        {"format": 1, "config": config.to_dict(), "row": {}, "model": other.state_dict()}, there / "weights-1.pt"
    )
    members = [{"recipe": "course-shuffled", "times": 1, "config": TrialConfig().to_dict()},
               {"recipe": "trial-2", "times": 2, "config": config.to_dict()}]  # fmt: skip
    (there / "ensemble.json").write_text(json.dumps({"format": 1, "members": members}))
    return folder


def test_an_ensemble_says_the_mean_of_its_networks_here_and_as_one_program(ensemble_folder, images, capsys):
    paths = sorted(path for path in images.rglob("*.png"))
    assert predict.main([str(ensemble_folder), *map(str, paths), "--json", "--ensemble"]) == 0
    found = [list(json.loads(line)["probabilities"].values()) for line in capsys.readouterr().out.splitlines()]
    pixels = np.stack([decoded(path, SIZE, {}, True) for path in paths])
    scaled = torch.tensor((pixels / 255 - MEAN) / STD, dtype=torch.float32).permute(0, 3, 1, 2)
    logits = []
    for name in ("weights-0.pt", "weights-1.pt"):
        network = ConvNet(3, SIZE, 0.0)
        stored = torch.load(ensemble_folder / "winner" / "ensemble" / name, weights_only=True)
        network.load_state_dict(stored["model"])
        with torch.no_grad():
            logits.append(network.eval()(scaled))
    expected = torch.softmax((logits[0] + 2 * logits[1]) / 3, 1).numpy()  # without the winner's offsets
    assert np.array(found) == pytest.approx(expected, abs=1e-5)
    assert not np.allclose(expected, torch.softmax(logits[0], 1).numpy(), atol=0.01)
    _, archive = winner.exported(ensemble.read(ensemble_folder).classifier, SIZE)
    program = torch.export.load(io.BytesIO(archive)).module()
    theirs = program(torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())).detach().numpy()
    assert theirs == pytest.approx(np.array(found), abs=1e-6)


def test_without_an_ensemble_that_is_said(folder, images, capsys):
    with pytest.raises(SystemExit) as stop:
        predict.main([str(folder), str(images), "--ensemble"])
    assert stop.value.code == 2
    assert "ensemble.json: not found; one recipe alone did best" in capsys.readouterr().err


@pytest.mark.parametrize("scale", [{"I": [0, 0]}, {"I": [0, NAN]}, {"I": 3}, [1], {"F": ["a", "b"]}])
def test_a_scale_that_is_none_is_told_in_a_sentence(folder, images, capsys, scale):
    _edit(folder / "winner", scale=scale)
    with pytest.raises(SystemExit) as stop:
        predict.main([str(folder), str(images)])
    assert stop.value.code == 2
    assert "model.json: damaged, cannot be used" in capsys.readouterr().err

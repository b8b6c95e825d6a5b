import pytest

from tests.conftest import told

DIGITS = ["--data", "digits", "--image-size", "16", "--precision", "float32"]


def test_mistakes_of_flags_and_fields_are_told_at_once(refused, tmp_path):
    problems = refused(
        *DIGITS, "--epochs", "0", "--keep", "2", "--val-fraction", "all", "--set", "dropout=1.5", "--set",
        "batch_size=1", "--nonsense",
    )  # fmt: skip
    assert told(
        problems,
        "--epochs must be a whole number from 1 to 1000000, not '0'",
        "--keep must be in (0, 1], not '2'",
        "--val-fraction must be in (0, 1), not 'all'",
        "--set dropout must be in [0, 1), not '1.5'",
        "--set batch_size must be a whole number from 2 to 1000000, not '1'",
        "--nonsense: no such argument",
    )
    assert list(tmp_path.iterdir()) == []


def test_mistakes_of_flags_and_of_images_are_told_at_once(refused, tmp_path):
    problems = refused("--data", "photos", "--epochs", "x", "--image-size", "8")
    assert told(problems, "--epochs must be", "--image-size must be", f"{tmp_path / 'photos'} is no folder")
    problems = refused(*DIGITS, "--minority", "zebra", "--keep", "0")
    assert told(problems, "--minority: no class zebra; the classes are 0, 1, 2", "--keep must be")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--set", "dropout=2", "--data", "photos"], ["dropout must be", "photos is no folder"]),
        (["--set", "dropuot=0.2", "--data", "photos"], ["--set dropuot: no such field", "photos is no folder"]),
        (["--set", "dropuot=0.2", "--set", "epochs=0"], ["--set dropuot: no such field", "epochs must be"]),
        (["--set", "dropout=2", "--minority", "zebra"], ["dropout must be", "no class zebra"]),
        (["--set", "dropout=2", "--minority", ","], ["dropout must be", "--minority must name"]),
    ],
)
def test_a_bad_field_hides_no_other_mistake(refused, arguments, expected):
    assert told(refused(*DIGITS, *arguments), *expected)


def test_too_few_images_are_refused_by_class(refused):
    problems = refused(*DIGITS, "--keep", "0.005", "--val-fraction", "0.02")
    few = [f"class {digit}: 1 training image(s) left" for digit in range(3)]
    assert told(problems, *few, *[f"class {digit}: 3 validation image(s)" for digit in range(10)])

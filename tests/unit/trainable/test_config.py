import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainable.arguments import default_config
from trainable.cli import UsageError
from trainable.config import FIELDS, PRECISIONS, TrialConfig, parse_assignments

small_seeds = st.integers(0, 2**53)

configs = st.builds(
    TrialConfig,
    dropout=st.floats(0, 1, exclude_max=True),
    weight_decay=st.floats(0, 10),
    learning_rate=st.floats(0, 10, exclude_min=True),
    accumulation_steps=st.integers(1, 64),
    sampler=st.sampled_from(["shuffle", "weighted"]),
    sampler_power=st.floats(0, 1, exclude_min=True),
    batch_size=st.integers(2, 4096),
    clip_norm=st.floats(0, 1e6, exclude_min=True),
    epochs=st.integers(1, 1000),
    patience=st.integers(1, 1000),
    min_delta=st.floats(0, 10),
    flip=st.booleans(),
    rotation_degrees=st.floats(0, 180),
    seed=small_seeds,
    split_seed=small_seeds,
    cut_seed=small_seeds,
    num_threads=st.integers(1, 256),
    precision=st.sampled_from(PRECISIONS),
).map(lambda config: TrialConfig.from_record(config.to_dict()))  # what has no effect has its default


def problems_of(function, values):
    with pytest.raises(UsageError) as refusal:
        function(values)
    return refusal.value.problems


def test_defaults_are_the_courses_recipe():
    config = TrialConfig()
    assert (config.batch_size, config.clip_norm, config.patience, config.min_delta) == (128, 1.0, 10, 0.001)
    assert (config.flip, config.rotation_degrees, config.sampler) == (True, 10.0, "shuffle")


@given(configs)
def test_a_config_survives_the_way_through_json(config):
    assert TrialConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@given(configs)
def test_a_config_survives_the_way_through_the_command_line(config):
    assignments = [f"{name}={value}" for name, value in config.to_dict().items()]
    assert TrialConfig.from_dict(parse_assignments(assignments)) == config


@pytest.mark.parametrize("number", [2**53 + 1, 2**63 - 1])
def test_a_large_seed_is_taken_from_the_command_line_to_the_last_digit(number):
    assert TrialConfig.from_dict(parse_assignments([f"seed={number}"])).seed == number


def test_fields_left_out_take_their_defaults():
    assert TrialConfig.from_dict({"dropout": 0.5}) == TrialConfig(dropout=0.5)


def test_numbers_come_out_in_the_type_of_their_field():
    config = TrialConfig.from_dict({"epochs": 3.0, "dropout": 0})
    assert isinstance(config.epochs, int)
    assert isinstance(config.dropout, float)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dropout", 1),
        ("dropout", -0.1),
        ("dropout", "0.3"),
        ("dropout", True),
        ("dropout", None),
        ("dropout", [0.3]),
        ("weight_decay", -1e-9),
        ("weight_decay", False),
        ("weight_decay", float("nan")),
        ("learning_rate", 0),
        ("learning_rate", float("inf")),
        ("accumulation_steps", 0),
        ("accumulation_steps", 1.5),
        ("sampler", "wieghted"),
        ("sampler", 1),
        ("sampler_power", 0),
        ("sampler_power", 1.01),
        ("batch_size", 1),
        ("clip_norm", 0),
        ("epochs", 0),
        ("epochs", True),
        ("patience", 0),
        ("min_delta", -0.001),
        ("flip", 1),
        ("flip", "true"),
        ("rotation_degrees", 181),
        ("rotation_degrees", -1),
        ("seed", -1),
        ("split_seed", 2**63),
        ("cut_seed", 0.5),
        ("num_threads", 0),
    ],
)
def test_a_value_that_breaks_its_rule_is_refused_with_name_rule_and_value(name, value):
    (problem,) = problems_of(TrialConfig.from_dict, {name: value})
    assert problem == f"{name} must be {FIELDS[name].words}, not {value!r}"


@given(configs, st.sampled_from(sorted(FIELDS)))
def test_every_default_and_every_rule_agree(config, name):
    assert TrialConfig.from_dict({name: getattr(TrialConfig(), name)}) == TrialConfig()
    needed = {other: getattr(config, other) for other in [*FIELDS[name].when, name]}
    assert getattr(TrialConfig.from_dict(needed), name) == getattr(config, name)


def test_a_field_that_is_set_where_it_has_no_effect_is_refused_with_what_it_needs():
    (problem,) = problems_of(TrialConfig.from_dict, {"sampler_power": 0.5})
    assert problem == "sampler_power has no effect unless sampler is 'weighted', so it cannot be 0.5"
    assert TrialConfig.from_dict({"sampler_power": 0.5, "sampler": "weighted"}).sampler_power == 0.5


def takes(found, text):
    try:
        found.checked(found.parse(text))
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_can_be_set_from_the_command_line(name):
    found, usual = FIELDS[name], getattr(default_config("digits", 0), name)
    candidates = [*getattr(found.rule, "names", []), str(not usual), "3", "0.25", "2.5"]
    other = next(text for text in candidates if takes(found, text) and found.checked(found.parse(text)) != usual)
    needed = [f"{field}={values[0]}" for field, values in found.when.items()]
    given = parse_assignments([f"{name}={other}", *needed])
    config = default_config("digits", 0, **{"num_threads": 2, "epochs": 9, **given})
    assert getattr(config, name) == given[name] != getattr(default_config("digits", 0), name)


def test_one_mistake_is_not_told_twice():
    (problem,) = problems_of(TrialConfig.from_dict, {"sampler": "wieghted", "sampler_power": 0.5})
    assert problem.startswith("sampler must be")


def test_a_record_of_a_field_without_effect_is_read_as_if_it_had_its_default():
    before = TrialConfig().to_dict() | {"sampler_power": 0.5}  # as earlier versions wrote it down
    assert TrialConfig.from_record(before) == TrialConfig()
    assert "sampler_power" not in TrialConfig().active()


def test_the_roles_divide_the_fields_among_themselves():
    config = TrialConfig()
    parts = [config.of_roles(role) for role in ("recipe", "protocol", "seed", "machine")]
    assert {name: value for part in parts for name, value in part.items()} == config.to_dict()
    assert sum(map(len, parts)) == len(FIELDS)


def test_all_mistakes_of_a_dict_are_told_at_once():
    problems = problems_of(TrialConfig.from_dict, {"dropuot": 0.3, "epochs": 0, "seed": 1, "flip": "no"})
    assert len(problems) == 3
    assert "dropuot" in problems[0]
    assert "dropout" in problems[0]  # the fields there are


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ("dropout", "KEY=VALUE, not 'dropout'"),
        ("dropuot=0.3", "--set dropuot: no such field"),
        ("dropout=much", "--set dropout must be in [0, 1), not 'much'"),
        ("epochs=", "--set epochs must be a whole number from 1 to 1000000, not ''"),
        ("epochs=nan", "--set epochs must be"),
        ("epochs=inf", "--set epochs must be"),
    ],
)
def test_an_assignment_that_means_nothing_is_refused(assignment, told):
    (problem,) = problems_of(parse_assignments, [assignment])
    assert told in problem


def test_a_number_of_the_wrong_kind_on_the_command_line_is_refused_by_its_field():
    (problem,) = problems_of(parse_assignments, ["epochs=2.5"])
    assert problem == "--set epochs must be a whole number from 1 to 1000000, not '2.5'"
    (problem,) = problems_of(parse_assignments, ["flip=perhaps"])
    assert problem == "--set flip must be true or false, not 'perhaps'"


def test_all_bad_assignments_are_told_at_once():
    assert len(problems_of(parse_assignments, ["dropout", "dropuot=1", "epochs=x", "seed=3"])) == 3


@pytest.mark.parametrize(("text", "value"), [("true", True), ("On", True), ("0", False), ("no", False)])
def test_words_for_true_and_false(text, value):
    assert parse_assignments([f"flip = {text}"]) == {"flip": value}


@pytest.mark.parametrize(("head_epochs", "epochs"), [(5, 5), (9, 5)])
def test_a_fresh_head_needs_epochs_before_it(head_epochs, epochs):
    (problem,) = problems_of(TrialConfig.from_dict, {"head_epochs": head_epochs, "epochs": epochs})
    assert problem == f"head_epochs must be below epochs, {epochs}, not {head_epochs}"
    assert TrialConfig.from_dict({"head_epochs": epochs - 1, "epochs": epochs}).head_epochs == epochs - 1

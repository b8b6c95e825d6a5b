from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from study.space import parameters
from trainable.cli import UsageError, attempt

BOTH = "[sampler]\nchoices = ['weighted', 'shuffle']\n"


def load_text(tmp_path, text):
    path = tmp_path / "space.toml"
    path.write_text(text)
    return parameters.load(path)


def test_default_space_searches_the_studys_knobs():
    names = [parameter.name for parameter in parameters.load(parameters.COURSE_SPACE)]
    assert {"dropout", "weight_decay", "accumulation_steps", "sampler", "learning_rate"} <= set(names)


def test_power_is_active_only_under_the_weighted_sampler():
    power = next(p for p in parameters.load(parameters.COURSE_SPACE) if p.name == "sampler_power")
    assert power.active({"sampler": "weighted"})
    assert not power.active({"sampler": "shuffle"})


@pytest.mark.parametrize("when", ["", "when = { sampler = 'weighted' }", "when = { sampler = ['weighted'] }"])
def test_a_field_that_has_an_effect_under_a_condition_is_searched_under_it_alone(tmp_path, when):
    loaded = load_text(tmp_path, f"{BOTH}[sampler_power]\nlow = 0.5\nhigh = 1\n{when}")
    chosen = {"sampler": "shuffle", "sampler_power": 0.5}
    assert parameters.active_values(loaded, chosen.__getitem__) == {"sampler": "shuffle"}
    assert parameters.to_tables(loaded)["sampler_power"]["when"] == {"sampler": "weighted"}


@pytest.mark.parametrize("when", ["{ sampler = 'wieghted' }", "{ sampler = 3 }", "{ sampler = ['weighted', 'x'] }"])
def test_a_condition_on_a_value_that_the_other_field_cannot_take_is_refused(tmp_path, when):
    text = f"{BOTH}[dropout]\nlow = 0.5\nhigh = 0.7\nwhen = {when}"
    with pytest.raises(UsageError, match="when must name values that sampler can take"):
        load_text(tmp_path, text)


def test_a_condition_that_leaves_a_field_without_effect_is_refused(tmp_path):
    text = f"{BOTH}[sampler_power]\nlow = 0.5\nhigh = 1\nwhen = {{ sampler = 'shuffle' }}"
    with pytest.raises(UsageError, match="has no effect unless sampler is 'weighted'"):
        load_text(tmp_path, text)


def test_tables_describe_the_space_whole(tmp_path):
    loaded = parameters.load(parameters.COURSE_SPACE)
    assert parameters.from_tables(parameters.to_tables(loaded), {}, "study.json") == loaded


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("[dropuot]\nlow = 0\nhigh = 0.5", "is no field of a trial's config"),
        ("[seed]\nlow = 0\nhigh = 5", "cannot be searched"),
        ("[dropout]\nlow = 0.5\nhigh = 0.1", "the range is empty"),
        ("[dropout]\nlow = 0.5\nhigh = 0.5", "the range is empty"),
        ("[weight_decay]\nlow = 0\nhigh = 0.1\nlog = true", "low must be above 0 where log = true"),
        ("[dropout]\nlow = 0\nhigh = 1.5", "dropout must be in [0, 1), not 1.5"),
        ("[dropout]\nlow = 0", "low and high must be numbers"),
        ("[dropout]\nlow = 0\nhigh = 0.5\nlgo = true", "unknown key lgo"),
        ("[sampler]\nlow = 0\nhigh = 1", "needs choices"),
        ("[sampler]\nchoices = ['wieghted']", "sampler must be 'shuffle', 'weighted', 'progressive' or 'undersample'"),
        ("[sampler]\nchoices = []", "at least one value"),
        ("[sampler]\nchoices = ['shuffle', 'shuffle']", "must differ"),
        ("[sampler_power]\nlow = 0.5\nhigh = 1\nwhen = { sampler = 'weighted' }", "when must name fields"),
        ("[sampler_power]\nlow = 0.5\nhigh = 1", "has no effect unless sampler is 'weighted'"),
        ("[num_micro_batches]\nlow = 1\nhigh = 4", "cannot be searched"),
        ("[num_threads]\nlow = 1\nhigh = 4", "cannot be searched"),
        ("[cut_seed]\nlow = 1\nhigh = 4", "cannot be searched"),
    ],
)
def test_senseless_tables_are_refused_with_their_line(tmp_path, table, told):
    with pytest.raises(UsageError) as refusal:
        load_text(tmp_path, f"# a comment\n\n{table}\n")
    (problem,) = refusal.value.problems
    assert told in problem
    assert "line 3: [" in problem


def test_all_problems_are_told_at_once(tmp_path):
    with pytest.raises(UsageError) as refusal:
        load_text(tmp_path, "[dropuot]\nlow = 0\nhigh = 0.5\n[batch_size]\nlow = 8\nhigh = 4\n")
    assert len(refusal.value.problems) == 2


def test_unreadable_and_empty_files_are_refused(tmp_path):
    for text, told in [("[dropout\n", "no valid TOML"), ("", "nothing to search")]:
        with pytest.raises(UsageError, match=told):
            load_text(tmp_path, text)
    with pytest.raises(UsageError, match="cannot be read"):
        parameters.load(tmp_path / "none.toml")


def test_a_file_that_begins_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "space.toml").write_bytes(b"\xef\xbb\xbf# \xc3\xa9\r\n" + BOTH.replace("\n", "\r\n").encode())
    assert [parameter.name for parameter in parameters.load(tmp_path / "space.toml")] == ["sampler"]


@pytest.mark.parametrize("name", parameters.SPACES)
def test_a_space_that_comes_along_is_found_by_its_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = parameters.load(Path(name))
    assert found == parameters.load(parameters.SPACES[name])
    # the knobs of the mission are in all of them
    assert {"dropout", "weight_decay", "accumulation_steps", "sampler"} <= {parameter.name for parameter in found}
    # a file of that name is meant where there is one, and a folder is not
    Path(name).mkdir()
    assert parameters.load(Path(name)) == found
    Path(name).rmdir()
    Path(name).write_text("[dropout]\nlow = 0\nhigh = 0.5")
    assert [parameter.name for parameter in parameters.load(Path(name))] == ["dropout"]


@given(st.sampled_from(sorted(parameters.SPACES)), st.data())
def test_a_space_that_is_written_down_is_read_as_the_same(name, data):
    """Also where fewer values of a choice are searched than the conditions of later fields name."""
    tables = parameters.to_tables(parameters.load(parameters.SPACES[name]))
    for table in tables.values():
        table.pop("when", None)
        if len(choices := table.get("choices", [])) > 1:
            few = data.draw(st.lists(st.sampled_from(choices), min_size=1, unique=True))
            table["choices"] = [value for value in choices if value in few]
    problems = []
    space = attempt(problems, parameters.from_tables, tables, {}, "made up")
    assert all("has no effect unless" in problem for problem in problems)
    assume(space)  # else nothing is left under which a later field would matter
    assert parameters.from_tables(parameters.to_tables(space), {}, "written") == space


def test_a_name_that_is_neither_a_space_nor_a_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as refusal:
        parameters.load(Path("imbalanced"))
    assert refusal.value.problems == [
        "--space imbalanced: cannot be read (No such file or directory); by name there are course, finetune, full, "
        "imbalance"
    ]


def test_choices_are_of_their_fields_type_however_they_are_written(tmp_path):
    loaded = load_text(tmp_path, "[batch_size]\nchoices = [32.0, 64]\n[dropout]\nchoices = [0, 0.5]\n")
    assert [list(map(repr, parameter.choices)) for parameter in loaded] == [["32", "64"], ["0.0", "0.5"]]

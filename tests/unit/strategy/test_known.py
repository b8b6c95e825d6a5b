import pytest

from study.record import files
from study.record.ledger import Ledger
from study.space import parameters
from study.strategy.known import NUM_KNOWN, known_recipes
from study.strategy.searcher import Searcher
from tests import studies
from trainable.cli import UsageError
from trainable.config import TrialConfig

SPACE = parameters.load(parameters.COURSE_SPACE)
BASE = TrialConfig(epochs=3, seed=7, split_seed=7, cut_seed=7)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return studies.write(tmp_path_factory.mktemp("results") / "other", num_trials=14)


def ranked(folder):
    """The searched trials of the study that have ended well, best first."""
    trials = [t for t in files.read_trials(folder) if t.status in ("complete", "stopped") and t.recipe == "searched"]
    return sorted(trials, key=lambda trial: -trial.rows[-1]["best_minority_f1"])


def values(config, space):
    return {p.name: getattr(config, p.name) for p in space if p.active(config.to_dict())}


def test_the_best_recipes_of_an_earlier_study_are_tried_after_the_courses_and_with_seeds_of_this_study(other):
    known = known_recipes(other, SPACE, BASE)
    best = ranked(other)[:NUM_KNOWN]
    assert known.trials == tuple(trial.number for trial in best)
    ledger = Ledger(None)
    source = Searcher(ledger, SPACE, BASE, "tpe", 10, known.recipes)
    trials = [source.next() for _ in range(10)]
    assert [trial.recipe for trial in trials[:3]] == ["course, shuffled", "course, weighted", "searched"]
    for ours, theirs in zip(trials[2:7], best, strict=True):
        assert values(ours.config, SPACE) == values(theirs.config, SPACE)
        assert (ours.config.split_seed, ours.config.epochs) == (7, 3)
    assert values(trials[7].config, SPACE) not in [values(trial.config, SPACE) for trial in best]


def test_a_grid_loses_no_point_to_what_is_known(other):
    known = known_recipes(other, SPACE, BASE)
    plain, after = (Searcher(Ledger(None), SPACE, BASE, "grid", 20, recipes) for recipes in ((), known.recipes))
    points = [[values(source.next().config, SPACE) for _ in range(12)] for source in (plain, after)]
    assert points[0][2:7] == points[1][7:12]


def test_recipes_that_this_space_cannot_have_are_left_out_and_said(other):
    tables = parameters.to_tables(SPACE) | {"dropout": {"low": 0.3, "high": 0.7}}
    narrow = parameters.from_tables(tables, {}, "")
    known = known_recipes(other, narrow, BASE)
    best = ranked(other)
    inside = [trial.number for trial in best if trial.config.dropout >= 0.3]
    assert list(known.trials) == inside[:NUM_KNOWN]
    assert known.left_out
    assert set(known.left_out) <= {trial.number for trial in best} - set(inside)
    assert f"left out, as they are not in this space: {', '.join(map(str, known.left_out))}" in known.words


def test_what_was_not_searched_there_is_as_here_and_what_was_must_be_had_here(other):
    smooth = TrialConfig(**{**BASE.to_dict(), "label_smoothing": 0.1})
    assert known_recipes(other, SPACE, smooth) == known_recipes(other, SPACE, BASE)
    fixed = tuple(parameter for parameter in SPACE if parameter.name != "dropout")  # always 0.3 here
    known = known_recipes(other, fixed, BASE)
    assert known.recipes == ()
    assert "has no recipe that this space can have" in known.words


def test_without_a_study_there_it_is_told(tmp_path):
    with pytest.raises(UsageError, match=r"study\.json"):
        known_recipes(tmp_path, SPACE, BASE)

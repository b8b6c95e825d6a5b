"""What recipes are called: in the journal, in a confirmation's files, and where people read."""

import pytest

from study.record.recipes import COURSE, SEARCHED, is_course, run_name, shown, trial_name


@pytest.mark.parametrize(
    ("trial", "recipe", "in_files", "read", "in_tables"),
    [
        (0, "course, shuffled", "course-shuffled", "course, shuffled", "0*"),
        (1, "course, weighted", "course-weighted", "course, weighted", "1*"),
        (7, "searched", "trial-7", "trial 7", "7"),
        (120, "searched", "trial-120", "trial 120", "120"),
    ],
)
def test_a_recipe_has_one_name_in_files_one_for_people_and_a_number_in_tables(trial, recipe, in_files, read, in_tables):
    assert run_name(trial, recipe) == in_files
    assert shown(in_files) == read
    assert trial_name(trial, recipe) == in_tables
    assert is_course(in_files) == (recipe != SEARCHED)


def test_the_courses_two_come_first_and_differ_in_how_images_are_drawn():
    assert [recipe.values["sampler"] for recipe in COURSE] == ["shuffle", "weighted"]

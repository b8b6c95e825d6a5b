"""docs/toolbox.md says what the fields say."""

import re
import runpy
from pathlib import Path

import pytest

from study.space import parameters
from trainable.config import FIELDS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def page():
    return (ROOT / "docs" / "toolbox.md").read_text()


def test_the_page_is_what_the_script_prints(page):
    assert runpy.run_path(str(ROOT / "scripts" / "toolbox.py"))["document"]() == page, (
        "a field has changed: python scripts/toolbox.py > docs/toolbox.md"
    )


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_stands_there_once_with_rule_default_condition_and_paper(page, name):
    (row,) = re.findall(rf"^\| `{name}` \|.*$", page, re.MULTILINE)
    found = FIELDS[name]
    _, _, text, words, default, condition, searched, paper, _ = (cell.strip() for cell in row.split("|"))
    assert (text, words, condition, paper) == (found.help, found.words, found.condition(), found.paper)
    assert found.checked(found.parse(default.strip("`"))) == found.default
    assert set(filter(None, searched.split(", "))) == {
        space for space, path in parameters.SPACES.items() if f"\n[{name}]\n" in path.read_text()
    }

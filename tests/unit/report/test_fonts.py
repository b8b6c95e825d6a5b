"""Class names in letters that the usual font lacks."""

import io
import warnings

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import font_manager

from study.report import fonts, pictures
from study.report.fonts import Lettering, lettering

STIX_ALONE = "\u1d8d"  # of matplotlib's own fonts
NOWHERE = "\U0010fff0"  # for private use


@pytest.fixture(autouse=True)
def _fonts_of_matplotlib_alone(monkeypatch):
    own = [font for font in font_manager.fontManager.ttflist if "mpl-data" in font.fname]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)


def test_names_that_the_usual_font_has_need_no_other():
    names = ["cat", "قطة", "кот", "$\\alpha$", ""]
    assert lettering(names) == Lettering([fonts.USUAL], names, 0)
    assert lettering(names).note == ""


def test_a_letter_that_another_font_has_is_drawn_with_that():
    assert lettering(["cat", STIX_ALONE]) == Lettering([fonts.USUAL, "STIXGeneral"], ["cat", STIX_ALONE], 0)


def test_what_no_font_can_draw_is_left_out_and_the_classes_number_stands_for_it():
    found = lettering(["cat", f"{NOWHERE} fox", NOWHERE, STIX_ALONE])
    assert found.names == ["cat", "fox (class 2)", "class 3", STIX_ALONE]
    assert found.note.startswith("figures/: 2 class names have letters that no font here can draw")
    assert lettering([NOWHERE, "a"]).families == [fonts.USUAL]


def test_a_picture_has_no_empty_boxes():
    names = ["狐狸", "قطة برية", "🦊 fox", NOWHERE + STIX_ALONE]
    found = lettering(names)
    with warnings.catch_warnings(), mpl.rc_context({"font.family": found.families}):
        warnings.simplefilter("error")
        figure = pictures.confusion(np.eye(4, dtype=int), found.names, "made up")
        figure.savefig(io.BytesIO(), format="png", dpi=30)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == found.names

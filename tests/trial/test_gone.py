"""A study's folder, or a part of it, that is deleted or moved while the study runs."""

import shutil

import pytest

from study.execution import inline
from study.execution.runner import FolderError, Pause, Runner
from study.record.ledger import Ledger
from study.strategy.scheduler import Never
from study.strategy.searcher import Searcher
from tests import studies
from tests.conftest import DIGITS_STUDY

PARTS = {"the folder": "", "trials/": "trials", "the journal": "study.journal", "a trial": "trials/1"}
WAYS = {
    "deleted": lambda path, aside: shutil.rmtree(path) if path.is_dir() else path.unlink(),
    "moved": lambda path, aside: path.rename(aside),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("when", "part"),  # at the start of trial 1, after its first row, after its end, when nobody needs its folder
    [(when, part) for when in (4, 5, 6) for part in PARTS if (when, part) != (6, "a trial")],
)
def test_what_is_gone_is_named_in_a_sentence_that_claims_nothing_and_nothing_is_made_in_its_place(
    tmp_path, part, way, when
):
    plan = studies.begin(*DIGITS_STUDY, "--trials", "4", "--results", tmp_path)
    path, aside, num_changes = plan.folder / PARTS[part], tmp_path / "aside", 0

    def on_change(trial):
        nonlocal num_changes
        num_changes += 1
        if num_changes == when:
            WAYS[way](path, aside)

    ledger = Ledger(plan.folder)
    source = Searcher(ledger, plan.space, plan.base, plan.algorithm, plan.num_trials)
    with pytest.raises(FolderError) as caught:
        inline.run(Runner(ledger, source, Never(), Pause(None), on_change), plan.pool)
    ledger.close()
    back = "once it is back in its place, the same command goes on"
    assert str(caught.value) == f"{str(path).rstrip('/')}: was deleted or moved while the study ran; {back}"
    assert not path.exists()
    if way == "moved":
        aside.rename(path)
        studies.finish(plan)
        ledger = Ledger(plan.folder)
        assert {trial.status for trial in ledger.trials.values()} <= {"complete", "stopped"}
        assert len(ledger.trials) == 4
        ledger.close()

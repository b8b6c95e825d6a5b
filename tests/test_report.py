"""What study.analyze leaves of a made-up study, and the page in a real browser where there is one."""

import json
import re
import resource
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from study import analyze
from study.findings import summary
from study.findings.ranking import rank
from study.report import page, pictures
from tests import studies

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An analysed study of 12 trials: its folder and what was printed."""
    folder = studies.write(tmp_path_factory.mktemp("results") / "study")
    out = subprocess.run([sys.executable, "-m", "study.analyze", str(folder)], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    return folder, out.stdout, out.stderr


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory):
    """What is found in a confirmed study."""
    folder = studies.write(tmp_path_factory.mktemp("results") / "study")
    studies.confirm(folder)
    return summary.find(rank(folder), folder)


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium, that of the machine."""
    api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def opened(browser, finished):
    """The page, and what it said and asked for."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    heard = []
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("dialog", lambda dialog: (heard.append("alert"), dialog.dismiss()))
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((finished[0] / "report.html").as_uri())
    page.wait_for_selector("#ranking tbody tr:nth-child(2)")
    page.wait_for_function("document.querySelectorAll('.main-svg').length > 10")
    return page, heard, asked


def test_everything_printed_fits_100_columns_and_files_are_there(finished):
    folder, out, err = finished
    assert err == ""
    lines = [line for line in out.splitlines() if str(folder) not in line]
    assert max(map(len, lines)) <= 100
    pictures = {path.stem for path in folder.glob("figures/*.png")}
    table = pd.read_csv(folder / "ranking.csv")
    assert pictures == {"course-classes", "course-comparison", "course-epochs-to-best"} | {
        f"confusion-{name}" for name in (f"trial-{table.iloc[0]['trial']}", "course-shuffled", "course-weighted")
    } | {
        f"history-{recipe.replace(', ', '-') if recipe.startswith('course') else f'trial-{trial}'}"
        for trial, recipe, epochs in zip(table["trial"], table["recipe"], table["epochs"], strict=True) if epochs
    }  # fmt: skip


def test_the_ranking_has_intervals_the_tied_group_and_reweighted_f1_and_recall(finished):
    table = pd.read_csv(finished[0] / "ranking.csv")
    with_images = table[table["status"].isin(["complete", "stopped"])]
    assert (with_images["minority_f1_low"] < with_images["minority_f1"]).all()
    assert (with_images["minority_f1"] < with_images["minority_f1_high"]).all()
    assert table.iloc[0]["tied"] == True  # noqa: E712
    assert (with_images["f1_reweighted"] < with_images["minority_f1"]).all()  # the rare are rarer in training
    assert with_images[f"recall_{studies.EVIL}"].between(0, 1).all()
    without = table[table["status"].isin(["failed", "running"])]
    assert len(without) == 2
    assert without["minority_f1_low"].isna().all()


def test_recall_and_reweighted_f1_as_counted_by_hand(tmp_path):
    folder = studies.write(tmp_path / "study", num_trials=3)
    labels = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    logits = np.eye(4, dtype=np.float16)[[0, 2, 1, 1, 2, 0, 3, 3]]
    for number in range(3):
        np.savez(folder / f"trials/{number}/validation.npz", labels=labels, logits=logits)
    row = rank(folder).table.iloc[0]
    assert [row[f"recall_{name}"] for name in studies.CLASS_NAMES] == [0.5, 1, 0.5, 1]
    # 20 of class 0, of which 10 are found; 400 of the 800 of class 2 are called 0
    assert row["f1_reweighted"] == pytest.approx((2 * 10 / (20 + 410) + 1) / 2)


def test_a_damaged_or_foreign_validation_file_is_named_and_breaks_nothing(tmp_path):
    folder = studies.write(tmp_path / "study")
    (folder / "trials/2/validation.npz").write_bytes(b"PK\x03\x04 not much of a file")
    np.savez(folder / "trials/4/validation.npz", labels=np.arange(3), logits=np.zeros((3, 4), np.float16))
    ranking = rank(folder)
    assert len(ranking.evidence.damaged) == 2
    assert not {2, 4} & set(ranking.evidence.numbers)
    assert "damaged, so this trial has no interval" in "\n".join(ranking.lines())
    page.page(summary.find(ranking, folder))


@pytest.mark.parametrize("num_trials", [0, 1, 2, 3])
def test_a_study_that_has_just_begun_has_a_page(tmp_path, num_trials):
    folder = studies.write(tmp_path / "study", num_trials=num_trials, num_epochs=1)
    found = summary.find(rank(folder), folder)
    assert max(map(len, [*rank(folder).lines(), *found.lines(), ""])) <= 100
    assert ("No trial has finished" in page.page(found)) == (num_trials == 0)


def test_trials_without_a_single_epoch_have_a_page(tmp_path):
    folder = studies.write(tmp_path / "study", num_trials=2)
    for number in range(2):
        (folder / f"trials/{number}/epochs.jsonl").write_text("")
        (folder / f"trials/{number}/validation.npz").unlink()
    journal = folder / "study.journal"
    journal.write_text("".join(line for line in journal.open() if json.loads(line)["op_code"] in (0, 4)))
    assert "No trial has finished" in page.page(summary.find(rank(folder), folder))


def test_a_confirmation_puts_search_confirmed_and_test_side_by_side(confirmed):
    lines = confirmed.verdict.lines(11)
    assert max(map(len, lines)) <= 100
    first, second = (re.split(r"\s{2,}", line) for line in lines if line.startswith("trial 2  "))
    assert first == ["trial 2", "0.7500", "0.7100 (0.7000 to 0.7200)", "0.7100", "+0.0400", "0.7100", "-"]
    assert second == ["trial 2", "0.7500", "0.7100", "0.7000 (0.6800 to 0.7200)", "0.7100", "0.7100"]
    assert confirmed.leader["trial"] == 2
    told = lines.index("trial 2 less course, weighted: +0.2000 (-0.0100 to +0.4000)")
    assert lines[told + 1] == "    after logit adjustment: +0.1000 (+0.0500 to +0.1500)"
    html = page.page(confirmed)
    assert "Trial 2 serves the rare classes best: minority F1 0.7100 (95 % 0.6900 to 0.7300), confirmed on 3" in html
    assert "Better than course, shuffled on fresh seeds: +0.1000 (+0.0500 to +0.1500)" in html
    assert "On the test images, trial 2 less course, shuffled: +0.2000 (-0.0100 to +0.4000)" in html
    assert confirmed.balancing.source.startswith("the course's two recipes on 3 fresh seeds")
    assert "the later ones unconfirmed" not in html
    assert any("the study has 14 now" in note for note in confirmed.verdict.notes(14))


def test_a_winner_that_cannot_be_told_from_the_courses_is_not_called_best(tmp_path):
    folder = studies.write(tmp_path / "study")
    studies.confirm(folder, low=-0.01)
    html = page.page(summary.find(rank(folder), folder))
    assert "Trial 2 did best, but cannot be told from course, shuffled or course, weighted: minority F1" in html
    assert "No difference can be seen to course, weighted on fresh seeds: +0.1000 (-0.0100 to +0.1500)" in html
    assert "serves the rare classes best:" not in html


def test_a_winner_that_cannot_be_told_from_another_searched_recipe_is_not_called_best(tmp_path):
    folder = studies.write(tmp_path / "study")
    studies.confirm(folder)
    content = json.loads((folder / "confirm.json").read_text())
    content["differences"].append(content["differences"][0] | {"second": "trial-5", "low": -0.001})
    content["recipes"].append(content["recipes"][0] | {"name": "trial-5", "trial": 5, "search_score": 0.5})
    (folder / "confirm.json").write_text(json.dumps(content))
    html = page.page(summary.find(rank(folder), folder))
    assert "Trial 2 did best, but cannot be told from trial 5: minority F1" in html


def test_the_confirmations_picture_has_each_recipes_three_scores(confirmed):
    (axis,) = pictures.confirmation(confirmed.verdict).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["trial 2", "course, weighted", "course, shuffled"]
    search, *others = axis.lines[0].get_xdata(), *(bar.lines[0].get_xdata() for bar in axis.containers)
    assert search == pytest.approx([0.75, 0.65, 0.55])
    assert others[0] == pytest.approx([0.71, 0.6166667, 0.5])
    assert others[1] == pytest.approx([0.70, 0.60, 0.50])


def test_a_sealed_test_set_is_said_to_be(tmp_path):
    folder = studies.write(tmp_path / "study")
    studies.confirm(folder, opened=False)
    found = summary.find(rank(folder), folder)
    assert "sealed" in "\n".join(found.lines())
    assert "The test images are sealed" in page.page(found)


@pytest.mark.parametrize("content", ['{"format": 2}', "[]", "{"])
def test_a_confirmation_of_another_format_or_damaged_is_refused_in_a_sentence(tmp_path, content, capsys):
    folder = studies.write(tmp_path / "study", num_trials=2)
    (folder / "confirm.json").write_text(content)
    with pytest.raises(SystemExit) as exit_:
        analyze.main([str(folder)])
    assert exit_.value.code == 2
    err = capsys.readouterr().err
    assert "confirm.json" in err
    assert "Traceback" not in err


def test_names_never_become_elements(finished, confirmed):
    for html in ((finished[0] / "report.html").read_text("utf-8"), page.page(confirmed)):
        assert "<img src=x" not in html
        assert html.count("&lt;img src=x") > 5


def test_the_page_is_quiet_and_asks_for_nothing_outside(opened):
    page, heard, asked = opened
    page.wait_for_timeout(300)
    # what software rendering says of itself is not the page's
    assert [text for text in heard if "GL Driver Message" not in text] == []
    assert [url for url in asked if not url.startswith(("file:", "blob:", "data:"))] == []
    assert page.locator("img[src=x]").count() == 0
    assert studies.EVIL in page.locator("main").inner_text()


def test_numbers_in_the_page_are_those_of_the_ranking(opened, finished):
    page, _, _ = opened
    table = pd.read_csv(finished[0] / "ranking.csv")
    heads = [text.strip() for text in page.locator(".dt-scroll-head th").all_inner_texts()]
    cells = [row.locator("td").all_inner_texts() for row in page.locator("#ranking tbody tr").all()]
    assert len(cells) == len(table)
    names = {"trial": "trial", "minority F1": "minority_f1", "low": "minority_f1_low", "high": "minority_f1_high",
             "adjusted": "minority_f1_adjusted", "reweighted": "f1_reweighted", "dropout": "dropout"}  # fmt: skip
    for head, name in names.items():
        for row, value in zip(cells, table[name], strict=True):
            shown = row[heads.index(head)]
            assert (shown == "-") if pd.isna(value) else float(shown) == pytest.approx(value, abs=6e-5), head
    best = table.iloc[0]
    assert f"Trial {best['trial']} leads with minority F1 {best['minority_f1']:.4f}" in page.locator("h1").inner_text()


def test_a_click_sorts_the_table(opened):
    page, _, _ = opened
    heads = [text.strip() for text in page.locator(".dt-scroll-head th").all_inner_texts()]
    for name in ("dropout", "weight_decay"):
        column = heads.index(name)
        page.locator(".dt-scroll-head th").nth(column).locator(".dt-column-order").click()
        page.wait_for_selector(f".dt-scroll-head th:nth-child({column + 1})[aria-sort=ascending]")
        shown = page.locator(f"#ranking tbody td:nth-child({column + 1})").all_inner_texts()
        values = [float(text) for text in shown]
        assert values == sorted(values)
        assert len(set(values)) > 5


@pytest.mark.parametrize("width", [400, 1400])
def test_nothing_sticks_out_of_a_narrow_or_wide_page(browser, finished, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto((finished[0] / "report.html").as_uri())
    page.wait_for_selector("#ranking tbody tr:nth-child(2)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


@pytest.mark.slow
def test_a_thousand_trials_of_fifty_epochs_take_under_20_cpu_seconds_and_1_gb(tmp_path):
    names = [f"class {index}" for index in range(10)]
    folder = studies.write(tmp_path / "study", 1000, 50, 5000, names)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "study.analyze", str(folder)], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # CPU time: what others do on the machine is not the analysis'
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{seconds:.1f} s, {after.ru_maxrss / 2**20:.2f} GiB")
    assert seconds < 20
    assert after.ru_maxrss < 1e9 / 1024

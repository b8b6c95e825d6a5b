"""What study.analyze leaves of a made-up study, and the page in a real browser where there is one."""

import resource
import shutil
import subprocess
import sys

import pandas as pd
import pytest

from study.record.recipes import run_name
from tests import studies

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An analysed study of 12 trials: its folder, what was printed, and the packages that were loaded."""
    folder = studies.write(tmp_path_factory.mktemp("results") / "study")
    code = "import sys; from study import analyze; analyze.main(sys.argv[1:]); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    *lines, loaded = done.stdout.splitlines()
    return folder, lines, {name.split(".")[0] for name in loaded.split()}


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
    folder, lines, _ = finished
    assert max(len(line) for line in lines if str(folder) not in line) <= 100
    pictures = {path.stem for path in folder.glob("figures/*.png")}
    table = pd.read_csv(folder / "ranking.csv")
    assert pictures == {"course-classes", "course-comparison", "course-epochs-to-best"} | {
        f"confusion-{name}" for name in (f"trial-{table.iloc[0]['trial']}", "course-shuffled", "course-weighted")
    } | {
        f"history-{run_name(trial, recipe)}"
        for trial, recipe, epochs in zip(table["trial"], table["recipe"], table["epochs"], strict=True) if epochs
    }  # fmt: skip


def test_a_whole_analysis_brings_neither_ray_nor_torch(finished):
    _, _, loaded = finished
    assert {"plotly", "matplotlib", "itables"} <= loaded
    assert not loaded & {"ray", "torch", "torchvision"}


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


def test_what_became_of_a_trial_stands_within_a_small_screen(opened):
    page, _, _ = opened
    for head in page.locator(".dt-scroll-head th").all():
        if head.inner_text().strip() in ("status", "epochs"):
            box = head.bounding_box()
            assert box["x"] + box["width"] < 1280


def test_without_a_mouse_nothing_lies_over_the_charts(browser, finished):
    context = browser.new_context(viewport={"width": 400, "height": 900}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto((finished[0] / "report.html").as_uri())
    page.wait_for_function("document.querySelectorAll('.main-svg').length > 10")
    assert page.evaluate("matchMedia('(hover: none)').matches")
    assert page.locator(".modebar-btn").count() == 0
    context.close()


def test_on_paper_no_chart_lies_over_its_neighbour(browser, finished):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto((finished[0] / "report.html").as_uri())
    page.wait_for_function("document.querySelectorAll('.main-svg').length > 10")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.evaluate("document.documentElement.style.width = '400px'")  # paper: no window changes its size
    page.emulate_media(media="print")
    sticks_out = "[...document.querySelectorAll('.grid > * .main-svg')].filter(chart => chart.getBoundingClientRect()"
    sticks_out += ".right > chart.closest('.grid > *').getBoundingClientRect().right + 1).length"
    assert page.evaluate(sticks_out) == 0
    page.close()


def test_nothing_sticks_out_of_a_narrow_or_wide_page(browser, opened, finished):
    width = "document.documentElement.scrollWidth"
    assert opened[0].evaluate(width) <= 1400
    page = browser.new_page(viewport={"width": 400, "height": 900})
    page.goto((finished[0] / "report.html").as_uri())
    page.wait_for_selector("#ranking tbody tr:nth-child(2)")
    assert page.evaluate(width) <= 400
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

"""The page of a run with a further held-out set: each figure under its own set, the headline of the run's own, every text."""

import json

import msgspec
import pytest

from nemo_cot.evaluation.scores import score
from nemo_cot.report.collect import Evaluated
from nemo_cot.report.texts import TextSet
from tests.browser.conftest import settled
from tests.browser.made_run import findings, rows, written
from tests.browser.test_page import at, spoken
from tests.report.made import evaluation

CHOICE = {"scorer": "choice", "scorer_data": {"options": dict.fromkeys("ABCD", "text")}}


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    """On the set quiz training hurts, and its problems have the ids of others of the run's own."""
    found = findings()
    quiz = {
        subject: [
            msgspec.structs.replace(row, problem=f"Quiz: {row.problem}", **CHOICE)
            for row in rows(subject, 7, 4, rate)
        ]
        for subject, rate in (("base", 0.9), ("trained", 0.1))
    }
    found.sets = {"quiz": Evaluated(score(quiz, evaluation(4)), quiz)}
    found.texts += [
        TextSet(f"quiz/{name}", f"{name} on quiz", lambda own=own: iter(own)) for name, own in quiz.items()
    ]
    path, _ = written(found, tmp_path_factory.mktemp("sets"))
    return path


def test_figures_stand_under_their_set_and_the_headline_is_of_the_runs_own(opened, page_file):
    results = json.loads((page_file.parent / "results.json").read_text())
    with opened(page_file) as page:
        assert page.locator(".answer").inner_text().startswith("Training helped: pass@1 rose from ")
        stats = page.locator(".stats [data-path]")
        shown = [
            (stats.nth(i).get_attribute("data-path"), stats.nth(i).inner_text()) for i in range(stats.count())
        ]
        assert [path for path, _ in shown] == [
            "scores.subjects.base.lenient",
            "scores.subjects.trained.lenient",
        ]
        told = page.locator(".next").inner_text()
        assert "quiz: Training hurt: pass@1 fell from" in told and "Guessing gives 25.0 %." in told
        page.click("nav a[href='#results']")
        own, quiz = page.locator("#results > div.scroll").first, page.locator("#results details.set")
        assert own.locator("tbody tr").count() == 2
        assert "25.0 %" in own.locator("tbody tr").nth(1).inner_text()
        assert quiz.locator("> summary").inner_text() == "quiz"
        assert not quiz.locator("table").first.is_visible()
        quiz.locator("> summary").click()
        cells = quiz.evaluate(
            "d => [...d.querySelectorAll('[data-path]')].map(c => [c.dataset.path, c.firstChild.textContent])"
        )
        assert len(cells) > 60
        for path, text in cells:
            found = at(results, path)
            assert path.startswith("sets.quiz.") and spoken(
                found["value"] if isinstance(found, dict) else found, text
            ), path
        assert "chance level" in quiz.locator("tbody").first.inner_text()


def test_a_bar_of_the_sets_map_opens_its_texts_and_the_viewer_filters_by_set(opened, page_file):
    with opened(page_file, "#results") as page:
        page.click("#results details.set > summary")
        page.locator("#results details.set .map a").first.dispatch_event("click")
        page.wait_for_selector("#traces.shown")
        assert "#traces/quiz%2Ftrained/" in page.url
        page.wait_for_selector("#column-1:not([hidden])")
        assert page.locator("#column-0 h4").inner_text() == "trained on quiz"
        assert page.locator("#column-1 h4").inner_text() == "base on quiz"
        assert "Quiz:" in page.locator("#problem").inner_text()
        labels = page.locator("#f-set option").all_inner_texts()
        assert {"trained (96)", "trained on quiz (28)", "base on quiz (28)"} <= set(labels)
        page.select_option("#f-set", label="trained on quiz (28)")
        assert page.locator("#f-count").inner_text() == "28 of 28 samples, 7 problems"
        page.select_option("#f-set", label="trained (96)")
        page.select_option("#o-with", label="base on quiz")
        settled(page, 100)
        assert page.locator("#column-1").is_hidden(), "the same id, and another problem"


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_window_and_axe_finds_nothing(opened, page_file, axe, width):
    with opened(page_file, "#results") as page:
        page.set_viewport_size({"width": width, "height": 844})
        page.evaluate("() => document.querySelectorAll('.shown details').forEach(d => { d.open = true; })")
        settled(page, 50)
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
        assert axe(page) == []

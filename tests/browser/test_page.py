"""The page in a real browser: what it shows is what results.json holds, for everybody, without a network."""

import json
import re

import pytest

from tests.browser.conftest import settled
from tests.browser.made_run import findings, written

TABS = ["Summary", "Results", "Training", "Data", "Traces", "Provenance"]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    path, _ = written(findings(), tmp_path_factory.mktemp("page"))
    return path


def at(tree, path: str):
    """The value at a dotted path of results.json; names may hold dots."""
    if not path:
        return tree
    if isinstance(tree, list):
        first, _, rest = path.partition(".")
        return at(tree[int(first)], rest)
    key = max((k for k in tree if path == k or path.startswith(k + ".")), key=len)
    return at(tree[key], path[len(key) + 1 :])


def spoken(value, shown: str) -> bool:
    """Whether ``shown`` is ``value``, as a reader reads it: percent, points, or a plain number, rounded."""
    number = float(re.match(r"[+-]?[\d.]+(?:e[+-]?\d+)?", shown)[0])
    factor = 100 if "%" in shown or shown[0] in "+-" else 1
    digits = len(re.match(r"[+-]?\d*\.?(\d*)", shown)[1])
    return number == pytest.approx(value * factor, abs=0.5001 * 10**-digits)


def test_every_figure_equals_results_json(opened, page_file):
    results = json.loads((page_file.parent / "results.json").read_text())
    with opened(page_file) as page:
        cells = page.evaluate(
            "() => [...document.querySelectorAll('[data-path]')].map(c => [c.dataset.path, c.firstChild.textContent, "
            "[...c.querySelectorAll('small')].map(s => s.textContent)])"
        )
    assert len(cells) > 150
    for path, shown, notes in cells:
        found = at(results, path)
        value = found["value"] if isinstance(found, dict) else found
        assert spoken(value, shown), (path, shown, found)
        for note in notes:
            if ends := re.fullmatch(r"\[(.+), (.+)\]", note):
                factor = 1 if path.endswith("mean_tokens") else 100
                assert float(ends[1]) == pytest.approx(factor * found["low"], abs=0.051), (path, note)
                assert float(ends[2]) == pytest.approx(factor * found["high"], abs=0.051), (path, note)
            elif " of " in note:
                assert note == f"{found['count']} of {found['total']}"
    kinds = {path.split(".")[0] for path, *_ in cells}
    assert kinds >= {"scores", "paper", "steps", "dropped", "token_accuracy", "budgets"}


def test_the_check_of_figures_can_fail():
    assert spoken(0.4542, "45.4 %") and not spoken(0.4542, "45.5 %")
    assert spoken(-0.1, "-10.0") and not spoken(0.1, "-10.0")
    assert spoken(2.3128, "2.3128") and not spoken(2.3128, "2.3129")


def test_the_first_screen_says_whether_it_worked(opened, page_file):
    with opened(page_file) as page:
        assert page.locator("header nav a").all_inner_texts() == TABS
        answer = page.locator(".answer")
        assert answer.inner_text().startswith("Training helped: pass@1 rose from ")
        for place in (answer, page.locator(".detail"), page.locator(".stats"), page.locator("#summary svg")):
            box = place.bounding_box()
            assert box["y"] + box["height"] < 860, "all of it in sight"
        assert "17.1 %" in page.locator(".stats").inner_text()
        assert "Only 12 problems" in page.locator(".remarks").inner_text()
        assert page.locator("main > section:visible").count() == 1


def test_tabs_are_links_and_work_by_keyboard(opened, page_file):
    with opened(page_file) as page:
        for _ in range(4):
            page.keyboard.press("Tab")
        assert page.evaluate("() => document.activeElement.textContent") == "Training"
        page.keyboard.press("Enter")
        page.wait_for_selector("#training.shown")
        assert page.locator("nav a[aria-current=page]").inner_text() == "Training"
        assert page.locator("#training svg").count() >= 5, (
            "loss, token accuracy, gradient norm, learning rate, traces"
        )
        page.go_back()
        page.wait_for_selector("#summary.shown")


def test_without_scripts_everything_but_the_viewer_is_there(browser, page_file):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(page_file.as_uri())
    for name in ("summary", "results", "training", "data", "provenance"):
        assert page.locator(f"#{name}").is_visible()
    assert "needs JavaScript" in page.content()
    context.close()


def test_printed_it_is_all_parts(opened, page_file):
    with opened(page_file) as page:
        page.emulate_media(media="print")
        assert page.locator("main > section:visible").count() == len(TABS)
        assert not page.locator("nav").is_visible() and not page.locator(".viewer").is_visible()
        assert len(page.pdf()) > 10_000


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_no_part_is_wider_than_the_window_and_axe_finds_nothing(opened, page_file, axe, scheme, width):
    with opened(page_file, color_scheme=scheme) as page:
        page.set_viewport_size({"width": width, "height": 844})
        dark = page.evaluate("() => getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
        assert dark == (scheme == "dark")
        for name in map(str.lower, TABS):
            page.evaluate("(name) => { location.hash = name; }", name)
            page.wait_for_selector(f"#{name}.shown")
            page.evaluate(
                "() => document.querySelectorAll('.shown details').forEach(d => { d.open = true; })"
            )
            settled(page, 50)
            assert page.evaluate("() => document.documentElement.scrollWidth") <= width, name
            assert axe(page) == [], name


def test_axe_itself_notices(opened, page_file, axe):
    with opened(page_file) as page:
        page.evaluate("() => document.querySelector('main').append(document.createElement('button'))")
        assert [rule for rule, _ in axe(page)] == ["button-name"]


def test_the_graphics_have_their_figures_as_text(opened, page_file):
    with opened(page_file) as page:
        unnamed = "() => [...document.querySelectorAll('svg')].filter(s => !s.getAttribute('aria-label') && s.ariaHidden !== 'true').length"
        assert page.evaluate(unnamed) == 0
        for name, rows in (("results", 30), ("training", 10), ("data", 4)):
            assert page.locator(f"#{name} table tr").count() >= rows


def test_a_link_to_a_part_shows_the_tabs_too(opened, page_file):
    with opened(page_file, "#results") as page:
        settled(page, 300)
        assert page.evaluate("() => window.scrollY") == 0


def test_a_bar_of_the_problem_map_opens_both_texts(opened, page_file):
    with opened(page_file, "#results") as page:
        page.locator(".map a").first.dispatch_event("click")
        page.wait_for_selector("#column-1:not([hidden]) .trace .step")
        assert page.locator(".column:visible h4").all_inner_texts() == ["trained", "base"]


def test_provenance_has_the_command_the_changes_and_the_hashes(opened, page_file):
    with opened(page_file, "#provenance") as page:
        text = page.locator("#provenance").inner_text()
        assert "nemo-cot run" in text and "train.optim.lr" in text and "0.125" in text
        page.locator("#provenance summary").first.click()
        assert "abc" in page.locator("#provenance").inner_text()

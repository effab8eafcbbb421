"""The trace viewer in a real browser: filters, search, two side by side, links, keys, many samples."""

import re

import pytest
from msgspec.structs import replace

from nemo_cot.experiment.compose import load_config
from nemo_cot.report.texts import TextSet
from nemo_cot.traces.marks import Marks
from nemo_cot.traces.steps import segment
from tests.browser.conftest import settled
from tests.browser.made_run import findings, rows, written
from tests.report.made import text_sets


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    path, _ = written(findings(), tmp_path_factory.mktemp("viewer"))
    return path


def choose(page, name: str, value: str) -> None:
    page.select_option(f"#f-{name}", label=value) if name != "set" else page.select_option(
        "#f-set", index=int(value)
    )


def count(page) -> tuple[int, int, int]:
    """Samples shown, of all, and problems, as the line above the list says."""
    words = page.locator("#f-count").inner_text().replace(",", "").split()
    return int(words[0]), int(words[2]), int(words[4])


def test_filters_count_what_they_let_through(opened, page_file):
    trained = findings().samples["trained"]
    with opened(page_file, "#traces") as page:
        assert count(page) == (96, 96, 12)
        choose(page, "verdict", "right")
        right = [t for t in trained if t.verdict == "right"]
        assert count(page) == (len(right), 96, len({t.problem_id for t in right}))
        choose(page, "subset", "odd")
        odd = [t for t in right if t.subset_for_metrics == "odd"]
        assert count(page)[0] == len(odd)
        low, high = sorted(t.num_generated_tokens for t in odd)[3::10][:2]  # both ends count
        page.fill("#f-min", str(low))
        page.fill("#f-max", str(high))
        assert count(page)[0] == sum(low <= t.num_generated_tokens <= high for t in odd)
        page.click("#filters button[type=reset]")
        settled(page, 100)
        assert count(page)[0] == 96
        choose(page, "finish", "length (cut)")
        assert count(page)[0] == sum(t.finish_reason == "length" for t in trained)
        page.fill("#f-turns", "1000")
        assert count(page)[0] == 0


def test_problems_are_ordered_by_how_many_are_right(opened, page_file):
    trained = findings().samples["trained"]
    share = {}
    for row in trained:
        share.setdefault(row.problem_id, []).append(row.verdict == "right")
    with opened(page_file, "#traces") as page:
        page.select_option("#f-sort", "hard")
        names = page.locator("#list .name").all_inner_texts()
        values = [sum(share[name]) for name in names]
        assert len(names) == 12 and values == sorted(values)


def test_search_finds_problems_answers_and_texts(opened, page_file):
    with opened(page_file, "#traces") as page:
        for word, problems in (
            ("p-11", 1),
            ("let $x = 7$", 1),
            ("alternatively, use", 12),
            ("no such text", 0),
        ):
            page.fill("#f-text", word)
            settled(page, 300)
            page.wait_for_selector("#f-progress", state="hidden")
            assert count(page)[2] == problems, word
        page.fill("#f-text", "alternatively")
        page.wait_for_selector(".trace mark.m-found")
        assert page.locator(".thought").first.get_attribute("open") is not None, (
            "what was found is in the thought"
        )


def test_a_sample_has_mathematics_marks_a_folded_thought_and_its_lineage(opened, page_file):
    with opened(page_file, "#traces/trained/p-3/2") as page:
        trace = page.locator("#column-0 .trace")
        assert trace.locator("details.thought").get_attribute("open") is None
        trace.locator("summary").click()
        page.wait_for_selector("#column-0 math mfrac")
        assert page.locator("#column-0 math").count() == 4, "inline, displayed, in brackets, and the box"
        assert trace.locator(".k-backtrack").count() == 1 and trace.locator("mark.m-check").count() == 1
        assert (
            "right" in page.locator("#column-0 .facts").inner_text()
            or "wrong" in page.locator(".facts").inner_text()
        )
        page.locator(".lineage summary").click()
        assert "made_by" in page.locator(".lineage").inner_text()
        page.uncheck("#o-math")
        page.uncheck("#o-folded")
        page.uncheck("#o-marks")
        settled(page, 100)
        assert page.locator("#column-0 math").count() == 0 and page.locator("#column-0 mark").count() == 0
        assert "\\frac{x}{2}" in page.locator("#column-0 .trace").inner_text()


def test_two_sets_beside_each_other_with_their_differences(opened, page_file):
    found = findings().samples
    with opened(page_file, "#traces/trained/p-3/2") as page:
        page.select_option("#o-with", label="base")
        page.wait_for_selector("#column-1 .trace .step")
        assert page.locator(".column:visible h4").all_inner_texts() == ["trained", "base"]
        first, second = (page.locator(f"#column-{i}").bounding_box() for i in (0, 1))
        assert first["y"] == second["y"] and first["x"] + first["width"] <= second["x"]
        page.check("#o-diff")
        page.wait_for_selector("#column-0 del")
        beside = page.evaluate("() => location.hash").split("/")[-1]
        texts = [
            next(t.generation for t in found[name] if t.problem_id == "p-3" and t.sample == int(s))
            for name, s in (("trained", 2), ("base", beside))
        ]
        for number, text in enumerate(texts):
            assert page.locator(f"#column-{number} .trace").text_content() == text
        changed = (
            page.locator("#column-0 del").all_inner_texts() + page.locator("#column-1 ins").all_inner_texts()
        )
        answers = [re.search(r"boxed\{(\d+)", text)[1] for text in texts]
        assert (
            len(changed) == 4
            and [
                a in word
                for a, word in zip(
                    sorted(answers * 2), sorted(changed, key=lambda w: re.search(r"\d+", w)[0])
                )
            ]
            == [True] * 4
        )


def test_the_address_is_a_link_to_the_sample(opened, page_file):
    with opened(page_file, "#traces/base/p-5/3/trained/p-5/1") as page:
        assert page.locator(".column:visible h4").all_inner_texts() == ["base", "trained"]
        assert page.locator("#problem h3").inner_text().startswith("p-5")
        pressed = page.locator(".chip[aria-pressed=true]").all_inner_texts()
        assert [text.split()[0] for text in pressed] == ["3", "1"]
        page.keyboard.press("j")
        settled(page, 100)
        assert page.evaluate("() => location.hash") == "#traces/base/p-5/4/trained/p-5/1"
        page.evaluate("() => { location.hash = '#traces/chosen/nowhere/0'; }")
        settled(page, 100)
        assert "not in this file" in page.locator("#f-count").inner_text()
        page.evaluate("() => { location.hash = '#traces/%zz/%/'; }")
        settled(page, 50)


def test_keys(opened, page_file):
    with opened(page_file, "#traces/trained/p-3/2") as page:

        def shown():
            settled(page, 60)
            return page.evaluate("() => location.hash.split('/').slice(2, 4).join(' ')")

        for key, expected in (
            ("j", "p-3 3"),
            ("k", "p-3 2"),
            ("ArrowRight", "p-4 0"),
            ("ArrowLeft", "p-3 0"),
            ("k", "p-2 7"),
        ):
            page.keyboard.press(key)
            assert shown() == expected, key
        page.keyboard.press("/")
        assert page.evaluate("() => document.activeElement.id") == "f-text"
        page.keyboard.type("jk")
        assert shown() == "p-2 7", "in a field they are letters"
        settled(page, 300)
        assert count(page) == (0, 96, 0)
        page.keyboard.press("Escape")
        settled(page, 300)
        assert count(page) == (96, 96, 12), "Escape empties the field, and what it looked for"
        page.locator("#list").focus()
        page.keyboard.press("ArrowDown")
        assert shown().startswith("p-3 ")
        assert page.locator("#list [aria-selected=true] .name").inner_text() == "p-3"
        assert page.locator("#list").get_attribute("aria-activedescendant") == page.locator(
            "#list [aria-selected=true]"
        ).get_attribute("id")


def test_a_training_trace_leads_back_to_its_generation(opened, page_file):
    chosen = findings().traces[0]
    with opened(page_file, f"#traces/chosen/{chosen.problem_id}/{chosen.sample}") as page:
        page.locator(".lineage summary").click()
        page.locator(".lineage a").click()
        settled(page, 100)
        assert page.locator("#column-0 h4").inner_text() == "pool"


def test_on_a_phone_the_list_stands_above_the_text(opened, page_file):
    with opened(page_file, "#traces/trained/p-3/2/base/p-3/0") as page:
        page.set_viewport_size({"width": 390, "height": 844})
        settled(page, 100)
        boxes = [
            page.locator(place).bounding_box() for place in ("#list", "#problem", "#column-0", "#column-1")
        ]
        assert [b["y"] for b in boxes] == sorted(b["y"] for b in boxes)
        assert all(b["x"] >= 0 and b["x"] + b["width"] <= 390 for b in boxes)


def test_sixteen_thousand_samples(opened, tmp_path):
    """Only what is in sight has elements; filters and samples answer at once. Times:
    benchmarks/report_speed.py.
    """
    many = rows("trained", 256, 64, 0.3)
    found = findings(2, 2)
    found.texts = text_sets({"trained": many})
    path, _ = written(found, tmp_path)
    assert path.stat().st_size < 4e6
    with opened(path, "#traces/trained/p-200/63") as page:
        assert count(page) == (16384, 16384, 256)
        assert page.locator("#list .row").count() < 60
        assert page.locator("#problem h3").inner_text().startswith("p-200")
        choose(page, "verdict", "right")
        assert count(page)[0] == sum(t.verdict == "right" for t in many)
        page.keyboard.press("Escape")
        page.evaluate("() => document.activeElement.blur()")
        page.keyboard.press("ArrowRight")
        settled(page, 100)
        assert page.locator("#problem h3").inner_text().startswith("p-")


def test_steps_are_those_of_the_measures(opened, tmp_path):
    """Cut at a mark within a paragraph, behind letters that JavaScript counts as two, and in a text of several pages."""
    long = "Wait, \U0001d538 is one. Let me check: it is.\n\n" * 4000
    texts = [f"<think>\nWe add \U0001d538. Wait, no.\n\nSo it is 3.\n</think>\n\nThe answer is 3.{i}" for i in range(2)] + [long]
    made = [replace(row, generation=text) for row, text in zip(findings(1, 3).samples["trained"], texts, strict=True)]
    found = findings()
    found.texts = [TextSet("trained", "trained", lambda: iter(made))]
    path, _ = written(found, tmp_path)
    marks = Marks(load_config([]).marks)
    shown = "() => [...document.querySelectorAll('#column-0 .trace .step')].map((e) => e.textContent)"
    for sample, text in enumerate(texts):
        thought = re.match(r"(?s)(<think>)(.*)(</think>.*)", text)
        steps = [s for part in (thought.groups() if thought else [text]) for s in segment(part, marks)]
        named = ["" if s.kind == "straight" else s.kind for s in steps]
        assert ("reflect" in named and "check" in named) or sample < 2
        with opened(path, f"#traces/trained/p-0/{sample}") as page:
            page.wait_for_selector("#column-0 .trace .step")
            if text == long:
                seen = page.evaluate(shown)
                assert seen[:-1] == [k + s.text for k, s in zip(named, steps)][: len(seen) - 1] and 5000 < len(seen) < len(steps)
                page.click("button.more")
                page.wait_for_function(f"() => document.querySelectorAll('#column-0 .trace .step').length >= {len(steps)}")
                assert "".join(page.evaluate(shown))[-200:] == "".join(k + s.text for k, s in zip(named, steps))[-200:]
            else:
                assert page.evaluate(shown) == [k + s.text for k, s in zip(named, steps)]


def test_texts_beyond_the_budget_are_left_out_by_the_rule(opened, tmp_path):
    found = findings(6, 40)
    found.texts = [TextSet("trained", "trained", lambda: iter(found.samples["trained"]))]
    path, _ = written(found, tmp_path, max_bytes=9_000)
    with opened(path, "#traces/trained/p-0/39") as page:
        rule = page.locator("#traces > p").inner_text()
        assert "of 240 samples" in rule and "report.max_megabytes" in rule
        assert count(page) == (240, 240, 6), "verdicts and lengths of all"
        assert "left out" in page.locator("#column-0").inner_text()
        absent = page.locator("#column-0 .chip.absent").count()
        assert 0 < absent < 40
        page.keyboard.press("ArrowRight")
        page.wait_for_selector("#column-0 .trace .step")

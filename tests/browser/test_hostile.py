"""Sixty traces that try to be more than text, in every field that a model, a file or a config fills."""

import pytest

from nemo_cot.records import Trace
from nemo_cot.report.results import ChangedKey
from tests.browser.conftest import settled
from tests.browser.made_run import findings, written
from tests.report.made import text_sets

OWN = "document.title='owned'"
BREAK = "</pre></div></script></style></textarea></title>-->]]>"
HOSTILE = [
    f"<script>{OWN}</script>", f"{BREAK}<script>{OWN}</script>", f"<img src=x onerror={OWN}>", f"<svg onload={OWN}>",
    f"<body onload={OWN}>", f"<iframe srcdoc='<script>parent.{OWN}</script>'></iframe>", f"<iframe src=javascript:{OWN}>",
    f"<a href=javascript:{OWN} id=list>x</a>", f"<details open ontoggle={OWN}>x</details>", f"<video><source onerror={OWN}></video>",
    f"<input autofocus onfocus={OWN}>", f"<math><mtext><script>{OWN}</script></mtext></math>", f"<svg><script>{OWN}</script></svg>",
    "<style>body{display:none}</style>", "<link rel=stylesheet href=https://example.com/x.css>", "<base href=https://example.com/>",
    "<meta http-equiv=refresh content='0;url=https://example.com'>", "<form action=https://example.com><button>x</button></form>",
    "<object data=https://example.com/x></object>", "<embed src=https://example.com/x>", "<div style='position:fixed;inset:0;z-index:9'>x</div>",
    "<!--", "-->", "<![CDATA[", "]]>", "&lt;script&gt;", "&#x3c;img src=x&#x3e;", "{{7*7}}", "{% raw %}", "${alert(1)}", "`${1}`", "'\"><img>",
    rf"$\href{{javascript:{OWN}}}{{x}}$", rf"$\url{{javascript:{OWN}}}$", r"$\includegraphics{https://example.com/x.png}$",
    r"$\htmlClass{shown}{x}$", r"$\class{list}{x}$", r"$\cssId{list}{x}$", r"$\style{position:fixed;inset:0}{x}$", r"\[x\label{list}\tag{1}\]",
    r"$\def\a{\a\a}\a$", r"$\def\a#1{\a{#1#1}}\a{x}$", r"$\newcommand{\f}{\f}\f$", r"$\gdef\frac{\frac\frac}$ $\frac{1}{2}$",
    r"$\rule{9999em}{9999em}$", r"$\kern-9999em x$", r"$\raisebox{999em}{x}$", r"\[\begin{matrix}" + "&" * 900 + r"\end{matrix}\]",
    r"$\frac{$", r"\[ \left( \]", "$" * 999, r"\(" * 999, r"\begin{a}" * 300, "$" + "{" * 1900 + "$", "$x^" + "{x^" * 300 + "}" * 300 + "$",
    "".join(map(chr, range(32))) + "\x7f\x85\x9b31m", "\u202egnp.exe\u202c \u2066a\u2069 \u200f\u200e\ufeff", "Z" + "\u0316\u0300" * 4000,
    "x" * 1_000_000, "\U0001d54f " * 20_000 + "\n" * 20_000, "Wait, " * 30_000, "</think>" * 2_000 + "<think>" * 2_000,
]  # fmt: skip


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    rows = [
        Trace(
            problem_id=text[:3000], sample=0, problem=text, expected_answer=text, generation=text, num_generated_tokens=9,
            finish_reason=text[:300], subset_for_metrics=text[:300], predicted_answer=text, answer_source=text[:300],
            verdict="wrong", verdict_reason=text[:300], symbolic_correct=True, nemo_skills_answer=text[:3000],
            grader_version=text[:300], lineage=[{text[:300]: text[:3000], "step": {"x": [text[:300]]}}],
        )
        for text in HOSTILE
    ]  # fmt: skip
    found = findings()
    found.samples = {name: rows for name in found.samples}
    found.texts = text_sets({"trained": rows, "base": rows})
    found.changed = [ChangedKey(text[:300], text[:3000], None) for text in HOSTILE]
    found.dropped = {text[:300]: 1 for text in HOSTILE}
    found.command = "\n".join(text[:300] for text in HOSTILE)
    path, _ = written(found, tmp_path_factory.mktemp("hostile"))
    return path


def test_there_are_sixty():
    assert len(HOSTILE) >= 60 and len(set(HOSTILE)) == len(HOSTILE)


INTRUDERS = "() => [...document.querySelectorAll('iframe, object, embed, base, link, form:not(#filters), img, video, svg script, meta[http-equiv=refresh], a[href]:not([href^=\"#\"])')].map(e => e.outerHTML.slice(0, 200))"
MISPLACED = """() => [...document.querySelectorAll('.trace *, .statement *')].filter((e) => {
  const place = e.closest('.trace, .statement').getBoundingClientRect(), own = e.getBoundingClientRect();
  return getComputedStyle(e).position === 'fixed' || e.hasAttribute('onload') || e.hasAttribute('onerror') || (e.id !== '');
}).map(e => e.outerHTML.slice(0, 200))"""


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_runs_and_nothing_breaks_the_layout(opened, page_file, width):
    with opened(page_file, "#traces") as page:
        page.set_viewport_size({"width": width, "height": 844})
        page.select_option("#o-with", label="base")
        for number in range(len(HOSTILE)):
            page.evaluate(
                "(n) => { window.viewer.openProblem(n, false); return window.viewer.drawn; }", number
            )
            settled(page, 20)
            assert page.evaluate("() => document.documentElement.scrollWidth") <= width, HOSTILE[number][:60]
            assert page.evaluate(MISPLACED) == []
            assert page.evaluate("() => document.querySelectorAll('#list').length") == 1
        assert page.title() == "made: a run"
        for name in ("summary", "results", "data", "provenance"):
            page.evaluate("(name) => { location.hash = name; }", name)
            page.evaluate("() => document.querySelectorAll('details').forEach(d => { d.open = true; })")
            settled(page, 30)
            assert page.evaluate("() => document.documentElement.scrollWidth") <= width, name
        assert page.evaluate(INTRUDERS) == []
        assert page.title() == "made: a run"


def test_a_formula_that_is_refused_stays_as_it_was_written(opened, page_file):
    with opened(page_file, "#traces") as page:
        for text in (r"$\href{", r"$\includegraphics{", r"$\def\a{", r"$\htmlClass{"):
            number = next(i for i, one in enumerate(HOSTILE) if one.startswith(text))
            page.evaluate(
                "(n) => { window.viewer.openProblem(n, false); return window.viewer.drawn; }", number
            )
            page.wait_for_selector("#column-0 .trace code.bad")
            assert page.locator("#column-0 .trace").text_content() == HOSTILE[number]


def test_control_and_bidirectional_characters_are_shown_and_harmless(opened, page_file):
    with opened(page_file, "#traces") as page:
        for part, shown in (("\x9b31m", "␛"), ("gnp.exe", "⟨U+202E⟩gnp.exe")):
            number = next(i for i, one in enumerate(HOSTILE) if part in one)
            page.evaluate(
                "(n) => { window.viewer.openProblem(n, false); return window.viewer.drawn; }", number
            )
            assert shown in page.locator("#column-0 .trace").text_content()
        seen = page.evaluate(
            "() => document.body.textContent.match(/[\\u0000-\\u0008\\u000b\\u000c\\u000e-\\u001f\\u202a-\\u202e\\u2066-\\u2069]/g)"
        )
        assert seen is None


def test_a_long_text_is_shown_in_parts(opened, page_file):
    with opened(page_file, "#traces") as page:
        number = HOSTILE.index("x" * 1_000_000)
        page.evaluate("(n) => { window.viewer.openProblem(n, false); return window.viewer.drawn; }", number)
        length = "() => document.querySelector('#column-0 .trace').textContent.length"
        assert page.evaluate(length) < 200_000
        page.locator("#column-0 .more").click()
        assert page.evaluate(length) > 200_000


def test_a_mark_of_the_page_would_notice(browser, tmp_path):
    """The checks themselves: the same text in a page without our care does run."""
    page = browser.new_page()
    path = tmp_path / "bad.html"
    path.write_text(f"<!doctype html><title>made: a run</title>{HOSTILE[0]}{HOSTILE[14]}")
    page.goto(path.as_uri(), wait_until="commit")
    page.wait_for_selector("link", state="attached")
    assert page.title() == "owned" and len(page.evaluate(INTRUDERS)) == 1
    page.close()

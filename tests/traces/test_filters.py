"""Each filter on texts on both sides of its line, and what is said of names, keys and values that are wrong."""

from __future__ import annotations

import pytest

from nemo_cot.errors import UserError
from nemo_cot.records import Trace
from nemo_cot.traces.filters import filter_names, load_filters


def trace(text: str) -> Trace:
    return Trace(problem_id="p", sample=0, problem="?", expected_answer="1", generation=text,
                 num_generated_tokens=1, finish_reason="stop")  # fmt: skip


CASES = [
    ("regex", {"pattern": "wait"}, "so wait: 2", True),
    ("regex", {"pattern": "wait"}, "so: 2", False),
    ("regex", {"pattern": "wait", "keep": True}, "so wait: 2", False),
    ("regex", {"pattern": "wait", "keep": True}, "so: 2", True),
    ("boxes", {}, r"\boxed{1}", False),
    ("boxes", {}, "1", True),
    ("boxes", {}, r"\boxed{1}, so \boxed{1}", True),
    ("boxes", {"least": 0}, "1", False),
    ("boxes", {"most": 2}, r"\boxed{1}, so \boxed{1}", False),
]


@pytest.mark.parametrize("name, values, text, dropped", CASES)
def test_a_filter_drops_what_it_should(name, values, text, dropped):
    assert drops(name, values, trace(text)) == dropped


def test_every_filter_has_a_case():
    assert {name for name, *_ in CASES} == set(filter_names())


@pytest.mark.parametrize(
    "chosen, parts",
    [
        ({"regexp": {}}, ("curate.filters.regexp", "boxes, regex")),
        ({"regex": {"patern": "x"}}, ("curate.filters.regex.patern", "pattern, keep")),
        ({"regex": 3}, ("curate.filters.regex", "not a group of keys")),
        ({"regex": {}}, ("curate.filters.regex", "pattern")),
        ({"regex": {"pattern": 3}}, ("curate.filters.regex", "Expected `str`")),
        ({"regex": {"pattern": "("}}, ("curate.filters.regex", "not a regular expression")),
        ({"boxes": {"least": "one"}}, ("curate.filters.boxes", "Expected `int`")),
    ],
)
def test_a_mistake_is_one_line_with_its_key(chosen, parts):
    with pytest.raises(UserError) as caught:
        load_filters(chosen)
    assert all(part in str(caught.value) for part in parts), caught.value

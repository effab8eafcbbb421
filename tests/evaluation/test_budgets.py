"""What answers held after so many tokens: texts cut at a token, and graded again."""

from dataclasses import replace

import pytest

from nemo_cot.config import GradeConfig
from nemo_cot.evaluation.budgets import cut_text, graded_within
from nemo_cot.evaluation.scores import score
from nemo_cot.records import Trace
from nemo_cot.text import PromptFormat, TextTokenizer
from tests.report.test_report import evaluation

FORM = PromptFormat("{problem}", "<|im_end|>", "<|endoftext|>")
TEXT = "I try \\boxed{3} first. Wait, no: \\boxed{4}"


@pytest.fixture
def tokenizer(tiny_model):
    return TextTokenizer(tiny_model, FORM)


@pytest.mark.parametrize("text", [TEXT, "é𝄞 = 1: the answer", "", "<|im_end|>"])
def test_a_text_is_cut_where_its_next_token_begins(tokenizer, text):
    _, begins = tokenizer.answer_ids_at(text)
    assert cut_text(tokenizer, text, len(begins)) == text == cut_text(tokenizer, text, 999)
    for budget in range(len(begins)):
        cut = cut_text(tokenizer, text, budget)
        assert text.startswith(cut) and len(tokenizer.text_ids(cut)) <= budget


def trace(sample: int, tokens: int, verdict: str, answer: str) -> Trace:
    return Trace(
        problem_id="p", sample=sample, problem="2 + 1", expected_answer="3", generation=TEXT, num_generated_tokens=tokens,
        finish_reason="stop", verdict=verdict, predicted_answer=answer, answer_source="boxed", grader_version="1",
        symbolic_correct=False,
    )  # fmt: skip


def test_a_longer_answer_counts_with_what_it_held_and_a_shorter_one_as_it_is(tokenizer, tmp_path):
    """The first box is right, the last one wrong; before the first there is no answer."""
    length = len(tokenizer.text_ids(TEXT)) + 1
    early, first = 3, len(tokenizer.text_ids(TEXT[: TEXT.index("}") + 1]))
    rows = [trace(0, length, "wrong", "4"), trace(1, early, "right", "3")]
    budgets = [early, first, length]
    found = graded_within(rows, budgets, tokenizer, GradeConfig("none", "ignore", 5.0, 1), tmp_path, label="grade base")
    assert [[row.verdict for row in found[b]] for b in budgets] == [["wrong", "right"], ["right", "right"], ["wrong", "right"]]
    assert found[early][0].predicted_answer is None and found[first][0].predicted_answer == "3"
    assert found[length] == rows and found[first][1] is rows[1]
    config = replace(evaluation(1), sampling=replace(evaluation(1).sampling, max_new_tokens=99), token_budgets=budgets)
    for given, values in (({"base": found}, [0.5, 1.0, 0.5]), (None, [0.5, 0.5, 0.5])):
        curves = score({"base": rows}, config, None, given).subjects["base"].curves
        assert [point.value for point in curves.budget_pass_at_1] == values

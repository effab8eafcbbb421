# ruff: noqa: RUF001  (the signs are meant as they stand)
"""reasoning-gym as a scorer: all tasks that there are, hostile answers, and full credit for more than the answer."""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time

import pytest

from nemo_cot.errors import UserError
from nemo_cot.grading import grade_many
from nemo_cot.grading.scorers import judge, load_scorer, question
from nemo_cot.grading.verifiers import (
    CARE,
    HASHED,
    OWN_ANSWERS,
    REFUSED,
    is_arithmetic,
    is_expression,
    value_of,
)
from nemo_cot.problems.reasoning_gym import drawn, entries, shared

if importlib.util.find_spec("reasoning_gym") is None:
    pytest.skip("reasoning-gym is not installed", allow_module_level=True)

from nemo_cot.grading.scorers.reasoning_gym import imported

TASKS = sorted(imported().factory.DATASETS)

@pytest.fixture(autouse=True)
def any_hash_seed(monkeypatch):
    """The tasks whose problems hang on it are tested with whatever this process has."""
    monkeypatch.setattr("nemo_cot.problems.reasoning_gym.HASHED", set())


def of(task, metadata, gold, answer, config=None):
    """The outcome, in this process."""
    data = {"task": task, "config": config or {}, "metadata": metadata}
    return judge("reasoning_gym", question("reasoning_gym", gold, data), answer)


def corrupted(answer, others):
    """Answers that are not the one, whatever the task."""
    changed = answer.replace(answer[-1], "#")
    return [x for x in (changed, f"{answer} or not", f"It is not so that {answer}", answer + answer[::-1], "nan", "{}", "?", *others)
            if x.split() != answer.split()]  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
def test_every_task_makes_problems_or_is_refused_with_a_reason(task):
    """Its own answer is right, as it stands, in a box and in tags; a corrupted one is not."""
    if task in REFUSED:
        with pytest.raises(UserError, match=f"{task} is not offered: .{{20}}") as caught:
            next(entries(task, {}, 7, 1, where="problems.task"))
        assert caught.value.where == "problems.task"
        return
    made = [*drawn(task, {}, 7, 2, where="problems.task")]
    assert len(made) == 2
    answers = [entry["answer"] for entry in made]
    for entry in made:
        data = json.loads(json.dumps({"task": task, "config": {}, "metadata": entry["metadata"]}))
        scorer, gold = load_scorer("reasoning_gym", data, where="here"), entry["answer"]
        texts = [f"so\n<answer>\n{gold}\n</answer>"]
        texts += [f"So \\boxed{{{gold}}}."] if not {*gold} & {*"{}\\"} else []
        texts += [f"The answer is:\n\n{gold}\n\nDone."] if all(line.strip() for line in gold.split("\n")) else []
        for text in texts:
            found = scorer.extract(text, fallback="phrase", thoughts="ignore").answer
            assert scorer.verdict(gold, found).outcome == "right", text
        for wrong in corrupted(gold, [other for other in answers if other != gold]):
            verdict = of(task, entry["metadata"], gold, wrong)
            assert verdict.outcome != "right" or (task == "gsm_symbolic" and gold in wrong), (wrong, verdict)


def test_the_tables_name_tasks_that_there_are():
    for named in (REFUSED, CARE, HASHED, OWN_ANSWERS):
        assert {*named} <= {*TASKS}


MARK = f"{tempfile.mkdtemp()}/was-here"
"""Made anew per process: nothing else leaves it behind."""
CODE = [
    f"__import__('os').system('touch {MARK}')",
    f"open('{MARK}','w')",
    f"[c for c in ().__class__.__base__.__subclasses__()][-1]('{MARK}')",
    f"exec(\"open('{MARK}','w')\")",
    f"S('__import__(\"os\").system(\"touch {MARK}\")')",
    "lambda: 0",
    "x.__class__",
    "exit()",
    "Integral(x, x)",
    "sqrt.__globals__",
    "f'{1}'",
    "1 if 1 else 2",
    "x := 3",
    "[1]*9",
]
EVALUATING = ["binary_matrix", "spiral_matrix", "string_insertion", "n_queens", "countdown", "puzzle24", "simple_integration",
              "intermediate_integration", "polynomial_multiplication"]  # fmt: skip


@pytest.mark.parametrize("task", EVALUATING)
def test_nothing_of_an_answer_is_executed(task, monkeypatch):
    """The verifier of each of these would evaluate it. In this process, so that a call would be seen."""
    (entry,) = drawn(task, {}, 7, 1, where="here")
    evaluated = []
    import sympy

    for module in (sys.modules[type(imported().create_dataset(task, seed=1, size=1)).__module__],):
        for name in ("eval", "parse_expr"):
            monkeypatch.setattr(module, name, lambda text, *a, **k: evaluated.append(text) or 1 / 0, raising=False)
    monkeypatch.setattr(sympy, "parse_expr", lambda text, *a, **k: evaluated.append(text) or 1 / 0)
    for code in (*CODE, "9^9^9, [", "0 1; import os"):
        assert of(task, entry["metadata"], entry["answer"], code).outcome != "right"
    assert evaluated == [] and not os.path.exists(MARK)


@pytest.mark.parametrize("code", CODE, ids=range(len(CODE)))  # the folder is of this process, and ids are of all
def test_code_is_no_expression(code):
    assert not is_expression(code) and not is_arithmetic(code)


def test_the_grammar_of_expressions():
    for text in ("2*x**3/3 + C", "-exp(-x)*(x + 1)", "sqrt(2)*pi/4", "1.5*x", "log(x)", "((x))"):
        assert is_expression(text), text
    assert not any(map(is_expression, ("x.y", "f(x)", "sin(x, 3)", "sin(x=3)", "foo", "x[0]", "'x'", "1 < 2", "", "x;y", "x\n)(")))
    assert is_arithmetic("(1 + 2)*3/4 - -5") and value_of("(1 + 2)*3/4 - -5") == 7.25
    assert not any(map(is_arithmetic, ("2**3", "x", "1.5", "2e3", "max(1)", "True")))


HANGS = [
    ("simple_integration", {"variable": "x", "integrand": "x"}, "x**2/2 + C", "9**9**9**9"),
    ("polynomial_multiplication", {}, "x**2", "(x+y+z)**(9**9**9)"),
    ("coin_flip", {}, "0.5", "1e99"),
    ("bitwise_arithmetic", {"problem": "9**9**9**9"}, "0x1", "0x1"),
]


@pytest.mark.parametrize(("task", "metadata", "gold", "answer"), HANGS, ids=[h[0] for h in HANGS])
def test_what_would_run_long_costs_its_deadline(task, metadata, gold, answer):
    good = question("reasoning_gym", "4", {"task": "gcd", "config": {}, "metadata": {"numbers": [4, 8]}})
    asked = question("reasoning_gym", gold, {"task": task, "config": {}, "metadata": metadata})
    grade_many([(good, "4")], workers=1, deadline_seconds=60.0, scorer="reasoning_gym")  # the start of the helper
    started = time.monotonic()
    found = grade_many([(good, "4"), (asked, answer), (good, "5")], workers=1, deadline_seconds=2.0, scorer="reasoning_gym")
    for verdict, outcome in ((found[0], "right"), (found[2], "wrong")):
        assert verdict.outcome == outcome, verdict
    assert found[1].outcome != "right" and time.monotonic() - started < 300


MORE = [
    # (task, metadata, expected answer, answer, outcome): the verifier alone gives full credit to each of the wrong ones
    ("coin_flip", {}, "0.375", "0", "wrong"),
    ("coin_flip", {}, "0.375", "3/8", "right"),
    ("complex_arithmetic", {"result": [-2.0, -15.0]}, "-2.0 - 15.0i", "nan", "undecided"),
    ("complex_arithmetic", {"result": [-2.0, -15.0]}, "-2.0 - 15.0i", "-2 - 15i", "right"),
    ("figlet_font", {}, "ABSOLUTELY", "ABSOLUTELYNOT", "wrong"),
    ("game_of_life", {}, "[[0,1],[1,0]]", "[[0,1,1],[1,0,0],[9]]", "wrong"),
    ("game_of_life", {}, "[[0,1],[1,0]]", "[[0, 1], [1, 0]]", "right"),
    ("game_of_life_halting", {}, "False", "True", "wrong"),
    ("game_of_life_halting", {}, "False", "False", "right"),
    ("gsm_symbolic", {}, "57", "57, or perhaps 58", "undecided"),
    ("gsm_symbolic", {}, "57", "-57", "undecided"),
    ("gsm_symbolic", {}, "1057", "1,057", "right"),
    ("gsm_symbolic", {}, "57", "57 apples", "right"),
    ("letter_jumble", {}, "so be it", "so be it not", "wrong"),
    ("number_sorting", {"direction": "ascending"}, "['1.5', '2.5']", "['1.0', '3.0']", "wrong"),
    ("number_sorting", {"direction": "ascending"}, "['1.5', '2.5']", '["1.5", "2.50"]', "right"),
    ("puzzle24", {"numbers": [4, 6, 1, 1]}, "4*6*1*1", "8*3*1*1", "wrong"),
    ("puzzle24", {"numbers": [7, 7, 2, 4]}, "7*4 - 4", "(7*7 - 2)/2", "wrong"),
    ("puzzle24", {"numbers": [4, 6, 1, 1]}, "4*6*1*1", r"4 \times 6 \cdot 1 / 1 = 24", "right"),
    ("puzzle24", {"numbers": [4, 6, 1, 1]}, "4*6*1*1", "4*6 + 1 - 0", "wrong"),
    ("countdown", {"numbers": [100, 3, 7], "target": 103}, "100 + 3", "100 + 3 + 7 - 7", "wrong"),
    ("countdown", {"numbers": [100, 3, 7], "target": 110}, "100 + 3 + 7", "$7+3+100$", "right"),
    ("quantum_lock", {"initial_value": 0, "target_value": 2, "initial_state": "red", "buttons": [
        {"name": "A", "type": "add", "value": 1, "active_state": "any"}]}, "A → A", "A banana", "undecided"),
    ("sokoban", {"gamestr": "+ + + +\n+ * @ X\n+ + + +"}, "R", "RIGHT", "undecided"),
    ("time_intervals", {"task_type": "date"}, "34 days", "34 days, or 35", "undecided"),
    ("word_sorting", {"sorted_words": ["a", "b"]}, "a, b", "a, b, c", "wrong"),
    ("word_sorting", {"sorted_words": ["a", "b"]}, "a, b", "a,b", "right"),
    ("polynomial_equations", {}, "-2, 2", "-2, 2, who knows", "undecided"),
    ("fraction_simplification", {"simplified_numerator": 1, "simplified_denominator": 2, "numerator": 2, "denominator": 4},
     "$1/2$", r"\frac{1}{2}, no: 3/4", "undecided"),
    ("fraction_simplification", {"simplified_numerator": 1, "simplified_denominator": 2, "numerator": 2, "denominator": 4},
     "$1/2$", r"\dfrac{1}{2}", "right"),
    ("knights_knaves", {}, "Al is a knight, and Bo is a knave.", "It is false that Al is a knight and Bo is a knave", "undecided"),
    ("knights_knaves", {}, "Al is a knight, and Bo is a knave.", "Bo is a knave and Al is a knight", "right"),
    ("prime_factorization", {}, "2 × 3", r"3 \times 2", "right"),
    ("simple_integration", {"variable": "x", "integrand": "2*x"}, "x**2 + C", r"x^2 + 5", "right"),
    ("simple_integration", {"variable": "x", "integrand": "x"}, "x**2/2 + C", r"\frac{x^{2}}{2} + C", "right"),
    ("simple_integration", {"variable": "x", "integrand": "x"}, "x**2/2 + C", "Integral(x, x)", "undecided"),
    ("calendar_arithmetic", {"task": "count_days"}, "20", "21", "wrong"),
    ("time_intervals", {"task_type": "date"}, "1000 days", "1001 days", "wrong"),
    ("chain_sum", {}, "12", "012", "right"),
    ("chain_sum", {}, "1234", r"$1{,}234$", "undecided"),
]  # fmt: skip


@pytest.mark.parametrize(("task", "metadata", "gold", "answer", "outcome"), MORE, ids=[f"{m[0]}: {m[3]}" for m in MORE])
def test_full_credit_is_for_the_answer_alone(task, metadata, gold, answer, outcome):
    found = of(task, metadata, gold, answer)
    assert found.outcome == outcome or (outcome == "undecided" and found.outcome == "wrong"), found


def test_less_than_full_credit_is_wrong():
    assert of("binary_matrix", {}, "0 1\n1 0", "[[0, 1], [1, 0]]").outcome == "wrong", "0.1 there"
    assert of("sudoku", {"solution": [[1, 2], [2, 1]]}, "1 2\n2 1", "1,2\n2,1").outcome == "wrong", "0.9 there"
    verdict = of("sentence_reordering", {}, "a b c d", "a b d c")
    assert verdict.outcome == "wrong" and verdict.reason == "verifier: 0.5 of 1"


def test_an_exception_in_a_verifier_is_undecided():
    found = of("survo", {}, "1 2", "1 2")
    assert found.outcome == "undecided" and "KeyError" in found.reason


TOUCH = f"__import__('pathlib').Path('{MARK}').touch()"


@pytest.mark.parametrize(
    ("task", "gold", "metadata"),
    [
        ("bitwise_arithmetic", "0x1", {"problem": TOUCH}),
        ("simple_integration", "x", {"variable": "x", "integrand": TOUCH}),
        ("intermediate_integration", "x", {"variable": "x", "integrand": TOUCH}),
        ("polynomial_multiplication", TOUCH, {}),
        ("number_sorting", TOUCH, {"direction": "ascending"}),
        ("number_sorting", f"['1', {TOUCH}]", {"direction": "ascending"}),
        ("codeio", "1", {}),
    ],
    ids=range(7),
)
def test_a_file_of_somebody_else_has_nothing_evaluated(task, gold, metadata):
    """What comes with the problem is evaluated by some verifiers too."""
    for answer in (gold, "x", "0x1", "['1', '2']"):
        assert of(task, metadata, gold, answer).outcome == "undecided"
    assert not os.path.exists(MARK)


def test_without_the_package_answers_are_undecided():
    code = (
        "import sys; sys.modules['reasoning_gym'] = None\n"
        "from nemo_cot.grading.scorers import judge, question, scorer_version\n"
        "asked = question('reasoning_gym', '4', {'task': 'gcd', 'config': {}, 'metadata': {}})\n"
        "print(judge('reasoning_gym', asked, '4'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=900)
    assert "undecided" in done.stdout and "ModuleNotFoundError" in done.stdout, done.stderr


def test_a_file_is_not_graded_without_the_package(monkeypatch):
    """It would be undecided from end to end."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="the package reasoning_gym is not installed") as caught:
        grade_many([("x", "y")], workers=1, deadline_seconds=2.0, scorer="reasoning_gym")
    assert "pip install" in caught.value.fix


def test_the_problems_of_some_tasks_need_a_fixed_hash(monkeypatch):
    monkeypatch.setattr("nemo_cot.problems.reasoning_gym.HASHED", {"gcd"})
    monkeypatch.setattr("sys.flags", type("Flags", (), {"hash_randomization": 1}))
    with pytest.raises(UserError, match="hang on the order") as caught:
        next(entries("gcd", {}, 7, 1, where="here"))
    assert "PYTHONHASHSEED=0" in caught.value.fix
    monkeypatch.setattr("sys.flags", type("Flags", (), {"hash_randomization": 0}))
    assert next(entries("gcd", {}, 7, 1, where="here"))["answer"]


@pytest.mark.parametrize(
    ("task", "options", "what", "fix"),
    [
        ("chainsum", {}, "there is no task 'chainsum'", "did you mean chain_sum"),
        ("xyzzy", {}, "there is no task", "gallery"),
        ("chain_sum", {"min_term": 2}, "has no option min_term", "did you mean min_terms"),
        ("chain_sum", {"seed": 2}, "has no option seed", "set problems.seed"),
        ("chain_sum", {"zzz": 2}, "has no option zzz", "it has min_terms, "),
        ("chain_sum", {"min_terms": 9, "max_terms": 2}, "AssertionError: max_terms", "correct its options"),
        ("chain_sum", {"min_terms": "two"}, "TypeError", "correct its options"),
    ],
)
def test_a_wrong_task_or_option_is_one_line(task, options, what, fix):
    with pytest.raises(UserError) as caught:
        next(entries(task, options, 7, 1, where="problems.task"))
    assert what in caught.value.what and fix in caught.value.fix and caught.value.where == "problems.task"


def test_shares_are_of_the_whole():
    assert shared(10, {"a": 1, "b": 1, "c": 2}) == {"a": 3, "b": 2, "c": 5}
    assert sum(shared(7, {"a": 0.1, "b": 0.7, "c": 0.2}).values()) == 7
    assert shared(0, {"a": 1}) == {"a": 0}

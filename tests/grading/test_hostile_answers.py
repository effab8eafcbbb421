"""Untrusted answers: each costs its deadline at most, and nothing else."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from nemo_cot.grading import Verdict, grade, grade_many, nemo_skills_verdicts, workers
from nemo_cot.grading.answers.rules import INTERNAL_ERROR, grade_by_rules
from nemo_cot.grading.extraction import FALLBACKS, extract
from tests.grading.hostile import HOSTILE
from tests.support import SECONDS, wait_for

DEADLINE = 2.0
HANGS = 300
"""Seconds by the clock that no deadline lasts on a busy machine; without one, these answers take hours."""

TRULY_EQUAL = {"300 parentheses", "forty radicals, reordered", "300 boxes"}


@pytest.fixture(scope="module", autouse=True)
def helper():
    """The helper process imports SymPy at its start, for seconds that are no part of a deadline."""
    grade(r"\frac13", r"\int_0^1 x^2 dx")


@pytest.mark.parametrize(("name", "gold", "answer"), HOSTILE, ids=[h[0] for h in HOSTILE])
def test_each_ends_in_its_deadline(name, gold, answer):
    started = time.monotonic()
    verdict = grade_many([(gold, answer)], workers=1, deadline_seconds=DEADLINE)[0]
    assert time.monotonic() - started < HANGS
    assert verdict.outcome in (("right", "undecided") if name in TRULY_EQUAL else ("wrong", "undecided"))
    assert not verdict.reason.startswith(INTERNAL_ERROR)


COSTLY = [
    (r"(\frac13)!", r"(\frac13)!+e^{-500}", "wrong"),  # 560 digits of a gamma function: a second when cold
    (r"(\frac13)!", r"(\frac13)!+e^{-2000}", "undecided"),
    ("5", "+".join([r"\binom{131072}{65536}"] * 50), "undecided"),
    (r"\pi^{\pi^{\pi}}", r"\pi^{\pi^{\pi}}+e^{-5000}", "wrong"),
    (r"(\frac12)!", r"\frac{\sqrt{\pi}}{2}", "right"),
    ("+".join(f"(\\frac1{{{n}}})!" for n in range(3, 30)), "+".join(f"(\\frac1{{{n}}})!" for n in range(29, 2, -1)),
     "undecided"),
]  # fmt: skip


@pytest.mark.parametrize(("gold", "answer", "outcome"), COSTLY)
def test_a_verdict_is_the_same_on_any_machine_and_the_second_time(gold, answer, outcome):
    """mpmath keeps what a first gamma function computes: by the clock, the second grading decided more."""
    program = "import sys; from nemo_cot.grading.answers.rules import grade_by_rules; print(grade_by_rules(*sys.argv[1:])[0])"
    cold = subprocess.run(
        [sys.executable, "-c", program, gold, answer], capture_output=True, text=True, timeout=120, check=True
    )
    assert [cold.stdout.strip()] * 2 == [str(grade_by_rules(gold, answer)[0]) for _ in range(2)]
    assert f"outcome='{outcome}'" in cold.stdout


HUGE = [
    r"10^{10^{10}}",
    r"9^{9^9}",
    r"10^{10^{10}}+1",
    r"e^{e^{20}}",
    r"(10^9)!",
    r"\infty",
    "1F_{16}",
    "i^2",
]
BESIDE = [r"2\text{ mod }5", r"n\pi, n\in\mathbb{Z}", "1.41421356", r"1.41421356\text{ cm}", "3:4", r"|x|<2", r"5\text{ million}",
          r"\text{two}", r"0,3,6,\ldots,60", "1{,}234.5", r"\begin{cases}1&x>0\\0&x\le0\end{cases}"]  # fmt: skip


@pytest.mark.parametrize("huge", HUGE)
def test_a_huge_number_is_quick_beside_every_kind(huge):
    started = time.process_time()
    for other in BESIDE:
        for pair in ((huge, other), (other, huge)):
            verdict, _ = grade_by_rules(*pair)
            assert verdict.outcome != "right" and not verdict.reason.startswith(INTERNAL_ERROR), (
                pair,
                verdict,
            )
    assert time.process_time() - started < 30


@pytest.mark.parametrize(("name", "gold", "answer"), HOSTILE, ids=[h[0] for h in HOSTILE])
def test_the_rules_alone_are_quick(name, gold, answer):
    started = time.process_time()
    grade_by_rules(gold, answer)
    grade_by_rules(answer, gold)
    assert time.process_time() - started < 15


def test_the_batch_ends_and_good_answers_survive_it():
    pairs = [
        p for _, gold, answer in HOSTILE for p in ((gold, answer), ("5", "5"), (r"\frac12", r"\int_0^1 x dx"))
    ]
    started = time.monotonic()
    verdicts = grade_many(pairs, workers=2, deadline_seconds=DEADLINE)
    assert time.monotonic() - started < HANGS
    assert all(v.outcome == "right" for p, v in zip(pairs, verdicts) if p[1] == "5")
    integral = {v.outcome for p, v in zip(pairs, verdicts) if "int_0^1 x dx" in p[1]}
    assert integral == {"right"}


def test_their_rule_runs_under_the_same_deadline():
    pairs = [("5", "9^{9^9}"), ("5", "5"), ("5", r"\prod_{k=1}^{10^9} (k^2+1)"), ("7", "8")]
    started = time.monotonic()
    verdicts = nemo_skills_verdicts(pairs, workers=2, deadline_seconds=1.0)
    assert time.monotonic() - started < HANGS
    assert verdicts[1] is True and verdicts[3] is False
    assert verdicts[0] is None


def test_a_worker_that_is_killed_is_replaced():
    endless = [("5", rf"\prod_{{k=1}}^{{10^9}} (k^2+{n})") for n in (1, 2)]
    good = [(rf"\frac{{1}}{{{n + 1}}}", rf"\int_0^1 x^{{{n}}} dx") for n in range(2, 6)]
    verdicts = grade_many([endless[0], *good[:2], endless[1], *good[2:]], workers=1, deadline_seconds=1.0)
    assert [v.outcome for v in verdicts] == ["undecided", "right", "right", "undecided", "right", "right"]
    assert {verdicts[i].reason for i in (0, 3)} == {"deadline: 1 s"}


def halted(monkeypatch, seconds: float) -> None:
    """New workers get no time until then (0: ever), as on a machine that is busy with other work."""
    fork = workers._HELPER.fork

    def stopped(rule):
        pid, connection = fork(rule)
        os.kill(pid, signal.SIGSTOP)
        if seconds:
            threading.Timer(seconds, os.kill, (pid, signal.SIGCONT)).start()
        return pid, connection

    monkeypatch.setattr(workers._HELPER, "fork", stopped)


def test_a_worker_that_gets_no_time_is_not_late(monkeypatch):
    halted(monkeypatch, 2.0)
    verdict = grade_many([(r"\frac13", r"\int_0^1 x^2 dx")], workers=1, deadline_seconds=1.0)[0]
    assert verdict.outcome == "right", verdict


def test_a_worker_that_never_gets_time_is_given_up(monkeypatch):
    halted(monkeypatch, 0)
    monkeypatch.setattr(workers, "_BY_THE_CLOCK", 2)
    verdict = grade_many([(r"\frac13", r"\int_0^1 x^2 dx")], workers=1, deadline_seconds=0.5)[0]
    assert verdict == Verdict("undecided", "deadline: 0.5 s")


def test_a_worker_has_a_memory_limit():
    code = "from nemo_cot.grading import worker; worker._limit()\n"
    code += "try: bytearray(600 << 20)\nexcept MemoryError: exit(7)"
    assert subprocess.run([sys.executable, "-c", code], timeout=SECONDS).returncode == 7


def test_grading_works_from_threads():
    found = {}

    def work(n):
        found[n] = grade_many(
            [(r"\frac12", r"\int_0^1 x dx"), ("5", "5.0"), ("5", str(n))], workers=1, deadline_seconds=5.0
        )

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert {n: [v.outcome for v in vs] for n, vs in found.items()} == {
        n: ["right", "right", "wrong"] for n in range(4)
    }


def test_grading_works_beside_torch():
    torch = pytest.importorskip("torch")
    torch.randn(400, 400) @ torch.randn(400, 400)  # starts torch's threads
    assert grade(r"\frac13", r"\int_0^1 x^2 dx").outcome == "right"


def test_grading_works_in_a_forked_process():
    grade(r"\frac13", r"\int_0^1 x^2 dx")
    pid = os.fork()
    if pid == 0:
        os._exit(0 if grade(r"\frac14", r"\int_0^1 x^3 dx").outcome == "right" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert grade(r"\frac15", r"\int_0^1 x^4 dx").outcome == "right"


def test_no_process_outlives_the_grader():
    code = textwrap.dedent(
        r"""
        from nemo_cot.grading import grade_many, workers
        import os
        grade_many([("5", r"\prod_{k=1}^{10^9} (k^2+1)")] , workers=2, deadline_seconds=1.0)
        print(workers._HELPER._process.pid, flush=True)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS, check=True
    )
    helper = int(done.stdout)
    wait_for(lambda: not os.path.exists(f"/proc/{helper}"), every=0.05)


def test_a_killed_grader_leaves_no_process():
    code = textwrap.dedent(
        r"""
        from nemo_cot.grading import grade, grade_many, workers
        grade(r"\frac13", r"\int_0^1 x^2 dx")
        print(workers._HELPER._process.pid, flush=True)
        grade_many([("5", r"\prod_{k=1}^{10^9} (k^2+1)")] , workers=1, deadline_seconds=60.0)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    helper = int(process.stdout.readline())
    wait_for(Path(f"/proc/{helper}/task/{helper}/children").read_text, every=0.01)
    process.kill()
    process.wait()
    wait_for(lambda: not os.path.exists(f"/proc/{helper}"), every=0.05)


def test_extraction_is_linear():
    started = time.process_time()
    for text in (r"\boxed{" * 30_000, r"\boxed{" * 10_000 + "}" * 10_000, "{" * 200_000,
                 r"\boxed{1}" * 30_000, "answer to" + " " * 100_000, "answer" + " " * 100_000,
                 "answer is" + " " * 100_000, "1" + " " * 100_000, r"\boxed" + " " * 100_000,
                 "the answer is " * 20_000, "1," * 100_000, "\\" * 100_000):  # fmt: skip
        for fallback in FALLBACKS:
            extract(text, fallback=fallback)
    assert time.process_time() - started < 60

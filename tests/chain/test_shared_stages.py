"""Who works on a stage that several runs share: one at a time, once, and not more than twice in vain."""

from __future__ import annotations

import threading

import pytest

from nemo_cot.launchers.study_local import Shared
from nemo_cot.stages import RunDirectory


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path / "a")


def make(run, stage):
    run.stage(stage).mkdir(parents=True)
    (run.stage(stage) / "manifest.json").write_text("{}")


def test_a_stage_is_claimed_once_and_is_done_where_it_was_made(run):
    shared = Shared({})
    assert shared.claim("a", ["k"]) is None and shared.working == {"k": "a"}
    make(run, "grade")
    shared.ended(run, "a", {"grade": "k"})
    assert shared.done == {"k": run.path} and shared.working == {}
    assert shared.claim("b", ["k"]) is None and shared.working == {}, "what is done is not claimed again"


def test_another_run_waits_until_the_first_has_ended(run):
    shared, order = Shared({}), []
    shared.claim("a", ["k", "own"])

    def other():
        shared.claim("b", ["k"])
        order.append("b goes on")

    thread = threading.Thread(target=other)
    thread.start()
    thread.join(0.2)
    assert thread.is_alive() and order == []
    order.append("a ends")
    make(run, "grade")
    shared.ended(run, "a", {"grade": "k", "curate": "own"})
    thread.join(60)
    assert order == ["a ends", "b goes on"] and shared.tries == {"own": 1}


def test_a_stage_that_failed_is_tried_once_more_and_then_given_up(run):
    shared = Shared({})
    for name in ("a", "b"):
        assert shared.claim(name, ["k"]) is None
        shared.ended(run, name, {"grade": "k"})
    assert shared.claim("c", ["k", "l"]) == "b" and shared.working == {}
    assert shared.claim("c", ["l"]) is None


def test_nobody_waits_after_the_end(run):
    shared = Shared({})
    shared.claim("a", ["k"])
    shared.halt()
    with pytest.raises(KeyboardInterrupt):
        shared.claim("b", ["k"])

"""Sampling with NeMo-Skills: its processes, its files, its failures.

Each test runs with a stand-in that keeps NeMo-Skills' file protocol, and with the real one where
NEMO_SKILLS_PYTHON names an interpreter that can import it. The server is scripted: no model.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from nemo_cot.config.engines import NemoSkillsEngine, SamplingConfig
from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import load_config
from nemo_cot.records import Problem
from nemo_cot.sampling.job import SamplingJob
from nemo_cot.sampling.nemo_skills.run import sample_nemo_skills
from nemo_cot.serving.server import past_proxies
from nemo_cot.text import PromptFormat
from tests.scripted_server import scripted

FORM = PromptFormat(
    "<|im_start|>user\n{problem}<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>", "<|endoftext|>"
)
PROBLEMS = [
    Problem(
        problem_id=name,
        problem=f"problem {{{name}}} \\frac{{1}}{{2}} ü 'q' \"d\"",
        expected_answer=str(number),
    )
    for number, name in enumerate(("a", "b", "7"), start=100)
]


@pytest.fixture(params=["stand-in", "real"])
def python(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """An interpreter that has nemo_skills.inference.generate."""
    if request.param == "stand-in":
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "stand_in"))
        return sys.executable
    found = os.environ.get("NEMO_SKILLS_PYTHON")
    if not found:
        pytest.skip("NEMO_SKILLS_PYTHON is not set (NeMo-Skills is installed from git only)")
    if subprocess.run(
        [found, "-c", "import nemo_skills.inference"], capture_output=True, timeout=120
    ).returncode:
        pytest.skip(f"{found} cannot import nemo_skills")
    return found


def engine(python: str, script, **changes: object) -> NemoSkillsEngine:
    made = load_config(["evaluate.engine=nemo_skills"]).evaluate.engine
    server = replace(
        made.server, base_url=script.base_url, model_name=script.name, start_deadline_seconds=60.0
    )
    return replace(
        made,
        **{
            "server": server,
            "python": python,
            "seeds_in_parallel": 2,
            "retries": 0,
            "stall_seconds": 600.0,
            **changes,
        },
    )


def job(folder: Path, samples: range = range(1, 3), **changes: object) -> SamplingJob:
    sampling = SamplingConfig(0.7, 0, 0.95, 64, "fp32", 4, "cpu", True, None)
    folder.mkdir(exist_ok=True)
    return replace(
        SamplingJob(None, FORM, PROBLEMS, samples, 40, sampling, "test", folder, "sample"), **changes
    )


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "generations.jsonl").read_text().splitlines()]


def work(folder: Path) -> Path:
    return folder / "scratch" / "nemo_skills"


def test_all_seeds_come_with_our_prompt_in_our_order(python, tmp_path):
    with scripted() as script:
        sample_nemo_skills(engine(python, script), job(tmp_path))
    found = rows(tmp_path)
    assert [(r["problem_id"], r["sample"]) for r in found] == [
        (p.problem_id, s) for p in PROBLEMS for s in (1, 2)
    ]
    assert [r["generation"] for r in found[:2]] == [
        "With seed 41 it is \\boxed{41}.",
        "With seed 42 it is \\boxed{42}.",
    ]
    assert {(r["num_generated_tokens"], r["finish_reason"]) for r in found} == {(9, "stop")}
    assert "serialized_output" not in found[0] and found[0]["problem"] == PROBLEMS[0].problem
    sent = {(body["seed"], body["prompt"]) for body in script.bodies}
    assert sent == {(s, FORM.prompt.replace("{problem}", p.problem)) for p in PROBLEMS for s in (41, 42)}
    assert {body["max_tokens"] for body in script.bodies} == {64}
    assert {p.name for p in (tmp_path / "logs").iterdir()} == {"rs41.log", "rs42.log"}


def test_rows_that_no_seed_will_have_right_end_the_run_at_the_first(python, tmp_path):
    """Not after the last, hours later."""
    reply = {"choices": [{"text": "so", "finish_reason": "stop"}], "usage": {"completion_tokens": -7}}
    with scripted(reply=reply) as script:
        with pytest.raises(UserError, match="num_generated_tokens") as caught:
            sample_nemo_skills(engine(python, script, seeds_in_parallel=1), job(tmp_path, range(1, 5)))
    assert len(script.bodies) == len(PROBLEMS) and "rs41" in str(caught.value)
    reply["usage"]["completion_tokens"], reply["choices"][0]["finish_reason"] = 3, "abort"
    with scripted(reply=reply) as script, pytest.raises(UserError, match="finish_reason 'abort'"):
        sample_nemo_skills(engine(python, script, seeds_in_parallel=1), job(tmp_path / "2", range(1, 5)))
    assert len(script.bodies) == len(PROBLEMS)


@pytest.mark.parametrize("without", ["", "example.org"])
def test_a_proxy_of_the_environment_is_not_asked_for_a_server_on_this_machine(python, tmp_path, monkeypatch, without):
    """Many clusters name one on their nodes; nothing listens at this one."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", without)
    with scripted() as script:
        sample_nemo_skills(engine(python, script), job(tmp_path))
    assert len(rows(tmp_path)) == 6
    assert past_proxies()["no_proxy"] == ",".join(filter(None, (without, "127.0.0.1,localhost"))), "others as before"


def test_without_curl_it_would_wait_for_ever_and_is_not_started(python, tmp_path, monkeypatch):
    with scripted() as script:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(UserError, match="no curl"):
            sample_nemo_skills(engine(python, script), job(tmp_path))
    assert not script.bodies and not (tmp_path / "logs").exists()


def test_a_chat_is_sent_as_one(python, tmp_path):
    with scripted() as script:
        chat = engine(python, script, endpoint="chat", system_message="be brief")
        sample_nemo_skills(chat, job(tmp_path, range(1), form=PromptFormat("Q: {problem}", "<|im_end|>")))
    assert script.bodies[0]["messages"][0] == {"role": "system", "content": "be brief"}
    assert {b["messages"][1]["content"] for b in script.bodies} == {f"Q: {p.problem}" for p in PROBLEMS}
    assert len(rows(tmp_path)) == 3


def test_what_is_there_is_repaired_and_gone_on_with(python, tmp_path):
    """A cut line of an unfinished file is dropped, a short final file is thrown out, a whole one is kept."""
    with scripted() as script:
        sample_nemo_skills(engine(python, script), job(tmp_path, range(3)))
        whole = rows(tmp_path)
        cut, short, kept = (work(tmp_path) / f"output-rs{seed}.jsonl" for seed in (40, 41, 42))
        lines = [json.loads(line) for line in cut.read_text().splitlines()]
        unfinished = "".join(
            json.dumps({**row, "_async_position": p}) + "\n" for p, row in enumerate(lines[:2])
        )
        cut.with_name(cut.name + "-async").write_text(unfinished + '{"generation": "cut')
        cut.unlink()
        short.write_text(short.read_text().splitlines(keepends=True)[0])
        before = kept.stat().st_mtime_ns
        (tmp_path / "generations.jsonl").unlink()
        script.bodies.clear()
        sample_nemo_skills(engine(python, script), job(tmp_path, range(3)))
    assert rows(tmp_path) == whole and kept.stat().st_mtime_ns == before
    assert sorted(body["seed"] for body in script.bodies) == [40, 41, 41, 41]


def test_all_done_starts_nothing(python, tmp_path):
    with scripted() as script:
        sample_nemo_skills(engine(python, script), job(tmp_path))
        address = script.base_url
    (tmp_path / "generations.jsonl").unlink()
    with scripted() as other:
        script.base_url = address  # nobody listens there any more
        sample_nemo_skills(engine(python, script), job(tmp_path))
    assert len(rows(tmp_path)) == 6 and other.bodies == []


def test_a_seed_that_fails_is_told_with_its_last_words(python, tmp_path):
    with scripted(statuses=[400] * 99) as script, pytest.raises(UserError, match="the log ends: ") as caught:
        sample_nemo_skills(engine(python, script), job(tmp_path))
    assert "no output-rs4" in caught.value.what and "400" in caught.value.what
    assert caught.value.where.endswith(".log")


def test_a_seed_that_failed_once_is_run_again_and_resumes(python, tmp_path):
    with scripted(statuses=[200, 400]) as script:
        sample_nemo_skills(
            engine(python, script, retries=1, max_concurrent_requests=1), job(tmp_path, range(1))
        )
    assert len(rows(tmp_path)) == 3


def test_a_stall_ends_the_run_and_its_processes(python, tmp_path):
    with scripted(delay=600.0) as script, pytest.raises(UserError, match="no new sample for 3 s"):
        started = time.monotonic()
        sample_nemo_skills(engine(python, script, stall_seconds=3.0), job(tmp_path))
    assert time.monotonic() - started < 240
    assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if str(tmp_path).encode() in _read(p)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""

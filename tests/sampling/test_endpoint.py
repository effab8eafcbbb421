"""The client of OpenAI-compatible endpoints: what it sends, and what it does when a server fails.

Against a scripted server (real HTTP, no model). tests/sampling/test_transformers_server.py has a real model.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from nemo_cot.config.engines import OpenAIEngine, SamplingConfig
from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import load_config
from nemo_cot.records import Problem
from nemo_cot.sampling.job import SamplingJob
from nemo_cot.sampling.openai import endpoint
from nemo_cot.sampling.openai.endpoint import sample_endpoint
from nemo_cot.serving.server import Server
from nemo_cot.text import PromptFormat, Shots, TextTokenizer
from tests.scripted_server import scripted
from tests.support import ROOT

FORM = PromptFormat(
    "<|im_start|>user\n{problem}<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>", "<|endoftext|>"
)
SAMPLING = SamplingConfig(0.7, 0, 0.9, 32, "fp32", 4, "cpu", True, None)


def engine(script, **changes: object) -> OpenAIEngine:
    made = load_config(["evaluate.engine=openai"]).evaluate.engine
    server = replace(
        made.server, base_url=script.base_url, model_name=script.name, start_deadline_seconds=60.0
    )
    return replace(made, **{"server": server, "retries": 3, "request_timeout_seconds": 240.0, **changes})


def job(folder: Path, model: Path | None = None, problems: str = "abc", **changes: object) -> SamplingJob:
    rows = [Problem(problem_id=name, problem=f"problem {name}", expected_answer="1") for name in problems]
    made = SamplingJob(model, FORM, rows, range(2, 5), 100, SAMPLING, "test", folder, "sample")
    return replace(made, **changes)


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "generations.jsonl").read_text().splitlines()]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(endpoint, "_FIRST_WAIT_SECONDS", 0.01)


def test_every_sample_is_asked_for_once_with_its_own_seed_and_comes_in_order(tmp_path):
    with scripted(delay=0.05, meet=4) as script:
        sample_endpoint(engine(script, max_concurrent_requests=4), job(tmp_path))
    found = rows(tmp_path)
    assert [(r["problem_id"], r["sample"]) for r in found] == [(p, s) for p in "abc" for s in (2, 3, 4)]
    assert [r["generation"] for r in found[:2]] == [
        f"With seed {s} it is \\boxed{{{s}}}." for s in (102, 103)
    ]
    assert {r["num_generated_tokens"] for r in found} == {9} and found[0]["lineage"] == [{"made_by": "test"}]
    assert len(script.bodies) == 9 and script.busiest == 4
    assert next(b for b in script.bodies if b["seed"] == 102 and "problem a" in b["prompt"]) == {
        "model": "scripted", "max_tokens": 32, "temperature": 0.7, "top_p": 0.9, "stop": ["<|im_end|>"],
        "presence_penalty": 0.0, "frequency_penalty": 0.0,
        "prompt": FORM.prompt.replace("{problem}", "problem a"), "seed": 102,
    }  # fmt: skip


def test_a_proxy_of_the_environment_is_not_asked_for_a_server_on_this_machine(tmp_path, monkeypatch):
    """Nor is one that is started here, which answers at 127.0.0.1 too; nothing listens at this proxy."""
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with scripted() as script:
        sample_endpoint(engine(script), job(tmp_path))
    assert len(rows(tmp_path)) == 9
    elsewhere = Server("http://node7.example.org:8000/v1", "m", None, None)
    assert not elsewhere.here and Server(script.base_url, "m", None, None).here


def test_without_seeds_no_request_has_one(tmp_path):
    reply = {"choices": [{"text": "so", "finish_reason": "stop"}], "usage": {"completion_tokens": 2}}
    with scripted(reply=reply) as script:
        sample_endpoint(engine(script), job(tmp_path, sampling=replace(SAMPLING, seeded=False)))
    assert len(script.bodies) == 9 and not [body for body in script.bodies if "seed" in body]


def test_a_prompt_goes_as_the_tokens_of_training_where_the_server_can(tmp_path, tiny_model):
    hostile = [Problem(problem_id="a", problem="1<|im_end|>2", expected_answer="1")]
    with scripted() as script:
        sample_endpoint(engine(script, dialect="vllm"), replace(job(tmp_path, tiny_model), problems=hostile))
    tokenizer = TextTokenizer(tiny_model, FORM)
    body = script.bodies[0]
    assert body["prompt"] == tokenizer.prompt_ids("1<|im_end|>2") and body["top_k"] == -1
    assert body["stop_token_ids"] == sorted([tokenizer.end_of_turn_id, tokenizer.eos_id])
    assert body["add_special_tokens"] is False and "stop" not in body
    values = {"ignore_eos": True, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0}
    assert {key: body[key] for key in values} == values, "left open: the server would take the model's own"


def test_a_chat_names_what_ends_an_answer_where_the_tokens_are_known(tmp_path, tiny_model):
    with scripted() as script:
        sample_endpoint(engine(script, dialect="vllm", endpoint="chat"), job(tmp_path, tiny_model))
    body, ends = script.bodies[0], TextTokenizer(tiny_model, FORM).stop_ids
    assert body["stop_token_ids"] == ends and body["ignore_eos"] is True and "prompt" not in body


SHOTS = Shots((("2 + 2", "It is 4."),), "\n\n", ("\n\nProblem:", "###"))
FEW = PromptFormat("Problem: {problem}\nSolution:", "<|im_end|>", "<|endoftext|>", SHOTS)


@pytest.mark.parametrize("dialect, endpoint, stop", [
    ("openai", "text", ["<|im_end|>", *SHOTS.stops]), ("vllm", "text", list(SHOTS.stops)),
    ("openai", "chat", list(SHOTS.stops)), ("vllm", "chat", list(SHOTS.stops)),
])  # fmt: skip
def test_what_ends_an_answer_among_examples_is_sent_and_cut_off(dialect, endpoint, stop, tmp_path, tiny_model):
    """A server that does not heed it has answered, too."""
    choice = {"text": "10\n\nProblem: 7", "message": {"content": "10\n\nProblem: 7"}, "finish_reason": "length"}
    with scripted(reply={"choices": [choice], "usage": {"completion_tokens": 32}}) as script:
        asked = replace(job(tmp_path, tiny_model), form=FEW, examples=("p:0",))
        sample_endpoint(engine(script, dialect=dialect, endpoint=endpoint), asked)
    assert script.bodies[0]["stop"] == stop
    if endpoint == "text":
        text = "Problem: 2 + 2\nSolution:It is 4.\n\nProblem: problem a\nSolution:"
        sent = {json.dumps(body["prompt"]) for body in script.bodies}
        ids = TextTokenizer(tiny_model, FEW).prompt_ids("problem a")
        assert json.dumps(ids if dialect == "vllm" else text) in sent
    found = rows(tmp_path)
    assert {(r["generation"], r["finish_reason"]) for r in found} == {("10", "stop")}
    assert found[0]["lineage"] == [{"made_by": "test", "examples": ["p:0"]}]


def cut(tokens: int, prompt: int | None = 10) -> dict:
    usage = {"completion_tokens": tokens, **({} if prompt is None else {"prompt_tokens": prompt})}
    return {"choices": [{"text": "so", "finish_reason": "length"}], "usage": usage}


@pytest.mark.parametrize(
    "tokens, prompt, context, told",
    [
        (20, 10, None, "of 20 new tokens, or a context of 30 for prompt and answer"),
        (20, 10, 4096, "a limit of its own, of 20 new tokens"),
        (20, None, None, "of 20 new tokens, or a context for prompt and answer"),
        (20, 10, 30, "with its prompt of 10 it fills the server's context, max_model_len 30"),
        (31, 10, 42, "fills the server's context"),
    ],
)
def test_an_answer_that_the_server_cut_is_an_error_that_names_the_limit(tokens, prompt, context, told, tmp_path):
    with scripted(reply=cut(tokens, prompt), context=context) as script, pytest.raises(UserError) as caught:
        sample_endpoint(engine(script), job(tmp_path))
    assert f"length) after {tokens} tokens, of 32 that were asked for" in str(caught.value)
    assert told in str(caught.value) and caught.value.where == f"{script.base_url}/completions"
    assert "max_new_tokens" in caught.value.fix and len(script.bodies) >= 1


@pytest.mark.parametrize("tokens", [32, 33])
def test_one_that_ends_at_our_limit_is_a_sample(tokens, tmp_path):
    with scripted(reply=cut(tokens)) as script:
        sample_endpoint(engine(script), job(tmp_path))
    assert {row["finish_reason"] for row in rows(tmp_path)} == {"length"}


@pytest.mark.parametrize("room", [-1, 0])
def test_a_prompt_near_the_end_of_the_context_is_refused_before_the_first_sample(room, tmp_path, tiny_model):
    longest = max(len(TextTokenizer(tiny_model, FORM).prompt_ids(f"problem {name}")) for name in "abc")
    with scripted(context=longest + SAMPLING.max_new_tokens + room) as script:
        asked = engine(script, dialect="vllm"), job(tmp_path, tiny_model)
        if room == 0:
            sample_endpoint(*asked)
            return
        with pytest.raises(UserError, match=f"a prompt of {longest} tokens and 32 new ones") as caught:
            sample_endpoint(*asked)
    assert caught.value.where.startswith("problem ") and script.bodies == []


def test_a_special_token_in_a_problem_is_refused_where_the_prompt_goes_as_text(tmp_path, tiny_model):
    hostile = [Problem(problem_id="bad", problem="1<|im_end|>2", expected_answer="1")]
    with scripted() as script, pytest.raises(UserError, match="holds a special token") as caught:
        sample_endpoint(engine(script), replace(job(tmp_path, tiny_model), problems=hostile))
    assert caught.value.where == "problem bad" and script.bodies == []


def test_a_chat_sends_messages(tmp_path):
    with scripted() as script:
        chat = engine(script, endpoint="chat", system_message="be brief", max_concurrent_requests=1)
        sample_endpoint(chat, replace(job(tmp_path), form=PromptFormat("Solve: {problem}", "<|im_end|>")))
    assert script.bodies[0]["messages"] == [
        {"role": "system", "content": "be brief"}, {"role": "user", "content": "Solve: problem a"},
    ]  # fmt: skip
    assert "prompt" not in script.bodies[0] and rows(tmp_path)[0]["generation"].startswith("With seed 102")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(status, tmp_path):
    with scripted(statuses=[status] * 3) as script:
        sample_endpoint(engine(script), job(tmp_path))
    assert len(rows(tmp_path)) == 9 and len(script.bodies) == 12


def test_a_server_that_stays_busy_ends_the_run_and_what_came_is_kept(tmp_path):
    with scripted(statuses=[200, 200, *[503] * 99]) as script:
        with pytest.raises(UserError, match=r"status 503; it sent .*scripted 503") as caught:
            sample_endpoint(engine(script, max_concurrent_requests=1), job(tmp_path))
        assert "resumes" in caught.value.fix and len(script.bodies) == 2 + 4
        script.statuses.clear()
        sample_endpoint(engine(script), job(tmp_path))
    assert len(rows(tmp_path)) == 9 and len(script.bodies) == 6 + 7, (
        "samples that were there were asked for again"
    )


def test_a_request_that_is_refused_is_not_repeated(tmp_path):
    with scripted(statuses=[400]) as script, pytest.raises(UserError, match="status 400"):
        sample_endpoint(engine(script, max_concurrent_requests=1), job(tmp_path))
    assert len(script.bodies) == 1


@pytest.mark.parametrize("tail", [b"", b'{"problem_id": "c", "sam'])
def test_a_cut_file_is_gone_on_with(tail, tmp_path):
    with scripted() as script:
        sample_endpoint(engine(script), job(tmp_path))
        whole, received = rows(tmp_path), tmp_path / "scratch" / "received.jsonl"
        received.write_bytes(b"".join(received.read_bytes().splitlines(keepends=True)[:4]) + tail)
        (tmp_path / "generations.jsonl").unlink()
        script.bodies.clear()
        sample_endpoint(engine(script), job(tmp_path))
    assert rows(tmp_path) == whole and len(script.bodies) == 5


def test_a_server_that_hangs_ends_at_the_stall_limit(tmp_path):
    with scripted(delay=600.0) as script, pytest.raises(UserError, match="no new sample for 1 s"):
        started = time.monotonic()
        sample_endpoint(engine(script, stall_seconds=1), job(tmp_path))
    assert time.monotonic() - started < 120


ENDING = """
import os, subprocess, sys
from tests import scripted_server as made
lingers = "import signal, sys, time; signal.signal(15, lambda *_: (time.sleep(3), sys.exit())); print(1, flush=True); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", lingers], stdout=subprocess.PIPE).stdout.readline()
class Ending(made._Handler):
    def do_POST(self):
        print("out of memory", flush=True)
        os._exit(9)
server = made._Server(("127.0.0.1", int(sys.argv[1])), Ending)
server.script = made.Script("scripted")
server.serve_forever()
"""


def test_a_server_of_ours_that_ends_is_the_error_also_when_what_it_started_takes_its_time(tmp_path, monkeypatch):
    """Not that nothing listens there, which is what the requests see."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with scripted() as script:
        made = engine(script, retries=0)
    server = replace(made.server, base_url=None, command=[sys.executable, "-c", ENDING, "{port}"])
    with pytest.raises(UserError, match=r"the server ended with exit code 9: .*out of memory"):
        sample_endpoint(replace(made, server=server), job(tmp_path))


def test_a_request_that_hangs_is_given_up_and_tried_again(tmp_path):
    with scripted(delay=600.0) as script, pytest.raises(UserError, match=r"Timeout|sample 2: "):
        sample_endpoint(engine(script, request_timeout_seconds=1.0, retries=1), job(tmp_path, problems="a"))
    assert len(script.bodies) >= 2


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"choices": []},
        {"choices": [{"text": "x", "finish_reason": "abort"}], "usage": {"completion_tokens": 1}},
    ],
)
def test_a_reply_that_is_none_is_named(reply, tmp_path):
    with scripted(reply=reply or {"x": 1}) as script, pytest.raises(UserError, match="the reply is not what"):
        sample_endpoint(engine(script), job(tmp_path))


def test_a_key_goes_into_the_header_and_into_no_file(tmp_path, monkeypatch):
    monkeypatch.setenv("A_KEY", "secret-12345")
    with scripted() as script:
        made = engine(script)
        sample_endpoint(replace(made, server=replace(made.server, api_key_env="A_KEY")), job(tmp_path))
    assert set(script.keys) == {"Bearer secret-12345"}
    assert not any(b"secret-12345" in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())

"""A model server may send anything: what helps is asked again, all else is one line with its address and its words."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_cot.errors import UserError
from nemo_cot.sampling.openai import endpoint
from nemo_cot.sampling.openai.endpoint import sample_endpoint
from nemo_cot.sampling.openai.replies import Answer, read_answer
from nemo_cot.serving import fetch
from nemo_cot.serving.fetch import Trouble, excerpt, wait_asked_for
from tests.sampling.test_endpoint import engine, job, rows
from tests.scripted_server import Raw, scripted


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(endpoint, "_FIRST_WAIT_SECONDS", 0.01)


def reply(tokens: str = "9", text: str = '"so 5"', reason: str = '"stop"', more: str = "") -> bytes:
    return (
        f'{{"choices": [{{"text": {text}, "finish_reason": {reason}}}], '
        f'"usage": {{"completion_tokens": {tokens}}}{more}}}'
    ).encode()


HTML = b"<!DOCTYPE html>\n<html><body>Please \x1b[31mlog in</body></html>"
AGAIN = {
    "a cut body": reply()[:40],
    "a page": HTML,
    "nothing": b"",
    "brackets in a field of its own": reply(more=f', "logprobs": {"[" * 200_000}'),
    "tokens without end": reply("Infinity"),
    "no number": reply("NaN"),
    "half a character": reply(text=r'"so \ud83d"'),
    "the other half": reply(text=r'"\ude00 so"'),
    "not UTF-8": reply(text='"so 5"').replace(b"so", b"\xff\xfe"),
    "two replies": reply() * 2,
    "no choice": b'{"choices": [], "usage": {"completion_tokens": 0}}',
    "an answer that was broken off": reply(reason='"abort"'),
    "an answer that has not ended": reply(reason="null"),
}
FINAL = {
    "tokens below nothing": (reply("-7"), "completion_tokens"),
    "tokens beyond all bounds": (reply("1" + "0" * 30), "completion_tokens"),
    "more tokens than were asked for": (reply("34"), "completion_tokens is 34, of 32 that were"),
    "a text of no tokens": (reply("0"), "completion_tokens is 0 for a text of 4 characters"),
    "half a token": (reply("1.5"), "completion_tokens"),
    "tokens as text": (reply('"9"'), "completion_tokens"),
    "a yes": (reply("true"), "completion_tokens"),
    "no usage": (b'{"choices": [{"text": "", "finish_reason": "stop"}], "usage": null}', "$.usage"),
    "a text that is a list": (reply(text='[{"type": "text", "text": "so"}]'), "choices[0].text"),
    "a text that is a number": (reply(text="5"), "choices[0].text"),
    "a text that is an object": (reply(text='{"a": 1}'), "choices[0].text"),
    "a reason that is a list": (reply(reason='["stop"]'), "finish_reason"),
    "choices that are one": (reply().replace(b"[", b"").replace(b"]", b""), "$.choices"),
    "a list": (b"[]", "got `array`"),
    "a number": (b"7", "got `int`"),
    "brackets": (b"[" * 200_000, "got `array`"),
    "an error with status 200": (b'{"error": {"message": "no such model"}}', "no such model"),
}  # fmt: skip


def one_sample(folder: Path):
    return replace(job(folder, problems="a"), samples=range(2, 3))


@pytest.mark.parametrize("kind", AGAIN)
def test_a_reply_that_may_be_an_accident_is_asked_for_again(kind, tmp_path):
    with scripted(replies=[Raw(AGAIN[kind])] * 2) as script:
        sample_endpoint(engine(script, retries=2), one_sample(tmp_path))
    assert len(script.bodies) == 3 and rows(tmp_path)[0]["generation"].startswith("With seed 102")


@pytest.mark.parametrize("kind", AGAIN)
def test_and_where_it_stays_so_it_is_one_line_with_the_address_and_what_was_sent(kind, tmp_path):
    with scripted(replies=[Raw(AGAIN[kind])] * 9) as script, pytest.raises(UserError) as caught:
        sample_endpoint(engine(script, retries=1), one_sample(tmp_path))
    told = str(caught.value)
    assert len(script.bodies) == 2 and caught.value.where == f"{script.base_url}/completions"
    assert excerpt(AGAIN[kind] or b" ") in told and told.isprintable() and len(told) < 700


@pytest.mark.parametrize("kind", FINAL)
def test_a_reply_of_another_shape_ends_the_run_at_once(kind, tmp_path):
    body, part = FINAL[kind]
    with scripted(replies=[Raw(body)] * 9) as script, pytest.raises(UserError) as caught:
        sample_endpoint(engine(script), one_sample(tmp_path))
    told = str(caught.value)
    assert len(script.bodies) == 1 and caught.value.where == f"{script.base_url}/completions"
    assert part in told and excerpt(body) in told and told.isprintable()


@pytest.mark.parametrize("headers", [{"Content-Length": "4000"}, {"Content-Encoding": "gzip"}])
def test_a_body_that_is_not_what_its_headers_say_is_asked_for_again(headers, tmp_path):
    with scripted(replies=[Raw(reply(), headers=headers)]) as script:
        sample_endpoint(engine(script), one_sample(tmp_path))
    assert len(script.bodies) == 2 and len(rows(tmp_path)) == 1


@pytest.mark.parametrize("kind", ["text/html", "text/plain; charset=nonsense", "", "\\"])
def test_the_content_type_does_not_matter_where_the_body_is_right(kind, tmp_path):
    with scripted(replies=[Raw(reply(), headers={"Content-Type": kind})]) as script:
        sample_endpoint(engine(script), one_sample(tmp_path))
    assert rows(tmp_path)[0]["generation"] == "so 5" and len(script.bodies) == 1


def test_a_body_without_end_is_not_held(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "MOST_BYTES", 1 << 20)
    long = Raw(reply(text='"' + "x" * (3 << 20) + '"'))
    with (
        scripted(replies=[long] * 9) as script,
        pytest.raises(UserError, match="longer than 1 MiB") as caught,
    ):
        sample_endpoint(engine(script), one_sample(tmp_path))
    assert len(script.bodies) == 1 and len(str(caught.value)) < 700


@pytest.mark.parametrize("status, page, again", [
    (502, HTML, True), (500, b"\xff" * 9, True), (404, HTML, False), (302, b"", False), (204, b"", False),
])  # fmt: skip
def test_another_status_is_told_with_what_was_sent(status, page, again, tmp_path):
    with scripted(replies=[Raw(page, status)] * 9) as script, pytest.raises(UserError) as caught:
        sample_endpoint(engine(script, retries=1), one_sample(tmp_path))
    assert len(script.bodies) == 1 + again and f"it answers with status {status}" in caught.value.what
    assert str(caught.value).isprintable() and (not page or excerpt(page) in caught.value.what)


def test_a_key_that_the_server_repeats_is_not_told(tmp_path, monkeypatch):
    monkeypatch.setenv("A_KEY", "secret-12345")
    with (
        scripted(replies=[Raw(b"wrong key secret-12345", 401)]) as script,
        pytest.raises(UserError) as caught,
    ):
        made = engine(script)
        sample_endpoint(replace(made, server=replace(made.server, api_key_env="A_KEY")), one_sample(tmp_path))
    assert "wrong key ***" in caught.value.what and "secret" not in str(caught.value)


@pytest.mark.parametrize("chat", [True, False])
def test_what_the_api_describes_is_read(chat):
    said = {"message": {"content": "so 5", "role": "assistant"}} if chat else {"text": "so 5"}
    body = {"choices": [{**said, "finish_reason": "length", "index": 0}], "usage": {"completion_tokens": 33}}
    assert read_answer(json.dumps(body).encode(), chat=chat, max_tokens=32) == Answer("so 5", 33, "length")
    empty = (
        reply("1", "null")
        if not chat
        else reply("1").replace(b'"text": "so 5"', b'"message": {"content": null}')
    )
    assert read_answer(empty, chat=chat, max_tokens=32) == Answer("", 1, "stop")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
CHOICE = st.fixed_dictionaries(
    {}, optional={"text": JSON, "message": JSON, "finish_reason": st.sampled_from(["stop", "length"]) | JSON}
)
REPLY = st.fixed_dictionaries(
    {}, optional={
        "choices": st.lists(CHOICE, max_size=2) | JSON, "usage": st.fixed_dictionaries({"completion_tokens": JSON}) | JSON,
    }
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(REPLY | JSON, st.booleans(), st.integers(0, 400))
def test_any_reply_is_an_answer_or_a_trouble(content, chat, cut):
    for body in (
        json.dumps(content).encode(),
        json.dumps(content, ensure_ascii=False).encode(errors="surrogatepass")[:cut],
    ):
        try:
            answer = read_answer(body, chat=chat, max_tokens=100)
        except Trouble as trouble:
            assert str(trouble).isprintable()
        else:
            assert 0 <= answer.tokens <= 101 and answer.finish_reason in ("stop", "length")
            answer.text.encode()


NOW = 1_700_000_000.0


@pytest.mark.parametrize("headers, seconds", [
    ({"Retry-After": "46"}, 46.0), ({"Retry-After": " 1.5 "}, 1.5), ({"Retry-After": "0"}, 0.0), ({"Retry-After": "-3"}, 0.0),
    ({"Retry-After": formatdate(NOW + 90, usegmt=True)}, 90.0), ({"Retry-After": formatdate(NOW - 90, usegmt=True)}, 0.0),
    ({"Retry-After": formatdate(NOW + 3690, usegmt=True), "Date": formatdate(NOW + 3600, usegmt=True)}, 90.0),
    ({"Retry-After": "Sun Nov 26 99999 99:99:99"}, None), ({"Retry-After": "soon"}, None), ({"Retry-After": "inf"}, None),
    ({"Retry-After": "nan"}, None), ({"Retry-After": ""}, None), ({}, None),
])  # fmt: skip
def test_the_wait_that_a_server_asks_for(headers, seconds):
    assert wait_asked_for(httpx.Headers(headers), NOW) == seconds


@pytest.fixture
def slept(monkeypatch) -> list[float]:
    """The long sleeps, which are skipped."""
    found, sleep = [], asyncio.sleep

    async def fake(seconds: float) -> None:
        if seconds > 5:
            found.append(seconds)
        await sleep(0 if seconds > 5 else seconds)

    monkeypatch.setattr(asyncio, "sleep", fake)
    return found


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("date", [False, True])
def test_a_server_that_names_a_time_is_left_alone_until_then_and_does_not_use_up_the_retries(
    status, date, slept, tmp_path
):
    headers = {"Retry-After": formatdate(time.time() + 3000, usegmt=True) if date else "3000"}
    with scripted(replies=[Raw(b"later", status, headers)] * 6) as script:
        sample_endpoint(engine(script, retries=0), one_sample(tmp_path))
    assert len(rows(tmp_path)) == 1 and len(script.bodies) == 7
    assert len(slept) == 6 and all(2000 < seconds < 3002 for seconds in slept)


def test_a_longer_wait_than_a_stall_may_last_is_an_error_at_once(slept, tmp_path):
    asks = Raw(b"quota", 429, {"Retry-After": "7200"})
    with scripted(replies=[asks] * 9) as script, pytest.raises(UserError) as caught:
        sample_endpoint(engine(script, stall_seconds=3600), one_sample(tmp_path))
    assert "it asks for 7200 s, engine.stall_seconds is 3600" in caught.value.what and slept == []
    assert len(script.bodies) == 1 and "'quota'" in caught.value.what


def test_waits_that_never_end_are_a_stall_and_the_reason_is_told(tmp_path, monkeypatch):
    """The clock runs out behind the first wait, however long the first request takes here."""
    asks, ticks = Raw(b"quota", 429, {"Retry-After": "1"}), itertools.count(1)
    clock = SimpleNamespace(monotonic=lambda: next(ticks) / 1000 + 60 * (len(script.bodies) > 1))
    monkeypatch.setattr(endpoint, "time", clock)
    with (
        scripted(replies=[asks] * 99) as script,
        pytest.raises(UserError, match="no new sample for 2 s") as caught,
    ):
        sample_endpoint(engine(script, stall_seconds=2, retries=0), one_sample(tmp_path))
    assert "status 429" in caught.value.what and "'quota'" in caught.value.what

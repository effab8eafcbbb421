"""What comes back from an OpenAI-compatible endpoint: one answer, or why it is none."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from nemo_cot.sampling.limits import cut_early
from nemo_cot.serving.fetch import Trouble, read_as, unlike_the_api

FINISH_REASONS = ("stop", "length")


class Answer(NamedTuple):
    """``tokens`` counts what was generated, the end-of-turn token included."""

    text: str
    tokens: int
    finish_reason: str


class _Usage(msgspec.Struct):
    completion_tokens: int
    prompt_tokens: int | None = None


class _Message(msgspec.Struct):
    content: str | None


class _Chat(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Text(msgspec.Struct):
    text: str | None
    finish_reason: str | None = None


class _ChatReply(msgspec.Struct):
    choices: list[_Chat]
    usage: _Usage


class _TextReply(msgspec.Struct):
    choices: list[_Text]
    usage: _Usage


def read_answer(body: bytes, *, chat: bool, max_tokens: int, context: int | None = None) -> Answer:
    """The answer in the body of one reply to a request for at most ``max_tokens``, of a server with ``context``.

    Raises Trouble for a reply that is not as the API describes, where asking again may help if the answer
    was not finished; and for an answer that was cut before ``max_tokens``.
    """
    reply = read_as(body, _ChatReply if chat else _TextReply)
    if not reply.choices:
        raise unlike_the_api("choices is empty", body, again=True)
    choice = reply.choices[0]
    text = choice.message.content if isinstance(choice, _Chat) else choice.text
    tokens, reason = reply.usage.completion_tokens, choice.finish_reason or ""
    if reason not in FINISH_REASONS:
        raise unlike_the_api(f"finish_reason is {choice.finish_reason!r}", body, again=True)
    if (trouble := miscounted(text or "", tokens, max_tokens)) is not None:
        raise unlike_the_api(f"completion_tokens is {trouble}", body, again=False)
    early = cut_early(tokens, max_tokens, prompt=reply.usage.prompt_tokens, context=context)
    if reason == "length" and early is not None:
        raise Trouble(early[0], again=False, fix=early[1])
    return Answer(text or "", tokens, reason)


def miscounted(text: str, tokens: int, max_tokens: int) -> str | None:
    """Why ``tokens`` cannot be the length of ``text``; None where it can. Lengths decide which traces are kept.

    One more than ``max_tokens`` is let pass: some servers do not count the end-of-turn token towards it.
    """
    if not 0 <= tokens <= max_tokens + 1:
        return f"{str(tokens)[:20]}, of {max_tokens} that were asked for at most"
    return f"0 for a text of {len(text):,} characters" if text and not tokens else None

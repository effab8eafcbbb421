"""One request to a server that may send anything: bounded in time and size, and what came instead in one line."""

from __future__ import annotations

import asyncio
import math
import os
import time
from email.utils import parsedate_to_datetime
from typing import TypeVar

import httpx
import msgspec

MOST_BYTES = 64 << 20
"""Of one reply. 32,768 tokens of 128 blanks each, escaped, are a tenth of it."""
_BUSY = (408, 409, 425, 429)
"""Status codes that say: later. So do all of 500 and above; all others are final."""
_SHOWN = 200

T = TypeVar("T")


class Trouble(Exception):
    """Why a request gave nothing: ``what``, and the start of what the server sent.

    ``again``: asking again may help. ``answered``: an HTTP reply came. ``busy``: the server says or shows
    that it is not ready. ``wait_seconds``: how long it asks to be left alone; None where it does not say.
    ``fix``: what helps, where that is known.
    """

    def __init__(
        self,
        what: str,
        sent: bytes = b"",
        *,
        again: bool = True,
        answered: bool = True,
        busy: bool = False,
        wait_seconds: float | None = None,
        fix: str = "",
    ) -> None:
        super().__init__(f"{what}; it sent {excerpt(sent)}" if sent else what)
        self.what, self.again, self.answered, self.busy = what, again, answered, busy
        self.wait_seconds, self.fix = wait_seconds, fix


async def fetch(
    client: httpx.AsyncClient, method: str, url: str, *, seconds: float, json: object = None
) -> bytes:
    """The body of a reply with status 200, within ``seconds``. Raises Trouble for anything else."""
    try:
        return await asyncio.wait_for(_body(client, method, url, json), seconds)
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        what = f"it does not answer ({type(error).__name__}): {_reason(error)}"
        raise Trouble(what, answered=False) from None
    except (asyncio.TimeoutError, httpx.TimeoutException) as error:
        what = f"its answer does not come ({type(error).__name__})"
        raise Trouble(what, answered=False, busy=True) from None
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        what = f"its answer does not come ({type(error).__name__}): {error}"
        raise Trouble(what, again=isinstance(error, httpx.HTTPError), answered=False) from None


async def _body(client: httpx.AsyncClient, method: str, url: str, json: object) -> bytes:
    body = bytearray()
    async with client.stream(method, url, json=json) as reply:
        async for part in reply.aiter_bytes():
            body += part
            if len(body) > MOST_BYTES:
                raise Trouble(f"its answer is longer than {MOST_BYTES >> 20} MiB", bytes(body), again=False)
    if reply.status_code == 200:
        return bytes(body)
    key = client.headers.get("Authorization", "").partition(" ")[2].encode()
    later = reply.status_code >= 500 or reply.status_code in _BUSY
    raise Trouble(
        f"it answers with status {reply.status_code}",
        bytes(body).replace(key, b"***") if key else bytes(body),
        again=later,
        busy=later,
        wait_seconds=wait_asked_for(reply.headers, time.time()) if later else None,
    )


def _reason(error: BaseException) -> str:
    """What the operating system said, which the client's libraries wrap three times over."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    refused = isinstance(error, ConnectionError) and error.errno
    return os.strerror(error.errno) if refused else str(error)


def read_as(body: bytes, kind: type[T]) -> T:
    """``body`` as JSON of the shape ``kind``. Raises Trouble: asking again may help where it is no JSON (cut,
    or a page that stands before the server), and does not where it is of another shape.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (ValueError, RecursionError) as error:
        raise unlike_the_api(str(error), body, again=not isinstance(error, msgspec.ValidationError)) from None


def unlike_the_api(what: str, body: bytes, *, again: bool) -> Trouble:
    """The trouble of a reply that is not as it should be."""
    return Trouble(f"the reply is not what OpenAI's API gives: {what}", body or b" ", again=again)


def wait_asked_for(headers: httpx.Headers, now: float) -> float | None:
    """Seconds that Retry-After asks for (RFC 9110, 10.2.3: a number, or a date, which is read by the server's
    own clock where it sends it); None without one that can be read. ``now``: seconds since 1970.
    """
    asked = headers.get("Retry-After", "").strip()
    try:
        seconds = float(asked)
    except ValueError:
        there = _seconds_since_1970(headers.get("Date", ""))
        until = _seconds_since_1970(asked)
        seconds = math.nan if until is None else until - (now if there is None else there)
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _seconds_since_1970(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def excerpt(sent: bytes) -> str:
    """The start of what a server sent, quoted and escaped, on one line."""
    start = repr(sent[: 4 * _SHOWN].decode(errors="replace")[:_SHOWN])
    return start if len(sent) <= _SHOWN else f"{start} and so on, {len(sent):,} bytes"

"""A scripted server: real HTTP with OpenAI's paths, but no model behind it. It answers what its script says.

In a thread (:func:`scripted`), or as a process: ``python scripted_server.py PORT NAME [DELAY]``.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import NamedTuple


class Raw(NamedTuple):
    """A reply to the byte. ``headers`` may claim another Content-Length than the body's."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = MappingProxyType({})


class Script:
    """``statuses`` and ``replies``: what the first requests get instead of an answer. ``delay``: seconds
    before each. ``meet``: how many requests the first ones wait for, so that as many are there at once. ``say``: the answer to a body. ``page``: what every GET gets in place of the list of models. ``context``: the
    max_model_len there.
    """

    def __init__(
        self,
        name: str,
        statuses: list[int] = (),
        delay: float = 0.0,
        reply: dict | None = None,
        replies: Sequence[Raw] = (),
        page: Raw | None = None,
        context: int | None = None,
        say: Callable[[dict], str] | None = None,
        meet: int = 1,
    ) -> None:
        self.name, self.statuses, self.delay, self.reply = name, list(statuses), delay, reply
        self.replies, self.page, self.context, self.say = list(replies), page, context, say
        self.bodies: list[dict] = []
        self.keys: list[str | None] = []
        self.base_url = ""
        self.lock = threading.Lock()
        self.gets = self.busy = self.busiest = 0
        self.met = threading.Semaphore(meet), threading.Barrier(meet)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.script.gets += 1
        if self.server.script.page is not None:
            self._send_raw(self.server.script.page)
            return
        model = {"id": self.server.script.name, "object": "model", "max_model_len": self.server.script.context}
        self._send(200, {"object": "list", "data": [model]})

    def do_PUT(self) -> None:
        """NeMo-Skills asks in this way whether somebody is there."""
        self._send(200, {})

    def do_POST(self) -> None:
        script = self.server.script
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with script.lock:
            script.bodies.append(body)
            script.keys.append(self.headers.get("Authorization"))
            status = script.statuses.pop(0) if script.statuses else 200
            raw = script.replies.pop(0) if script.replies else None
            script.busy += 1
            script.busiest = max(script.busy, script.busiest)
        among_the_first, barrier = script.met
        if among_the_first.acquire(blocking=False):
            barrier.wait(60)
        time.sleep(script.delay)
        with script.lock:
            script.busy -= 1
        if raw is not None:
            self._send_raw(raw)
        elif status != 200:
            self._send(status, {"error": {"message": f"scripted {status}"}})
        else:
            self._send(200, script.reply or self._completion(body))

    def _completion(self, body: dict) -> dict:
        say = self.server.script.say
        text = say(body) if say else f"With seed {body['seed']} it is \\boxed{{{body['seed']}}}."
        chat = "chat" in self.path
        said = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        return {
            "id": "0", "created": 0, "model": body["model"],
            "object": "chat.completion" if chat else "text_completion",
            "choices": [{"index": 0, "finish_reason": "stop", "logprobs": None, **said}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 9, "total_tokens": 10},
        }  # fmt: skip

    def _send(self, status: int, content: dict) -> None:
        self._send_raw(Raw(json.dumps(content).encode(), status))

    def _send_raw(self, raw: Raw) -> None:
        own = {"Content-Type": "application/json", "Content-Length": str(len(raw.body))}
        headers = {**own, **raw.headers}
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.send_response_only(raw.status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw.body)
        self.close_connection = int(headers["Content-Length"]) != len(raw.body)

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


@contextlib.contextmanager
def scripted(name: str = "scripted", **script: object) -> Iterator[Script]:
    """A scripted server in a thread, for as long as the block lasts."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.script = Script(name, **script)
    server.script.base_url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.script
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


if __name__ == "__main__":
    process = _Server(("127.0.0.1", int(sys.argv[1])), _Handler)
    process.script = Script(sys.argv[2], delay=float(sys.argv[3]) if len(sys.argv) > 3 else 0.0)
    print("listening", flush=True)
    process.serve_forever()

"""An endpoint that is not ours to start: what is waited for is told, and not for long when nobody is there."""

from __future__ import annotations

import contextlib
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import load_config
from nemo_cot.serving.server import serving
from tests.scripted_server import Raw, scripted
from tests.serving.test_server import config


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Taken, so that nobody else gets it, and nothing listens there."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_the_default_for_nobody_there_is_short():
    server = load_config(["evaluate.engine=openai"]).evaluate.engine.server
    assert server.connect_deadline_seconds <= 60 < server.start_deadline_seconds
    skills = load_config(["evaluate.engine=nemo_skills"]).evaluate.engine.server
    assert skills.connect_deadline_seconds == server.connect_deadline_seconds


def unknown(host: str, *arguments: object, **options: object) -> None:
    """What a resolver answers for a name that nobody has; one that cannot be reached may take a minute for it."""
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.mark.parametrize("host, reason", [("127.0.0.1", "Connection refused"), ("no-such-host.invalid", "Name or")])
def test_where_nobody_listens_the_reason_is_told_at_once_and_the_wait_is_short(
    host, reason, closed_port, tmp_path, capsys, monkeypatch
):
    if host.endswith("invalid"):
        monkeypatch.setattr(socket, "getaddrinfo", unknown)
    where, started = f"http://{host}:{closed_port}/v1", time.monotonic()
    ask = config(base_url=where, model_name="m", start_deadline_seconds=300.0, connect_deadline_seconds=2.0)
    with pytest.raises(UserError, match=rf"nothing listens there, for 2 s: .*{reason}") as caught:
        with serving(ask, None, tmp_path):
            pytest.fail("nobody is there")
    assert time.monotonic() - started < 120
    assert caught.value.where == where and "engine.server.base_url" in caught.value.fix
    told = [line for line in capsys.readouterr().out.splitlines() if "asked again" in line]
    assert len(told) == 1 and reason in told[0] and "for 2 s at most" in told[0]


def test_an_endpoint_that_is_busy_loading_has_the_long_deadline(tmp_path, capsys):
    class Loading(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(503)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Loading) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        where = f"http://127.0.0.1:{server.server_port}/v1"
        ask = config(base_url=where, model_name="m", start_deadline_seconds=2.5, connect_deadline_seconds=0.5)
        with pytest.raises(UserError, match=r"no server after 2.5 s: it answers with status 503"):
            with serving(ask, None, tmp_path):
                pytest.fail("it never gets ready")
        server.shutdown()
    assert "it answers with status 503; asked again for 2.5 s at most" in capsys.readouterr().out


def test_one_that_comes_up_within_the_deadline_is_taken(tmp_path):
    with scripted("m") as script:
        ask = config(base_url=script.base_url, model_name="m", connect_deadline_seconds=5.0)
        with serving(ask, None, tmp_path) as server:
            assert server.process is None


HTML = b"<!DOCTYPE html>\n<html><body>Open \x1b[1mOnDemand</body></html>"


@pytest.mark.parametrize("page, part", [
    (Raw(HTML), "JSON is malformed"), (Raw(HTML, 404), "status 404"), (Raw(b"{}", 401), "status 401"),
    (Raw(b"", 302, {"Location": "/login"}), "status 302"), (Raw(b'{"data": [7]}'), "$.data[0]"),
    (Raw(b'{"data": [{"id": [1]}]}'), "$.data[0].id"), (Raw(b"[" * 200_000), "got `array`"), (Raw(b"null"), "got `null`"),
    (Raw(b'{"data": [{"id": "\\ud800"}]}'), "truncated"), (Raw(b""), "truncated"),
])  # fmt: skip
def test_something_else_at_the_address_is_not_waited_for(page, part, tmp_path, capsys):
    started = time.monotonic()
    with scripted("m", page=page) as script:
        ask = config(
            base_url=script.base_url,
            model_name="m",
            start_deadline_seconds=300.0,
            connect_deadline_seconds=1.0,
        )
        with pytest.raises(UserError, match="what listens there is no model server, for 1 s") as caught:
            with serving(ask, None, tmp_path):
                pytest.fail("it is no model server")
    assert time.monotonic() - started < 120 and caught.value.where == script.base_url
    assert part in caught.value.what and "engine.server.base_url" in caught.value.fix
    assert str(caught.value).isprintable() and len(str(caught.value)) < 700
    told = [line for line in capsys.readouterr().out.splitlines() if "asked again for 1 s at most" in line]
    assert len(told) == 1 and "\x1b" not in told[0]


def test_something_that_speaks_no_http_is_not_waited_for(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:

        def greet() -> None:
            with contextlib.suppress(OSError):
                while True:
                    taken, _ = other.accept()
                    taken.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                    taken.close()

        threading.Thread(target=greet, daemon=True).start()
        where = f"http://127.0.0.1:{other.getsockname()[1]}/v1"
        ask = config(
            base_url=where, model_name="m", start_deadline_seconds=300.0, connect_deadline_seconds=1.0
        )
        with pytest.raises(UserError, match="for 1 s: its answer does not come") as caught:
            with serving(ask, None, tmp_path):
                pytest.fail("it is no model server")
        assert caught.value.where == where


def test_an_address_that_is_none_is_one_line(tmp_path):
    ask = config(base_url="http://a..b/v1", model_name="m", connect_deadline_seconds=0.5)
    with pytest.raises(UserError, match="nothing listens there"):
        with serving(ask, None, tmp_path):
            pytest.fail("nobody is there")


@pytest.mark.parametrize("key", ["sécret", "se\ncret", "se\x00cret"])
def test_a_key_that_no_header_can_hold_is_named_and_not_shown(key, tmp_path, monkeypatch):
    monkeypatch.setattr("nemo_cot.serving.server.os.environ", {"A_KEY": key})
    ask = config(base_url="http://127.0.0.1:9/v1", model_name="m", api_key_env="A_KEY")
    with pytest.raises(UserError, match="no header can") as caught:
        with serving(ask, None, tmp_path):
            pytest.fail("it was sent")
    assert caught.value.where == "A_KEY" and key not in str(caught.value)


def test_a_line_break_at_the_end_of_a_key_is_none_of_it(tmp_path, monkeypatch):
    monkeypatch.setenv("A_KEY", "secret\n")
    with scripted("m") as script:
        ask = config(base_url=script.base_url, model_name="m", api_key_env="A_KEY")
        with serving(ask, None, tmp_path) as server:
            assert server.api_key == "secret"


def test_a_server_that_names_a_time_while_it_loads_is_not_asked_before(tmp_path):
    page = Raw(b"loading", 503, {"Retry-After": "2"})
    with scripted("m", page=page) as script:
        ask = config(base_url=script.base_url, model_name="m", start_deadline_seconds=3.0)
        with pytest.raises(UserError, match="status 503; it sent 'loading'"):
            with serving(ask, None, tmp_path):
                pytest.fail("it never gets ready")
    assert script.gets <= 3


def test_a_server_is_not_started_with_a_damaged_model(tmp_path, tiny_model):
    model = Path(shutil.copytree(tiny_model, tmp_path / "m"))
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(UserError, match="damaged weights"):
        with serving(config(command=["/no/such/server"]), model, tmp_path):
            pytest.fail("it was started")
    assert not (tmp_path / "logs").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="what a full queue does is Linux's")
def test_a_place_that_drops_what_is_sent_is_nobody_and_not_a_busy_server(tmp_path, monkeypatch):
    """As behind a firewall. A socket with a full queue is one."""
    monkeypatch.setattr("nemo_cot.serving.server._ANSWER_SECONDS", 1.0)
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        where = f"http://127.0.0.1:{full.getsockname()[1]}/v1"
        ask = config(base_url=where, model_name="m", start_deadline_seconds=60.0, connect_deadline_seconds=2.0)
        with pytest.raises(UserError, match=r"nothing listens there, for 2 s: .*\(ConnectTimeout\)"):
            with serving(ask, None, tmp_path):
                pytest.fail("it dropped everything")

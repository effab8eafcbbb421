"""An endpoint that is not ours to start: what is waited for is told, and not for long when nobody is there."""

from __future__ import annotations

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import load_config
from nemo_cot.serving.server import serving
from tests.scripted_server import scripted
from tests.serving.test_server import config


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_the_default_for_nobody_there_is_short():
    server = load_config(["evaluate.engine=openai"]).evaluate.engine.server
    assert server.connect_deadline_seconds <= 60 < server.start_deadline_seconds
    skills = load_config(["evaluate.engine=nemo_skills"]).evaluate.engine.server
    assert skills.connect_deadline_seconds == server.connect_deadline_seconds


@pytest.mark.parametrize("place, reason", [
    (lambda: f"127.0.0.1:{closed_port()}", "Connection refused"),
    (lambda: "no-such-host.invalid:8000", "ame"),  # "Name or service not known", "failure in name resolution"
])  # fmt: skip
def test_where_nobody_listens_the_reason_is_told_at_once_and_the_wait_is_short(
    place, reason, tmp_path, capsys
):
    where, started = f"http://{place()}/v1", time.monotonic()
    ask = config(base_url=where, model_name="m", start_deadline_seconds=300.0, connect_deadline_seconds=2.0)
    with pytest.raises(UserError, match=rf"nothing listens there, for 2 s: .*{reason}") as caught:
        with serving(ask, None, tmp_path):
            pytest.fail("nobody is there")
    assert time.monotonic() - started < 60
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

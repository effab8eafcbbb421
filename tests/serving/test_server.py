"""Processes beside a recipe, and servers among them: they come up, are the right ones, and never stay behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from nemo_cot.engine_config import ServerConfig
from nemo_cot.errors import UserError
from nemo_cot.serving.process import running
from nemo_cot.serving.server import server_command, serving
from recipes.config import load_config
from tests.scripted_server import scripted
from tests.support import ROOT, environment, wait_for

SCRIPTED = [sys.executable, str(ROOT / "tests" / "scripted_server.py"), "{port}", "{model}"]


def config(**changes: object) -> ServerConfig:
    server = load_config(["evaluate.engine=openai"]).evaluate.engine.server
    return replace(server, **{"start_deadline_seconds": 20.0, **changes})


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except OSError:
        return False
    return state != b"Z"


def test_a_server_is_started_answers_and_is_gone_afterwards(tmp_path):
    with serving(config(command=SCRIPTED), Path("a model's name"), tmp_path) as server:
        server.check()
        assert server.model_name == "a model's name" and server.process.exit_code() is None
        log = server.process.log
    assert server.process.exit_code() is not None
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ listening\n", log.read_text())
    assert log == tmp_path / "logs" / "server.log"


def test_a_server_with_another_model_is_refused(tmp_path):
    with scripted("other") as script, pytest.raises(UserError, match="it has the models other, not mine"):
        with serving(config(base_url=script.base_url, model_name="mine"), None, tmp_path):
            pytest.fail("taken for the right one")


def test_a_started_server_with_another_model_is_refused_and_stopped(tmp_path):
    with pytest.raises(UserError, match="not wanted"):
        with serving(config(command=SCRIPTED, model_name="wanted"), Path("real"), tmp_path):
            pytest.fail("taken for the right one")


@pytest.mark.parametrize("code", ["print('no GPU is here'); raise SystemExit(3)", "import os; os.abort()"])
def test_a_server_that_ends_while_it_starts_is_told_with_its_last_words(code, tmp_path):
    started = time.monotonic()
    with pytest.raises(UserError, match=r"the server ended with exit code (3: no GPU is here|134)"):
        with serving(config(command=[sys.executable, "-c", code]), Path("m"), tmp_path):
            pytest.fail("came up")
    assert time.monotonic() - started < 15


def test_a_program_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="exit code 127: /no/such/server: No such file"):
        with serving(config(command=["/no/such/server"]), Path("m"), tmp_path):
            pytest.fail("came up")


def test_a_server_that_never_comes_up_ends_at_the_deadline(tmp_path):
    slow = [sys.executable, "-c", "import time; print('loading', flush=True); time.sleep(600)"]
    with pytest.raises(
        UserError, match=r"no server after 1.5 s: it does not answer \(ConnectError\).*loading"
    ):
        with serving(config(command=slow, start_deadline_seconds=1.5), Path("m"), tmp_path):
            pytest.fail("came up")


def test_a_port_that_is_taken_is_refused_before_the_start(tmp_path):
    with scripted("m") as script:
        port = int(script.base_url.split(":")[2].partition("/")[0])
        with pytest.raises(UserError, match=f"listens on port {port} already"):
            with serving(config(command=SCRIPTED, port=port), Path("m"), tmp_path):
                pytest.fail("another's server taken for ours")


def test_a_key_is_sent_and_a_missing_one_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("A_KEY", raising=False)
    with pytest.raises(UserError, match="not set") as caught:
        with serving(
            config(base_url="http://127.0.0.1:9/v1", model_name="m", api_key_env="A_KEY"), None, tmp_path
        ):
            pytest.fail("no key, no error")
    assert caught.value.where == "A_KEY"


def test_a_stopped_command_takes_all_its_descendants_along(tmp_path):
    """Also one in a session of its own, and one that ignores SIGTERM."""
    code = (
        "import os, subprocess, sys, time\n"
        "sleep = [sys.executable, '-c', 'import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)']\n"
        "print(subprocess.Popen(sleep).pid, subprocess.Popen(sleep, start_new_session=True).pid, flush=True)\n"
        "time.sleep(600)"
    )
    with running([sys.executable, "-c", code], tmp_path / "log", cwd=tmp_path) as process:
        told = wait_for(
            lambda: (tmp_path / "log").exists() and (tmp_path / "log").read_text().strip(), seconds=20
        )
        pids = [int(number) for number in told.split()[1:]]
        time.sleep(0.3)
        assert all(map(alive, pids))
    assert process.exit_code() is not None and not any(map(alive, pids))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1])
def test_nothing_outlives_a_process_that_is_killed(how, tmp_path):
    code = (
        "import sys, time, pathlib\n"
        "from nemo_cot.serving.process import running\n"
        f"with running([sys.executable, '-c', 'import os, time; print(os.getpid(), flush=True); time.sleep(600)'],"
        f" pathlib.Path({str(tmp_path / 'log')!r}), cwd=pathlib.Path('.')):\n"
        "    print('up', flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], env=environment(), cwd=tmp_path, stdout=subprocess.PIPE
    )
    assert parent.stdout.readline() == b"up\n"
    log = tmp_path / "log"
    pid = int(wait_for(lambda: log.exists() and log.read_text().strip(), seconds=20).split()[1])
    assert alive(pid)
    os.kill(parent.pid, how)
    parent.wait(20)
    wait_for(lambda: not alive(pid), seconds=20, every=0.02)


def test_the_command_of_nemo_skills():
    server = replace(
        load_config(["evaluate.engine=nemo_skills"]).evaluate.engine.server,
        max_model_len=4096, arguments=["--rope-scaling", '{"type": "yarn"}'],
    )  # fmt: skip
    assert server_command(server, "/models/Qwen 2", 5001) == [
        "python", "-m", "nemo_skills.inference.server.serve_vllm", "--model", "/models/Qwen 2", "--num_gpus", "8",
        "--num_nodes", "1", "--port", "5001", "--max-model-len", "4096", "--rope-scaling", "'{\"type\": \"yarn\"}'",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "path", ['/models/"; rm -rf x; "', "/models/$(touch x)", "/models/`touch x`", "/m\\", "/m\nx"]
)
def test_a_path_that_serve_vllms_shell_would_read_is_refused(path):
    with pytest.raises(UserError, match="to a shell"):
        server_command(load_config(["evaluate.engine=nemo_skills"]).evaluate.engine.server, path, 1)


def test_placeholders_are_filled_once_and_nothing_else_is():
    command = ["{model}", "--x={num_gpus}", "{other}", "{{port}}"]
    assert server_command(config(command=command, arguments=["{port}"]), "{port}", 7) == [
        "{port}", "--x=1", "{other}", "{7}", "7",
    ]  # fmt: skip

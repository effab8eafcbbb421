"""Processes beside a recipe, and servers among them: they come up, are the right ones, and never stay behind."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

from nemo_cot.config.engines import ServerConfig
from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import load_config
from nemo_cot.serving import ports
from nemo_cot.serving.process import Process
from nemo_cot.serving.server import Server, _wait, server_command, serving
from tests.scripted_server import scripted
from tests.support import ROOT, SECONDS, environment, wait_for

SCRIPTED = [sys.executable, str(ROOT / "tests" / "scripted_server.py"), "{port}", "{model}"]


def config(**changes: object) -> ServerConfig:
    server = load_config(["evaluate.engine=openai"]).evaluate.engine.server
    return replace(server, **{"start_deadline_seconds": 240.0, **changes})


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
    assert time.monotonic() - started < 120, "it was waited for"


def test_a_program_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="exit code 127: /no/such/server: No such file"):
        with serving(config(command=["/no/such/server"]), Path("m"), tmp_path):
            pytest.fail("came up")


def test_a_server_that_never_comes_up_ends_at_the_deadline(tmp_path, monkeypatch):
    """The deadline begins once it has written its line, however long its own start takes here."""

    def after_its_line(server: Server, *seconds: float) -> Server:
        wait_for(lambda: server.process.last_lines() == "loading")
        return _wait(server, *seconds)

    monkeypatch.setattr("nemo_cot.serving.server._wait", after_its_line)
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


SHARING = """
import socket, sys, time
from tests import scripted_server as made
class Server(made._Server):  # as vLLM binds
    def server_bind(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()
time.sleep(2)
server = Server(("127.0.0.1", int(sys.argv[1])), made._Handler)
server.script = made.Script(sys.argv[2])
server.serve_forever()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ports are claimed on Linux only")
def test_two_servers_never_share_a_port_however_they_bind(tmp_path, monkeypatch, capsys):
    """The first is still loading: it does not listen yet. Once it is gone, the port is free again."""
    port, command = ports._free_port(), [sys.executable, "-c", SHARING, "{port}", "{model}"]
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    code = (
        "import sys, time, pathlib\n"
        "from nemo_cot.serving.server import serving\n"
        "from tests.serving.test_server import config\n"
        "with serving(config(command=sys.argv[3:], port=int(sys.argv[1])), pathlib.Path('first'), pathlib.Path(sys.argv[2])):\n"
        "    print('up', flush=True); time.sleep(600)"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", code, str(port), str(tmp_path), *command],
        env=environment(),
        stdout=subprocess.PIPE,
    )
    try:
        assert b"waiting for" in first.stdout.readline()
        monkeypatch.setattr(ports, "_PATIENCE_SECONDS", 0.5)
        with pytest.raises(UserError, match=f"has port {port}") as caught:
            with serving(config(command=command, port=port), Path("second"), tmp_path):
                pytest.fail("two servers on one port")
        assert caught.value.where == "engine.server.port" and "waiting up to" in capsys.readouterr().out
        assert first.stdout.readline().startswith(b"  server: ready") and first.stdout.readline() == b"up\n"
    finally:
        first.kill()
        first.wait()
    monkeypatch.setattr(ports, "_PATIENCE_SECONDS", SECONDS)  # until the keeper has ended the first one's server
    with serving(config(command=command, port=port), Path("second"), tmp_path) as server:
        assert server.model_name == "second"


def test_an_answer_counts_only_while_the_own_server_lives(tmp_path, monkeypatch):
    """It ends, and another's on the same port answers."""

    class Ending:
        log, codes = tmp_path / "log", iter([None, 1])

        def exit_code(self):
            return next(self.codes)

        def last_lines(self):
            return "address in use"

    with scripted("m") as script, pytest.raises(UserError, match="ended with exit code 1: address in use"):
        _wait(Server(script.base_url, "m", None, Ending()), 60.0, 60.0)


CACHING = """
import os, pathlib, subprocess, sys
print(*(os.environ[name] for name in ("VLLM_CACHE_ROOT", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")), flush=True)
for name in ("VLLM_CACHE_ROOT", "TORCHINDUCTOR_CACHE_DIR"):
    place = pathlib.Path(os.environ[name], "deep")
    place.mkdir(parents=True)
    (place / "compiled").touch()
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def caches(log: Path) -> list[Path]:
    return [Path(word) for word in log.read_text().splitlines()[0].split()[1:]]


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """The node's folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    for name in ("VLLM_CACHE_ROOT", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    return tmp_path / "tmp"


def test_each_server_compiles_into_a_folder_of_its_own_that_goes_with_it(tmp_path, temporary, monkeypatch):
    command = [sys.executable, "-c", CACHING, *SCRIPTED[1:]]
    for name in "ab":
        (tmp_path / name).mkdir()
    with serving(config(command=command), Path("m"), tmp_path / "a") as one:
        monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "users"))
        with serving(config(command=command), Path("m"), tmp_path / "b") as other:
            found = [*caches(one.process.log), *caches(other.process.log)]
            assert len(set(found)) == 6 and found.pop() == tmp_path / "users"
            assert all(path.is_relative_to(temporary) for path in found)
            assert len(list(temporary.rglob("compiled"))) == 4
    assert list(temporary.iterdir()) == []


def test_a_server_whose_recipe_is_killed_leaves_no_folder(tmp_path, temporary):
    code = (
        "import pathlib, sys, time\n"
        "from nemo_cot.serving.server import serving\n"
        "from tests.serving.test_server import config\n"
        "with serving(config(command=sys.argv[1:]), pathlib.Path('m'), pathlib.Path('.')):\n"
        "    print('up', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, sys.executable, "-c", CACHING, *SCRIPTED[1:]]
    recipe = subprocess.Popen(command, env=environment(), cwd=tmp_path, stdout=subprocess.PIPE)
    wait_for(lambda: recipe.stdout.readline() == b"up\n")
    assert len(list(temporary.rglob("compiled"))) == 2
    recipe.kill()
    recipe.wait()
    wait_for(lambda: not list(temporary.iterdir()))


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
        "sleep = [sys.executable, '-c', 'import os, signal, time; signal.signal(15, signal.SIG_IGN); open(f\"deaf-{os.getpid()}\", \"x\"); time.sleep(600)']\n"
        "print(subprocess.Popen(sleep).pid, subprocess.Popen(sleep, start_new_session=True).pid, flush=True)\n"
        "time.sleep(600)"
    )
    with Process([sys.executable, "-c", code], tmp_path / "log", cwd=tmp_path) as process:
        told = wait_for(lambda: (tmp_path / "log").exists() and (tmp_path / "log").read_text().strip())
        pids = [int(number) for number in told.split()[1:]]
        wait_for(lambda: len(list(tmp_path.glob("deaf-*"))) == 2)
        assert all(map(alive, pids))
    assert process.exit_code() is not None and not any(map(alive, pids))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1])
def test_nothing_outlives_a_process_that_is_killed(how, tmp_path):
    code = (
        "import sys, time, pathlib\n"
        "from nemo_cot.serving.process import Process\n"
        f"with Process([sys.executable, '-c', 'import os, time; print(os.getpid(), flush=True); time.sleep(600)'],"
        f" pathlib.Path({str(tmp_path / 'log')!r}), cwd=pathlib.Path('.')):\n"
        "    print('up', flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], env=environment(), cwd=tmp_path, stdout=subprocess.PIPE
    )
    assert parent.stdout.readline() == b"up\n"
    log = tmp_path / "log"
    pid = int(wait_for(lambda: log.exists() and log.read_text().strip()).split()[1])
    assert alive(pid)
    os.kill(parent.pid, how)
    parent.wait(SECONDS)
    wait_for(lambda: not alive(pid), every=0.02)


def test_the_command_of_nemo_skills():
    server = replace(
        load_config(["evaluate.engine=nemo_skills"]).evaluate.engine.server,
        max_model_len=4096, arguments=["--rope-scaling", '{"type": "yarn"}'],
    )  # fmt: skip
    assert server_command(server, "/models/Qwen 2", 5001) == [
        "python", "-m", "nemo_skills.inference.server.serve_vllm", "--model", "/models/Qwen 2", "--num_gpus", "8",
        "--num_nodes", "1", "--port", "5001", "--max-model-len", "4096", "--generation-config", "vllm",
        "--rope-scaling", "'{\"type\": \"yarn\"}'",
    ]  # fmt: skip


def test_copies_of_the_model_share_the_gpus():
    """serve_vllm makes num_gpus x num_nodes the tensor parallel size."""
    skills = load_config(["evaluate.engine=nemo_skills", "evaluate.engine.server.data_parallel_size=2"])
    command = server_command(skills.evaluate.engine.server, "/m", 1)
    assert command[command.index("--num_gpus") + 1] == "4"
    assert command[command.index("--data-parallel-size") + 1] == "2"
    served = replace(load_config(["evaluate.engine=openai"]).evaluate.engine.server, num_gpus=8, data_parallel_size=4)
    command = server_command(served, "/m", 1)
    assert command[command.index("--tensor-parallel-size") + 1] == "2" and command[-2:] == ["--data-parallel-size", "4"]
    assert "--data-parallel-size" not in server_command(replace(served, data_parallel_size=1), "/m", 1)


@pytest.mark.parametrize("seeded", [True, False])
def test_a_vllm_without_seeds_in_its_requests_has_another_of_its_own_at_each_start(seeded, tmp_path):
    """vLLM's default is 0: every chunk, and an attempt that resumes, would begin with the same draws."""
    program, given = tmp_path / "vllm", tmp_path / "given"
    program.write_text(f'#!/bin/sh\necho "$@" >> {given}\nexec {shlex.join(SCRIPTED[:2])} "$1" "$2"\n')
    program.chmod(0o755)
    command = [str(program), "{port}", "{model}", "--generation-config", "{generation_config}"]
    for _ in range(2):
        with serving(config(command=command), Path("m"), tmp_path, seeded=seeded):
            pass
    seeds = [line.partition("--seed ")[2].split() for line in given.read_text().splitlines()]
    assert [len(seed) for seed in seeds] == ([0, 0] if seeded else [1, 1]) and (seeded or seeds[0] != seeds[1])


def test_a_server_that_is_no_vllm_gets_no_seed_of_vllms(tmp_path):
    with serving(config(command=SCRIPTED), Path("m"), tmp_path, seeded=False) as server:
        server.check()


def test_the_name_of_the_model_is_what_the_server_is_started_with():
    """Else it would be refused as another's model, once it is loaded."""
    for engine in ("openai", "nemo_skills"):
        server = load_config([f"evaluate.engine={engine}", "evaluate.engine.server.model_name=mine"]).evaluate.engine.server
        command = server_command(server, "/m", 1)
        assert command[command.index("--served-model-name") + 1] == "mine", engine
    assert "--served-model-name" not in server_command(replace(server, model_name=None), "/m", 1)


@pytest.mark.parametrize(
    "engine, change",
    [
        ("nemo_skills", {"arguments": ["--generation-config", "auto"]}),
        ("nemo_skills", {"arguments": ["--generation_config=auto"]}),
        ("nemo_skills", {"arguments": ["--override-generation-config", '{"top_k": 1}']}),
        ("openai", {"arguments": ["--override-generation-config={}"]}),
        ("openai", {"command": ["vllm", "serve", "{model}"]}),
        ("openai", {"command": ["/opt/bin/vllm", "serve", "{model}", "--generation-config=auto"]}),
        ("openai", {"command": ["python3", "-m", "vllm.entrypoints.openai.api_server", "--model", "{model}"]}),
        ("openai", {"arguments": ["--generation-config", "/a/folder"]}),
    ],
)
def test_a_vllm_that_would_take_the_models_own_values_is_not_started(engine, change):
    server = replace(load_config([f"evaluate.engine={engine}"]).evaluate.engine.server, **change)
    with pytest.raises(UserError, match="sampling values"):
        server_command(server, "/m", 1)


@pytest.mark.parametrize("ours", ["vllm", "/tmp/ours"])
def test_a_command_gets_the_folder_with_our_own_values(ours):
    shipped = load_config(["evaluate.engine=openai"]).evaluate.engine.server
    assert server_command(shipped, "/m", 1, generation_config=ours)[-2:] == ["--generation-config", ours]
    other = replace(shipped, command=["llama-server", "-m", "{model}"])
    assert server_command(other, "/m", 1, generation_config=ours) == ["llama-server", "-m", "/m"]


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

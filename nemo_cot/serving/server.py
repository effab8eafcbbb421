"""A model server: the one that is named, or one that is started, waited for and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import shlex
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec

from nemo_cot.config.engines import ServerConfig
from nemo_cot.errors import Fault, UserError, one_line
from nemo_cot.models.check import check_model
from nemo_cot.serving.fetch import Trouble, fetch, read_as
from nemo_cot.serving.own_values import write_ours
from nemo_cot.serving.ports import claimed_port
from nemo_cot.serving.process import Process
from nemo_cot.serving.vllm_options import GENERATION_CONFIG, NEUTRAL, misused, starts_vllm
from nemo_cot.text import PromptFormat, TextTokenizer

_POLL_SECONDS = 0.5
_ANSWER_SECONDS = 10.0
_HERE = ("127.0.0.1", "localhost")


@dataclass(frozen=True)
class Server:
    """An endpoint that answers and has the model. ``base_url`` ends in /v1. ``context``: the tokens that it has for
    a prompt and its answer together; None where it does not say.
    """

    base_url: str
    model_name: str
    api_key: str | None
    process: Process | None
    context: int | None = None

    @property
    def here(self) -> bool:
        """Whether it is on this machine: no proxy that the environment names stands before it."""
        return urlsplit(self.base_url).hostname in _HERE

    @property
    def up(self) -> bool:
        """Whether it has not ended, as far as this process started it."""
        return self.process is None or self.process.exit_code() is None

    def check(self) -> None:
        """Raise UserError when the server that was started here has ended."""
        if self.process is not None and (code := self.process.exit_code()) is not None:
            raise Fault(
                f"the server ended with exit code {code}: {self.process.last_lines()}",
                where=str(self.process.log),
                fix="correct what it says, then run the same command again: it resumes",
            )


def past_proxies() -> dict[str, str]:
    """What a program that asks a server on this machine needs in its environment: many clusters name a proxy for HTTP on
    their nodes, which clients would ask for 127.0.0.1 too.
    """
    named = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    return dict.fromkeys(("no_proxy", "NO_PROXY"), ",".join([*([named] if named else []), *_HERE]))


@dataclass
class _Room:
    """Of :func:`servers_kept`: one server at most, which ``stack`` ends, and what it was ``asked`` for."""

    folder: Path
    asked: Any = None
    server: Server | None = None
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)


_ROOMS: list[_Room] = []


@contextlib.contextmanager
def servers_kept(folder: Path) -> Iterator[None]:
    """Inside it a server that :func:`serving` starts stays up for the next stage that wants the same, until another is
    wanted. It works in ``folder``, not in that of a stage, which is published before the server ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _ROOMS.append(_Room(folder))
    try:
        with _ROOMS[-1].stack:
            yield
    finally:
        _ROOMS.pop()


@contextlib.contextmanager
def serving(
    config: ServerConfig, model: Path | None, folder: Path, *, form: PromptFormat | None = None, seeded: bool = True
) -> Iterator[Server]:
    """The server of ``config`` with ``model``, for as long as the block lasts, or that of :func:`servers_kept`; its log is
    ``folder``/logs/server.log. ``form`` names the tokens that end an answer of ``model``. ``seeded``: whether requests
    have seeds; without, a vLLM draws from a generator that begins with --seed, 0 by default, so that two chunks, and an
    attempt that resumes, would begin with the same draws (vLLM issue 11953): each gets another.

    Raises UserError when it does not come up within the deadline, ends, or has another model; and, before
    one is started, for a model that is not whole.
    """
    asked = config, model, form and (form.end_of_turn, form.eos_token), seeded
    room = _ROOMS[-1] if _ROOMS else _Room(folder)
    with contextlib.nullcontext() if _ROOMS else room.stack:
        if room.server is not None and room.asked == asked and room.server.up:
            print(f"  server: still that at {room.server.base_url}", flush=True)
        else:
            room.stack.close()
            room.server, room.asked = room.stack.enter_context(_started(config, model, form, seeded, room.folder)), asked
        yield room.server


@contextlib.contextmanager
def _started(
    config: ServerConfig, model: Path | None, form: PromptFormat | None, seeded: bool, folder: Path
) -> Iterator[Server]:
    name = config.model_name or (str(model) if model else None)
    if name is None:
        raise UserError(
            "nothing says which model to ask for",
            where="engine.server.model_name",
            fix="set it to a name that the endpoint lists at /v1/models",
        )
    key = _api_key(config.api_key_env)
    if config.base_url is not None:
        server = Server(config.base_url.rstrip("/"), name, key, None, config.max_model_len)
        yield _wait(server, config.start_deadline_seconds, config.connect_deadline_seconds)
        return
    if model is not None and model.is_dir():
        check_model(model, local=False)
    with claimed_port(config.port) as (port, claim):
        stops = TextTokenizer(model, form).stop_ids if model is not None and form is not None else None
        server_command(config, str(model or name), port)  # refused before there is anything to clean up
        scratch = Path(tempfile.mkdtemp(prefix="nemo-cot-server-"))
        ours = NEUTRAL if stops is None else str(write_ours(scratch, stops))
        seed = None if seeded or not starts_vllm(config) else secrets.randbelow(2**31)
        command = server_command(config, str(model or name), port, generation_config=ours, seed=seed)
        with Process(
            command,
            folder / "logs" / "server.log",
            cwd=folder,
            environment=_own_caches(scratch),
            scratch=scratch,
            keeps=[claim],
        ) as process:
            server = Server(f"http://127.0.0.1:{port}/v1", name, key, process, config.max_model_len)
            yield _wait(server, config.start_deadline_seconds, config.connect_deadline_seconds)


_CACHES = {"VLLM_CACHE_ROOT": "vllm", "TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"}


def _own_caches(scratch: Path) -> dict[str, str]:
    """Where this server keeps what it compiles, but for what the environment names already.

    Servers of one model that start together write the same files of one cache, and read each other's
    half-written ones (github.com/vllm-project/vllm/issues/24601).
    """
    return {name: str(scratch / place) for name, place in _CACHES.items() if not os.environ.get(name)}


def server_command(
    config: ServerConfig, model: str, port: int, *, generation_config: str = NEUTRAL, seed: int | None = None
) -> list[str]:
    """The argument list that starts the server, with the folder ``generation_config`` in place of the model's own
    generation_config.json ("vllm": none). Raises UserError for a value that a shell would read, and for options that
    :func:`misused` finds.
    """
    for level, what, fix in misused(config, "engine"):
        if level == "error":
            raise UserError(what, where="engine.server", fix=fix)
    more = {
        "--max-model-len": config.max_model_len,
        "--data-parallel-size": config.data_parallel_size if config.data_parallel_size > 1 else None,
        "--seed": seed,
    }
    ours = [word for option, value in more.items() if value is not None for word in (option, str(value))]
    if config.launcher == "command":
        names = ("num_gpus", "num_nodes", "tensor_parallel_size")
        values = {
            "model": model, "model_name": config.model_name or model, "port": port,
            "generation_config": generation_config,
            **{name: getattr(config, name) for name in names},
        }  # fmt: skip
        return [_filled(part, values) for part in [*config.command, *config.arguments]] + ours
    # serve_vllm writes the model into double quotes of a shell command, and joins the rest with blanks.
    if re.search(r'["$`\\\n]', model):
        raise UserError(
            "NeMo-Skills hands this path to a shell, which would read a character of it",
            where=f"model path {model}",
            fix="link the model to a path without quotes, $, ` and backslashes",
        )
    return [
        config.python, "-m", "nemo_skills.inference.server.serve_vllm",
        # It makes their product the tensor parallel size.
        "--model", model, "--num_gpus", str(config.num_gpus // config.data_parallel_size), "--num_nodes",
        str(config.num_nodes), "--port", str(port),
        *map(shlex.quote, [*_named(config), *ours, GENERATION_CONFIG, generation_config, *config.arguments]),
    ]  # fmt: skip


def _named(config: ServerConfig) -> list[str]:
    """serve_vllm says the model's path; the last one counts."""
    return ["--served-model-name", config.model_name] if config.model_name else []


def _filled(part: str, values: dict[str, object]) -> str:
    return re.sub(rf"\{{({'|'.join(values)})\}}", lambda found: str(values[found[1]]), part)


def _api_key(variable: str | None) -> str | None:
    if variable is None:
        return None
    if not os.environ.get(variable):
        raise UserError(
            "this environment variable is not set",
            where=variable,
            fix=f"export {variable}, or set engine.server.api_key_env=null",
        )
    key = os.environ[variable].strip()
    if not (key.isascii() and key.isprintable()):
        raise UserError(
            "this environment variable holds what no header can",
            where=variable,
            fix=f"export {variable} with the key alone, which is letters, digits and signs",
        )
    return key


def _wait(server: Server, deadline_seconds: float, connect_seconds: float) -> Server:
    """The server, with the context that it reports, once it lists the model. Raises UserError as :func:`serving` says.

    ``connect_seconds``: the longest time in which nothing listens there, or something that is no model
    server; of one that is ours, and comes up when it does, the silence alone is no sign of that.
    """
    log = f"; its log: {server.process.log}" if server.process else ""
    print(f"  server: waiting for {server.base_url}{log}", flush=True)
    started = time.monotonic()
    models = asyncio.run(_listed(server, deadline_seconds, connect_seconds))
    server.check()  # ours may have ended meanwhile, and another's have answered
    if server.model_name not in models:
        named = ", ".join(name[:100] for name in list(models)[:5]) or "none"
        raise UserError(
            f"it has the models {named}, not {server.model_name}",
            where=f"{server.base_url}/models",
            fix="set engine.server.model_name to one of them, or start the server with the right model",
        )
    print(f"  server: ready after {time.monotonic() - started:.0f} s", flush=True)
    context = models[server.model_name]
    return replace(server, context=context if isinstance(context, int) else server.context)


class _Model(msgspec.Struct):
    """``max_model_len`` is vLLM's; other servers have none, or anything."""

    id: str
    max_model_len: Any = None


class _Models(msgspec.Struct):
    """The reply of /models."""

    data: list[_Model]


async def _listed(server: Server, deadline_seconds: float, connect_seconds: float) -> dict[str, Any]:
    """The models at /models, once there are some: the context of each, by name."""
    started = reached = time.monotonic()
    told, url = "", f"{server.base_url}/models"
    headers = authorization(server.api_key)
    # A host that drops what is sent is nobody, so the wait for a connection ends before that for an answer.
    limits = httpx.Timeout(_ANSWER_SECONDS, connect=_ANSWER_SECONDS / 2)
    async with httpx.AsyncClient(headers=headers, timeout=limits, trust_env=not server.here) as client:
        while True:
            server.check()
            try:
                body = await fetch(client, "GET", url, seconds=_ANSWER_SECONDS)
                return {model.id: model.max_model_len for model in read_as(body, _Models).data}
            except Trouble as found:
                trouble = found
            now = time.monotonic()
            # Something is there that may become the server: 503 while it loads, or a process of ours.
            comes = trouble.busy or (server.process is not None and not trouble.answered)
            reached = now if comes else reached
            if now - reached >= connect_seconds:
                raise _nobody(server, connect_seconds, trouble)
            if now - started >= deadline_seconds:
                raise _late(server, deadline_seconds, trouble)
            if (server.process is None or trouble.answered) and trouble.what != told:
                longest, told = deadline_seconds if comes else connect_seconds, trouble.what
                print(f"  server: {one_line(told)}; asked again for {longest:g} s at most", flush=True)
            left = deadline_seconds - (now - started)
            await asyncio.sleep(max(_POLL_SECONDS, min(trouble.wait_seconds or 0.0, left)))


def _late(server: Server, seconds: float, trouble: Trouble) -> UserError:
    said = f"; its log ends: {server.process.last_lines()}" if server.process else ""
    return Fault(
        f"no server after {seconds:g} s: {trouble}{said}",
        where=server.base_url,
        fix="correct what it says, or raise engine.server.start_deadline_seconds, then run the same command again",
    )


def _nobody(server: Server, seconds: float, trouble: Trouble) -> UserError:
    there = "what listens there is no model server" if trouble.answered else "nothing listens there"
    key = "command" if server.process else "base_url"
    kind = UserError if trouble.answered else Fault
    return kind(
        f"{there}, for {seconds:g} s: {trouble}",
        where=server.base_url,
        fix=f"start it and run the same command again, or correct engine.server.{key} or connect_deadline_seconds",
    )


def authorization(api_key: str | None) -> dict[str, str]:
    """The header of a request with a key."""
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}

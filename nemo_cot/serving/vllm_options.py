"""The options that a vLLM server is started with: what each is called, and which of them are decided elsewhere."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from nemo_cot.config.engines import ServerConfig

VERSION = "0.32.0"
_RECORD = Path(__file__).with_suffix(".txt")
_MISSPELT = 0.9
"""Likeness (difflib) from which an unknown option is a misspelt one. Options of other releases are below: the nearest,
--long-prefill-threshold, at 0.889."""

GENERATION_CONFIG, NEUTRAL = "--generation-config", "vllm"
PLACEHOLDER = "{generation_config}"
"""In server.command: the folder with our generation_config.json; "vllm" where the model's tokenizer is not here."""
_OVERRIDE = "--override-generation-config"

_NOWHERE = {
    "--seed": "leave it out: requests have seeds (sampling.seeded); without, every server gets one of its own, or all "
    "chunks would begin with the same draws",
    "--config": "write what the file sets into {key}.server.arguments, where it is checked",
}
"""Options that neither the arguments nor the command may hold, with what to do instead."""
_NOT_IN_ARGUMENTS = _NOWHERE | {
    "--model": "leave it out: the stage names its model",
    "--served-model-name": "set {key}.server.model_name",
    **dict.fromkeys(("--host", "--port", "--uds"), "leave it out, or set {key}.server.port"),
    "--max-model-len": "set {key}.server.max_model_len, by which prompts and answers are checked",
    "--data-parallel-size": "set {key}.server.data_parallel_size",
    **dict.fromkeys(
        ("--tensor-parallel-size", "--pipeline-parallel-size", "--num-gpus"),
        "set {key}.server.num_gpus: each of data_parallel_size copies is over its part of them",
    ),
    **dict.fromkeys(("--num-nodes", "--nnodes"), "set {key}.server.num_nodes"),
    "--api-key": "export it as VLLM_API_KEY, and set {key}.server.api_key_env=VLLM_API_KEY",
}


def starts_vllm(server: ServerConfig) -> bool:
    """Whether the stage starts a vLLM, as far as the command shows."""
    if server.base_url is not None:
        return False
    words = server.command if server.launcher == "command" else ()
    return server.with_nemo_skills or any(Path(word).name == "vllm" or word.startswith("vllm.") for word in words)


def options(server: ServerConfig) -> list[tuple[str, str]]:
    """(option, value) of the server that the stage starts, in order, by their whole names; "" for no value. None of
    one that is there already.
    """
    if server.base_url is not None:
        return []
    first = server.command if server.launcher == "command" else (GENERATION_CONFIG, PLACEHOLDER)
    return [*_options(first), *_options(server.arguments)]


def value_of(server: ServerConfig, option: str, default: float) -> float:
    """The number that the server is started with; ``default`` where it is none."""
    values = [value for name, value in options(server) if name == option]
    try:
        return float(values[-1]) if values else default
    except ValueError:
        return default  # vLLM says so


def misused(server: ServerConfig, key: str) -> Iterator[tuple[str, str, str]]:
    """Level, what and fix of the options of a server that the stage starts which contradict what it sets or sends,
    and of those that vLLM does not have. ``key``: of the engine.
    """
    given, place = options(server), "command" if server.launcher == "command" else "arguments"
    if _OVERRIDE in dict(given):
        yield "error", f"{_OVERRIDE} sets sampling values beside ours", f"take it out of {key}.server"
    sources = [value for option, value in given if option == GENERATION_CONFIG]
    if len(sources) > 1 or not {NEUTRAL, PLACEHOLDER}.issuperset(sources):
        what = f"{GENERATION_CONFIG} names another source of sampling values than us"
        yield "error", what, f"leave it out of {key}.server.{place}"
    if not starts_vllm(server):
        return
    if not sources:
        what = "vLLM would take sampling values from the model's generation_config.json"
        yield "error", what, f"add {GENERATION_CONFIG}, '{PLACEHOLDER}' to {key}.server.command"
    for option, fix in _NOWHERE.items():
        if server.launcher == "command" and option in dict(_options(server.command)):
            yield "error", f"server.command: {option} is not to be set", fix.format(key=key)
    for option, _ in _options(server.arguments):
        if fix := _NOT_IN_ARGUMENTS.get(option):
            yield "error", f"server.arguments: {option} is decided elsewhere", fix.format(key=key)
        elif option not in _names():
            near = difflib.get_close_matches(option, _names(), n=1, cutoff=_MISSPELT)
            what = f"server.arguments: vLLM {VERSION} has no option {option}"
            unless = f"leave it out of {key}.server.arguments, unless the vLLM there has it"
            yield ("error", what, f"did you mean {near[0]}?") if near else ("warning", what, unless)


def _options(words: list[str] | tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for word, following in zip(words, [*words[1:], ""]):
        name, equals, value = word.partition("=")
        if name.startswith("-") and name.strip("-") and not name.lstrip("-")[0].isdigit():
            yield _whole(name), value if equals else "" if following.startswith("-") else following


def _whole(name: str) -> str:
    """An option as vLLM takes it: with underscores, by an alias, cut short (as argparse allows), with a key of its
    JSON behind a dot.
    """
    name = name.partition(".")[0]
    name = name.replace("_", "-") if name.startswith("--") else name
    if name in _names():
        return _names()[name]
    begun = {whole for known, whole in _names().items() if name.startswith("--") and known.startswith(name)}
    return begun.pop() if len(begun) == 1 else name


@cache
def _names() -> dict[str, str]:
    """Every name of every option, with its first one."""
    lines = [line.split() for line in _RECORD.read_text().splitlines() if not line.startswith("#")]
    return {name: line[0] for line in lines for name in line}

"""Rules for the engines that sample through a server."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from functools import lru_cache, wraps

from nemo_cot.config import Config
from nemo_cot.config.engines import EndpointEngine
from nemo_cot.config.rule import GIB, Found, Rule, rule, together
from nemo_cot.preflight.engine_uses import EngineUse, engine_uses
from nemo_cot.preflight.estimate import Estimate
from nemo_cot.preflight.sampling_cost import layout_of
from nemo_cot.preflight.throughput import BF16
from nemo_cot.serving.own_values import FILE, unsent
from nemo_cot.serving.vllm_options import GENERATION_CONFIG, PLACEHOLDER, misused

_PROBE_SECONDS = 60.0
"""Bound of the question whether an interpreter has a module."""


def _each(
    *, of_machine: bool = False
) -> Callable[[Callable[[EngineUse, EndpointEngine, Config, Estimate], Found]], Rule]:
    """A rule that is given each use of a server. What is found alike of several models is reported once,
    with their names before it.
    """

    def make(check: Callable[[EngineUse, EndpointEngine, Config, Estimate], Found]) -> Rule:
        @wraps(check)
        def each(cfg: Config, estimate: Estimate) -> Found:
            uses = [(use, use.engine.client) for use in engine_uses(cfg) if use.engine.client]
            return together((use.shown, found) for use, client in uses for found in check(use, client, cfg, estimate))

        return rule("generate", "refine", "evaluate", of_machine=of_machine)(each)

    return make


@_each()
def engine_length(use: EngineUse, engine: EndpointEngine, cfg: Config, estimate: Estimate) -> Found:
    """Prompt and answer fit the context of the server, and that the model's own."""
    limit, new = engine.server.max_model_len, use.sampling.max_new_tokens
    prompt = estimate.prompt_tokens + use.trace_tokens
    own = None if engine.server.base_url else use.context
    if own is not None and (limit or prompt + new) > own:
        asked = (
            f"max_model_len {limit}" if limit else f"a prompt of about {prompt} tokens with {new} new ones"
        )
        yield (
            "error",
            f"{asked} exceeds the {own} positions that the model has (max_position_embeddings): vLLM "
            + ("does not start" if limit else "refuses the requests"),
            f"set {use.length_key}={own} and {use.new_tokens_key} to {max(1, own - prompt)} or less",
        )
    elif limit is not None and prompt + new > limit:
        yield (
            "error",
            f"a prompt of about {prompt} tokens and {new} new ones exceed max_model_len {limit}",
            f"raise {use.length_key} or lower {use.new_tokens_key}",
        )
    elif own is None:
        yield "unknown", f"{_unread(use, engine)}: its context length is not known", ""


@_each()
def engine_heads(use: EngineUse, engine: EndpointEngine, cfg: Config, _: Estimate) -> Found:
    """The server's tensor parallelism divides the model's heads."""
    server, heads = engine.server, use.heads
    size = server.tensor_parallel_size
    if server.base_url is not None:
        return
    if heads is None:
        yield "unknown", f"{_unread(use, engine)}: its attention heads are not known", ""
    elif not use.splits(size):
        yield (
            "error",
            f"tensor parallel size {size} (num_gpus / data_parallel_size) does not fit {heads[0]} heads and {heads[1]} "
            "key-value heads",
            f"set {use.engine_key}.server.num_gpus so that it divides {heads[0]}",
        )


def _unread(use: EngineUse, engine: EndpointEngine) -> str:
    if engine.server.base_url:
        return f"the server at {engine.server.base_url} is another's"
    return f"there is no config.json of {use.path}" if use.path else "the model is made by convert"


@_each()
def engine_nodes(use: EngineUse, engine: EndpointEngine, cfg: Config, _: Estimate) -> Found:
    """The server runs on the node of its job."""
    if engine.server.num_nodes > 1 and engine.server.base_url is None:
        yield (
            "error",
            f"a server over {engine.server.num_nodes} nodes needs a Ray cluster, which no stage starts",
            f"set {use.engine_key}.server.num_nodes=1, or start the server elsewhere and give base_url",
        )


@_each()
def engine_memory(use: EngineUse, engine: EndpointEngine, cfg: Config, estimate: Estimate) -> Found:
    """Each copy of the model that a server starts fits its GPUs, with room for an answer of the longest."""
    shape, server, layout = use.facts.shape, engine.server, layout_of(cfg, engine)
    if layout is None:
        return
    if shape is None or cfg.cluster.slurm is None:
        what = "the GPUs are not known without a cluster" if shape else f"{_unread(use, engine)}: its shape is not known"
        yield "unknown", what, ""
        return
    longest = server.max_model_len or estimate.prompt_tokens + use.sampling.max_new_tokens
    try:
        room = layout.cache_tokens(shape)
    except ValueError:
        room = 0.0
    if room < longest:
        weights = BF16 * shape.parameters / layout.tensor / GIB
        yield (
            "error",
            f"a copy over {layout.tensor} GPUs has {weights:.1f} GiB of weights on each {layout.gpu.name}, and room for "
            f"{room:,.0f} tokens, of {longest} that one answer may have: vLLM does not start",
            f"lower {use.engine_key}.server.data_parallel_size, raise num_gpus, or lower {use.length_key}",
        )


@_each()
def engine_seeds(use: EngineUse, engine: EndpointEngine, cfg: Config, _: Estimate) -> Found:
    """Requests can be sent as sampling.seeded says."""
    if not use.sampling.seeded and engine.always_seeds:
        yield (
            "error",
            "NeMo-Skills sends a seed with each request, and only vLLM has a number for none",
            f"set {use.key}.sampling.seeded=true, or {use.engine_key}.dialect=vllm",
        )


@_each()
def engine_model_name(use: EngineUse, engine: EndpointEngine, cfg: Config, _: Estimate) -> Found:
    """An endpoint that is there already is asked for a model that it knows."""
    if engine.server.base_url is not None and engine.server.model_name is None:
        yield (
            "warning",
            f"the endpoint is asked for a model named by its path, {use.path}",
            f"set {use.engine_key}.server.model_name to a name that it lists at /v1/models",
        )
    subjects = {other.label for other in engine_uses(cfg) if other.key == use.key == "evaluate"}
    if engine.server.base_url is not None and len(subjects) > 1:
        yield (
            "error",
            f"one endpoint serves one model, and {len(subjects)} are evaluated",
            "evaluate one subject a run, or let the stage start the servers (base_url=null)",
        )


@_each(of_machine=True)
def engine_programs(use: EngineUse, engine: EndpointEngine, cfg: Config, _: Estimate) -> Found:
    """The programs that the engine starts are here, and have NeMo-Skills where it is asked of them."""
    for (program, needs_skills), keys in _programs(use, engine).items():
        key = " and ".join(keys)
        if shutil.which(program) is None:
            yield "warning", f"there is no {program} here", f"correct {key}, unless the container has it"
        elif needs_skills and (has := has_module(program, "nemo_skills")) is not True:
            level, told = (
                ("warning", "has no nemo_skills") if has is False else ("unknown", "does not answer")
            )
            yield level, f"{program} here {told}", f"correct {key}, unless the container's own has it"


def _programs(use: EngineUse, engine: EndpointEngine) -> dict[tuple[str, bool], list[str]]:
    """Programs, and whether NeMo-Skills is asked of them, with the keys that name them."""
    programs: dict[tuple[str, bool], list[str]] = {}
    for key, program in engine.programs().items():
        programs.setdefault(program, []).append(f"{use.engine_key}.{key}")
    return programs


@lru_cache(maxsize=16)
def has_module(python: str, module: str) -> bool | None:
    """Whether the interpreter ``python`` finds ``module``, without importing it; None without an answer."""
    code = f"import importlib.util as u; print(u.find_spec({module!r}) is not None)"
    try:
        done = subprocess.run(
            [python, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, timeout=_PROBE_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return None
    told = done.stdout.split()[-1:]  # behind whatever the interpreter's start printed
    return {b"True": True, b"False": False}.get(told[0]) if told else None


@_each()
def engine_dialect(use: EngineUse, engine: EndpointEngine, cfg: Config, _: Estimate) -> Found:
    """The endpoint understands every sampling parameter."""
    if engine.dialect == "openai" and use.sampling.top_k:
        yield (
            "error",
            "OpenAI's API knows no top_k",
            f"set {use.key}.sampling.top_k=0, or {use.engine_key}.dialect=vllm",
        )


@_each()
def engine_own_values(use: EngineUse, engine: EndpointEngine, cfg: Config, _: Estimate) -> Found:
    """The server gets every sampling value from us, and none from a file that came with the model."""
    server = engine.server
    if missing := unsent(engine, tokenizer=use.tokenizer) if server.base_url and not server.neutral else []:
        dialect = f"{use.engine_key}.dialect=vllm"
        sent = dialect + ("" if use.tokenizer else f" and {use.key}.path, with a copy of the model")
        way = f"set {sent}, or " if engine.names_stops else f"set {use.engine_key}=openai with {dialect}, or "
        yield (
            "error",
            f"a request cannot hold {', '.join(missing)}: the server at {server.base_url} may take them from the "
            f"{FILE} of its model",
            f"{way}{use.engine_key}.server.neutral=true if it is known not to (docs/engines.md)",
        )
    elif found := use.own_values:
        yield (
            "error",
            f"the server would take {', '.join(found)} from {FILE} in {use.path}",
            f"remove them there (in a copy), or add {GENERATION_CONFIG}, '{PLACEHOLDER}' to {use.engine_key}.server.command for vLLM",
        )


@_each()
def engine_options(use: EngineUse, engine: EndpointEngine, cfg: Config, _: Estimate) -> Found:
    """The options of the server that a stage starts are vLLM's, and contradict nothing that the stage sets."""
    return misused(engine.server, use.engine_key)


@_each()
def engine_grading(use: EngineUse, engine: EndpointEngine, cfg: Config, _: Estimate) -> Found:
    """No grader runs among the requests."""
    if engine.grades:
        yield (
            "warning",
            "NeMo-Skills grades on the loop that sends the requests, without a time limit that "
            "holds: one hostile answer stops them all",
            f"set {use.engine_key}.eval_type=null; the grade stage applies the same rule",
        )


SERVER_RULES = (
    engine_length, engine_heads, engine_nodes, engine_memory, engine_seeds, engine_model_name,
    engine_programs, engine_dialect, engine_own_values, engine_options, engine_grading,
)  # fmt: skip

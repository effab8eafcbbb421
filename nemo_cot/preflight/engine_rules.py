"""Rules for the engines that sample through a server. Each says that it does not apply without one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps

from nemo_cot.config import OWN_SUBJECTS, Config, FileTeacher, ModelTeacher, SamplingConfig
from nemo_cot.engine_config import EndpointEngine, EngineConfig, NemoSkillsEngine
from nemo_cot.evaluation.subjects import engine_of, sampling_of
from nemo_cot.io.paths import user_path
from nemo_cot.preflight.estimate import Estimate

Found = Iterator[tuple[str, str, str]]


@dataclass(frozen=True)
class EngineUse:
    """One model that is sampled: by what, how, and where it lies (None: not known before the run)."""

    key: str
    label: str
    engine: EngineConfig
    sampling: SamplingConfig
    path: str | None

    @property
    def heads(self) -> tuple[int, int] | None:
        """Attention heads and key-value heads, out of the model's own config.json, where it is here."""
        try:
            config = json.loads((user_path(self.path or "") / "config.json").read_text())
            heads = int(config["num_attention_heads"])
            return heads, int(config.get("num_key_value_heads") or heads)
        except (OSError, ValueError, KeyError):
            return None


def engine_uses(cfg: Config) -> list[EngineUse]:
    """Every model that the chain's stages sample."""
    uses = []
    stages, teacher = cfg.launcher.stages, cfg.teacher
    if isinstance(teacher, ModelTeacher) and "generate" in stages:
        path = teacher.path or cfg.model.path
        uses.append(EngineUse("teacher", "teacher", teacher.engine, teacher.sampling, path))
    for name in cfg.evaluate.subjects if "evaluate" in stages else []:
        path = cfg.model.path if name in OWN_SUBJECTS else cfg.evaluate.models[name].path
        uses.append(EngineUse("evaluate", name, engine_of(cfg, name), sampling_of(cfg, name), path))
    return uses


Rule = Callable[[Config, Estimate], Found]


def _each(check: Callable[[EngineUse, EndpointEngine, Config, Estimate], Found]) -> Rule:
    """Give the rule each use of a server, or report that it does not apply."""

    @wraps(check)
    def rule(cfg: Config, estimate: Estimate) -> Found:
        uses = [use for use in engine_uses(cfg) if isinstance(use.engine, EndpointEngine)]
        if not uses:
            yield "ok", "does not apply: no engine over a server", ""
        for use in uses:
            if isinstance(use.engine, EndpointEngine):
                yield from check(use, use.engine, cfg, estimate)

    return rule


@_each
def _engine_length(use: EngineUse, engine: EndpointEngine, cfg: Config, estimate: Estimate) -> Found:
    """Prompt and answer fit the context of the server's model."""
    limit, new = engine.server.max_model_len, use.sampling.max_new_tokens
    if limit is not None and estimate.prompt_tokens + new > limit:
        yield (
            "error",
            f"{use.label}: a prompt of about {estimate.prompt_tokens} tokens and {new} new ones exceed "
            f"max_model_len {limit}",
            f"raise {use.key}.engine.server.max_model_len or lower the limit of new tokens",
        )


@_each
def _engine_heads(use: EngineUse, engine: EndpointEngine, cfg: Config, _: Estimate) -> Found:
    """The server's tensor parallelism divides the model's heads."""
    server, shape = engine.server, cfg.model.shape
    heads = use.heads or ((shape.heads, shape.kv_heads) if shape and use.path == cfg.model.path else None)
    size = server.num_gpus * server.num_nodes
    if heads is None or server.base_url is not None:
        return
    if heads[0] % size or (heads[1] % size and size % heads[1]):
        yield (
            "error",
            f"{use.label}: tensor parallel size {size} does not fit {heads[0]} heads and {heads[1]} "
            "key-value heads",
            f"set {use.key}.engine.server.num_gpus to a number that divides {heads[0]}",
        )


@_each
def _engine_nodes(use: EngineUse, engine: EndpointEngine, cfg: Config, _: Estimate) -> Found:
    """The server runs on the node of its job."""
    if engine.server.num_nodes > 1 and engine.server.base_url is None:
        yield (
            "error",
            f"{use.label}: a server over {engine.server.num_nodes} nodes needs a Ray cluster, which no stage starts",
            f"set {use.key}.engine.server.num_nodes=1, or start the server elsewhere and give base_url",
        )


@_each
def _engine_model_name(use: EngineUse, engine: EndpointEngine, cfg: Config, _: Estimate) -> Found:
    """An endpoint that is there already is asked for a model that it knows."""
    if engine.server.base_url is not None and engine.server.model_name is None:
        yield (
            "warning",
            f"{use.label}: the endpoint is asked for a model named by its path, {use.path}",
            f"set {use.key}.engine.server.model_name to a name that it lists at /v1/models",
        )
    subjects = [other for other in engine_uses(cfg) if other.key == use.key]
    if engine.server.base_url is not None and len(subjects) > 1:
        yield (
            "error",
            f"one endpoint serves one model, and {len(subjects)} are evaluated",
            "evaluate one subject a run, or let the stage start the servers (base_url=null)",
        )


@_each
def _engine_programs(use: EngineUse, engine: EndpointEngine, cfg: Config, _: Estimate) -> Found:
    """The programs that the engine starts are here."""
    server = engine.server
    programs = {f"{use.key}.engine.python": engine.python} if isinstance(engine, NemoSkillsEngine) else {}
    if server.base_url is None:
        own = server.python if server.launcher == "nemo_skills" else server.command[0]
        programs[f"{use.key}.engine.server"] = own
    for key, program in programs.items():
        if shutil.which(program) is None:
            yield "warning", f"there is no {program} here", f"correct {key}, unless the container has it"


@_each
def _engine_dialect(use: EngineUse, engine: EndpointEngine, cfg: Config, _: Estimate) -> Found:
    """The endpoint understands every sampling parameter."""
    if engine.dialect == "openai" and use.sampling.top_k:
        yield (
            "error",
            f"{use.label}: OpenAI's API knows no top_k",
            f"set {use.key}.sampling.top_k=0, or {use.key}.engine.dialect=vllm",
        )


@_each
def _engine_grading(use: EngineUse, engine: EndpointEngine, cfg: Config, _: Estimate) -> Found:
    """No grader runs among the requests."""
    if isinstance(engine, NemoSkillsEngine) and engine.eval_type is not None:
        yield (
            "warning",
            f"{use.label}: NeMo-Skills grades on the loop that sends the requests, without a time limit that "
            "holds: one hostile answer stops them all",
            f"set {use.key}.engine.eval_type=null; the grade stage applies the same rule",
        )


def _chunks_apply(cfg: Config, _: Estimate) -> Found:
    """Only what is sampled is dealt out in chunks."""
    if isinstance(cfg.teacher, FileTeacher) and cfg.generate.chunks > 1:
        yield "error", "traces out of a file are read as a whole", "set generate.chunks=1"


ENGINE_RULES = (
    _engine_length,
    _engine_heads,
    _engine_nodes,
    _engine_model_name,
    _engine_programs,
    _engine_dialect,
    _engine_grading,
    _chunks_apply,
)

ENGINE_RULES_OF_THE_MACHINE = (_engine_programs,)

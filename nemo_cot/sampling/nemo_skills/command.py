"""The command that samples one seed with NeMo-Skills, as an argument list."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from nemo_cot.config.engines import NemoSkillsEngine
from nemo_cot.config.overrides import hydra_value
from nemo_cot.sampling.job import SamplingJob
from nemo_cot.serving.server import Server

MODULE = "nemo_skills.inference.generate"
NONE_OF_VLLM = -1
"""What vLLM takes for no seed at all (SamplingParams), where a number must be sent."""


def generate_command(
    engine: NemoSkillsEngine, job: SamplingJob, server: Server, *, source: Path, target: Path, seed: int
) -> list[str]:
    """Sample every row of ``source`` once with ``seed`` (where sampling.seeded) into ``target``.

    Without prompt_config the rows' own ``messages`` are sent: a chat, or the rendered prompt, which
    NeMo-Skills passes on untouched with prompt_format=openai and endpoint_type=text.
    """
    values = {
        "skip_filled": True,
        "input_file": str(source),
        "output_file": str(target),
        "prompt_format": "ns" if engine.prompt_config else "openai",
        "prompt_config": engine.prompt_config,
        "eval_type": engine.eval_type,
        **_server(engine, server),
        **_inference(engine, job, seed),
        "max_concurrent_requests": engine.max_concurrent_requests,
    }
    if engine.endpoint == "text":
        values["stop_phrase"] = job.form.end_of_turn
    given = [f"++{key}={hydra_value(value)}" for key, value in values.items() if value is not None]
    # Hydra would make a folder outputs/DATE/TIME for every process.
    return [engine.python, "-m", MODULE, *given, "hydra.run.dir=.", "hydra.output_subdir=null"]


def _server(engine: NemoSkillsEngine, server: Server) -> dict[str, object]:
    address = urlsplit(server.base_url)
    return {
        "server.server_type": "vllm" if engine.dialect == "vllm" else "openai",
        "server.host": address.hostname,
        "server.port": address.port or (443 if address.scheme == "https" else 80),
        "server.base_url": None if server.process else server.base_url,
        "server.model": server.model_name,
        "server.api_key_env_var": engine.server.api_key_env,
    }


def _inference(engine: NemoSkillsEngine, job: SamplingJob, seed: int) -> dict[str, object]:
    sampling = job.sampling
    text = engine.endpoint == "text" and engine.dialect == "vllm"
    return {
        "inference.endpoint_type": engine.endpoint,
        "inference.temperature": sampling.temperature,
        "inference.top_p": sampling.top_p,
        "inference.top_k": sampling.top_k or -1,
        "inference.min_p": 0.0,
        "inference.repetition_penalty": 1.0,
        "inference.random_seed": seed if sampling.seeded else NONE_OF_VLLM,
        "inference.tokens_to_generate": sampling.max_new_tokens,
        "inference.timeout": int(engine.request_timeout_seconds),
        # NeMo-Skills sends top_k only above 0, and a server would then take the model's own.
        "inference.extra_body.top_k": -1 if engine.dialect == "vllm" and not sampling.top_k else None,
        # The rendered prompt holds its own first token, where the model has one.
        "inference.extra_body.add_special_tokens": False if text else None,
    }

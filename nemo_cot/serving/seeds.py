"""Seeds of requests and of servers: sampling.seeded."""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path

from nemo_cot.config.engines import SamplingConfig, ServerConfig

NONE_OF_VLLM = -1
"""What vLLM takes for no seed at all (SamplingParams), where a number must be sent."""


def drawing(server: ServerConfig, sampling: SamplingConfig) -> ServerConfig:
    """``server``, whose samples are new ones at each start where requests have no seed.

    vLLM draws from a generator that begins with --seed, 0 by default: two chunks, and an attempt that resumes,
    would begin with the same draws (vLLM issue 11953).
    """
    words = [*(server.command if server.launcher == "command" else []), *server.arguments]
    vllm = server.with_nemo_skills or any(Path(word).name == "vllm" or word.startswith("vllm.") for word in words)
    if sampling.seeded or server.base_url is not None or not vllm or "--seed" in words:
        return server
    return replace(server, arguments=[*server.arguments, "--seed", str(secrets.randbelow(2**31))])

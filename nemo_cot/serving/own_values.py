"""Which sampling values a server could take from a file that came with the model, in place of ours.

vLLM fills in what a request leaves open from the model's generation_config.json. Started with
``--generation-config vllm`` it does not, but the file's eos_token_id still ends answers, except for a request with
ignore_eos (ModelConfig.try_get_generation_config, SamplingParams.update_from_generation_config; 0.10.1.1 and 0.32.0
alike). Up to 0.10 its max_new_tokens also cuts what a request asks for. So a server that is started here gets a
folder with a generation_config.json of ours, which names the tokens that end an answer and nothing else.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nemo_cot.config.engines import EndpointEngine
from nemo_cot.io.atomic import write_bytes
from nemo_cot.io.json_file import DAMAGED
from nemo_cot.serving.vllm_options import GENERATION_CONFIG, PLACEHOLDER, options

FILE = "generation_config.json"
EOS = "eos_token_id"
_VLLM_ONLY = {"top_k": (None, 0, -1), "min_p": (None, 0), "repetition_penalty": (None, 1)}
"""What OpenAI's API has no field for, with the values that change nothing. All others are in every request."""


def unsent(engine: EndpointEngine, *, tokenizer: bool) -> list[str]:
    """The values that no request of ``engine`` can hold. ``tokenizer``: whether the model's tokenizer is here,
    so that the tokens that end an answer can be named by number.
    """
    if engine.dialect == "vllm":
        return [] if tokenizer and engine.names_stops else [EOS]
    return [*_VLLM_ONLY, EOS]


def left_open(engine: EndpointEngine, *, tokenizer: bool) -> list[str]:
    """The values that the server which the stage starts for ``engine`` takes from the model's own file if they are
    there: by how it is started, and what the requests hold. ``tokenizer``: as in :func:`unsent`.
    """
    source, open_ = dict(options(engine.server)).get(GENERATION_CONFIG), unsent(engine, tokenizer=tokenizer)
    if source is not None:
        return [EOS] if EOS in open_ and not (tokenizer and source == PLACEHOLDER) else []
    return [] if engine.server.base_url else open_


def write_ours(folder: Path, stops: list[int]) -> Path:
    """Write the generation_config.json that names ``stops`` as what ends an answer; returns ``folder``."""
    write_bytes(folder / FILE, json.dumps({EOS: stops}).encode())
    return folder


def of_file(folder: Path, keys: list[str], stops: set[int]) -> list[str]:
    """What generation_config.json in ``folder`` holds of ``keys`` that would change an answer, such as "top_k 20".
    ``stops``: the tokens that end an answer by our own values.
    """
    try:
        found: dict[str, Any] = json.loads((folder / FILE).read_text())
        eos = found.get(EOS)
        ends = set() if eos is None else {eos} if isinstance(eos, int) else set(eos)
    except (OSError, AttributeError, TypeError, *DAMAGED):
        return []
    open_ = [key for key in keys if key in _VLLM_ONLY and found.get(key) not in _VLLM_ONLY[key]]
    odd = [f"{key} {found[key]}" for key in open_]
    return odd + ([f"{EOS} {sorted(ends)}"] if EOS in keys and not ends <= stops else [])


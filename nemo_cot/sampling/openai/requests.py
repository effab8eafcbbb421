"""Bodies of requests to an OpenAI-compatible endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nemo_cot.config.engines import EndpointEngine, SamplingConfig
from nemo_cot.errors import UserError
from nemo_cot.records import Problem
from nemo_cot.sampling.job import SamplingJob
from nemo_cot.sampling.limits import check_room
from nemo_cot.serving.server import Server
from nemo_cot.text import TextTokenizer


class RequestMaker:
    """Bodies for one job. With the vllm dialect and a tokenizer at hand the prompt goes as token ids,
    so that a special token spelled out in a problem stays text, as in training.

    Every sampling value is sent, those too that change nothing: what a request leaves open, a server may take
    from the model's generation_config.json (nemo_cot.serving.own_values).
    """

    def __init__(self, engine: EndpointEngine, job: SamplingJob, server: Server) -> None:
        self._job, self.chat = job, engine.endpoint == "chat"
        self._system = engine.system_message
        self._vllm = engine.dialect == "vllm"
        reads = job.model and (self._vllm or not self.chat)
        self._tokenizer = TextTokenizer(job.model, job.form) if reads else None
        self._common = self._sampling(server.model_name)
        if self._tokenizer and not self.chat:
            check_room(self._tokenizer, job, server.context)
            if not self._vllm:
                check_prompts(self._tokenizer, job)

    @property
    def path(self) -> str:
        """The endpoint's own, behind /v1."""
        return "/chat/completions" if self.chat else "/completions"

    def body(self, problem: Problem, sample: int) -> dict[str, Any]:
        """The JSON of one request."""
        seed = {"seed": self._job.seed + sample} if self._job.sampling.seeded else {}
        return {**self._common, **self._prompt(problem), **seed}

    def _prompt(self, problem: Problem) -> dict[str, Any]:
        if self.chat:
            return {"messages": messages(self._system, self._job.prompt(problem), self._job.turns)}
        if self._vllm and self._tokenizer:
            return {"prompt": self._tokenizer.prompt_ids(problem.problem)}
        return {"prompt": self._job.prompt(problem)}

    def _sampling(self, model_name: str) -> dict[str, Any]:
        sampling = self._job.sampling
        common: dict[str, Any] = {
            "model": model_name,
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
        }
        if self._vllm:
            common |= vllm_values(sampling, self._tokenizer)
            if self._tokenizer:
                common |= {"stop": list(self._job.form.stops)} if self._job.form.stops else {}
                return common if self.chat else {**common, "add_special_tokens": False}
        elif sampling.top_k:
            raise UserError(
                "the OpenAI dialect knows no top_k",
                where="sampling.top_k",
                fix="set it to 0, or engine.dialect=vllm",
            )
        stops = [*([] if self.chat else [self._job.form.end_of_turn]), *self._job.form.stops]
        return {**common, "stop": stops} if stops else common


def vllm_values(sampling: SamplingConfig, tokenizer: TextTokenizer | None) -> dict[str, Any]:
    """What vLLM knows beyond OpenAI's API. With ignore_eos only the tokens of stop_token_ids end an answer, none of
    the model's own files; without a ``tokenizer`` their numbers are not known.
    """
    values = {"top_k": sampling.top_k or -1, "min_p": 0.0, "repetition_penalty": 1.0}
    ends = {"ignore_eos": True, "stop_token_ids": tokenizer.stop_ids} if tokenizer else {}
    return {**values, **ends}


def messages(system: str | None, user: str, turns: Sequence[dict[str, str]] = ()) -> list[dict[str, str]]:
    """A chat that ends in a question; ``turns`` are those before it."""
    first = [{"role": "system", "content": system}] if system is not None else []
    return [*first, *turns, {"role": "user", "content": user}]


def check_prompts(tokenizer: TextTokenizer, job: SamplingJob) -> None:
    """Raise UserError for a problem whose text holds a special token: a server that reads the prompt
    as text would take it for one, which training never does.
    """
    for problem in job.problems:
        safe, read = tokenizer.prompt_ids(problem.problem), tokenizer.special_ids(job.prompt(problem))
        if tokenizer.count_special(safe) != tokenizer.count_special(read):
            raise UserError(
                f"the problem's text{' or an example' * bool(job.examples)} holds a special token of the model",
                where=f"problem {problem.problem_id}",
                fix="reword it, or use an engine that sends tokens (openai with engine.dialect=vllm)",
            )

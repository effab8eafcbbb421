"""Schema of what draws samples, and how: the embedded engine, an OpenAI-compatible endpoint, NeMo-Skills.

Values: conf/engine. See docs/engines.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Optional
from urllib.parse import urlsplit

from nemo_cot.config.checks import added, at_least, between, one_of, runtime
from nemo_cot.errors import UserError

PRECISIONS = ("fp32", "bf16")
DEVICES = ("auto", "cpu", "cuda")
ENGINES = ("embedded", "openai", "nemo_skills")


@dataclass
class SamplingConfig:
    """How tokens are drawn. ``temperature`` 0 is greedy; ``top_k`` 0 and ``top_p`` 1 are off.

    ``precision``, ``batch_size`` and ``device`` are the embedded engine's; a server has its own. ``seeded``: a server
    gets a seed per sample, so that the same one is drawn again; false is faster (docs/engines.md).
    ``expected_tokens``: the mean length of an answer that `plan` estimates hours by; null: not known.
    """

    temperature: float
    top_k: int
    top_p: float
    max_new_tokens: int
    precision: str
    batch_size: int
    device: str = runtime()
    seeded: bool = added(True)
    expected_tokens: Optional[int] = runtime()  # noqa: UP045

    def __post_init__(self) -> None:
        at_least("sampling.temperature", self.temperature, 0.0)
        at_least("sampling.top_k", self.top_k, 0)
        between("sampling.top_p", self.top_p, 1e-9, 1.0)
        at_least("sampling.max_new_tokens", self.max_new_tokens, 1)
        at_least("sampling.batch_size", self.batch_size, 1)
        one_of("sampling.precision", self.precision, PRECISIONS)
        one_of("sampling.device", self.device, DEVICES)
        if self.expected_tokens is not None:
            at_least("sampling.expected_tokens", self.expected_tokens, 1)


@dataclass
class EvaluatedModel:
    """A further model to evaluate, in a Hugging Face directory, with its own prompt.

    ``max_new_tokens`` and ``max_model_len`` null: as for all (evaluate.sampling, evaluate.engine). ``examples``: the keys
    of evaluate.examples that differ for it ({}: none do); null: it is asked without examples.
    """

    path: str
    prompt: str
    end_of_turn: str
    eos_token: Optional[str]  # noqa: UP045
    max_new_tokens: Optional[int]  # noqa: UP045
    max_model_len: Optional[int]  # noqa: UP045
    examples: Optional[dict[str, Any]] = None  # noqa: UP045


@dataclass
class EngineConfig:
    """``kind`` names the package in nemo_cot.sampling, and the subclass. This one, the embedded engine, loads
    the model into the recipe's own process.
    """

    client: ClassVar[EndpointEngine | None] = None
    """Itself, where it asks a server."""
    draws_batches: ClassVar[bool] = True
    """Whether a sample's bits depend on those that are drawn beside it; a server takes a seed per sample."""

    kind: str

    def __post_init__(self) -> None:
        one_of("engine.kind", self.kind, ENGINES)


@dataclass
class ServerConfig:
    """A model server with OpenAI's API: one that is there already, or one that the stage starts and stops.

    ``base_url``: the address up to /v1 of one that is there; null: start one with ``launcher``,
    nemo_skills (vLLM by NeMo-Skills' serve_vllm, over ``num_gpus`` x ``num_nodes``) or command (``command``,
    in which {model}, {model_name}, {port}, {num_gpus}, {num_nodes}, {tensor_parallel_size} and {generation_config},
    a folder with one of ours, are filled in).
    ``data_parallel_size``: copies of the model that share these GPUs, each tensor parallel over its part; vLLM
    deals the requests out to them.
    ``model_name``: what it calls the model; null: the model's path, as vLLM does. ``port`` 0: any
    free one. ``max_model_len``: prompt and answer together, tokens; null: the model's own.
    ``connect_deadline_seconds``: the longest time in which nothing listens at ``base_url``.
    ``api_key_env``: the environment variable that holds the key of an endpoint that asks for one.
    ``neutral``: the server at ``base_url`` is known to take no sampling value from a file of the model's
    (docs/engines.md), so that a dialect that cannot send them all will do.
    """

    base_url: Optional[str]  # noqa: UP045
    model_name: Optional[str]  # noqa: UP045
    arguments: list[str]
    max_model_len: Optional[int]  # noqa: UP045
    launcher: str = runtime()
    command: list[str] = runtime()  # noqa: RUF009
    python: str = runtime()
    num_gpus: int = runtime()
    num_nodes: int = runtime()
    data_parallel_size: int = runtime()
    port: int = runtime()
    start_deadline_seconds: float = runtime()
    connect_deadline_seconds: float = runtime()
    api_key_env: Optional[str] = runtime()  # noqa: UP045
    neutral: bool = runtime()

    @property
    def with_nemo_skills(self) -> bool:
        """Whether the stage starts it with NeMo-Skills."""
        return self.base_url is None and self.launcher == "nemo_skills"

    @property
    def takes_gpus(self) -> bool:
        """Whether the stage starts it over ``num_gpus`` GPUs; a command of the user's own takes what it takes."""
        named = any(key in part for part in self.command for key in ("{num_gpus}", "{tensor_parallel_size}"))
        return self.with_nemo_skills or (self.base_url is None and self.launcher == "command" and named)

    @property
    def tensor_parallel_size(self) -> int:
        """GPUs of one copy of the model."""
        return self.num_gpus * self.num_nodes // self.data_parallel_size

    def __post_init__(self) -> None:
        one_of("engine.server.launcher", self.launcher, ("nemo_skills", "command"))
        at_least("engine.server.num_gpus", self.num_gpus, 1)
        at_least("engine.server.num_nodes", self.num_nodes, 1)
        at_least("engine.server.data_parallel_size", self.data_parallel_size, 1)
        if self.num_gpus * self.num_nodes % self.data_parallel_size:
            raise UserError(
                f"{self.data_parallel_size} copies of the model do not share {self.num_gpus * self.num_nodes} GPUs evenly",
                where="engine.server.data_parallel_size",
                fix="set it to a divisor of engine.server.num_gpus",
            )
        between("engine.server.port", self.port, 0, 65535)
        at_least("engine.server.start_deadline_seconds", self.start_deadline_seconds, 0.1)
        at_least("engine.server.connect_deadline_seconds", self.connect_deadline_seconds, 0.1)
        if self.max_model_len is not None:
            at_least("engine.server.max_model_len", self.max_model_len, 2)
        if self.base_url is not None:
            _address(self.base_url)
        elif self.launcher == "command" and not self.command:
            raise UserError(
                "nothing says how to start a server",
                where="engine.server.command",
                fix="give the command as a list of arguments, or engine.server.base_url",
            )


@dataclass
class EndpointEngine(EngineConfig):
    """What the engines over a server share.

    ``endpoint`` text sends the prompt as it is rendered here (model.prompt or teacher.prompt);
    chat sends it as the user's message, after ``system_message``, and the server's template goes
    around. ``dialect`` vllm may use vLLM's own fields (top_k, min_p, stop_token_ids, prompts as tokens ...),
    openai only those that every server knows. ``stall_seconds``: the longest time without a new
    sample. ``retries``: further attempts, of a request (openai) or of a seed's process (nemo_skills).
    """

    draws_batches = False
    grades: ClassVar[bool] = False
    """Whether it grades the answers while it samples."""
    names_stops: ClassVar[bool] = True
    """Whether its requests can name, by number, the tokens that end an answer."""

    server: ServerConfig
    endpoint: str
    dialect: str
    system_message: Optional[str]  # noqa: UP045
    max_concurrent_requests: int = runtime()
    request_timeout_seconds: float = runtime()
    stall_seconds: float = runtime()
    retries: int = runtime()

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("engine.endpoint", self.endpoint, ("text", "chat"))
        one_of("engine.dialect", self.dialect, ("vllm", "openai"))
        at_least("engine.max_concurrent_requests", self.max_concurrent_requests, 1)
        at_least("engine.request_timeout_seconds", self.request_timeout_seconds, 1)
        at_least("engine.stall_seconds", self.stall_seconds, 1)
        at_least("engine.retries", self.retries, 0)
        if self.system_message is not None and self.endpoint == "text":
            raise UserError(
                "a rendered prompt holds its own system message",
                where="engine.system_message",
                fix="write it into the prompt, or set engine.endpoint=chat",
            )

    @property
    def client(self) -> EndpointEngine:  # type: ignore[override]
        """Itself."""
        return self

    def programs(self) -> dict[str, tuple[str, bool]]:
        """What it starts, by key below engine, and whether NeMo-Skills is asked of that."""
        if self.server.with_nemo_skills:
            return {"server.python": (self.server.python, True)}
        return {} if self.server.base_url else {"server.command": (self.server.command[0], False)}

    @property
    def always_seeds(self) -> bool:
        """Whether a request cannot go without a seed."""
        return False

    def groups(self, problems: int, samples: int) -> tuple[int, int, int, int, float]:
        """How so many samples of so many problems are sent: groups of requests, requests of each, groups at a time,
        requests at a time of each, and the seconds until a group starts.
        """
        return 1, problems * samples, 1, self.max_concurrent_requests, 0.0


@dataclass
class OpenAIEngine(EndpointEngine):
    """Our own client: any OpenAI-compatible endpoint."""


@dataclass
class NemoSkillsEngine(EndpointEngine):
    """NeMo-Skills' generate, a process per seed, ``seeds_in_parallel`` at a time.

    ``prompt_config``: one of NeMo-Skills' own prompts, such as qwen/qwq, in place of ours (chat
    only). ``eval_type``: let it grade while it generates; see docs/engines.md before setting it.
    ``python``: the interpreter that has nemo_skills.
    """

    names_stops = False  # a list in its extra_body is none that it can send (an OmegaConf ListConfig)

    prompt_config: Optional[str]  # noqa: UP045
    eval_type: Optional[str] = runtime()  # noqa: UP045
    seeds_in_parallel: int = runtime()
    python: str = runtime()

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("engine.seeds_in_parallel", self.seeds_in_parallel, 1)
        if self.prompt_config is not None and self.endpoint == "text":
            raise UserError(
                "a prompt of NeMo-Skills needs the server's chat template around it",
                where="engine.prompt_config",
                fix="set engine.endpoint=chat, or engine.prompt_config=null",
            )
        if self.prompt_config is not None and self.system_message is not None:
            raise UserError(
                "set beside a prompt of NeMo-Skills, which has its own",
                where="engine.system_message",
                fix="set one of engine.system_message and engine.prompt_config to null",
            )

    @property
    def grades(self) -> bool:  # type: ignore[override]
        """With eval_type."""
        return self.eval_type is not None

    def programs(self) -> dict[str, tuple[str, bool]]:
        """NeMo-Skills' interpreter besides."""
        return {"python": (self.python, True), **super().programs()}

    @property
    def always_seeds(self) -> bool:
        """But for vLLM's number for none."""
        return self.dialect != "vllm"

    def groups(self, problems: int, samples: int) -> tuple[int, int, int, int, float]:
        """Each of its processes, which take 10 s to start, sends the requests of one seed, one per problem."""
        return samples, problems, self.seeds_in_parallel, self.max_concurrent_requests, 10.0


def _address(base_url: str) -> None:
    """Raise UserError unless it is a plain http(s) address: NeMo-Skills hands it to a shell."""
    parts = urlsplit(base_url)
    plain = re.fullmatch(r"[A-Za-z0-9:/._-]+", base_url) and parts.scheme in ("http", "https")
    if not plain or not parts.hostname or not parts.path.rstrip("/").endswith("/v1"):
        raise UserError(
            f"{base_url!r} is not the address of an endpoint",
            where="engine.server.base_url",
            fix="for example http://127.0.0.1:8000/v1",
        )

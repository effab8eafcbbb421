"""The schema of models: which weights, and how they are spoken to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from nemo_cot.config.checks import holds_problem, one_of
from nemo_cot.errors import UserError


@dataclass
class ModelShape:
    """What of a model decides its memory and its layout on GPUs; numbers of its config.json.

    A decoder with gated MLP, grouped-query attention and RMSNorm (Qwen2, Llama, Mistral).
    """

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    vocabulary: int
    qkv_bias: bool
    tied_embeddings: bool

    @property
    def kv_width(self) -> int:
        """Elements of a token's keys in one layer; its values are as many."""
        return self.hidden * self.kv_heads // self.heads

    @property
    def layer_parameters(self) -> int:
        """Parameters of one layer."""
        attention = 2 * self.hidden * (self.hidden + self.kv_width)
        bias = self.hidden + 2 * self.kv_width if self.qkv_bias else 0
        return attention + bias + 3 * self.hidden * self.intermediate + 2 * self.hidden

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the embeddings: of the input and of the output, unless they are one."""
        return self.vocabulary * self.hidden * (1 if self.tied_embeddings else 2)

    @property
    def parameters(self) -> int:
        """Parameters in all."""
        return self.layers * self.layer_parameters + self.embedding_parameters + self.hidden


@dataclass
class ModelConfig:
    """The base model. ``source``: gguf_package (a GGUF file inside a Python package) or directory.

    ``prompt`` holds the text around one problem, with {problem} where it goes.
    ``eos_token`` never occurs inside a sequence; ``end_of_turn`` ends every answer. ``shape`` and
    ``max_position_embeddings`` (of its config.json) are what is planned by before a model is there; null:
    read from the model's own files.
    """

    name: str
    source: str
    path: Optional[str]  # noqa: UP045
    package: Optional[str]  # noqa: UP045
    eos_token: str
    end_of_turn: str
    prompt: str
    max_position_embeddings: Optional[int]  # noqa: UP045
    shape: Optional[ModelShape]  # noqa: UP045

    def __post_init__(self) -> None:
        one_of("model.source", self.source, ("gguf_package", "directory"))
        holds_problem("model.prompt", self.prompt)
        self._check_source()

    def _check_source(self) -> None:
        """A path that nothing reads, or none where one is read, would train another model without a word."""
        packaged = self.source == "gguf_package"
        wanted, unread = ("package", "path") if packaged else ("path", "package")
        other = "model=hf_directory, or one of conf/model," if packaged else "model=smollm2_135m"
        if getattr(self, unread):
            raise UserError(
                f"{getattr(self, unread)!r} would not be read: the model comes from model.{wanted}="
                f"{getattr(self, wanted)} (model.source={self.source})",
                where=f"model.{unread}",
                fix=f"add {other} for model.{unread}, or leave model.{unread} out",
            )
        if not getattr(self, wanted):
            raise UserError(
                f"model.source={self.source} reads it, and it is empty",
                where=f"model.{wanted}",
                fix=f"give model.{wanted}, or choose another model",
            )

"""Text to tokens: the student's tokenizer, and the prompt around a problem.

Every token that a model is trained on or sampled from comes from here, so all backends see the same. Problems and answers are untrusted: a special token spelled out in them stays plain text.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Literal

import msgspec
from tokenizers import Tokenizer

from nemo_cot.errors import UserError
from nemo_cot.io.json_file import DAMAGED


@dataclass(frozen=True)
class Shots:
    """Solved problems before the one that is asked: ``examples`` are pairs of a problem and its answer, both untrusted
    text; ``between`` follows each answer. An answer ends where one of ``stops`` begins. ``opening``: what the prompt
    begins with once only, where there are several (the bos).
    """

    examples: tuple[tuple[str, str], ...]
    between: str
    stops: tuple[str, ...]
    opening: str = ""


@dataclass(frozen=True)
class PromptFormat:
    """``prompt`` holds {problem} once; ``end_of_turn`` ends an answer; ``eos`` occurs nowhere else.

    The fields of nemo_cot.config.model.ModelConfig that decide how text becomes tokens, and what stands before.
    """

    prompt: str
    end_of_turn: str
    eos_token: str | None = None
    shots: Shots | None = None

    def leading(self) -> list[tuple[str, bool]]:
        """What stands before the problem, in pieces, each with whether special tokens in it are such."""
        before, after = self.prompt.split("{problem}")
        if self.shots is None or not self.shots.examples:
            return [(before, True)]
        pieces, begins = [], before
        for problem, answer in self.shots.examples:
            pieces += [(begins, True), (problem, False), (after, True), (answer, False)]
            begins = self.shots.between + before.removeprefix(self.shots.opening)
        return [*pieces, (begins, True)]

    def text(self, problem: str) -> str:
        """The whole prompt."""
        return "".join(piece for piece, _ in self.leading()) + problem + self.prompt.split("{problem}")[1]

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts that end an answer where they begin."""
        return self.shots.stops if self.shots else ()

    def cut(self, answer: str) -> str:
        """``answer`` up to the first of :attr:`stops`."""
        return answer[: min((at for at in map(answer.find, self.stops) if at >= 0), default=len(answer))]


class _Token(msgspec.Struct):
    content: str


class _TokenizerConfig(msgspec.Struct):
    """What is read of tokenizer_config.json."""

    eos_token: str | _Token | None = None
    bos_token: str | _Token | None = None


class TextTokenizer:
    """A Hugging Face tokenizer.json with a prompt format. Token ids are plain ints."""

    def __init__(self, folder: Path, form: PromptFormat) -> None:
        self.form = form
        self.folder = Path(folder)
        try:
            self._tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        except Exception as error:  # the tokenizers library raises bare Exception
            raise UserError(
                f"no usable tokenizer.json ({error})",
                where=str(folder),
                fix="give a Hugging Face directory with a fast tokenizer",
            ) from None
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        added = self._tokenizer.get_added_tokens_decoder()
        self._special_ids = {number for number, token in added.items() if token.special}
        self._after = form.prompt.split("{problem}")[1]
        self.end_of_turn_id = self.token_id(form.end_of_turn, "model.end_of_turn")
        self.eos_id = self._eos_id()

    def token_id(self, token: str, key: str) -> int:
        """The id of one special token. Raises UserError naming the config ``key``."""
        number = self._tokenizer.token_to_id(token)
        if number is None:
            raise UserError(
                f"the tokenizer has no token {token!r}",
                where=key,
                fix=f"set {key} to a token of {self.folder / 'tokenizer.json'}",
            )
        return number

    @property
    def stop_ids(self) -> list[int]:
        """The tokens that end an answer: end of turn, and the eos where there is one."""
        return sorted({self.end_of_turn_id, self.eos_id} - {None})

    def prompt_ids(self, problem: str) -> list[int]:
        """Token ids of the whole prompt; only the format's own special tokens are special."""
        return [*self.leading_ids, *self.text_ids(problem), *self.special_ids(self._after)]

    @cached_property
    def leading_ids(self) -> list[int]:
        """Token ids of what stands before the problem."""
        pieces = (self.special_ids(t) if trusted else self.text_ids(t) for t, trusted in self.form.leading())
        return [number for ids in pieces for number in ids]

    def answer_ids(self, answer: str) -> list[int]:
        """Token ids of the answer with the end-of-turn token last."""
        return [*self.text_ids(answer), self.end_of_turn_id]

    def answer_ids_at(self, answer: str) -> tuple[list[int], list[int]]:
        """:meth:`answer_ids`, and where in the text each token but the last begins, in characters."""
        self._tokenizer.encode_special_tokens = True
        encoding = self._tokenizer.encode(answer, add_special_tokens=False)
        return [*encoding.ids, self.end_of_turn_id], [start for start, _ in encoding.offsets]

    def answer_lengths(self, answers: list[str]) -> list[int]:
        """len(answer_ids) of each, in less time: without offsets, and with as many threads as the library takes."""
        self._tokenizer.encode_special_tokens = True
        found = self._tokenizer.encode_batch_fast(answers, add_special_tokens=False)
        return [len(encoding) + 1 for encoding in found]

    def trained_ids(self, answer: str, *, end_of_turn: bool) -> list[int]:
        """As :meth:`answer_ids`; without the end-of-turn token for a text that is not to teach where to stop."""
        return self.answer_ids(answer) if end_of_turn else self.text_ids(answer)

    def text_ids(self, text: str) -> list[int]:
        """Token ids of untrusted text: nothing in it is a special token."""
        self._tokenizer.encode_special_tokens = True
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int], *, skip_special_tokens: bool = False) -> str:
        """Text of ``ids``; special tokens are spelled out unless skipped."""
        return self._tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)

    def pieces(self, ids: list[int]) -> list[tuple[str, bool]]:
        """The text of ``ids`` in runs, each with whether it is special tokens: text that spells one out is not."""
        runs = [(special, list(run)) for special, run in groupby(ids, key=lambda i: i in self._special_ids)]
        return [(self.decode(run), special) for special, run in runs]

    def special_ids(self, text: str) -> list[int]:
        """Token ids of trusted text: special tokens spelled out in it are special, as a server reads them."""
        self._tokenizer.encode_special_tokens = False
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def count_special(self, ids: list[int]) -> int:
        """How many of ``ids`` are special tokens."""
        return sum(i in self._special_ids for i in ids)

    def _eos_id(self) -> int | None:
        """The eos that the model's own files name; the configured one must be the same."""
        named = named_token(self.folder, "eos_token")
        if self.form.eos_token is not None and named is not None and named != self.form.eos_token:
            raise UserError(
                f"the tokenizer's eos is {named!r}, that of the config {self.form.eos_token!r}",
                where="model.eos_token",
                fix=f"set eos_token to {self.form.eos_token} in {self.folder}/tokenizer_config.json (of a copy), so that "
                "no eos occurs inside a sequence",
            )
        token = self.form.eos_token or named
        return None if token is None else self.token_id(token, "model.eos_token")


def named_token(folder: Path, key: Literal["eos_token", "bos_token"]) -> str | None:
    """The token of that name in tokenizer_config.json; None without one, and without such a file that can be read."""
    try:
        named = msgspec.json.decode((folder / "tokenizer_config.json").read_bytes(), type=_TokenizerConfig)
    except (OSError, *DAMAGED):
        return None
    token = getattr(named, key)
    return token.content if isinstance(token, _Token) else token

"""Draw samples from a causal language model, a fixed batch at a time.

Every sample has a random stream of its own, keyed by seed, problem and sample number. The same
batches on the same machine give the same tokens, so work that was cut short can be done again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nemo_cot.sampling.embedded.cache import PreallocatedCache

_COMPACT_BELOW = 0.75
"""Finished rows are dropped from the batch when fewer than this share of it is still running."""


@dataclass(frozen=True)
class Request:
    """One sample to draw: the prompt's token ids and the key of its random stream."""

    prompt_ids: list[int]
    key: str


@dataclass(frozen=True)
class Completion:
    """``token_ids`` without the stop token; ``finish_reason`` is "stop" or "length".

    ``num_generated_tokens`` counts the stop token.
    """

    token_ids: list[int]
    finish_reason: str
    num_generated_tokens: int


@dataclass(frozen=True)
class Decoding:
    """Sampling parameters; ``temperature`` 0 is greedy, ``top_k`` 0 and ``top_p`` 1 are off. ``ends``: whether a row
    with these tokens so far is finished, though none of ``stop_ids`` came.
    """

    temperature: float
    top_k: int
    top_p: float
    max_new_tokens: int
    stop_ids: tuple[int, ...]
    seed: int
    ends: Callable[[list[int]], bool] | None = None


@torch.inference_mode()
def sample_batch(
    model: torch.nn.Module,
    requests: Sequence[Request],
    decoding: Decoding,
    on_step: Callable[[int, int], object] = lambda finished, tokens: None,
) -> list[Completion]:
    """One completion per request, in order. The model must use the sampling attention. ``on_step`` is called after each
    token with the number of finished requests and of all tokens drawn.
    """
    state = _prefill(model, requests, decoding)
    for step in range(decoding.max_new_tokens):
        tokens = _draw(state.logits, state.uniforms[:, step], decoding)
        state.record(tokens, decoding)
        on_step(len(requests) - int(state.running.sum()), state.drawn)
        if not state.running.any() or step + 1 == decoding.max_new_tokens:
            break
        state.compact()
        state.positions = state.positions + 1
        visible = state.visible[:, None, None, : state.cache.seen + 1]
        state.logits = _forward(model, state.tokens.unsqueeze(1), state.positions, state.cache, visible)
    return [_completion(ids, decoding) for ids in state.outputs]


class _State:
    """A batch in flight. ``rows`` maps the batch's current rows to the requests."""

    def __init__(
        self,
        cache: PreallocatedCache,
        visible: torch.Tensor,
        positions: torch.Tensor,
        logits: torch.Tensor,
        uniforms: torch.Tensor,
    ) -> None:
        self.cache, self.visible, self.positions = cache, visible, positions
        self.logits, self.uniforms = logits, uniforms
        self.rows = list(range(len(logits)))
        self.running = torch.ones(len(logits), dtype=torch.bool)
        self.tokens = torch.empty(0, dtype=torch.int64)
        self.outputs: list[list[int]] = [[] for _ in self.rows]
        self.drawn = 0

    def record(self, tokens: torch.Tensor, decoding: Decoding) -> None:
        """Append each running row's token; a row that drew a stop token, or ends with it, is finished."""
        self.tokens = tokens
        for index, token in enumerate(tokens.tolist()):
            if self.running[index]:
                output = self.outputs[self.rows[index]]
                output.append(token)
                self.drawn += 1
                ended = token in decoding.stop_ids or (decoding.ends is not None and decoding.ends(output))
                self.running[index] = not ended

    def compact(self) -> None:
        """Drop finished rows once enough of them make the copy worth it."""
        if self.running.sum() >= _COMPACT_BELOW * len(self.rows):
            return
        keep = self.running.nonzero().squeeze(1)
        here = keep.to(self.visible.device)
        self.cache.select(here)
        self.visible, self.positions, self.tokens = (
            self.visible[here],
            self.positions[here],
            self.tokens[here],
        )
        self.uniforms, self.running = self.uniforms[here], self.running[keep]
        self.rows = [self.rows[i] for i in keep.tolist()]


def _prefill(model: torch.nn.Module, requests: Sequence[Request], decoding: Decoding) -> _State:
    """Run each distinct prompt once, padded on the left, and spread the result over its samples."""
    distinct = list(dict.fromkeys(tuple(r.prompt_ids) for r in requests))
    where = {prompt: index for index, prompt in enumerate(distinct)}
    width = max(map(len, distinct))
    device = next(model.parameters()).device
    ids = torch.zeros(len(distinct), width, dtype=torch.int64)
    real = torch.zeros(len(distinct), width, dtype=torch.bool)
    for row, prompt in enumerate(distinct):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        real[row, width - len(prompt) :] = True
    ids, real = ids.to(device), real.to(device)
    positions = (real.cumsum(1) - 1).clamp(min=0)
    cache = PreallocatedCache(width + decoding.max_new_tokens)
    logits = _forward(model, ids, positions, cache, _causal(real))
    spread = torch.tensor([where[tuple(r.prompt_ids)] for r in requests], device=device)
    cache.select(spread)
    visible = torch.ones(len(requests), width + decoding.max_new_tokens, dtype=torch.bool, device=device)
    visible[:, :width] = real[spread]
    # (requests, max_new_tokens) float64 in [0, 1), a Philox stream per request.
    streams = [_stream(f"{decoding.seed}:{r.key}").random(decoding.max_new_tokens) for r in requests]
    uniforms = torch.from_numpy(np.stack(streams)).to(device)
    return _State(cache, visible, positions[spread, -1:], logits[spread], uniforms)


def _causal(real: torch.Tensor) -> torch.Tensor:
    """(rows, 1, width, width): earlier real tokens; a padding position sees itself, never nothing."""
    width = real.shape[1]
    earlier = torch.ones(width, width, dtype=torch.bool, device=real.device).tril()
    itself = torch.eye(width, dtype=torch.bool, device=real.device)
    return ((earlier & real[:, None, :]) | itself).unsqueeze(1)


def _forward(
    model: torch.nn.Module,
    ids: torch.Tensor,
    positions: torch.Tensor,
    cache: PreallocatedCache,
    visible: torch.Tensor,
) -> torch.Tensor:
    """Logits of the last position, float32 (rows, vocabulary)."""
    out = model(
        input_ids=ids,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        visible=visible,
        logits_to_keep=1,
    )
    cache.advance(ids.shape[1])
    return out.logits[:, -1].float()


def _draw(logits: torch.Tensor, uniforms: torch.Tensor, decoding: Decoding) -> torch.Tensor:
    """One token a row by inverting the cumulative distribution at the row's own random number."""
    if decoding.temperature == 0:
        return logits.argmax(-1)
    logits = logits / decoding.temperature
    chosen = None
    if decoding.top_k or decoding.top_p < 1:
        k = min(decoding.top_k or logits.shape[1], logits.shape[1])
        logits, chosen = logits.topk(k, dim=-1)
    weights = logits.softmax(-1)
    if decoding.top_p < 1:
        weights = weights * (weights.cumsum(-1) - weights < decoding.top_p)
    cumulative = weights.cumsum(-1, dtype=torch.float64)
    index = torch.searchsorted(cumulative, uniforms.unsqueeze(1) * cumulative[:, -1:], right=True)
    index = index.clamp(max=logits.shape[1] - 1)
    return (index if chosen is None else chosen.gather(1, index)).squeeze(1)


def _stream(key: str) -> np.random.Generator:
    digest = hashlib.sha256(key.encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def _completion(ids: list[int], decoding: Decoding) -> Completion:
    stopped = bool(ids) and ids[-1] in decoding.stop_ids
    return Completion(ids[:-1] if stopped else ids, "stop" if stopped else "length", len(ids))

"""How fast a server samples: continuous batching over a roofline of the decoding step. Formulas: docs/engines.md.

A simulation, without a GPU: good to about 30 %. Its constants are assumptions with their sources beside them.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import NormalDist

from nemo_cot.config.gpus import H100, Gpu
from nemo_cot.config.model import ModelShape

BF16 = 2
"""Bytes of a weight, and of an element of the cache."""
MEMORY_SHARE = 0.9
"""Of a GPU's memory that vLLM takes (--gpu-memory-utilization, its default)."""
WORKSPACE_BYTES = 4 * 2**30
"""Per GPU: activations, CUDA graphs and NCCL's buffers, which vLLM takes off before it makes the cache; assumed."""
MOST_SEQUENCES = 1024
"""Per copy: vLLM's --max-num-seqs on GPUs of this size (EngineArgs, usage context OPENAI_API_SERVER)."""
BANDWIDTH_SHARE = 0.75
"""Of the memory bandwidth that decoding kernels reach; assumed."""
FLOPS_SHARE = 0.5
"""Of the operations per second that large matrix products reach beside everything else; assumed."""
ALL_REDUCE_SECONDS = 12e-6
"""Latency of one all-reduce within a node; assumed. There are two per layer (Megatron-LM, arXiv 1909.08053)."""
STEP_SECONDS = 6e-3
"""Of the scheduler and the launch of a step; assumed."""
SEQUENCE_SECONDS = 15e-6
"""Per sequence and step, of the scheduler, sampling and detokenization; assumed."""
SEEDED_SECONDS = 30e-6
"""Per sequence and step, more, where each has a seed of its own: vLLM then sorts the whole vocabulary, and draws
request by request (vllm/v1/sample/ops/topk_topp_sampler.py says that it is slow; PR 11394: the sort alone 15 %)."""
LAUNCH_SECONDS = 1e-3
"""Of a step that was scheduled beforehand; assumed."""
SERVER_SECONDS = 150.0
"""Interpreter, compilation and CUDA graphs of a server; assumed."""
LOAD_BYTES_PER_SECOND = 0.3e9
"""At which weights come from a shared file system; assumed. With the above 6 minutes for 65 GB."""
SPREAD = 0.5
"""Sigma of the logarithm of answers' lengths, where no answers are there to be counted; assumed."""
HEADROOM_STEPS = 64
"""Steps for which the cache must last for another sequence to start. vLLM starts it in any case, throws it out soon,
and finds most of it again in its prefix cache, which is not simulated."""
_QUANTILES = 2048


@dataclass(frozen=True)
class ServerLayout:
    """``copies`` of the model, each over ``tensor`` GPUs. ``overlapped``: the next step is scheduled while the GPUs
    compute, as vLLM does from 0.14 on. ``memory_share``: of each GPU, that the server takes; ``most_sequences``: of a copy.
    """

    tensor: int
    copies: int
    gpu: Gpu = H100
    overlapped: bool = False
    memory_share: float = MEMORY_SHARE
    most_sequences: int = MOST_SEQUENCES

    @property
    def num_gpus(self) -> int:
        """In all."""
        return self.tensor * self.copies

    def cache_tokens(self, shape: ModelShape) -> float:
        """Tokens whose keys and values fit beside one copy. Raises ValueError where its weights do not fit."""
        free = self.gpu.memory_bytes * self.memory_share - WORKSPACE_BYTES - BF16 * shape.parameters / self.tensor
        if free <= 0:
            gpus = f"{self.tensor} GPU{'s' * (self.tensor > 1)}"
            raise ValueError(f"its weights do not fit {gpus} of {self.gpu.memory_bytes / 2**30:.0f} GiB")
        return free / (token_bytes(shape) / min(self.tensor, shape.kv_heads))

    def step_seconds(self, shape: ModelShape, batch: float, cached: float, *, seeded: bool) -> float:
        """Of one token for each of ``batch`` sequences of a copy, which have ``cached`` tokens together.

        The weights and the cache are read once, or 2 x parameters operations per sequence are computed, whichever
        takes longer (Pope et al., arXiv 2211.05102), each GPU its share; 2 x layers all-reduces of the hidden
        states, ring: 2 (t - 1) / t of the bytes (t: ``tensor``); and what is no work of the GPU's.
        """
        heads = min(self.tensor, shape.kv_heads)  # more GPUs than key-value heads repeat them
        read = BF16 * shape.parameters / self.tensor + cached * token_bytes(shape) / heads
        compute = 2 * shape.parameters * batch / (self.tensor * FLOPS_SHARE * self.gpu.bf16_flops)
        sent = BF16 * shape.hidden * batch * 2 * (self.tensor - 1) / self.tensor
        reduce = ALL_REDUCE_SECONDS + sent / self.gpu.link_bytes_per_second if self.tensor > 1 else 0.0
        per_sequence = SEQUENCE_SECONDS + (SEEDED_SECONDS if seeded else 0.0)
        on_gpu = max(read / (BANDWIDTH_SHARE * self.gpu.bytes_per_second), compute) + 2 * shape.layers * reduce
        if self.overlapped:  # the draws stay on the GPU
            draws = SEEDED_SECONDS * batch if seeded else 0.0
            return max(on_gpu + draws, STEP_SECONDS + SEQUENCE_SECONDS * batch) + LAUNCH_SECONDS
        return on_gpu + STEP_SECONDS + per_sequence * batch

    def prefill_seconds(self, shape: ModelShape, tokens: float) -> float:
        """Of reading ``tokens`` of a prompt: 2 x parameters operations each."""
        return 2 * shape.parameters * tokens / (self.tensor * FLOPS_SHARE * self.gpu.bf16_flops)

    def start_seconds(self, shape: ModelShape) -> float:
        """Until the server answers."""
        return SERVER_SECONDS + BF16 * shape.parameters / LOAD_BYTES_PER_SECOND


def token_bytes(shape: ModelShape) -> int:
    """Keys and values of one token in all layers."""
    return 2 * BF16 * shape.layers * shape.kv_width


@dataclass(frozen=True)
class Lengths:
    """Tokens of answers: ``quantiles``, each as frequent as the others. ``prompt``: tokens before the answer."""

    prompt: int
    quantiles: tuple[int, ...]

    @classmethod
    def log_normal(cls, prompt: int, mean: float, cap: int) -> Lengths:
        """Of this ``mean`` after all longer than ``cap`` have been cut there."""
        normal = NormalDist()
        spread = [math.exp(SPREAD * normal.inv_cdf((i + 0.5) / _QUANTILES)) for i in range(_QUANTILES)]
        low, high = 0.0, float(cap) / spread[0]
        for _ in range(50):  # the mean grows with the median
            middle = (low + high) / 2
            below = sum(min(cap, middle * s) for s in spread) / _QUANTILES < mean
            low, high = (middle, high) if below else (low, middle)
        return cls(prompt, tuple(max(1, round(min(cap, high * s))) for s in spread))

    @property
    def mean(self) -> float:
        """Of the answers."""
        return sum(self.quantiles) / len(self.quantiles)

    def draw(self) -> Iterator[int]:
        """Without end, the same in each run; every ``len(quantiles)`` of them are all quantiles."""
        order, chance = list(self.quantiles), random.Random(0)
        while True:
            chance.shuffle(order)
            yield from order


@dataclass(frozen=True)
class Requests:
    """What is sent: ``groups`` of ``each`` requests, such as a seed's problems; ``together`` groups at a time, in each
    at most ``in_flight`` requests. A group starts ``group_seconds`` after it may: a process of NeMo-Skills per seed.
    """

    groups: int
    each: int
    together: int
    in_flight: int
    group_seconds: float = 0.0


@dataclass(frozen=True)
class Sampled:
    """A simulation: ``seconds`` from the first request to the last answer; ``in_flight``: sequences that are decoded at
    a time, the mean over time, of all copies; ``preempted``: how often one was thrown out of a full cache.
    """

    seconds: float
    tokens: int
    in_flight: float
    preempted: int

    @property
    def tokens_per_second(self) -> float:
        """Of all copies together."""
        return self.tokens / self.seconds


@dataclass
class _Running:
    group: int
    context: int
    left: int
    began: int = 0


def simulate(
    shape: ModelShape, layout: ServerLayout, lengths: Lengths, requests: Requests, *, seeded: bool
) -> Sampled:
    """Sample all of ``requests``. The copies share them evenly, so that each step is the same in all.

    As vLLM schedules: a request starts when its prompt fits the cache; when the cache is full the one that started
    last is thrown out, and computed again later. Raises ValueError where the weights, or a whole answer, do not fit.
    """
    room = layout.cache_tokens(shape) * layout.copies
    if room < (lengths.prompt + max(lengths.quantiles)) * layout.copies:
        raise ValueError("its cache has no room for one answer of the longest")
    clients = _Clients(requests, lengths)
    running: dict[int, _Running] = {}  # in the order of their start
    ends: list[tuple[int, int]] = []  # (step, number) of each that runs; those thrown out are skipped
    now, step, cached, number, tokens, preempted, area = 0.0, 0, 0, 0, 0, 0, 0.0
    while running or clients.more(now):
        while (request := clients.first(now)) and len(running) < layout.most_sequences * layout.copies:
            if cached + request.context + HEADROOM_STEPS * len(running) > room:
                break
            clients.waiting.popleft()
            now += layout.prefill_seconds(shape, request.context) / layout.copies
            request.began, cached, number = step, cached + request.context, number + 1
            running[number] = request
            heapq.heappush(ends, (step + request.left, number))
        if not running:
            now = clients.arrivals[0][0]
            continue
        batch = len(running)
        while ends[0][1] not in running or running[ends[0][1]].began + running[ends[0][1]].left != ends[0][0]:
            heapq.heappop(ends)
        steps = max(1, min(ends[0][0] - step, int((room - cached) / batch)))
        middle = cached + batch * (steps - 1) / 2  # the time of a step is linear in it
        each = layout.step_seconds(shape, batch / layout.copies, middle / layout.copies, seeded=seeded)
        if clients.arrivals:
            until = max(1, math.ceil((clients.arrivals[0][0] - now) / each))
            steps = min(steps, until)
        now, step, cached = now + steps * each, step + steps, cached + steps * batch
        tokens, area = tokens + steps * batch, area + steps * each * batch
        while ends and ends[0][0] <= step:
            done = running.pop(heapq.heappop(ends)[1], None)
            if done is not None:
                cached -= done.context + done.left
                clients.ended(done.group, now)
        while cached + len(running) > room and len(running) > layout.copies:
            _, last = running.popitem()
            made, preempted = step - last.began, preempted + 1
            cached -= last.context + made
            clients.waiting.appendleft(_Running(last.group, last.context + made, last.left - made))
    return Sampled(now, tokens, area / now, preempted)


class _Clients:
    """The requests that have been sent and wait, and those to come."""

    def __init__(self, requests: Requests, lengths: Lengths) -> None:
        self._requests, self._prompt, self._draw = requests, lengths.prompt, lengths.draw()
        self._unsent: dict[int, int] = {}
        self._open: dict[int, int] = {}
        self._next = 0
        self.waiting: deque[_Running] = deque()
        self.arrivals: list[tuple[float, int]] = []
        for _ in range(min(requests.together, requests.groups)):
            self._start(0.0)

    def _start(self, now: float) -> None:
        if self._next < self._requests.groups:
            heapq.heappush(self.arrivals, (now + self._requests.group_seconds, self._next))
            self._next += 1

    def more(self, now: float) -> bool:
        """Whether there is anything left to send or to start."""
        return bool(self.waiting or self.arrivals)

    def first(self, now: float) -> _Running | None:
        """The request that waits longest."""
        while self.arrivals and self.arrivals[0][0] <= now:
            _, group = heapq.heappop(self.arrivals)
            self._unsent[group] = self._open[group] = self._requests.each
            for _ in range(min(self._requests.in_flight, self._requests.each)):
                self._send(group)
        return self.waiting[0] if self.waiting else None

    def _send(self, group: int) -> None:
        if self._unsent[group]:
            self._unsent[group] -= 1
            self.waiting.append(_Running(group, self._prompt, next(self._draw)))

    def ended(self, group: int, now: float) -> None:
        """An answer of ``group`` is there: its client sends the next, or the next group starts."""
        self._open[group] -= 1
        self._send(group)
        if not self._open[group]:
            self._start(now)


def measured(prompt: int, counts: Iterable[int]) -> Lengths | None:
    """The lengths of answers that are there; None without any."""
    ordered = sorted(counts)
    if not ordered:
        return None
    at = [int((i + 0.5) / _QUANTILES * len(ordered)) for i in range(_QUANTILES)]
    return Lengths(prompt, tuple(max(1, ordered[i]) for i in at))

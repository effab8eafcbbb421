"""Sample from an OpenAI-compatible endpoint: many requests at a time, retried, resumed by sample."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import httpx

from nemo_cot.config.engines import OpenAIEngine
from nemo_cot.errors import Fault, UserError
from nemo_cot.io.jsonl import JsonlAppender, drop_cut_line, read_jsonl, write_jsonl
from nemo_cot.progress import Tracker, track
from nemo_cot.records import Problem, Trace
from nemo_cot.sampling.chunks import GENERATIONS
from nemo_cot.sampling.job import SamplingJob
from nemo_cot.sampling.openai.replies import Answer, read_answer
from nemo_cot.sampling.openai.requests import RequestMaker
from nemo_cot.serving.fetch import Trouble, fetch
from nemo_cot.serving.server import Server, authorization, serving

_FLUSH_SECONDS = 0.5
_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 60.0
_CONNECT_SECONDS = 30.0
_SETTLE_SECONDS = 15.0
"""What a server of ours that has ended may take to show it: its keeper ends what it left behind first."""


def sample_endpoint(engine: OpenAIEngine, job: SamplingJob) -> None:
    """Write ``job.folder``/generations.jsonl. Samples that came before a kill are in scratch and are
    not asked for again. Raises UserError for a server that fails, refuses or stalls.
    """
    scratch = job.folder / "scratch"
    scratch.mkdir(exist_ok=True)
    received = scratch / "received.jsonl"
    done = _received(received, job)
    todo = [(p, s) for p, s in job.pairs if (p.problem_id, s) not in done]
    if todo:
        seeded = job.sampling.seeded
        with serving(engine.server, job.model, job.folder, form=job.form, seeded=seeded) as server:
            maker = RequestMaker(engine, job, server)
            asyncio.run(_Sampling(engine, job, server, maker, received).run(todo, len(done)))
        done = _received(received, job)
    write_jsonl(job.folder / GENERATIONS, (done[p.problem_id, s] for p, s in job.pairs))


def _received(path: Path, job: SamplingJob) -> dict[tuple[str, int], Trace]:
    """What a former attempt has, by problem and sample."""
    drop_cut_line(path)
    if not path.exists():
        return {}
    wanted = {(p.problem_id, s) for p, s in job.pairs}
    rows = {(t.problem_id, t.sample): t for t in read_jsonl(path, Trace, allow_empty=True)}
    return {key: row for key, row in rows.items() if key in wanted}


class _Sampling:
    """One run over what is to do. The first error ends it; what came until then is on the disk."""

    def __init__(
        self, engine: OpenAIEngine, job: SamplingJob, server: Server, maker: RequestMaker, path: Path
    ) -> None:
        self._engine, self._job, self._server, self._maker, self._path = engine, job, server, maker, path
        self._url = server.base_url + maker.path
        self._new: list[Trace] = []
        self._count = self._tokens = 0
        self._last, self._trouble = time.monotonic(), ""
        self._silent = False  # a request was given up without any answer

    async def run(self, todo: list[tuple[Problem, int]], done: int) -> None:
        """Draw all of ``todo``."""
        queue = iter(todo)
        limit = self._engine.max_concurrent_requests
        limits = httpx.Limits(max_connections=limit, max_keepalive_connections=limit)
        timeout = httpx.Timeout(self._engine.request_timeout_seconds, connect=_CONNECT_SECONDS)
        headers = authorization(self._server.api_key)
        with (
            JsonlAppender(self._path) as out,
            track(self._job.label, len(self._job.pairs), "samples", self._job.folder, done=done) as progress,
        ):
            env = not self._server.here
            async with httpx.AsyncClient(limits=limits, timeout=timeout, headers=headers, trust_env=env) as client:
                workers = [
                    asyncio.create_task(self._work(client, queue)) for _ in range(min(limit, len(todo)))
                ]
                try:
                    await self._watch(workers, out, progress, done)
                finally:
                    for worker in workers:
                        worker.cancel()
                    await asyncio.gather(*workers, return_exceptions=True)
                    self._flush(out)

    async def _work(self, client: httpx.AsyncClient, queue) -> None:
        for problem, sample in queue:
            answer = await self._ask(client, problem, sample)
            self._new.append(self._job.trace(problem, sample, *answer))
            self._tokens += answer.tokens
            self._last, self._trouble = time.monotonic(), ""

    async def _watch(
        self, workers: list[asyncio.Task], out: JsonlAppender, progress: Tracker, done: int
    ) -> None:
        """Put on the disk what comes, and look after the server and the time, until all workers end."""
        started, pending = time.monotonic(), set(workers)
        while pending:
            ended, pending = await asyncio.wait(
                pending, timeout=_FLUSH_SECONDS, return_when=asyncio.FIRST_EXCEPTION
            )
            self._flush(out)
            speed = self._tokens / (time.monotonic() - started)
            progress.update(done + self._count, speed=f"{speed:.0f} tokens/s")
            self._server.check()
            if self._silent and self._server.process is not None:  # is it its end? Then that is the error
                for _ in range(round(_SETTLE_SECONDS / _FLUSH_SECONDS)):
                    await asyncio.sleep(_FLUSH_SECONDS)
                    self._server.check()
            for worker in ended:
                worker.result()
            if pending and time.monotonic() - self._last > self._engine.stall_seconds:
                raise Fault(
                    f"no new sample for {self._engine.stall_seconds:g} s{self._trouble}",
                    where=self._url,
                    fix="look at the server's log, or raise engine.stall_seconds, then run the same command again",
                )

    def _flush(self, out: JsonlAppender) -> None:
        rows, self._new = self._new, []
        if rows:
            out.append(rows)
            self._count += len(rows)

    async def _ask(self, client: httpx.AsyncClient, problem: Problem, sample: int) -> Answer:
        """One sample; tried again, after growing waits, where that may help.

        A wait that the server asks for (Retry-After) comes on top and is no failure of its own: such a
        server is asked until stall_seconds have passed without a new sample.
        """
        asked = self._maker.body(problem, sample)
        failures, longest = 0, self._engine.stall_seconds
        while True:
            try:
                body = await fetch(
                    client, "POST", self._url, seconds=self._engine.request_timeout_seconds, json=asked
                )
                limit, context = self._job.sampling.max_new_tokens, self._server.context
                return read_answer(body, chat=self._maker.chat, max_tokens=limit, context=context)
            except Trouble as trouble:
                self._trouble = f"; the last trouble: {trouble}"
                wait = trouble.wait_seconds or 0.0
                failures += not wait
                if not trouble.again or failures > self._engine.retries or wait > longest:
                    self._silent = not trouble.answered
                    more = f"; it asks for {wait:g} s, engine.stall_seconds is {longest:g}" * (wait > longest)
                    kind = Fault if trouble.again else UserError  # it answers, and refuses what is asked
                    raise kind(
                        f"problem {problem.problem_id}, sample {sample}: {trouble}{more}",
                        where=self._url,
                        fix=f"{trouble.fix or 'correct what the server says'}, then run the same command again: it resumes",
                    ) from None
            backoff = min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2**failures)
            await asyncio.sleep(wait + random.uniform(0.5, 1.0) * backoff)

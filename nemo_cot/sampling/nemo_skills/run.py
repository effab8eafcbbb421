"""Sample a job with NeMo-Skills: start the server, run a process a seed, check, read, stop the server."""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from nemo_cot.config.engines import NemoSkillsEngine
from nemo_cot.errors import Fault, UserError
from nemo_cot.io.jsonl import write_jsonl
from nemo_cot.progress import Tracker, track
from nemo_cot.records import Problem
from nemo_cot.sampling.chunks import GENERATIONS
from nemo_cot.sampling.job import SamplingJob
from nemo_cot.sampling.limits import check_room
from nemo_cot.sampling.nemo_skills.command import generate_command
from nemo_cot.sampling.nemo_skills.files import (
    RowCounter,
    in_problem_order,
    output_file,
    read_seed,
    repair,
    trouble_of,
    write_input,
)
from nemo_cot.sampling.openai.requests import check_prompts, messages
from nemo_cot.serving.process import Process
from nemo_cot.serving.server import Server, past_proxies, serving
from nemo_cot.text import TextTokenizer

_POLL_SECONDS = 0.5
_OFFLINE = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
"""NeMo-Skills' client fetches a list of prices from GitHub as each process starts, or waits for it where that is cut off."""


def sample_nemo_skills(engine: NemoSkillsEngine, job: SamplingJob) -> None:
    """Write ``job.folder``/generations.jsonl; logs of the server and of each seed are in logs/.

    NeMo-Skills' own files are in scratch/nemo_skills, where a later attempt finds them. Raises
    UserError for a server or a seed that fails, and for one that stalls.
    """
    work = job.folder / "scratch" / "nemo_skills"
    work.mkdir(parents=True, exist_ok=True)
    source = work / "input.jsonl"
    write_input(source, job, [_sent(engine, job, problem) for problem in job.problems])
    rendered = engine.endpoint == "text" and job.model is not None
    tokenizer = TextTokenizer(job.model, job.form) if rendered else None
    if tokenizer is not None:
        check_prompts(tokenizer, job)
    files = {sample: output_file(work, job.seed + sample) for sample in job.samples}
    todo = [s for s, path in files.items() if repair(path, job.problems) != "done"]
    for sample in files.keys() - set(todo):
        read_seed(files[sample], job, sample)  # a row that cannot be used ends it here, not after all others
    if todo:
        # Each of its processes asks for the server by curl, and takes no curl for a server that is not up.
        if shutil.which("curl") is None:
            what = "there is no curl here: NeMo-Skills would wait for ever"
            raise UserError(what, where="PATH", fix="install curl")
        seeded = job.sampling.seeded
        with serving(engine.server, job.model, job.folder, form=job.form, seeded=seeded) as server:
            if tokenizer is not None:
                check_room(tokenizer, job, server.context)
            _Seeds(engine, job, server, source, files).run(todo)
    seeds = [read_seed(path, job, sample) for sample, path in files.items()]
    write_jsonl(job.folder / GENERATIONS, in_problem_order(seeds))


def _sent(engine: NemoSkillsEngine, job: SamplingJob, problem: Problem) -> object:
    """What NeMo-Skills sends for a problem when it has no prompt of its own."""
    prompt = job.prompt(problem)
    return prompt if engine.endpoint == "text" else messages(engine.system_message, prompt, job.turns)


class _Seeds:
    """The processes of all seeds, ``seeds_in_parallel`` at a time. The first failure ends the others."""

    def __init__(
        self,
        engine: NemoSkillsEngine,
        job: SamplingJob,
        server: Server,
        source: Path,
        files: dict[int, Path],
    ) -> None:
        self._engine, self._job, self._server = engine, job, server
        self._source, self._files = source, files
        self._rows = dict.fromkeys(files, 0)
        self._counters = {sample: RowCounter(path) for sample, path in files.items()}
        self._failures = dict.fromkeys(files, 0)
        self._running: dict[int, Process] = {}
        self._last_words: dict[int, str] = {}
        self._last = time.monotonic()

    def run(self, todo: list[int]) -> None:
        """Sample the seeds of ``todo``; the others are done."""
        size, waiting = len(self._job.problems), deque(todo)
        self._rows |= dict.fromkeys(set(self._files) - set(todo), size)
        self._count_rows(todo)
        done = sum(self._rows.values())
        try:
            with track(
                self._job.label, len(self._files) * size, "samples", self._job.folder, done=done
            ) as progress:
                while waiting or self._running:
                    while waiting and len(self._running) < self._engine.seeds_in_parallel:
                        self._start(waiting.popleft())
                    time.sleep(_POLL_SECONDS)
                    self._server.check()
                    waiting.extendleft(sample for sample in self._ended() if not self._whole(sample))
                    self._watch(progress)
        finally:
            for process in self._running.values():
                process.stop()

    def _start(self, sample: int) -> None:
        command = generate_command(
            self._engine,
            self._job,
            self._server,
            source=self._source,
            target=self._files[sample],
            seed=self._job.seed + sample,
        )
        environment = _OFFLINE | past_proxies()
        self._running[sample] = Process(
            command, self._log(sample), cwd=self._source.parent, environment=environment
        )

    def _log(self, sample: int) -> Path:
        return self._job.folder / "logs" / f"rs{self._job.seed + sample}.log"

    def _ended(self) -> list[int]:
        """The seeds whose processes have ended; they are no longer among the running ones."""
        ended = [sample for sample, process in self._running.items() if process.exit_code() is not None]
        self._count_rows(ended)
        for sample in ended:
            self._last_words[sample] = self._running[sample].last_lines()
            self._running.pop(sample).stop()
        return ended

    def _whole(self, sample: int) -> bool:
        """Whether the seed that has ended is all there; False when it is to be run again.

        Raises UserError when it failed once too often, and for rows that the next seed would have too.
        Exit code 0 alone says nothing: NeMo-Skills also ends so when it finds nothing to do.
        """
        path = self._files[sample]
        trouble = trouble_of(path, self._job.problems) if path.exists() else f"no {path.name} was written"
        if trouble is None:
            read_seed(path, self._job, sample)
            return True
        self._server.check()
        self._failures[sample] += 1
        if self._failures[sample] > self._engine.retries:
            raise UserError(
                f"{trouble}; the log ends: {self._last_words[sample]}",
                where=str(self._log(sample)),
                fix="correct what it says, then run the same command again: it resumes",
            )
        repair(path, self._job.problems)
        return False

    def _watch(self, progress: Tracker) -> None:
        """Tell how far it is. Raises UserError when nothing has come for too long."""
        if self._count_rows(self._running):
            self._last = time.monotonic()
            progress.update(sum(self._rows.values()), seeds=f"{len(self._running)} running")
        if self._running and time.monotonic() - self._last > self._engine.stall_seconds:
            sample, process = next(iter(self._running.items()))
            raise Fault(
                f"no new sample for {self._engine.stall_seconds:g} s; the log ends: {process.last_lines()}",
                where=str(self._log(sample)),
                fix="look at this log and the server's, or raise engine.stall_seconds, then run the same command again",
            )

    def _count_rows(self, samples: Iterable[int]) -> bool:
        """Count the rows of these seeds' files; whether any has more than before."""
        before = dict(self._rows)
        for sample in samples:
            self._rows[sample] = min(self._counters[sample].count(), len(self._job.problems))
        return any(self._rows[sample] > before[sample] for sample in before)

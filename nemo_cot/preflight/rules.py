"""Rules over the whole config. Each is a small function with an id; none imports torch."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nemo_cot.config import Config
from nemo_cot.config.cluster import ResourcesConfig
from nemo_cot.config.rule import GIB, KNOWN_LATER, Found, Rule, rule
from nemo_cot.evaluation.sets import held_out_sets
from nemo_cot.io.paths import real_path, user_path
from nemo_cot.preflight.cluster_rules import CLUSTER_RULES
from nemo_cot.preflight.engine_rules import SERVER_RULES
from nemo_cot.preflight.engine_uses import engine_uses
from nemo_cot.preflight.estimate import Estimate
from nemo_cot.preflight.example_rules import EXAMPLE_RULES
from nemo_cot.preflight.model_rules import MODEL_RULES
from nemo_cot.preflight.named_inputs import INPUT_RULES, trace_packages
from nemo_cot.preflight.sampling_cost import num_problems, sampling_time
from nemo_cot.traces.keys import filter_packages
from nemo_cot.training.backend import backend_of


@dataclass(frozen=True)
class Finding:
    """``level`` is error, warning, unknown or ok. An error stops a run, a warning is printed; unknown: the
    rule could not look, and ``what`` says why. ``fix`` names the key to change.
    """

    rule: str
    level: str
    what: str
    fix: str = ""


def preflight(
    cfg: Config,
    estimate: Estimate,
    kinds: Mapping[str, str],
    *,
    num_bytes_there: int = 0,
    stage: str | None = None,
    elsewhere: bool = False,
) -> list[Finding]:
    """The findings of every rule that is about something in ``cfg``; a rule without any reports ok.

    ``kinds``: what each recipe of the chain takes of cluster.resources; asked where there is a cluster.
    ``num_bytes_there``: what the run directory holds already, which needs no further disk. ``stage``:
    only the rules of this stage. ``elsewhere``: without those about the machine, because the stages run
    on others, where each asks the rules of its own.
    """
    findings: list[Finding] = []
    # A Python need not have what other stages import.
    alone = replace(cfg, launcher=replace(cfg.launcher, stages=[stage])) if stage else cfg
    for asked, arguments in _rules(cfg, alone, estimate, kinds, num_bytes_there):
        if asked.concerns(cfg.launcher.stages, stage) and not (elsewhere and asked.of_machine):
            found = [Finding(asked.name, *one) for one in asked.check(*arguments)]
            findings += found or [Finding(asked.name, "ok", asked.good)]
    return findings


def unasked(cfg: Config, estimate: Estimate, *, elsewhere: bool = False) -> list[str]:
    """The rules that :func:`preflight` does not ask for the whole chain: they are of stages that are not in it, or of
    the machine.
    """
    asked = [rule for rule, _ in _rules(cfg, cfg, estimate, {}, 0)]
    return [r.name for r in asked if not r.concerns(cfg.launcher.stages, None) or (elsewhere and r.of_machine)]


def _rules(
    cfg: Config, alone: Config, estimate: Estimate, kinds: Mapping[str, str], num_bytes_there: int
) -> Iterator[tuple[Rule, Any]]:
    """The rules that there are for the chosen backend, engines and cluster, with what each is asked with."""
    yield from ((one, (cfg, estimate)) for one in (*RULES, *INPUT_RULES, *MODEL_RULES, *EXAMPLE_RULES))
    yield packages_installed, (alone, estimate)
    yield disk, (cfg, estimate, num_bytes_there)
    yield run_directory, (cfg, estimate)
    if any(use.engine.client for use in engine_uses(cfg)):
        yield from ((one, (cfg, estimate)) for one in SERVER_RULES)
    yield from ((one, (cfg, cfg.train, estimate.training)) for one in backend_of(cfg.train).rules)
    if cluster := cfg.cluster.slurm:

        def of(recipe: str) -> tuple[str, ResourcesConfig]:
            return cluster.resources.of(kinds.get(recipe, "cpu"))

        yield sampling_time, (cluster, of, estimate.sampling)
        yield from ((one, (cfg, cluster, of)) for one in CLUSTER_RULES)


@rule("curate")
def enough_candidates(cfg: Config, _: Estimate) -> Found:
    """There can be enough traces to curate."""
    problems = num_problems(cfg)
    if problems is None:
        where = "teacher.path says how many problems there are" if cfg.problems.of_traces else "problems.train_path"
        yield "unknown", f"the problems are not there: {where}", ""
        return
    problems = min(problems, cfg.curate.num_problems or problems)
    samples = cfg.curate.per_problem if cfg.teacher.in_one_piece else cfg.generate.samples_per_problem
    most = problems * min(cfg.curate.per_problem, samples)
    if most < cfg.curate.num_traces:
        yield (
            "error",
            f"{problems} problems with {cfg.curate.per_problem} traces each can give {most} traces, "
            f"curate.num_traces asks for {cfg.curate.num_traces}",
            f"{cfg.problems.more} or curate.per_problem, or lower curate.num_traces",
        )


@rule("generate")
def teacher_fits(cfg: Config, _: Estimate) -> Found:
    """The teacher can write traces to these problems, and there are some to train on."""
    if cfg.problems.no_sums and cfg.teacher.kind == "procedural":
        yield (
            "error",
            f"the procedural teacher adds numbers, and the problems of problems.source={cfg.problems.source} are no sums",
            "choose teacher=model or teacher=file",
        )
    if cfg.problems.counts[0] == 0:
        yield "error", "no training problems: nothing can be generated", cfg.problems.more


@rule("curate", "pack")
def trace_fits_pack(cfg: Config, estimate: Estimate) -> Found:
    """The longest trace that curation lets through fits a pack."""
    longest = cfg.curate.max_tokens + estimate.prompt_tokens
    if longest > cfg.pack.capacity_tokens:
        yield (
            "warning",
            f"a trace of curate.max_tokens {cfg.curate.max_tokens} and a prompt of about {estimate.prompt_tokens} tokens "
            f"exceeds pack.capacity_tokens {cfg.pack.capacity_tokens}",
            f"set pack.capacity_tokens to {longest} or more, or lower curate.max_tokens",
        )


@rule("evaluate")
def answer_fits_sampling(cfg: Config, _: Estimate) -> Found:
    """The evaluation lets the model write as much as it was taught to."""
    for use in engine_uses(cfg):
        if use.heldout and use.label == "trained" and use.sampling.max_new_tokens < cfg.curate.max_tokens:
            yield (
                "warning",
                f"{use.new_tokens_key} {use.sampling.max_new_tokens} is below curate.max_tokens {cfg.curate.max_tokens}: "
                "trained answers may be cut",
                f"set {use.new_tokens_key} to {cfg.curate.max_tokens} or more",
            )


@rule("curate")
def target_in_window(cfg: Config, _: Estimate) -> Found:
    """The target length lies in the length window, where an order goes by it."""
    c = cfg.curate
    if "target" in (c.order, *c.ties) and not c.min_tokens <= c.target_tokens <= c.max_tokens:
        yield (
            "warning",
            f"curate.target_tokens {c.target_tokens} is outside {c.min_tokens} to {c.max_tokens}",
            "correct curate.target_tokens",
        )


@rule("train")
def eos_not_in_prompt(cfg: Config, _: Estimate) -> Found:
    """The eos does not occur inside sequences."""
    if cfg.model.eos_token in cfg.model.prompt:
        yield (
            "error",
            f"model.prompt holds the eos {cfg.model.eos_token}: NeMo's loaders would cut every sequence there",
            "set model.eos_token to a token that the prompt does not hold",
        )
    if cfg.model.eos_token == cfg.model.end_of_turn and backend_of(cfg.train).cuts_at_eos:
        yield "error", "the eos is the end-of-turn token too", "set model.eos_token to <|endoftext|>"


@rule("curate", "pack", "train")
def batch_covers_traces(cfg: Config, _: Estimate) -> Found:
    """Every step sees every trace."""
    if cfg.train.global_batch_size < cfg.curate.num_traces:
        yield (
            "warning",
            f"a step draws {cfg.train.global_batch_size} sequences of {cfg.curate.num_traces} traces",
            "raise train.global_batch_size if every step should see every trace",
        )


@rule("train")
def warmup_share(cfg: Config, _: Estimate) -> Found:
    """The learning rate is at its height for most of the steps."""
    warmup = cfg.train.optim.sched.warmup_steps
    if warmup > 0.5 * cfg.train.max_steps:
        yield (
            "warning",
            f"{warmup} of {cfg.train.max_steps} steps warm up",
            "lower train.optim.sched.warmup_steps",
        )


@rule("problems", "convert", "generate", "refine", "train", "evaluate", of_machine=True)
def packages_installed(cfg: Config, _: Estimate) -> Found:
    """The packages that the stages need are installed."""
    local, stages, package = "-e '.[local]' in the clone", cfg.launcher.stages, str(cfg.model.package)
    gguf = cfg.model.source == "gguf_package" and "convert" in stages
    engines = [use.engine for use in engine_uses(cfg)]
    needed: dict[str, str] = {}
    if gguf or any(engine.client is None for engine in engines):
        needed |= {"torch": local, "transformers": local}
    if "train" in stages:
        needed |= backend_of(cfg.train).packages
    if any(engine.client for engine in engines):
        needed["httpx"] = "'httpx>=0.27'"
    if "problems" in stages:
        needed |= {module: how for one in held_out_sets(cfg) for module, how in one.cfg.problems.packages.items()}
    if "grade" in stages:
        needed |= cfg.problems.scorer_packages
    if "evaluate" in stages:
        needed |= {m: how for one in held_out_sets(cfg) for m, how in one.cfg.problems.scorer_packages.items()}
    if "curate" in stages:
        needed |= filter_packages(cfg.curate)
    needed |= trace_packages(cfg)
    if gguf:
        needed |= {"gguf": local, package: f"--no-deps {package.replace('_', '-')}"}
    for module, install in needed.items():
        if not module.isidentifier() or importlib.util.find_spec(module) is None:
            yield "error", f"the package {module} is not installed", f"pip install {install}"


@rule("train")
def disk(cfg: Config, estimate: Estimate, num_bytes_there: int) -> Found:
    """The run fits the disk."""
    if estimate.training.disk_bytes is None:
        yield "unknown", KNOWN_LATER, ""
        return
    needed = estimate.training.disk_bytes - num_bytes_there
    yield from fits_disk("the run needs", needed, user_path(cfg.runs_dir) / cfg.name, cfg)


def fits_disk(who: str, needed: float, folder: Path, cfg: Config) -> Found:
    """Whether there is room for the bytes that ``who`` ("the run needs") where ``folder`` is to lie."""
    place, fewer = _nearest(folder), backend_of(cfg.train).fewer_checkpoints
    free = shutil.disk_usage(place).free
    what = f"{who} about {max(0, needed) / GIB:,.1f} GiB, {place} has {free / GIB:,.1f} GiB free"
    fix = f"free space, {fewer + ', ' if fewer else ''}or choose another disk with runs_dir=DIR"
    yield ("error", what, fix) if needed > free else ("ok", what, "")


@rule()
def run_directory(cfg: Config, _: Estimate) -> Found:
    """The run directory can be written to."""
    place = _nearest(user_path(cfg.runs_dir) / cfg.name)
    if not place.is_dir():
        yield "error", f"{place} is not a directory", "choose another place with runs_dir=DIR"
    elif not os.access(place, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        yield "error", f"{place} cannot be written to", "choose another place with runs_dir=DIR"


def _nearest(folder: Path) -> Path:
    """``folder``, or what there is above it."""
    place = real_path(folder)
    return next(folder for folder in (place, *place.parents) if os.path.lexists(folder))


RULES = (
    teacher_fits, enough_candidates, trace_fits_pack, answer_fits_sampling, target_in_window, eos_not_in_prompt, batch_covers_traces,
    warmup_share,
)  # fmt: skip

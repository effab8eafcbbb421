"""Packed SFT, from the base model's directory to the trained one's."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from nemo_cot.config import PackConfig
from nemo_cot.errors import Unfinished, UserError
from nemo_cot.io.jsonl import JsonlAppender, read_jsonl, write_jsonl
from nemo_cot.models.attention import PACKED
from nemo_cot.models.loading import load_model, resolve_device
from nemo_cot.packing.sequences import TokenSequence
from nemo_cot.progress import track
from nemo_cot.records import StepMetrics, TraceLoss
from nemo_cot.stopping import asked_to_stop
from nemo_cot.training.backend import checkpoint_folder
from nemo_cot.training.local.allocator import keep_freed_memory
from nemo_cot.training.local.batches import BatchPlan
from nemo_cot.training.local.checkpoint import latest_step, load_checkpoint, save_checkpoint
from nemo_cot.training.local.config import LocalTrain
from nemo_cot.training.local.loggers import open_loggers
from nemo_cot.training.local.lora import add_adapters, merged
from nemo_cot.training.local.objective import PackScores, pack_scores, pack_tensors
from nemo_cot.training.local.optimizer import MasterAdamW
from nemo_cot.training.local.schedule import learning_rate

METRICS = "metrics.jsonl"
TRACE_LOSSES = "trace_losses.jsonl"
MODEL = "model"

def train(
    base: Path, sequences: Sequence[TokenSequence], config: LocalTrain, packing: PackConfig, folder: Path
) -> None:
    """Train ``base``; write ``folder``/model (weights and config.json), metrics.jsonl, and trace_losses.jsonl; with
    ``config.keep_checkpoints`` the model of every save_interval_steps too (:func:`checkpoint_folder`).

    Resumes from the newest checkpoint in ``folder``/scratch; the result is the same, bit for bit,
    as that of a run that was never cut short. At SIGUSR1 or SIGTERM it ends the step that it is in,
    writes a checkpoint and raises Unfinished.
    """
    keep_freed_memory()
    device = resolve_device(config.device)
    model = load_model(base, precision=config.precision, attention=PACKED, device=device).train()
    _check_dropout(model, config)
    if config.activation_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if config.lora.enabled:
        add_adapters(model, config.lora, config.seed)
    optimizer = MasterAdamW(model, config.optim)
    checkpoints = folder / "scratch" / "checkpoints"
    done = latest_step(checkpoints)
    if done:
        optimizer.load_state_tensors(load_checkpoint(checkpoints, done), done)
    _keep_rows(folder / METRICS, StepMetrics, done)
    _keep_rows(folder / TRACE_LOSSES, TraceLoss, done)
    plan = BatchPlan(config, packing, sequences)

    def export(target: Path) -> None:
        """The weights as they are now."""
        if config.lora.enabled:
            whole = merged(base, optimizer.masters, config.lora)
            export_model(whole, dict(whole.named_parameters()), config.export_dtype, target)
        else:
            export_model(model, optimizer.masters, config.export_dtype, target)

    with (
        JsonlAppender(folder / METRICS) as metrics,
        JsonlAppender(folder / TRACE_LOSSES) as trace_losses,
        open_loggers(folder, config.loggers) as log,
        track("train", config.max_steps, "steps", folder, done=done) as progress,
        asked_to_stop() as asked,
    ):
        for step in range(done, config.max_steps):
            row, traces = train_step(model, optimizer, plan, sequences, config, step)
            trace_losses.append(traces)
            metrics.append([row])
            log(row)
            progress.update(
                step + 1,
                loss=f"{row.loss:.4f}",
                accuracy=f"{row.token_accuracy:.4f}",
                lr=f"{row.lr:.2e}",
                speed=f"{row.tokens_per_second:.0f} tokens/s",
            )
            stop = asked()
            due = (step + 1) % config.save_interval_steps == 0
            if step + 1 == config.max_steps or not (stop or due):
                continue
            if config.keep_checkpoints and due:
                export(folder / checkpoint_folder(step + 1))  # before the state, from which a killed run goes on
            save_checkpoint(checkpoints, step + 1, optimizer.state_tensors())
            if stop:
                raise Unfinished(
                    f"{stop} came; the state after step {step + 1} of {config.max_steps} is saved",
                    where="train",
                    fix="run the same command again: it resumes there",
                )
    export(folder / MODEL)


def train_step(
    model: torch.nn.Module,
    optimizer: MasterAdamW,
    plan: BatchPlan,
    sequences: Sequence[TokenSequence],
    config: LocalTrain,
    step: int,
) -> tuple[StepMetrics, list[TraceLoss]]:
    """One optimizer step. Returns its row of metrics.jsonl, and those of trace_losses.jsonl, by sequence."""
    started = time.monotonic()
    torch.manual_seed(config.seed * 1_000_003 + step)  # for dropout, the same after a resume
    loss, accuracy, tokens, packs = 0.0, 0.0, 0, plan.packs(step)
    by_trace: dict[int, tuple[float, float]] = {}  # of copies, alike but for dropout, the last one
    for packed in packs:
        tensors = pack_tensors(packed, sequences, next(model.parameters()).device)
        scores = pack_scores(model, tensors)
        scores.loss.backward()
        loss += float(scores.loss.detach())
        accuracy += float((scores.hits * tensors.weights).sum())
        tokens += tensors.boundaries[-1]
        by_trace |= zip(packed.sequences, trace_means(scores, [sequences[i] for i in packed.sequences]))
    rate = learning_rate(step, config.max_steps, config.optim)
    norm = optimizer.step(rate, clip=config.gradient_clip_val)
    if not torch.isfinite(torch.tensor([loss, norm])).all():
        raise UserError(
            f"loss {loss}, gradient norm {norm}",
            where=f"train, step {step + 1}",
            fix="lower train.optim.lr, or use train.precision=fp32",
        )
    seconds = time.monotonic() - started
    draws = plan.draws(step)
    traces = [
        TraceLoss(step + 1, s.problem_id, s.sample, *by_trace[i], s.num_trained_tokens, draws[i])
        for i, s in enumerate(sequences)
        if i in by_trace
    ]
    row = StepMetrics(
        step=step + 1,
        loss=loss,
        lr=rate,
        grad_norm=norm,
        packs=len(packs),
        tokens=tokens,
        seconds=round(seconds, 4),
        tokens_per_second=round(tokens / seconds, 1),
        token_accuracy=min(accuracy, 1.0),
    )
    return row, traces


def trace_means(scores: PackScores, sequences: Sequence[TokenSequence]) -> list[tuple[float, float]]:
    """Mean loss and token accuracy of each of the pack's sequences."""
    both = torch.stack([scores.token_losses, scores.hits])
    parts = both.split([sequence.num_trained_tokens for sequence in sequences], dim=1)
    means = torch.stack([part.mean(dim=1) for part in parts]).tolist()
    return [(loss, accuracy) for loss, accuracy in means]


def export_model(model: torch.nn.Module, masters: Mapping[str, torch.Tensor], dtype: str, target: Path) -> None:
    """Write the float32 ``masters``, rounded to ``dtype``, and their config.json into the folder ``target``.

    The model takes them over meanwhile: save_pretrained names the dtype of the model in config.json, not
    that of the tensors it is given, and a float32 export would be loaded as bfloat16.
    """
    own = {name: weight.data for name, weight in model.named_parameters()}
    for name, weight in model.named_parameters():
        if name in masters:
            weight.data = masters[name].detach().to(getattr(torch, dtype))
    shutil.rmtree(target, ignore_errors=True)
    model.save_pretrained(target)
    for name, weight in model.named_parameters():
        weight.data = own[name]


def _keep_rows(path: Path, row_type: type[StepMetrics | TraceLoss], done: int) -> None:
    """Drop rows of steps that are run again."""
    if path.exists():
        with JsonlAppender(path):
            pass  # cuts a half-written last line
        write_jsonl(path, [row for row in read_jsonl(path, row_type, allow_empty=True) if row.step <= done])


def _check_dropout(model: torch.nn.Module, config: LocalTrain) -> None:
    rates = {key: value for key, value in model.config.to_dict().items() if "dropout" in key and value}
    if rates and config.batching == "distinct":
        key, value = next(iter(rates.items()))
        raise UserError(
            f"the model has {key}={value}: repeated traces would differ, so weights cannot stand for them",
            where="train.batching=distinct",
            fix="use train.batching=literal, or set the dropout to 0 in its config.json",
        )

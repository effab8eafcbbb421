"""What the smoke test trains and compares: a tiny Qwen2, traces for it, and differences of losses and weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nemo_cot.errors import UserError
from nemo_cot.records import Trace
from nemo_cot.training.nemo.converted import read_config
from nemo_cot.training.nemo_aligner.packed_file import read_packed_file
from nemo_cot.training.nemo_aligner.weights import Heads, stacked, to_megatron

_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MOVE_AT_MOST = 2 * 1e-3 * 1.5
"""Two steps of Adam at the smoke test's rate: each moves a weight by about the rate, with decay a little more."""
TOLERANCE = 0.01
"""Relative difference of two losses of one pack of :func:`traces` under :func:`write`'s model.

Measured on a CPU: bf16 differs from fp32 by at most 0.03 %; attention over the boundaries changes the loss
by 29 to 39 %, with positions that run on too by 31 to 44 % (tests/training/nemo/test_smoke_packs.py).
"""
_LEARNT_STEPS = 10


def write(folder: Path) -> None:
    """A Hugging Face directory: 2 layers, width 256, heads of 64 (packed attention kernels have them), bf16.

    The model has begun to learn the traces. A random one hardly minds what it attends to: a broken mask
    changes its loss by 0.3 to 4 %, and by less than 9 % however its weights are scaled.
    """
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = _tokenizer()
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=512,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        rope_theta=1e6,
        rms_norm_eps=1e-6,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.convert_tokens_to_ids(_SPECIAL[0]),
    )
    model = Qwen2ForCausalLM(config)
    with torch.no_grad():  # biases and norms that differ, so that a mix-up of them shows
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    _learn(model, [tokenizer(trace.problem + trace.generation)["input_ids"] for trace in traces()])
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _learn(model: Any, rows: list[list[int]]) -> None:
    """A few steps of Adam on ``rows``, in place: a second on one core."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    tokens = [torch.tensor(row) for row in rows]
    inputs = pad_sequence(tokens, batch_first=True)
    labels = pad_sequence(tokens, batch_first=True, padding_value=-100)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(_LEARNT_STEPS):
        optimizer.zero_grad()
        model(inputs, labels=labels).loss.backward()
        optimizer.step()


def _tokenizer() -> Any:
    """Byte-level, with ChatML's tokens, as Qwen's: 259 tokens and a few merges."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=_SPECIAL, initial_alphabet=alphabet)
    tokenizer.train_from_iterator([trace.problem + trace.generation for trace in traces()], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=_SPECIAL[0])


def traces() -> list[Trace]:
    """Eight sums of different lengths, several to a pack."""
    return [
        Trace(
            problem_id=str(n),
            sample=0,
            problem=f"What is {n} + {n + 1}?",
            expected_answer=str(2 * n + 1),
            generation=f"It is {n} + {n + 1}, so {2 * n + 1}." + " I check it again." * n,
            num_generated_tokens=1,
            finish_reason="stop",
        )
        for n in range(1, 9)
    ]


def compare_arrays(weights: Path, base: Path) -> float:
    """Largest difference between a zarr checkpoint and the base model's weights laid out as Megatron's.

    Raises UserError for an array too many or too few, another shape, or a difference beyond bf16's rounding.
    """
    config = read_config(base)
    heads = Heads(config["num_attention_heads"], config["num_key_value_heads"])
    wanted = {name: array.float().numpy() for name, array in stacked(to_megatron(load(base), heads))}
    there = {path.parent.name: _zarr(path.parent) for path in weights.glob("*/.zarray")}
    there = {name: array for name, array in there.items() if not name.endswith("_extra_state")}
    if there.keys() != wanted.keys():
        raise UserError(
            f"arrays {sorted(there.keys() ^ wanted.keys())} are in one of the two only", where=str(weights)
        )
    for name, array in there.items():
        if array.shape != wanted[name].shape or not np.allclose(array, wanted[name], rtol=2**-8, atol=0):
            raise UserError(f"{name} is not the base model's", where=str(weights))
    return max(float(np.abs(array - wanted[name]).max()) for name, array in there.items())


def _zarr(folder: Path) -> np.ndarray:
    import tensorstore  # noqa: F401 (registers bfloat16, in which NeMo writes)
    import zarr

    return np.asarray(zarr.open(str(folder), "r")[:]).astype(np.float32)


def load(folder: Path) -> dict[str, Any]:
    """Every tensor of a Hugging Face directory, by name."""
    from safetensors.torch import load_file

    return {name: t for path in sorted(folder.glob("*.safetensors")) for name, t in load_file(path).items()}


def largest_moves(base: Path, trained: Path) -> tuple[float, float]:
    """Largest change of a weight, and the largest that is possible: Adam's steps and bf16's rounding."""
    before, after = load(base), load(trained)
    moved = max(float((after[name].float() - before[name].float()).abs().max()) for name in before)
    largest = max(float(tensor.float().abs().max()) for tensor in before.values())
    return moved, MOVE_AT_MOST + largest * 2**-8


def loss_of_pack(base: Path, packed_file: Path, row: int) -> float:
    """Mean loss over one pack's trained tokens, nats, each sequence by itself in transformers, fp32 on the CPU."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        base, torch_dtype=torch.float32, local_files_only=True
    ).eval()
    losses, weights = 0.0, 0.0
    for ids, mask in read_packed_file(packed_file)[row].sequences():
        tokens, trained = (
            torch.tensor(np.asarray(ids, np.int64)),
            torch.tensor(np.asarray(mask, np.float32)[1:]),
        )
        with torch.no_grad():
            logits = model(tokens[None, :-1]).logits[0]
        each = torch.nn.functional.cross_entropy(logits, tokens[1:], reduction="none")
        losses += float((each * trained).sum())
        weights += float(trained.sum())
    return losses / weights

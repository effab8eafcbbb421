"""Tiny random models and sequences for the training tests."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

import nemo_cot.models.attention  # noqa: F401 (registers the attention functions)
from nemo_cot.config import LoggersConfig, OptimConfig, PackConfig, SchedConfig
from nemo_cot.packing.sequences import TokenSequence
from nemo_cot.training.local.config import LocalTrain
from nemo_cot.training.lora import LORA_MODULES, LoraConfig
from tests.tiny import write_tiny_tokenizer

VOCABULARY = 97
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
KINDS = ("llama_tied", "llama_untied", "qwen2", "qwen3")


def tiny_model(
    kind: str = "llama_tied", *, attention: str = "nemo_cot_packed", seed: int = 0, **changes
) -> torch.nn.Module:
    """A random float32 model; every parameter is random, biases and norms too."""
    torch.manual_seed(seed)
    shape = SHAPE | {"tie_word_embeddings": kind == "llama_tied", "attn_implementation": attention} | changes
    config = AutoConfig.for_model(kind.partition("_")[0], **shape)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    return model.train()


def save_tiny(folder: Path, kind: str = "llama_tied", **changes) -> Path:
    """A Hugging Face directory of :func:`tiny_model`."""
    tiny_model(kind, attention="sdpa", **changes).save_pretrained(folder)
    write_tiny_tokenizer(folder)
    return folder


def random_sequences(lengths: tuple[int, ...] = (7, 19, 2, 33, 12), seed: int = 0) -> list[TokenSequence]:
    """One sequence a length, the first third of it the prompt."""
    generator = torch.Generator().manual_seed(seed)
    return [
        TokenSequence(
            problem_id=str(number),
            sample=0,
            num_prompt_tokens=max(1, length // 3),
            input_ids=torch.randint(0, VOCABULARY, (length,), generator=generator).tolist(),
        )
        for number, length in enumerate(lengths)
    ]


def lora_config(**changes) -> LoraConfig:
    """Adapters on every module, of another alpha than dim, so that their ratio counts."""
    values = {"enabled": True, "dim": 4, "alpha": 8, "dropout": 0.0, "target_modules": list(LORA_MODULES)}
    return LoraConfig(**(values | changes))


def train_config(**changes) -> LocalTrain:
    """Four steps of 8 draws at a constant rate; ``changes`` may name fields of OptimConfig too."""
    optim = {
        "name": "adamw",
        "lr": 1e-3,
        "betas": [0.9, 0.95],
        "eps": 1e-8,
        "weight_decay": 0.01,
        "sched": SchedConfig("constant", 0, 0.0),
    }
    optim |= {key: changes.pop(key) for key in list(changes) if key in optim}
    values = {
        "backend": "local",
        "max_steps": 4,
        "global_batch_size": 8,
        "batching": "distinct",
        "objective": "token_mean",
        "precision": "fp32",
        "seed": 3,
        "gradient_clip_val": 1.0,
        "export_dtype": "float32",
        "device": "cpu",
        "save_interval_steps": 2,
        "activation_checkpointing": False,
        "keep_checkpoints": False,
        "lora": lora_config(enabled=False),
        "loggers": LoggersConfig(False, False, False, "tiny", None),
    }
    return LocalTrain(**(values | changes), optim=OptimConfig(**optim))


def pack_config(capacity: int = 48) -> PackConfig:
    """Packs of ``capacity`` tokens."""
    return PackConfig(capacity, "best_fit", 0)


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A copy of every gradient, by name."""
    return {name: weight.grad.clone() for name, weight in model.named_parameters()}


def assert_close(
    found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], relative: float = 1e-5
) -> None:
    """Same names, and each tensor within ``relative`` of the expected one's norm."""
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        error = (found[name].double() - tensor.double()).norm() / tensor.double().norm()
        assert error <= relative, f"{name}: {error:.2e}"

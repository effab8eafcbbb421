"""A real language model and a real tokenizer, small enough to make in a moment. The same every time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

EOS, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL = (EOS, START, END)
_MERGES = (
    ("t", "h"), ("th", "e"), ("i", "n"), ("e", "r"), ("o", "n"), ("a", "t"), ("Ġ", "a"), ("Ġ", "+"),
    ("Ġ", "-"), ("Ġ", "="), ("u", "s"), ("us", "er"), ("a", "n"), ("an", "s"), ("ans", "w"),
    ("answ", "er"), ("Ġ", "the"), ("b", "o"), ("bo", "x"), ("box", "e"), ("boxe", "d"), ("1", ":"),
    ("2", ":"), ("3", ":"),
)  # fmt: skip


def write_tiny_model(folder: Path, *, hidden_size: int = 32) -> Path:
    """Write model and tokenizer to ``folder``, which is made; returns it."""
    folder.mkdir(parents=True)
    size = write_tiny_tokenizer(folder)
    _write_weights(folder, size, hidden_size)
    return folder


def write_tiny_tokenizer(folder: Path, special: Sequence[str] = SPECIAL, **settings: str) -> int:
    """Write tokenizer.json and tokenizer_config.json (with ``settings``), the eos first of the ``special`` tokens;
    returns the size of the vocabulary.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*alphabet, *(a + b for a, b in _MERGES)]
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, list(_MERGES)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": special[0],
        "pad_token": special[0],
        "additional_special_tokens": list(special[1:]),
        "model_max_length": 4096,
        **settings,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    return tokenizer.get_vocab_size()


def _write_weights(folder: Path, vocab_size: int, hidden_size: int) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocab_size, hidden_size=hidden_size, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=4096, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=vocab_size - len(SPECIAL), pad_token_id=None,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(config).to(torch.float32).save_pretrained(folder)

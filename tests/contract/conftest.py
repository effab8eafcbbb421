"""Contract tests: our files and settings through the real NeMo packages, on a CPU.

``make contract`` builds their environment from requirements/contract.lock.txt. Without those
packages each test skips and says so; with NEMO_COT_CONTRACT=required it fails instead.
"""

from __future__ import annotations

import importlib.util
import os
from types import SimpleNamespace

import numpy as np
import pytest

from nemo_cot.training.nemo_aligner.packed_file import Layout, Tokens
from tests.contract.contract_data import END_OF_TEXT, END_OF_TURN, PROBLEMS, PROMPT


@pytest.fixture(autouse=True, scope="session")
def _needs_nemo():
    if importlib.util.find_spec("nemo_aligner"):
        return
    if os.environ.get("NEMO_COT_CONTRACT") == "required":
        pytest.fail("the contract environment has no nemo_aligner")
    pytest.skip("NeMo-Aligner is not installed here; run `make contract`")


@pytest.fixture(scope="session")
def one_rank(tmp_path_factory):
    """Megatron's parallel state for one process: samplers and losses ask it for ranks."""
    import torch
    from megatron.core import parallel_state

    store = tmp_path_factory.mktemp("rendezvous") / "store"
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    parallel_state.initialize_model_parallel()
    yield
    parallel_state.destroy_model_parallel()
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="session")
def make_tokenizer(tmp_path_factory):
    """Build a byte-level tokenizer with ChatML's tokens, as Qwen's, and load it as NeMo does."""

    def make(eos: str):
        from nemo.collections.common.tokenizers.huggingface.auto_tokenizer import AutoTokenizer
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
        from transformers import PreTrainedTokenizerFast

        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        special = [END_OF_TEXT, "<|im_start|>", END_OF_TURN]
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet)
        tokenizer.train_from_iterator([text for pair in PROBLEMS for text in pair], trainer)
        folder = tmp_path_factory.mktemp("tokenizer")
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=eos).save_pretrained(folder)
        return AutoTokenizer(str(folder), use_fast=True)

    return make


@pytest.fixture(scope="session")
def base_tokenizer(make_tokenizer):
    """eos is <|endoftext|>, as in Qwen2.5's base models."""
    return make_tokenizer(END_OF_TEXT)


@pytest.fixture(scope="session")
def instruct_tokenizer(make_tokenizer):
    """eos is <|im_end|>, as in Qwen2.5-Instruct: the trap."""
    return make_tokenizer(END_OF_TURN)


@pytest.fixture(scope="session")
def traces(base_tokenizer) -> list[Tokens]:
    """The problems above: prompt, answer, end-of-turn token."""
    ids = base_tokenizer.text_to_ids
    pairs = [(ids(PROMPT.format(problem=problem)), ids(answer + END_OF_TURN)) for problem, answer in PROBLEMS]
    return [Tokens(np.array(prompt + answer), len(prompt)) for prompt, answer in pairs]


@pytest.fixture(scope="session")
def layout(base_tokenizer) -> Layout:
    end_of_turn = base_tokenizer.token_to_id(END_OF_TURN)
    return Layout(capacity_tokens=128, eos_id=base_tokenizer.eos_id, end_of_turn_id=end_of_turn)


@pytest.fixture
def build_dataset():
    """The real ``build_sft_dataset`` on a packed file, with the keys that Aligner's script passes."""

    def build(path, tokenizer, *, num_samples=None, model=None, answer_only_loss=True, **data):
        from nemo_aligner.data.nlp.builders import build_sft_dataset
        from omegaconf import OmegaConf

        keys = {
            "file_path": str(path), "packed_sequence": True, "micro_batch_size": 1, "max_seq_length": 128,
            "min_seq_length": 1, "add_bos": False, "add_eos": False, "label_key": "output",
            "truncation_field": "input", "prompt_template": "{input} {output}",
        }  # fmt: skip
        return build_sft_dataset(
            OmegaConf.create(keys | data), tokenizer, num_samples, answer_only_loss, is_chat=False,
            model_cfg=model or {},
        )  # fmt: skip

    return build


@pytest.fixture
def build_loader(one_rank):
    """The real ``build_dataloader``."""

    def build(dataset, *, global_batch_size, drop_last=True, **named):
        from nemo_aligner.data.nlp.builders import build_dataloader

        data = SimpleNamespace(num_workers=0)
        return build_dataloader(
            cfg=SimpleNamespace(model=SimpleNamespace(data=data, seed=1234)), dataset=dataset,
            consumed_samples=0, mbs=1, gbs=global_batch_size, drop_last=drop_last,
            collate_fn=getattr(dataset, "collate_fn", None), **named,
        )  # fmt: skip

    return build

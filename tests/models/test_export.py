"""An exported model is used as it was trained: its chat template renders model.prompt, its answers end by themselves."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment
from transformers import AutoModelForCausalLM, AutoTokenizer

from nemo_cot.config.model import ModelConfig
from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import load_config
from nemo_cot.models.export import chat_template, finish_export
from nemo_cot.models.format import student_tokenizer
from nemo_cot.text import PromptFormat
from tests.support import ROOT, run_stages, tiny_experiment
from tests.tiny import END, EOS, write_tiny_tokenizer

SHIPPED = sorted(path.stem for path in (ROOT / "conf/model").glob("*.yaml"))
QUESTION = "What is 1 + 2?\n\nThink <b>well</b>, and {answer} \\boxed{3} {{ x }} 'é' 😀."
TEACHER = load_config(["teacher=qwq_32b_preview", "teacher.path=/none"]).teacher


def model_of(name: str) -> ModelConfig:
    path = [] if name == "smollm2_135m" else ["model.path=/none"]
    return load_config([f"model={name}", *path]).model


def exported(folder: Path, model: ModelConfig, **generation: object) -> Path:
    """An export whose base has the tokens that ``model`` names, and a generation_config.json."""
    base, made = folder / "base", folder / "model"
    base.mkdir(parents=True)
    made.mkdir()
    special = dict.fromkeys([model.eos_token, model.end_of_turn, *re.findall(r"<[^<> ]+>|\[/?[A-Z]+\]", model.prompt)])
    bos = {token: token for token in ("<s>", "<|begin_of_text|>") if token in special}
    named = {"bos_token": next(iter(bos))} if bos else {}
    write_tiny_tokenizer(base, tuple(special), **named, chat_template="{{ 'of the base' }}")
    (base / "generation_config.json").write_text(json.dumps(generation))
    finish_export(made, base, model)
    return made


@pytest.mark.parametrize("name", SHIPPED)
def test_one_question_renders_the_prompt_that_was_trained(name, tmp_path):
    model = model_of(name)
    folder = exported(tmp_path, model)
    theirs, ours = AutoTokenizer.from_pretrained(folder), student_tokenizer(model, folder)
    asked = [{"role": "user", "content": QUESTION}]
    assert theirs.apply_chat_template(asked, tokenize=False, add_generation_prompt=True) == model.prompt.replace(
        "{problem}", QUESTION
    )
    ids = theirs.apply_chat_template(asked, add_generation_prompt=True)["input_ids"]
    assert ids == ours.prompt_ids(QUESTION)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_conversation_goes_on_as_it_began(name, tmp_path):
    model = model_of(name)
    theirs = AutoTokenizer.from_pretrained(exported(tmp_path, model))
    talk = [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Q1"},
        {"role": "assistant", "content": "A1"}, {"role": "user", "content": "Q2"},
    ]  # fmt: skip
    whole = theirs.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
    first = model.prompt.replace("{problem}", "Be brief.\n\nQ1")
    assert whole.startswith(f"{first}A1{model.end_of_turn}") and whole.count("Be brief.") == 1
    bos = theirs.bos_token or ""
    assert whole.endswith(model.prompt.replace("{problem}", "Q2").removeprefix(bos))
    assert not bos or whole.count(bos) == 1
    half = theirs.apply_chat_template(talk[:2], tokenize=False, add_generation_prompt=False)
    assert first.startswith(half) and half.count("Q1") == 1


def test_chatml_in_full():
    form = PromptFormat("<|im_start|>user\n{problem}<|im_end|>\n<|im_start|>assistant\n", END)
    talk = [{"role": r, "content": c} for r, c in (("user", "Q"), ("assistant", "A"), ("user", "R"))]
    assert rendered(form, talk, bos="") == (
        "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
        "<|im_start|>user\nR<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_system_message_in_the_prompt_is_not_said_again():
    form = PromptFormat(TEACHER.prompt, TEACHER.end_of_turn)
    talk = [{"role": r, "content": c} for r, c in (("user", "Q"), ("assistant", "A"), ("user", "R"))]
    text = rendered(form, talk, bos="")
    assert text.startswith(form.prompt.replace("{problem}", "Q")) and text.count("You are Qwen") == 1
    assert text.endswith(
        "A<|im_end|>\n<|im_start|>user\nSolve the following math problem. Make sure to put the answer (and only answer) "
        "inside \\boxed{}.\n\nR<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_role_that_was_not_trained_is_refused(tmp_path):
    theirs = AutoTokenizer.from_pretrained(exported(tmp_path, model_of("hf_directory")))
    with pytest.raises(Exception, match="trained on the roles"):
        theirs.apply_chat_template([{"role": "tool", "content": "x"}], tokenize=False)


PIECE = st.text(st.characters(codec="utf-8", exclude_characters="{}"), max_size=12) | st.sampled_from(
    [END, f"{END}\n", "{{ x }}", "{% if %}", "{#", '"', "\\n", "'", "\r\n", "<s>"]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECE, max_size=4), st.lists(PIECE, max_size=4), st.text(max_size=20), st.sampled_from(["", "<s>"]))
def test_any_prompt_is_rendered_character_by_character(before, after, question, bos):
    form = PromptFormat("".join(before) + "{problem}" + "".join(after), END)
    if form.prompt.count("{problem}") == 1:
        asked = [{"role": "user", "content": question}]
        assert rendered(form, asked, bos=bos) == form.prompt.replace("{problem}", question)


def rendered(form: PromptFormat, messages: list[dict], *, bos: str) -> str:
    """As transformers does it (utils/chat_template_utils.py): the same environment, with the exception."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(chat_template(form, bos=bos))
    return template.render(messages=messages, add_generation_prompt=True)


def test_no_sampling_value_of_the_base_is_left(tmp_path):
    theirs = {
        "max_new_tokens": 2048, "top_k": 1, "top_p": 0.2, "temperature": 0.1, "repetition_penalty": 1.7, "min_p": 0.3,
        "presence_penalty": 1.0, "frequency_penalty": 1.0, "do_sample": True, "eos_token_id": 5, "pad_token_id": 7,
    }  # fmt: skip
    model = model_of("qwen2.5_7b")
    folder = exported(tmp_path, model, **theirs)
    ours = student_tokenizer(model, folder)
    assert json.loads((folder / "generation_config.json").read_text()) == {
        "eos_token_id": sorted([ours.end_of_turn_id, ours.eos_id]), "pad_token_id": 7,
    }  # fmt: skip
    named = json.loads((folder / "tokenizer_config.json").read_text())
    assert named["chat_template"] == (folder / "chat_template.jinja").read_text() and named["eos_token"] == EOS


def test_a_tokenizer_without_the_end_of_turn_is_refused(tmp_path):
    with pytest.raises(UserError, match="no token"):
        model = model_of("hf_directory")
        base = tmp_path / "base"
        base.mkdir()
        write_tiny_tokenizer(base)
        finish_export(tmp_path, base, replace(model, end_of_turn="<|nothing|>"))


@pytest.fixture(scope="module")
def trained(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/model of a run that was trained until it repeats its traces."""
    overrides = [
        *tiny_experiment(tiny_model, tmp_path_factory.mktemp("runs")), "train.max_steps=150", "train.optim.lr=3e-3",
        "curate.num_traces=1", "train.save_interval_steps=1000", "train.optim.sched.name=constant",
    ]  # fmt: skip
    stages = ("convert", "problems", "generate", "grade", "curate", "pack", "train")
    return run_stages(overrides, *stages).path


def test_what_was_trained_ends_by_itself(trained, tiny_model):
    """The whole chain: three lines of transformers, and the answer is the trace."""
    folder = trained / "train" / "model"
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    trace = json.loads((trained / "curate" / "traces.jsonl").read_text().splitlines()[0])
    asked = [{"role": "user", "content": trace["problem"]}]
    prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt")
    with torch.inference_mode():
        answer = model.generate(**prompt, max_new_tokens=600)[0, prompt["input_ids"].shape[1] :]
    assert tokenizer.decode(answer) == trace["generation"] + END
    assert len(answer) < 600, "it ran on to the limit"


def test_the_base_is_left_as_it_is(trained, tiny_model):
    assert not (tiny_model / "chat_template.jinja").exists()
    assert "chat_template" not in json.loads((tiny_model / "tokenizer_config.json").read_text())

"""Sampling values come from us alone: what the embedded engine and NeMo-Skills' command do about a model's own
generation_config.json, and what preflight says of a server that could read it. A real vLLM: tests/vllm.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from nemo_cot.config.engines import EngineConfig
from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import load_config
from nemo_cot.sampling.embedded import sample
from nemo_cot.sampling.nemo_skills.command import generate_command
from nemo_cot.sampling.nemo_skills.files import read_seed
from nemo_cot.serving.own_values import left_open, of_file, unsent, write_ours
from nemo_cot.serving.server import Server
from tests.preflight.test_engine_rules import found
from tests.sampling.test_endpoint import job
from tests.support import write_lines

FILE = {
    "max_new_tokens": 2, "top_k": 1, "top_p": 0.2, "temperature": 0.1, "min_p": 0.5, "repetition_penalty": 1.7,
    "presence_penalty": 1.5, "frequency_penalty": 1.5, "do_sample": True, "eos_token_id": list(range(1, 200)),
}  # fmt: skip


def with_file(model: Path, folder: Path, **values: object) -> Path:
    copied = shutil.copytree(model, folder)
    (copied / "generation_config.json").write_text(json.dumps(values))
    return copied


def test_the_embedded_engine_reads_no_value_of_the_file(tiny_model, tmp_path):
    written = []
    for name, model in (("plain", tiny_model), ("full", with_file(tiny_model, tmp_path / "model", **FILE))):
        (tmp_path / name).mkdir()
        sample(EngineConfig("embedded"), job(tmp_path / name, model))
        written.append((tmp_path / name / "generations.jsonl").read_bytes())
    assert written[0] == written[1]
    lengths = [json.loads(line)["num_generated_tokens"] for line in written[0].splitlines()]
    assert max(lengths) > FILE["max_new_tokens"]


@pytest.mark.parametrize("top_k, sent", [(0, ["++inference.extra_body.top_k=-1"]), (5, [])])
def test_nemo_skills_sends_top_k_off_where_it_would_leave_it_open(top_k, sent, tmp_path):
    made = load_config(["evaluate.engine=nemo_skills"]).evaluate.engine
    asked = job(tmp_path)
    asked = replace(asked, sampling=replace(asked.sampling, top_k=top_k))
    server = Server("http://h:1/v1", "m", None, None)
    command = generate_command(made, asked, server, source=tmp_path / "a", target=tmp_path / "b", seed=1)
    assert [part for part in command if "extra_body.top_k" in part] == sent
    assert {"++inference.min_p=0.0", "++inference.repetition_penalty=1.0", f"++inference.top_k={top_k or -1}"} <= set(
        command
    )


@pytest.mark.parametrize("tokens, cut", [(31, True), (32, False)])
def test_an_answer_that_nemo_skills_got_cut_is_an_error_of_its_line(tokens, cut, tmp_path):
    asked = replace(job(tmp_path, problems="a"), samples=range(1))
    row = {"id": "a", "generation": "so", "num_generated_tokens": tokens, "finish_reason": "length"}
    path = write_lines(tmp_path / "output-rs100.jsonl", [row])
    if not cut:
        assert read_seed(path, asked, 0)[0].finish_reason == "length"
        return
    with pytest.raises(UserError, match=r"after 31 tokens, of 32 that were asked for: .* of 31 new tokens") as caught:
        read_seed(path, asked, 0)
    assert caught.value.where == f"{path}, line 1" and "--generation-config vllm" in caught.value.fix
    assert f"remove {path}" in caught.value.fix


OWN = "a request cannot hold "
THERE = ["evaluate.engine.server.base_url=http://h:1/v1", "evaluate.engine.server.model_name=m",
         "evaluate.subjects=[base]"]  # fmt: skip


@pytest.mark.parametrize(
    "overrides, told",
    [
        (["evaluate.engine=openai"], None),
        (["evaluate.engine=nemo_skills"], None),
        (["evaluate.engine=openai", *THERE], f"{OWN}top_k, min_p, repetition_penalty, eos_token_id"),
        (["evaluate.engine=openai", "evaluate.engine.dialect=vllm", *THERE], None),
        (["evaluate.engine=openai", "evaluate.engine.server.neutral=true", *THERE], None),
        (["evaluate.engine=nemo_skills", *THERE], f"{OWN}eos_token_id"),
        (["evaluate.engine=nemo_skills", "evaluate.engine.server.neutral=true", *THERE], None),
        (["evaluate.engine=openai", "evaluate.engine.server.command=[llama-server]"], None),
    ],
)  # fmt: skip
def test_preflight_names_what_cannot_be_sent(overrides, told, large_disk):
    what = [f.what for f in found(*overrides).get("engine_own_values", []) if f.level == "error"]
    assert [told in text for text in what] == ([True] if told else []), what


@pytest.mark.parametrize("path, dialect, errors", [(True, "vllm", 0), (False, "vllm", 1), (True, "openai", 1)])
def test_a_teacher_that_only_an_endpoint_has_names_no_tokens(path, dialect, errors, tiny_model, large_disk):
    overrides = [
        "teacher=model", "teacher.engine=openai", f"teacher.engine.dialect={dialect}",
        "teacher.engine.server.base_url=http://h:1/v1", "teacher.engine.server.model_name=m",
        *([f"teacher.path={tiny_model}"] if path else []),
    ]  # fmt: skip
    assert len(found(*overrides)["engine_own_values"]) == errors


@pytest.mark.parametrize(
    "values, told",
    [
        ({}, None), ({"eos_token_id": 280}, None), ({"eos_token_id": [280, 282]}, None),
        ({"temperature": 1.0, "top_k": 0, "repetition_penalty": 1.0}, None),
        ({"eos_token_id": [280, 5]}, "eos_token_id [5, 280]"), ({"top_k": 20}, "top_k 20"), ({"min_p": 0.1}, "min_p 0.1"),
        ({"max_new_tokens": 2048, "temperature": 0.6, "top_p": 0.8, "presence_penalty": 1.0}, None),
    ],
)  # fmt: skip
def test_a_server_that_is_no_vllm_is_judged_by_the_file(values, told, tiny_model, tmp_path, large_disk):
    """What it does with the file is not known. Values that change nothing, or that requests hold, are no error."""
    model = with_file(tiny_model, tmp_path / "model", **values)
    rules = found(
        "model=hf_directory", f"model.path={model}", "evaluate.engine=openai", "evaluate.subjects=[base]",
        "evaluate.engine.server.command=[serve,'{model}']",
    )  # fmt: skip
    assert [told in f.what for f in rules["engine_own_values"]] == ([True] if told else [])


def test_a_folder_of_ours_leaves_nothing_open(tmp_path):
    shipped = load_config(["evaluate.engine=openai"]).evaluate.engine
    literal = replace(shipped.server, command=["vllm", "serve", "{model}", "--generation-config=vllm"])
    assert left_open(shipped, tokenizer=True) == []
    assert left_open(replace(shipped, server=literal), tokenizer=True) == ["eos_token_id"]
    assert left_open(replace(shipped, server=literal, dialect="vllm"), tokenizer=True) == []
    assert unsent(replace(shipped, dialect="vllm"), tokenizer=False) == ["eos_token_id"]
    keys = [*FILE, "eos_token_id"]
    assert of_file(write_ours(tmp_path, [280, 282]), keys, {280, 282}) == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"eos_token_id": "x"}', '{"eos_token_id": {}}', "\x00", "null"])
def test_a_damaged_file_holds_nothing_that_a_server_could_take(text, tmp_path):
    (tmp_path / "generation_config.json").write_text(text)
    assert of_file(tmp_path, list(FILE), {1}) in ([], ["eos_token_id ['x']"])

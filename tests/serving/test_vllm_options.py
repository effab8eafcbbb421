"""What preflight says of the options that a vLLM is started with. The record against the real vLLM: tests/vllm."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from nemo_cot.config.engines import ServerConfig
from nemo_cot.experiment.compose import load_config
from nemo_cot.preflight.sampling_cost import layout_of
from nemo_cot.serving.vllm_options import misused, options
from tests.preflight.test_engine_rules import found


@cache
def shipped(engine: str) -> ServerConfig:
    return load_config([f"evaluate.engine={engine}"]).evaluate.engine.server


def server(engine: str = "nemo_skills", **changes: object) -> ServerConfig:
    return replace(shipped(engine), **changes)


def told(*arguments: str, engine: str = "nemo_skills", **changes: object) -> list[tuple[str, str, str]]:
    return list(misused(server(engine, arguments=list(arguments), **changes), "evaluate.engine"))


@pytest.mark.parametrize("engine", ["nemo_skills", "openai"])
@pytest.mark.parametrize(
    "arguments, key",
    [
        (["--max-model-len", "4096"], "server.max_model_len"), (["--max_model_len=4096"], "server.max_model_len"),
        (["--max-model", "4096"], "server.max_model_len"), (["--served-model-name", "x"], "server.model_name"),
        (["--port", "1"], "server.port"), (["--por=1"], "server.port"), (["--host", "::"], "server.port"),
        (["-tp", "4"], "server.num_gpus"), (["--tensor-parallel-size=4"], "server.num_gpus"), (["-pp", "2"], "server.num_gpus"),
        (["--num_gpus", "4"], "server.num_gpus"), (["--num_nodes=2"], "server.num_nodes"), (["--model", "/m"], "names its model"),
        (["-dp", "2"], "server.data_parallel_size"), (["--seed", "7"], "sampling.seeded"), (["--seed=7"], "sampling.seeded"),
        (["--config", "mine.yaml"], "evaluate.engine.server.arguments"), (["--api-key", "k"], "server.api_key_env"),
        (["--override-generation-config.temperature", "0.1"], "take it out"), (["--override-gen", "{}"], "take it out"),
        (["--generation-conf", "auto"], "leave it out"), (["--generation_config=auto"], "leave it out"),
        (["--max-nun-seqs", "8"], "--max-num-seqs?"), (["--gpu-memory-utilisation", "0.9"], "--gpu-memory-utilization?"),
        (["--enforce-eagre"], "--enforce-eager?"),
    ],
)  # fmt: skip
def test_an_option_that_is_decided_elsewhere_or_misspelt_is_an_error(arguments, key, engine):
    [(level, what, fix)] = told(*arguments, engine=engine)
    assert level == "error" and key in fix, (what, fix)


@pytest.mark.parametrize("engine", ["nemo_skills", "openai"])
def test_what_vllm_has_and_nobody_else_decides_is_no_finding(engine):
    arguments = ["--gpu-memory-utilization", "0.8", "-q", "fp8", "--no-async-scheduling", "--max-num-seq=64",
                 "--hf-overrides", '{"a": -1}', "--hf-overrides.b", "-1", "-cc.level", "3", "--enable_prefix_caching",
                 "--kv-cache-dtype=fp8"]  # fmt: skip
    assert told(*arguments, engine=engine) == []


@pytest.mark.parametrize("option", ["--swap-space", "--disable-log-requests", "--rope-scaling", "--override-neuron-config"])
def test_an_option_of_another_release_is_a_warning(option):
    [(level, what, fix)] = told(option)
    assert level == "warning" and option in what and "unless the vLLM there has it" in fix


@pytest.mark.parametrize(
    "command, words",
    [
        (["vllm", "serve", "{model}"], "add --generation-config"),
        (["vllm", "serve", "{model}", "--generation-config", "vllm", "--seed", "5"], "same draws"),
        (["vllm", "serve", "{model}", "--generation-config", "vllm", "--config=x"], "server.arguments"),
        (["./wrapped.sh", "--generation-config", "auto"], "leave it out"),
        (["./wrapped.sh", "--override_generation_config={}"], "take it out"),
        (["vllm", "serve", "{model}", "--generation-config", "vllm", "--port", "{port}", "--max-model-len", "9"], None),
        (["./wrapped.sh", "--seed", "5", "--ctx-sise", "9"], None),
    ],
)
def test_a_command_of_ones_own_is_only_asked_for_what_would_spoil_samples(command, words):
    errors = told(engine="openai", command=command)
    assert [words in fix for _, _, fix in errors] == ([True] if words else [])


def test_of_a_server_that_is_there_nothing_is_started():
    there = server("openai", base_url="http://h:1/v1", arguments=["--seed", "1"])
    assert options(there) == [] and list(misused(there, "k")) == []


def test_preflight_says_it_with_the_key_of_the_engine(large_disk):
    overrides = ["evaluate.engine=nemo_skills", "evaluate.engine.server.arguments=[--max-model-len,'4096']"]
    [finding] = [f for f in found(*overrides)["engine_options"] if f.level == "error"]
    assert finding.fix.startswith("set evaluate.engine.server.max_model_len")


def test_the_simulation_goes_by_the_memory_and_the_sequences_that_the_server_is_started_with():
    cfg = load_config(["evaluate.engine=nemo_skills"])
    engine = cfg.evaluate.engine
    own = replace(engine, server=replace(engine.server, arguments=["--gpu-memory-util=0.5", "--max-num-seqs", "9"]))
    before, after = layout_of(cfg, engine), layout_of(cfg, own)
    assert (before.memory_share, before.most_sequences) == (0.9, 1024)
    assert (after.memory_share, after.most_sequences) == (0.5, 9)

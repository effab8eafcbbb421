"""Prompt files: of teachers and of passes, those that are shipped, one's own, and what is said of mistakes in them."""

from __future__ import annotations

import json
import re

import pytest

from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import CONF, compose_config, load_config, to_yaml
from nemo_cot.experiment.existing import find_run
from nemo_cot.experiment.graph import whole_graph
from nemo_cot.traces.teachers import asked
from tests.scripted_server import scripted
from tests.support import recipe_here, rows
from tests.traces.test_refine import generated as generated
from tests.traces.test_refine import run as run

# Prompts for teachers


def test_a_teachers_prompt_file_is_a_chat_or_one_message():
    named = ["teacher=model", "teacher.prompt=guided", "model.prompt='<s>{problem}<e>'"]
    cfg = load_config(named)
    form, turns = asked(cfg, cfg.teacher)
    assert form.prompt.startswith("<s>You are a careful")
    assert form.prompt.count("{problem}") == 1
    assert form.prompt.endswith("<e>")
    assert turns == ()
    cfg = load_config(
        [
            *named,
            "teacher.engine=openai",
            "teacher.engine.endpoint=chat",
            "teacher.engine.server.base_url=http://h/v1",
        ]
    )
    form, turns = asked(cfg, cfg.teacher)
    assert form.prompt.startswith("Problem: {problem}") and [t["role"] for t in turns] == [
        "system",
        "user",
        "assistant",
    ]
    own = load_config([*named, "teacher.template='[{problem}]'"])
    assert asked(own, own.teacher)[0].prompt.startswith("[You are")
    bare = load_config(["teacher=model"])
    assert asked(bare, bare.teacher)[0].prompt == bare.model.prompt and bare.prompts == {}


def test_a_teacher_is_asked_by_the_prompt_file(run):
    path, overrides = run
    with scripted() as server:
        done = recipe_here(
            "generate", *overrides, "teacher=model", "teacher.prompt=engineered", "teacher.engine=openai", "generate.samples_per_problem=1",
            f"teacher.engine.server.base_url={server.base_url}", "teacher.engine.server.neutral=true",
            "teacher.engine.server.model_name=scripted", "teacher.engine.endpoint=chat",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        problem = rows(path / "problems/train.jsonl")[0]["problem"]
        sent = next(
            b["messages"]
            for b in server.bodies
            if b["messages"][-1]["content"].endswith(f"Problem: {problem}")
        )
    assert sent[0] == {
        "role": "system",
        "content": load_config(["teacher=model", "teacher.prompt=engineered"]).prompts["engineered"].system,
    }
    manifest = json.loads((path / "generate/manifest.json").read_text())
    assert "Think aloud" in json.dumps(manifest["config"]), "the prompt's text is in the fingerprint"


# Config


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "prompt").glob("*.yaml")))
def test_every_shipped_prompt_is_fit_for_its_use(name):
    text = (CONF / "prompt" / f"{name}.yaml").read_text()
    if re.match(r"# For a teacher", text):
        assert load_config(["teacher=model", f"teacher.prompt={name}"]).teacher_prompt
        with pytest.raises(UserError, match="nothing of the trace"):
            load_config([f"refine.passes=[{{prompt: {name}}}]"])
    else:
        assert load_config([f"refine.passes=[{{prompt: {name}}}]"]).refine.each()[0].prompt == name
        with pytest.raises(UserError, match=r"for traces that are there|exactly once"):
            load_config(["teacher=model", f"teacher.prompt={name}"])


@pytest.mark.parametrize(
    "passes, parts",
    [
        ("[{prompt: paraphras}]", ("refine.passes[0].prompt", "paraphrase")),
        ("[paraphrase]", ("refine.passes[0]", "not a group")),
        ("[{prompt: paraphrase, chnged: keep}]", ("refine.passes[0].chnged", "changed")),
        ("[{prompt: paraphrase, changed: never}]", ("refine.passes[0].changed", "keep, revert, drop")),
        ("[{prompt: paraphrase, empty: keep}]", ("refine.passes[0].empty", "revert, drop")),
        ("[{prompt: paraphrase, beginning: 2}]", ("refine.passes[0].beginning", "2")),
        ("[{prompt: paraphrase, seed: -1}]", ("refine.passes[0].seed",)),
        ("[{prompt: paraphrase, seed: x}]", ("refine.passes[0].seed", "int")),
        ("[{prompt: paraphrase, engine: big}]", ("refine.passes[0].engine", "/engine@refine.engines.big")),
        ("[{prompt: paraphrase, sampling: {temprature: 1}}]", ("refine.passes[0].sampling.temprature", "temperature")),
        ("[{prompt: paraphrase, sampling: 3}]", ("refine.passes[0].sampling", "not a group of keys")),
        ("[{prompt: paraphrase, sampling: {temperature: -1}}]", ("temperature", "-1")),
        ("[{prompt: paraphrase, template: x}]", ("refine.passes[0].template", "{problem}")),
    ],
)
def test_a_mistake_is_one_line_with_its_key(passes, parts):
    with pytest.raises(UserError) as caught:
        load_config([f"refine.passes={passes}"])
    assert all(part in str(caught.value) for part in parts), caught.value


def test_a_prompt_and_an_engine_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "prompt").mkdir()
    (tmp_path / "experiment").mkdir()
    own = "system: null\nexamples: []\nuser: 'Shorter: {thought}'\nresult: thought\nbetween: []\n"
    (tmp_path / "prompt" / "shorter.yaml").write_text(own)
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - /engine@refine.engines.big: openai\n  - _self_\n"
        "refine:\n  engines:\n    big: {server: {base_url: 'http://h/v1', model_name: m}}\n"
        "  passes:\n    - {prompt: shorter, engine: big}\n    - {prompt: paraphrase}\n"
    )
    monkeypatch.setenv("NEMO_COT_CONFIG_DIR", str(tmp_path))
    cfg = load_config(["experiment=mine"])
    first, second = cfg.refine.each()
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    given = [f"runs_dir={tmp_path / 'runs'}", "name=mine"]
    (tmp_path / "runs" / "mine" / "config.yaml").write_text(to_yaml(compose_config(["experiment=mine", *given])))
    assert find_run(given)[0].refine.each() == [first, second], "the engines of a run are read with it"
    assert first.engine.kind == "openai"
    assert second.engine.kind == "embedded"
    assert cfg.prompts["shorter"].fields == {"thought"}
    for broken in ("user: 'x'\n", "user: '{thought}'\n", own.replace("result: thought", "result: x"), own + "more: 1\n", own.replace("{thought}", "x"),
                   own.replace("between: []", "between: [a]"), "[", "user: '${thought}'\n" + own.replace("user", "x")):  # fmt: skip
        (tmp_path / "prompt" / "shorter.yaml").write_text(broken)
        with pytest.raises(UserError) as caught:
            load_config(["experiment=mine"])
        assert caught.value.fix and ("shorter" in str(caught.value) or "prompt" in str(caught.value)), broken


def test_the_prompts_of_a_run_are_read_with_it(tmp_path):
    tree = compose_config(["name=old", f"runs_dir={tmp_path}", "refine.passes=[{prompt: paraphrase}]"])
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "config.yaml").write_text(to_yaml(tree).replace("your own words", "other words"))
    cfg = find_run(["name=old", f"runs_dir={tmp_path}"])[0]
    assert "other words" in cfg.prompts["paraphrase"].user
    assert cfg.refine.each()[0].stage == "refine/1-paraphrase"


def test_marks_decide_only_where_they_are_used():
    def config(prompt):
        return (
            whole_graph(load_config([f"refine.passes=[{{prompt: {prompt}}}]"]))
            .stages[f"refine/1-{prompt}"]
            .config
        )

    assert "marks" in config("harmonise")
    assert "marks" in config("continue")
    assert "marks" not in config("paraphrase")

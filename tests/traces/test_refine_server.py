"""A pass over a real server with a real (tiny) model: `transformers serve`, started by the stage."""

from __future__ import annotations

import json

from nemo_cot.experiment.compose import load_config
from nemo_cot.experiment.rundirs import run_directory
from tests.sampling.test_transformers_server import NAME, hub, prepared, pytestmark, servers  # noqa: F401 (fixtures)
from tests.sampling.test_transformers_server import cache as cache
from tests.support import recipe, run_stages


def test_a_real_model_edits_and_the_rules_catch_its_rubbish(prepared, cache):  # noqa: F811
    serve = next(o for o in prepared if o.startswith("evaluate.engine.server.command")).partition("=")[2]
    overrides = [
        *prepared, "generate.samples_per_problem=1", "problems.num_train=4", "curate.num_traces=1",
        "refine.passes=[{prompt:paraphrase,cut:keep,changed:keep},{prompt:edit_structure}]", "refine.engine=openai",
        f"refine.engine.server.command={serve}", f"refine.engine.server.model_name={NAME}", "refine.sampling.max_new_tokens=8",
        "refine.template='{problem} the'",  # a random model with tied weights repeats the last word
        "refine.engine.server.start_deadline_seconds=600", "refine.engine.max_concurrent_requests=1",
    ]  # fmt: skip
    run_stages(overrides, "problems", "generate")
    done = recipe("refine", *overrides, **hub(cache))
    assert done.returncode == 0, done.stderr + done.stdout
    run = run_directory(load_config(overrides))
    assert not servers(run.path)

    def rows(name):
        return [json.loads(line) for line in (run.path / name).read_text().splitlines()]

    replies, first = rows("refine/1-paraphrase/generations.jsonl"), rows("refine/1-paraphrase/refined.jsonl")
    assert len(replies) == len(first) == 4 and all(0 < r["num_generated_tokens"] <= 8 for r in replies)
    assert all("the" in r["generation"] for r in replies)
    assert [r["generation"].strip() for r in replies] == [r["generation"] for r in first], (
        "kept, cut as it is"
    )
    second = json.loads((run.path / "refine/2-edit_structure/outcomes.json").read_text())
    assert sum(second.values()) == 4 and set(second) <= {"unmarked: reverted", "empty: reverted"}
    assert [r["generation"] for r in rows("refine/2-edit_structure/refined.jsonl")] == [
        r["generation"] for r in first
    ]

"""evaluate.sets: what a set shares with the run and what not, what is refused, and what the plan counts."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from nemo_cot.errors import UserError
from nemo_cot.evaluation.sets import further_sets, held_out_sets
from nemo_cot.evaluation.subjects import sampling_of
from nemo_cot.experiment.compose import load_config
from nemo_cot.experiment.examine import examine
from nemo_cot.experiment.graph import graph
from nemo_cot.experiment.rundirs import run_directory
from nemo_cot.preflight import preflight
from nemo_cot.preflight.estimate import estimate
from tests.experiment.test_sets import FOUR, PROBLEMS, of_file


def test_a_set_has_its_own_samples_and_limit_and_shares_the_rest(tiny_model):
    cfg = load_config([*FOUR, "evaluate.chunks=8", "evaluate.token_budgets=[4,9,16]"])
    [four] = further_sets(cfg)
    own = four.cfg.evaluate
    assert (
        own.samples_per_problem,
        own.chunks,
        own.sampling.max_new_tokens,
        own.token_budgets,
        own.sets,
    ) == (3, 3, 9, [4, 9], {})
    assert four.cfg.problems == cfg.evaluate.sets["four"].problems and four.cfg.curate == cfg.curate
    assert replace(own.sampling, max_new_tokens=cfg.evaluate.sampling.max_new_tokens) == cfg.evaluate.sampling
    assert [one.name for one in held_out_sets(cfg)] == ["", "four"] and held_out_sets(cfg)[0].cfg is cfg
    plain = further_sets(load_config(FOUR[:1]))[0].cfg.evaluate
    assert plain.samples_per_problem == cfg.evaluate.samples_per_problem
    assert plain.sampling == cfg.evaluate.sampling


@pytest.mark.parametrize("own, limit, expected", [(5, 9, 5), (20, 9, 9), (None, 9, 9), (5, None, 5)])
def test_of_a_models_limit_and_a_sets_the_lower_one_holds(own, limit, expected, tmp_path):
    file = tmp_path / "e.yaml"
    file.write_text(
        "# @package _global_\nevaluate:\n  subjects: [big]\n  models:\n    big: {path: x, prompt: '{problem}', end_of_turn: e, eos_token: null,"
        f" max_new_tokens: {json.dumps(own)}, max_model_len: null}}\n"
    )
    given = [
        f"experiment={file}",
        FOUR[0],
        *([f"evaluate.sets.four.max_new_tokens={limit}"] if limit else []),
    ]
    assert sampling_of(further_sets(load_config(given))[0].cfg, "big").max_new_tokens == expected


@pytest.mark.parametrize("overrides, where, what", [
    (["evaluate.sets.base.problems=chain_sum"], "evaluate.sets", "'base'"),
    (["evaluate.sets.scores.problems=chain_sum"], "evaluate.sets", "'scores'"),
    (["evaluate.sets.examples-x.problems=chain_sum"], "evaluate.sets", "another stage"),
    (["evaluate.sets.chunk-001.problems=chain_sum"], "evaluate.sets", "another stage"),
    (["evaluate.sets.four.samples_per_problem=2"], "evaluate.sets.four", "there is no such set"),
    (["evaluate.sets.four.problems=chain_sim"], PROBLEMS, "did you mean evaluate.sets.four.problems=chain_sum?"),
    ([FOUR[0], f"{PROBLEMS}.heldout_path=x"], f"{PROBLEMS}.heldout_path", "choose evaluate.sets.four.problems=file"),
    ([FOUR[0], f"{PROBLEMS}.source=file"], f"{PROBLEMS}.source", "comes with the choice"),
    ([f"{PROBLEMS}=file"], f"{PROBLEMS}.heldout_path", "must be given"),
    ([f"{PROBLEMS}=from_traces", f"{PROBLEMS}.heldout_path=x"], PROBLEMS, "a file of their own"),
    ([f"{PROBLEMS}=chain_sum", f"{PROBLEMS}.terms=1"], f"{PROBLEMS}.terms", f"set {PROBLEMS}.terms to 2"),
    ([*FOUR[:1], "evaluate.sets.four.samples_per_problem=0"], "evaluate.sets.four.samples_per_problem", "below 1"),
    (["evaluate.sets.problems=chain_sum"], "evaluate.sets.problems", "names no set"),
])  # fmt: skip
def test_what_is_wrong_with_a_set_is_named(overrides, where, what):
    with pytest.raises(UserError) as caught:
        load_config(overrides)
    assert caught.value.where == where and what in str(caught.value)


def test_of_a_file_only_the_held_out_problems_are_asked_for(tmp_path):
    cfg = load_config(of_file(tmp_path / "h.jsonl", "a"))
    assert cfg.evaluate.sets["four"].problems.train_path is None


def test_the_plan_counts_the_sets_samples_and_its_rules_look_at_them(tmp_path):
    four = [*of_file(tmp_path / "h.jsonl", *"abcdef"), *FOUR[4:]]
    cfg = load_config(["experiment=quickstart", f"runs_dir={tmp_path}", *four])
    cost, findings = examine(cfg, run_directory(cfg), graph(cfg))
    answers = {one.stage: (one.answers, one.tokens_at_most) for one in cost.sampling}
    heldout, samples, limit = (
        cfg.problems.num_heldout,
        cfg.evaluate.samples_per_problem,
        cfg.evaluate.sampling.max_new_tokens,
    )
    assert answers["evaluate/base"] == (heldout * samples, heldout * samples * limit)
    assert answers["evaluate/four/trained"] == (18, 18 * 9)
    assert cost.sampled_tokens_at_most == 2 * (heldout * samples * limit + 18 * 9)
    [cut] = [f for f in findings if f.rule == "answer_fits_sampling" and f.level == "warning"]
    assert "evaluate.sets.four.max_new_tokens 9 is below" in cut.what
    assert "evaluate.sets.four.max_new_tokens" in cut.fix
    (tmp_path / "h.jsonl").unlink()
    missing = [f.what for f in examine(cfg, run_directory(cfg), graph(cfg))[1] if f.level == "error"]
    assert len(missing) == 1 and f"{PROBLEMS}.heldout_path" in missing[0]


def test_one_server_serves_one_model_on_every_set(tmp_path):
    server = [
        "evaluate.engine=openai",
        "evaluate.engine.server.base_url=http://127.0.0.1:1/v1",
        "evaluate.engine.server.model_name=m",
    ]
    asked = [
        *server,
        "evaluate.subjects=[base]",
        "evaluate.engine.server.max_model_len=200",
        f"{PROBLEMS}=chain_sum",
    ]
    cfg = load_config(
        [*asked, "evaluate.sampling.max_new_tokens=100", "evaluate.sets.four.max_new_tokens=400"]
    )
    found = {f.rule: f for f in preflight(cfg, estimate(cfg, None, 3), {}) if f.level == "error"}
    assert "engine_model_name" not in found
    assert found["engine_length"].what.startswith("base on four: ")
    assert "evaluate.sets.four.max_new_tokens" in found["engine_length"].fix

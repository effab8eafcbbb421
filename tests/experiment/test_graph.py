"""The chain follows from what the recipes say that they read: its order, its dependencies, its planning."""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nemo_cot.errors import UserError
from nemo_cot.experiment import graph as graph_module
from nemo_cot.experiment.compose import load_config
from nemo_cot.experiment.graph import graph, recipe_names, stage_names, whole_graph
from nemo_cot.experiment.planner import plan_chain
from nemo_cot.stages import Output, RunDirectory, Stage, run_stage

DIRECTORY = ["model=qwen2.5_7b", "model.path=/models/qwen"]
SAMPLED = {"problems", "convert"}
LOCAL = {
    "convert": set(), "problems": set(), "generate": SAMPLED, "grade": {"generate"}, "curate": {"grade", "convert"},
    "pack": {"curate", "convert"}, "train": {"pack", "convert"}, "evaluate/base": SAMPLED,
    "evaluate/trained": {"train", "problems"}, "evaluate/scores": {"evaluate/base", "evaluate/trained"},
    "report": set(),
}  # fmt: skip
CONVERTED = {"nemo_to_hf": {"train", "convert"}, "evaluate/trained": {"nemo_to_hf", "problems"}}
ALIGNER = {
    **LOCAL, **CONVERTED, "hf_to_nemo": {"convert"}, "train": {"pack", "convert", "hf_to_nemo"},
    "nemo_to_hf": {"train", "convert", "hf_to_nemo"},
}  # fmt: skip
CHUNKED = {
    **LOCAL, "generate/chunk-000": SAMPLED, "generate/chunk-001": SAMPLED,
    "generate": {*SAMPLED, "generate/chunk-000", "generate/chunk-001"},
}  # fmt: skip
CHAINS = [
    ([], LOCAL),
    (DIRECTORY, LOCAL),  # a model used in place is checked by convert, before anything reads it
    (["teacher=model"], LOCAL),
    (["teacher=file", "teacher.path=/t.jsonl"], LOCAL),
    (["generate.chunks=2"], CHUNKED),
    ([*DIRECTORY, "train=nemo_aligner"], ALIGNER),
    (
        [*DIRECTORY, "train=nemo_aligner", "train.nemo_model=/nemo"],
        {**LOCAL, **CONVERTED},
    ),
    ([*DIRECTORY, "train=nemo_rl"], {**LOCAL, **CONVERTED, "train": {"curate", "pack", "convert"}}),
    (
        ["evaluate.subjects=[base]"],
        {k: v for k, v in LOCAL.items() if k != "evaluate/trained"} | {"evaluate/scores": {"evaluate/base"}},
    ),
]


@pytest.mark.parametrize("overrides, expected", CHAINS, ids=lambda value: " ".join(value)[:50])
def test_every_stage_waits_for_exactly_what_it_reads_and_stands_behind_it(overrides, expected):
    chain = graph(load_config(overrides))
    assert {name: set(chain.needs(name)) for name in chain.stages} == expected
    seen: list[str] = []
    for name in chain.stages:
        assert set(chain.needs(name)) <= set(seen), name
        seen.append(name)
    assert seen[-1] == "report" and chain.recipes[-1] == "report"


@pytest.mark.parametrize(
    "overrides, kinds",
    [
        ([], {"generate": "generate", "train": "train", "evaluate": "evaluate"}),
        ([*DIRECTORY, "train=nemo_aligner", "generate.chunks=2"],
         {"generate": "generate", "train": "train", "evaluate": "evaluate", "hf_to_nemo": "conversion", "nemo_to_hf": "conversion"}),
        (["teacher=model", "refine.passes=[{prompt: paraphrase}]"],
         {"generate": "generate", "refine": "generate", "train": "train", "evaluate": "evaluate"}),
    ],
)  # fmt: skip
def test_a_recipe_takes_the_resources_of_its_stages_and_cpu_beside_them(overrides, kinds):
    chain = graph(load_config(overrides))
    assert chain.kinds == dict.fromkeys(chain.recipes, "cpu") | kinds


def test_a_recipe_is_behind_another_also_through_a_third():
    chain = graph(load_config([*DIRECTORY, "train=nemo_aligner"]))
    assert chain.ancestors("pack") == {"curate", "grade", "generate", "problems", "convert"}
    assert chain.ancestors("evaluate") == set(chain.recipes) - {"evaluate", "report"}
    assert chain.ancestors("problems") == chain.ancestors("report") == set()


def test_the_chain_is_what_launcher_stages_names_and_applies():
    cfg = load_config(["launcher.stages=[train,pack,hf_to_nemo]"])
    assert graph(cfg).recipes == ["pack", "train"] and "grade" in whole_graph(cfg).recipes
    assert set(load_config([]).launcher.stages) == set(recipe_names())
    with pytest.raises(UserError, match="there is no stage 'trian'"):
        graph(load_config(["launcher.stages=[trian]"]))


def test_what_the_chain_leaves_out_is_not_waited_for():
    chain = graph(load_config(["launcher.stages=[train,pack]"]))
    assert {name: chain.needs(name) for name in chain.stages} == {"pack": [], "train": ["pack"]}
    assert chain.ancestors("train") == {"pack"}


def test_chunks_are_no_stages_to_be_missed():
    assert "generate/chunk-000" not in stage_names(load_config(["generate.chunks=2"]))
    assert stage_names(load_config([])) == [name for name in LOCAL if name != "report"]


def stage(name: str, *reads: str, writes: tuple[str, ...] = ("x",), **more) -> Stage:
    """A stage that reads the file x of others and writes one of its own."""

    def work(folder: Path, inputs) -> None:
        (folder / "x").write_text(name + "".join(inputs[need].read_text() for need in reads))

    return Stage(name, {need: Output(need, "x") for need in reads}, {}, work, writes, **more)


@pytest.fixture
def recipes(monkeypatch) -> Callable[..., None]:
    """Puts these stages, each a recipe of its own (or several of one), in place of recipes/."""

    def put(*stages: Stage) -> None:
        made: dict[str, list[Stage]] = {}
        for one in stages:
            made.setdefault(one.recipe, []).append(one)
        monkeypatch.setattr(graph_module, "recipe_names", lambda: ["a", "b", "c", "d"])
        monkeypatch.setattr(graph_module, "load_recipe", lambda name: lambda cfg: made.get(name, []))

    return put


CFG = types.SimpleNamespace(launcher=types.SimpleNamespace(stages=["a", "b", "c", "d"]))


@pytest.mark.parametrize(
    "stages, what",
    [
        ([stage("a"), stage("b", "z")], "reads z/x, which no stage writes"),
        ([stage("a", writes=("y",)), stage("b", "a")], "reads a/x, which no stage writes"),
        ([stage("a", "b"), stage("b", "a")], "depend on each other"),
        ([stage("a"), stage("a")], "made twice"),
    ],
)
def test_a_recipe_that_reads_what_nobody_writes_is_found_at_once(stages, what, recipes):
    recipes(*stages)
    with pytest.raises(UserError, match=what):
        graph(CFG)


def test_a_recipe_of_which_one_stage_reads_the_whole_run_is_the_last(recipes):
    found = Stage("a/all", {}, {}, lambda folder, _: None, found=lambda run: {})
    recipes(stage("a/one"), found, stage("b"), stage("c", "b"))
    assert graph(CFG).recipes == ["b", "c", "a"]


def test_a_stage_that_does_not_write_what_it_says_fails(tmp_path):
    with pytest.raises(UserError, match="wrote no y"):
        run_stage(stage("a", writes=("x", "y")), RunDirectory(tmp_path / "run").create())


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "run").create()


def actions(run: RunDirectory) -> dict[str, tuple[str, tuple[str, ...]]]:
    steps = plan_chain(graph(CFG), RunDirectory(run.path, [other.path for other in run.reuse]))
    return {step.stage.name: (step.action, step.after) for step in steps}


def do(run: RunDirectory, *names: str) -> None:
    for name in names:
        run_stage(graph(CFG).stages[name], run, show=lambda line: None)


def test_the_planner_skips_runs_and_waits(run, recipes):
    recipes(stage("a"), stage("b", "a"), stage("c", "b"), stage("d"))
    assert actions(run) == {"a": ("run", ()), "d": ("run", ()), "b": ("wait", ("a",)), "c": ("wait", ("b",))}
    do(run, "a", "b", "c")
    assert actions(run) == {"a": ("skip", ()), "d": ("run", ()), "b": ("skip", ()), "c": ("skip", ())}
    recipes(stage("a", version=2), stage("b", "a"), stage("c", "b"), stage("d"))
    steps = {step.stage.name: step for step in plan_chain(graph(CFG), run)}
    assert steps["a"].replaces and steps["a"].why == ("run", "stage version 1 -> 2")
    assert steps["c"].why == ("open", "runs unless the outputs of b stay the same")
    assert steps["d"].why == ("run", "has not been run")


def test_the_planner_reads_what_would_be_reused_where_it_lies(run, recipes, tmp_path):
    recipes(stage("a"), stage("b", "a"), stage("c", "b"))
    do(run, "a", "b")
    other = RunDirectory(tmp_path / "other", [run.path])
    assert actions(other) == {"a": ("reuse", ()), "b": ("reuse", ()), "c": ("run", ())}
    assert not other.path.exists()


def chunked() -> list[Stage]:
    parts = {f"chunk-00{n}": Output(f"b/chunk-00{n}", "x") for n in range(2)}

    def merge(folder: Path, inputs) -> None:
        (folder / "x").write_text("".join(inputs[label].read_text() for label in parts))

    whole = Stage("b", {"a": Output("a", "x")}, {}, merge, ("x",), parts=parts)
    return [stage("a"), *(stage(part.stage, "a") for part in parts.values()), whole, stage("c", "b")]


def test_a_recipe_makes_stages_of_its_own_name_alone(monkeypatch):
    monkeypatch.setattr(graph_module, "recipe_names", lambda: ["a"])
    monkeypatch.setattr(graph_module, "load_recipe", lambda name: lambda cfg: [stage("b")])
    with pytest.raises(UserError, match="the stage b is not the recipe's own"):
        whole_graph(CFG)


def test_parts_are_planned_only_where_the_whole_is_not_settled(run, recipes):
    recipes(*chunked())
    do(run, "a", "b/chunk-000")
    assert actions(run) == {
        "a": ("skip", ()), "b/chunk-000": ("skip", ()), "b/chunk-001": ("run", ()),
        "b": ("wait", ("b/chunk-001",)), "c": ("wait", ("b",)),
    }  # fmt: skip
    do(run, "b/chunk-001", "b")
    assert actions(run) == {"a": ("skip", ()), "b": ("skip", ()), "c": ("run", ())}
    assert (run.stage("b") / "x").read_text() == "b/chunk-000ab/chunk-001a"
    recipes(*(replace(one, version=2) if one.name.startswith("b") else one for one in chunked()))
    whole = next(step for step in plan_chain(graph(CFG), run) if step.stage.name == "b")
    assert whole.replaces and whole.why == ("run", "after b/chunk-000, b/chunk-001"), "whatever its chunks give"


def test_what_reads_the_whole_run_waits_for_all_of_it(run, recipes):
    report = Stage("d", {}, {}, lambda folder, _: (folder / "x").touch() or None, found=lambda run: {})
    recipes(stage("a"), stage("b", "a"), stage("c"), report)
    assert actions(run)["d"] == ("wait", ("a", "c", "b"))
    do(run, "a", "b", "c", "d")
    assert actions(run)["d"] == ("skip", ())

"""refine: passes in which a model edits the traces before they are graded: structure, self-checks, style."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from nemo_cot.config import Config
from nemo_cot.config.checks import fingerprinted
from nemo_cot.config.refine import RefinePass
from nemo_cot.experiment.recipe import recipe_main
from nemo_cot.io.jsonl import read_jsonl
from nemo_cot.models.convert import hf_directory
from nemo_cot.models.format import base_model
from nemo_cot.records import Trace
from nemo_cot.sampling.chunks import GENERATIONS
from nemo_cot.stages import Output, Stage
from nemo_cot.traces.marks import Marks
from nemo_cot.traces.refine import REFINED, refine_traces


def refine(cfg: Config) -> Iterator[Stage]:
    """A stage per pass of refine.passes: the replies, the traces after it (refined.jsonl), and how many had
    which outcome.
    """
    source = Output("generate", GENERATIONS)
    for one in cfg.refine.each():
        yield _stage(cfg, one, source)
        source = Output(one.stage, REFINED)


def _stage(cfg: Config, one: RefinePass, source: Output) -> Stage:
    prompt, client = cfg.prompts[one.prompt], one.engine.client

    def work(folder: Path, inputs: Mapping[str, Path]) -> None:
        traces, marks = read_jsonl(inputs["traces"], Trace), Marks(cfg.marks)
        outcomes = refine_traces(one, prompt, traces, marks, cfg.grade, inputs.get("model"), folder)
        print(
            f"  {one.prompt}: "
            + ", ".join(f"{outcome} {count}" for outcome, count in sorted(outcomes.items()))
        )

    inputs = {"traces": source}
    if one.path or not (client and client.server.base_url):
        inputs["model"] = (
            partial(hf_directory, one.path, key="refine.path") if one.path else base_model(cfg.model)
        )
    config = {
        "pass": fingerprinted(one),
        "prompt": fingerprinted(prompt),
        "grade": {"fallback": cfg.grade.fallback, "thoughts": cfg.grade.thoughts},
    }
    if prompt.result != "replace" or prompt.fields & {"thought", "solution", "beginning"}:
        config["marks"] = fingerprinted(cfg.marks)
    return Stage(
        one.stage,
        inputs=inputs,
        config=config,
        work=work,
        writes=(GENERATIONS, REFINED, "outcomes.json"),
        resumable=True,
        resources="generate",
        server=(one.path, client.server) if client and not client.server.base_url else None,
    )


if __name__ == "__main__":
    recipe_main(refine)

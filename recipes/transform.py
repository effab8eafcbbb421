"""transform: change the chosen traces by pure functions, for ablations: digits, steps, marks, answers."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from nemo_cot.config import Config
from nemo_cot.config.checks import fingerprinted
from nemo_cot.experiment.recipe import recipe_main
from nemo_cot.io.jsonl import iter_jsonl, read_jsonl, write_jsonl
from nemo_cot.models.format import base_model, format_config, student_tokenizer
from nemo_cot.progress import tracked
from nemo_cot.records import Trace
from nemo_cot.stages import Output, Stage
from nemo_cot.traces.marks import Marks
from nemo_cot.traces.transforms import Donor, reads_pool, summary, transformed


def transform(cfg: Config) -> Iterator[Stage]:
    """Write traces.jsonl: the chosen traces with transform.steps done. Applies where there are any."""
    if not cfg.transform.steps:
        return

    def work(folder: Path, inputs: Mapping[str, Path]) -> None:
        traces = read_jsonl(inputs["traces"], Trace)
        graded = iter_jsonl(inputs["pool"], Donor) if "pool" in inputs else ()
        pool = [row for row in graded if row.verdict == "right"]
        tokenizer = student_tokenizer(cfg.model, inputs["tokenizer"].parent)

        def counted(trace: Trace) -> Trace:
            ids = tokenizer.trained_ids(trace.generation, end_of_turn=trace.trains_end_of_turn)
            return msgspec.structs.replace(trace, num_student_tokens=len(ids))

        rows = map(counted, transformed(traces, cfg.transform, Marks(cfg.marks), pool))
        write_jsonl(folder / "traces.jsonl", tracked(rows, "transform", len(traces), "traces", folder))
        for line in summary(traces, read_jsonl(folder / "traces.jsonl", Trace)):
            print(f"  {line}")

    inputs = {
        "traces": Output("curate", "traces.jsonl"),
        "tokenizer": base_model(cfg.model) / "tokenizer.json",
    }
    if reads_pool(cfg.transform):
        inputs["pool"] = Output("grade", "graded.jsonl")
    yield Stage(
        "transform",
        inputs=inputs,
        config={
            "transform": fingerprinted(cfg.transform),
            "marks": fingerprinted(cfg.marks),
            "model": format_config(cfg.model),
        },
        work=work,
        writes=("traces.jsonl",),
        version=2,
    )


if __name__ == "__main__":
    recipe_main(transform)

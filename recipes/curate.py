"""curate: keep the traces to train on: graded as wanted, within a length window, few a problem."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from nemo_cot.config import Config
from nemo_cot.config.checks import fingerprinted
from nemo_cot.traces.selection import curate as choose
from nemo_cot.io.atomic import write_bytes
from nemo_cot.io.jsonl import read_jsonl, write_jsonl
from nemo_cot.models.format import base_model, format_config, student_tokenizer
from nemo_cot.records import Trace
from nemo_cot.stages import RunDirectory, Stage
from nemo_cot.experiment.recipe import recipe_main


def curate(cfg: Config, run: RunDirectory) -> Iterator[Stage]:
    """Write traces.jsonl, and dropped.json with the count of every reason a trace was left out."""
    student = base_model(cfg.model, run)
    graded = run.artifact("grade", "graded.jsonl")

    def work(folder: Path) -> None:
        traces = read_jsonl(graded, Trace)
        tokenizer = student_tokenizer(cfg.model, student)
        # Counted anew: a teacher may have another tokenizer than the student.
        lengths = [len(tokenizer.answer_ids(trace.generation)) for trace in traces]
        traces = [msgspec.structs.replace(t, num_generated_tokens=n) for t, n in zip(traces, lengths)]
        kept = choose(traces, lengths, cfg.curate)
        write_jsonl(folder / "traces.jsonl", kept.traces)
        write_bytes(folder / "dropped.json", msgspec.json.format(msgspec.json.encode(kept.dropped)) + b"\n")
        print(
            f"  kept {len(kept.traces)} of {len(traces)} traces; dropped: "
            + ", ".join(f"{reason} {count}" for reason, count in kept.dropped.items())
        )

    yield Stage(
        "curate",
        inputs={"graded": graded, "tokenizer": student / "tokenizer.json"},
        config={"curate": fingerprinted(cfg.curate), "model": format_config(cfg.model)},
        work=work,
    )


if __name__ == "__main__":
    recipe_main(curate)

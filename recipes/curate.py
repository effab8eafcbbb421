"""curate: choose the traces to train on: with wanted verdicts, within a length window, few per problem."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from nemo_cot.config import Config
from nemo_cot.config.checks import fingerprinted
from nemo_cot.experiment.recipe import recipe_main
from nemo_cot.io.atomic import write_bytes
from nemo_cot.io.jsonl import read_jsonl, write_jsonl
from nemo_cot.models.format import base_model, format_config, student_tokenizer
from nemo_cot.records import Trace
from nemo_cot.stages import Output, Stage
from nemo_cot.traces.selection import curate as choose


def curate(cfg: Config) -> Iterator[Stage]:
    """Write traces.jsonl, and dropped.json with the number of traces dropped per reason."""

    def work(folder: Path, inputs: Mapping[str, Path]) -> None:
        traces = read_jsonl(inputs["graded"], Trace)
        tokenizer = student_tokenizer(cfg.model, inputs["tokenizer"].parent)
        lengths = [len(tokenizer.answer_ids(trace.generation)) for trace in traces]
        counted = [msgspec.structs.replace(t, num_student_tokens=n) for t, n in zip(traces, lengths)]
        kept = choose(counted, lengths, cfg.curate)
        write_jsonl(
            folder / "traces.jsonl",
            (trace.with_step(chosen_by="curate", rank=rank) for rank, trace in enumerate(kept.traces)),
        )
        write_bytes(folder / "dropped.json", msgspec.json.format(msgspec.json.encode(kept.dropped)) + b"\n")
        dropped = ", ".join(f"{reason} {count}" for reason, count in kept.dropped.items())
        print(f"  kept {len(kept.traces)} of {len(traces)} traces; dropped: {dropped}")

    yield Stage(
        "curate",
        inputs={
            "graded": Output("grade", "graded.jsonl"),
            "tokenizer": base_model(cfg.model) / "tokenizer.json",
        },
        config={"curate": fingerprinted(cfg.curate), "model": format_config(cfg.model)},
        work=work,
        writes=("traces.jsonl", "dropped.json"),
    )


if __name__ == "__main__":
    recipe_main(curate)

"""pack: turn the curated traces into tokens and lay them out in packs."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from nemo_cot.config import Config
from nemo_cot.config.checks import fingerprinted
from nemo_cot.experiment.recipe import recipe_main
from nemo_cot.io.json_file import write_json
from nemo_cot.io.jsonl import read_jsonl, write_jsonl
from nemo_cot.models.format import base_model, format_config, student_tokenizer
from nemo_cot.packing import lower_bound, utilisation
from nemo_cot.packing import pack as make_packs
from nemo_cot.packing.sequences import tokenize_traces
from nemo_cot.records import PackingFigures, Trace
from nemo_cot.stages import Stage
from nemo_cot.traces.transforms import chosen_traces


def pack(cfg: Config) -> Iterator[Stage]:
    """Write sequences.jsonl (tokens) and packing.json (utilisation with each trace packed once)."""

    def work(folder: Path, inputs: Mapping[str, Path]) -> None:
        capacity = cfg.pack.capacity_tokens
        tokenizer = student_tokenizer(cfg.model, inputs["tokenizer"].parent)
        sequences = tokenize_traces(read_jsonl(inputs["traces"], Trace), tokenizer, capacity_tokens=capacity)
        lengths = [len(s.input_ids) for s in sequences]
        packs = make_packs(lengths, capacity, strategy=cfg.pack.strategy, seed=cfg.pack.seed)
        figures = PackingFigures(
            sequences=len(sequences),
            packs=len(packs),
            fewest_packs_possible=lower_bound(lengths, capacity),
            capacity_tokens=capacity,
            tokens=sum(lengths),
            trained_tokens=sum(s.num_trained_tokens for s in sequences),
            utilisation=round(utilisation(packs, lengths, capacity), 6),
        )
        write_jsonl(folder / "sequences.jsonl", sequences)
        write_json(folder / "packing.json", figures)
        print(f"  {len(packs)} packs of {capacity} tokens, {figures.utilisation:.1%} used")

    yield Stage(
        "pack",
        inputs={
            "traces": chosen_traces(cfg),
            "tokenizer": base_model(cfg.model) / "tokenizer.json",
        },
        config={"pack": fingerprinted(cfg.pack), "model": format_config(cfg.model)},
        work=work,
        writes=("sequences.jsonl", "packing.json"),
    )


if __name__ == "__main__":
    recipe_main(pack)

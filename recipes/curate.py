"""curate: choose the traces to train on: those that pass the filters, in an order, within quotas."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from nemo_cot.config import Config
from nemo_cot.config.checks import fingerprinted
from nemo_cot.evaluation.sets import held_out_sets
from nemo_cot.experiment.recipe import recipe_main
from nemo_cot.io.json_file import write_json
from nemo_cot.io.jsonl import read_jsonl, write_jsonl
from nemo_cot.io.paths import user_path
from nemo_cot.models.format import base_model, format_config
from nemo_cot.records import Problem, Trace
from nemo_cot.stages import Output, Stage
from nemo_cot.traces.keys import OWN_KEYS, marks_config, named_keys, needs_heldout, needs_marks, problem_keys


def curate(cfg: Config) -> Iterator[Stage]:
    """Write traces.jsonl; dropped.json with the number of traces dropped per reason; selection.jsonl with a
    row for each trace of the pool, in or out and why; flagged.jsonl with what filters show; and
    structure.json.
    """
    inputs = {
        "graded": Output("grade", "graded.jsonl"),
        "tokenizer": base_model(cfg.model) / "tokenizer.json",
    }
    heldout_sets = {one.named("heldout"): one.problems for one in held_out_sets(cfg) if needs_heldout(cfg.curate)}
    inputs |= heldout_sets
    more = [key for key in named_keys(cfg.curate) if key not in OWN_KEYS]
    if more and "train" in cfg.problems.files:  # further columns of the problems
        inputs["problems"] = user_path(cfg.problems.files["train"])
    config = {"curate": fingerprinted(cfg.curate), "model": format_config(cfg.model)}
    config |= marks_config(cfg.marks, decide=needs_marks(cfg.curate))

    def work(folder: Path, inputs: Mapping[str, Path]) -> None:
        from nemo_cot.traces.parallel import row_at  # and numpy
        from nemo_cot.traces.pool import read_pool
        from nemo_cot.traces.selection import choose
        from nemo_cot.traces.structure.profile import measured_sets, write_structure

        graded = inputs["graded"]
        heldout = [problem for label in heldout_sets for problem in read_jsonl(inputs[label], Problem)]
        columns = problem_keys(inputs["problems"], more) if "problems" in inputs else None
        tokenizer = inputs["tokenizer"].parent
        pool = read_pool(graded, tokenizer, cfg.model, cfg.curate, cfg.marks, heldout, columns, folder)
        found = choose(pool.candidates, cfg.curate)
        passed = {"filters": list(cfg.curate.filters)} if cfg.curate.filters else {}
        chosen = (
            msgspec.structs.replace(row_at(graded, c.offset, Trace), num_student_tokens=c.length).with_step(
                chosen_by="curate", rank=rank, **passed
            )
            for rank, c in enumerate(found.chosen)
        )
        write_jsonl(folder / "traces.jsonl", chosen)
        write_jsonl(folder / "selection.jsonl", found.rows())
        write_jsonl(folder / "flagged.jsonl", pool.shown)
        write_json(folder / "dropped.json", found.dropped)
        chosen_set = measured_sets(folder / "traces.jsonl", cfg.marks, label="measure the chosen")[""]
        write_structure(folder / "structure.json", {"pool": pool.measured, "chosen": chosen_set}, cfg)
        dropped = ", ".join(f"{reason} {count}" for reason, count in found.dropped.items())
        print(f"  kept {len(found.chosen)} of {len(pool.candidates)} traces; dropped: {dropped}")
        for line in found.remarks(cfg.curate, len(pool.shown)):
            print(f"  {line}")

    yield Stage(
        "curate",
        inputs=inputs,
        config=config,
        work=work,
        writes=("traces.jsonl", "dropped.json", "selection.jsonl", "flagged.jsonl", "structure.json"),
    )


if __name__ == "__main__":
    recipe_main(curate)

"""nemo-cot export: the chosen traces as a data set, or the trained model, with a card, or a log for `inspect view`;
nothing goes over the network.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from nemo_cot.io.paths import user_path
from nemo_cot.launchers.finished import Arguments, open_run
from nemo_cot.report.collect import read_manifests

SUBJECT = "trained"
"""Whose samples --inspect writes, unless --subject names another."""
USAGE = (
    "RUN --dataset DIR [--format jsonl|parquet] [--pool] | RUN --model DIR | RUN --inspect FILE [--subject NAME] "
    "[--set NAME] [runs_dir=DIR]"
)


def export_command(arguments: Sequence[str]) -> int:
    """Write what is asked for into new folders, and print the command that uploads each. Raises UserError."""
    parser = Arguments("export", USAGE)
    parser.add_argument("--dataset")
    parser.add_argument("--model")
    parser.add_argument("--format", choices=("jsonl", "parquet"))
    parser.add_argument("--pool", action="store_true")
    parser.add_argument("--inspect")
    parser.add_argument("--subject")
    parser.add_argument("--set", default="")
    given = parser.read(arguments)
    if not given.dataset and not given.model and not given.inspect:
        parser.error("says neither --dataset DIR nor --model DIR nor --inspect FILE")
    if (given.subject or given.set) and not given.inspect:
        parser.error("--subject and --set belong to --inspect FILE")
    if (given.pool or given.format) and not given.dataset:
        parser.error("--pool and --format belong to --dataset DIR")
    run = open_run(given.run, given.runs_dir)
    manifests = read_manifests(run)
    if given.dataset:
        from nemo_cot.export.dataset import export_dataset

        target = user_path(given.dataset)
        rows = export_dataset(run, manifests, target, format=given.format or "jsonl", pool=given.pool)
        print(
            f"{target}: {', '.join(f'{count} rows in {name}' for name, count in rows.items())}, and README.md"
        )
        print(f"to upload it: hf upload NAME/{run.path.name} {shlex.quote(str(target))} --repo-type dataset")
    if given.model:
        from nemo_cot.export.model import export_model

        target = user_path(given.model)
        print(f"{target}: the model of {export_model(run, manifests, target)}, and README.md")
        print(f"to upload it: hf upload NAME/{run.path.name} {shlex.quote(str(target))}")
    if given.inspect:
        from nemo_cot.report.inspect_log import write_inspect_log

        target = user_path(given.inspect)
        print(f"{target}: {write_inspect_log(run, given.subject or SUBJECT, target, given.set)} samples")
        print(f"to read it: inspect view --log-dir {shlex.quote(str(target.parent))}")
    return 0

"""The nemo-cot command. It imports only what a verb needs, so that help and show start fast."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from nemo_cot.errors import UserError, nearest

HELP = """\
nemo-cot: teach a base model to reason from 20 long chain-of-thought traces.

usage: nemo-cot VERB [key=value ...]

verbs
  run      run the chain on this machine; finished stages are skipped, a killed stage resumes
  show     print the resolved config
  plan     show what is wrong, what would run and why, and its cost; writes nothing
           [--all: every rule; --suggest: the best few layouts; --json: everything, for programs]
  submit   queue the chain on a Slurm cluster [--dry-run: only write the job files]
  status   show the progress of each stage of a run, and its jobs in the queue: nemo-cot status [RUN] [--watch]
  logs     print the log of a submitted job, of the latest one without JOB: nemo-cot logs [RUN] [JOB] [--follow]
  cancel   remove a submitted chain from the queue: nemo-cot cancel [RUN]
  report   write the report of a run again, or one about several: nemo-cot report [RUN[:SUBJECT] ...] [--output DIR]
           (RUN is a name or a path; status, logs, cancel and report also find it by name= or experiment=, and runs_dir=)
  compare  compare runs, with intervals: nemo-cot compare RUN[:SUBJECT] RUN[:SUBJECT] ...
           [--subject NAME] [--set NAME] [--json FILE] [--markdown FILE] [runs_dir=DIR]
  traces   measure the structure of traces, sets side by side: nemo-cot traces FILE.jsonl|RUN[:WHERE] ...
           WHERE: pool, chosen, generated, refined, transformed, or an evaluated subject [--by KEY] [--measures A,B]
           [--model DIR [--surprise FILE]] [--json FILE] [--plot FILE.html|FILE.svg] [marks=NAME]
  trace    lead a trace back to its problem, teacher and changes: nemo-cot trace RUN ID[:SAMPLE]
  show-tokens  print what is trained on and what is not: nemo-cot show-tokens RUN [--trace ID[:SAMPLE]]
  export   write the chosen traces, or the trained model, with a card: nemo-cot export RUN --dataset DIR
           [--format jsonl|parquet] [--pool] | --model DIR | --inspect FILE [--subject NAME] [--set NAME]
  grade    grade any JSON-lines file: nemo-cot grade INPUT.jsonl OUTPUT.jsonl [grade.key=value ...]

several runs: run, plan, submit, status, cancel, compare and report take
  study=NAME     the runs of conf/study/NAME.yaml (or of a file, study=PATH.yaml), in one table (compare, report)
  --multirun     (or -m) a sweep: train.seed=1,2,3 or "range(1,4)"; not compare and report
  --only NAME,.. only these runs; --jobs N: N runs of a study at a time on this machine

examples
  nemo-cot run experiment=quickstart
  nemo-cot run experiment=quickstart train.optim.lr=5e-5 name=lower_lr
  nemo-cot show experiment=quickstart train.batching=literal
  nemo-cot submit experiment=quickstart cluster=slurm_minimal
  nemo-cot run --multirun experiment=quickstart train.optim.lr=1e-4,3e-4

key=value is a Hydra override; `nemo-cot show` prints all keys. Each recipe also runs alone:
  python recipes/train.py experiment=quickstart
"""


def main() -> None:
    """Entry point of the console script."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help") or {"-h", "--help"} & set(arguments[1:]):
        print(HELP, end="")
        sys.exit(0 if arguments else 2)
    if arguments[0] == "--version":
        from nemo_cot import __version__

        print(__version__)
        sys.exit(0)
    from nemo_cot.guard import guarded

    sys.exit(guarded(lambda: _dispatch(arguments[0], arguments[1:])))


_VERBS = {
    "run": "local.run_chain", "show": "show.print_config", "plan": "plan.print_plan", "submit": "slurm.submit.submit_chain",
    "status": "status.print_status", "logs": "slurm.logs.print_logs", "cancel": "slurm.cancel.cancel_chain",
    "report": "report.report_command", "compare": "compare.compare_command", "traces": "traces.traces_command",
    "trace": "trace.trace_command", "show-tokens": "show_tokens.show_tokens_command", "export": "export.export_command",
    "grade": "grade_file.grade_command",
}  # fmt: skip
"""The function of each verb, by its place below this package: only what a verb needs is imported."""
_OPTIONS = {
    "submit": ("--dry-run",), "plan": ("--all", "--json", "--suggest"), "status": ("--watch",),
    "logs": ("--follow", "-f"),
}  # fmt: skip
"""Options by verb; other verbs have none, except those that parse their own (they take values)."""
_OWN_OPTIONS = ("compare", "report", "traces", "trace", "show-tokens", "export")
_STUDY_OPTIONS = ("--multirun", "-m", "--only", "--jobs")


def _dispatch(verb: str, arguments: Sequence[str]) -> int:
    if verb not in _VERBS:
        fix = nearest(verb, _VERBS, f"use one of {', '.join(_VERBS)}")
        raise UserError(f"there is no verb {verb!r}", where="nemo-cot", fix=fix)
    study = any(a in ("--multirun", "-m") or a.startswith("study=") for a in arguments)
    _check_options(verb, arguments, study=study)
    if study:
        from nemo_cot.launchers.study import study_command

        return study_command(verb, arguments)
    module, _, function = _VERBS[verb].rpartition(".")
    return getattr(importlib.import_module(f"nemo_cot.launchers.{module}"), function)(arguments)


def _check_options(verb: str, arguments: Sequence[str], *, study: bool) -> None:
    """Refuse an option that ``verb`` does not have: it would be read as a job, a file or a key."""
    if verb in _OWN_OPTIONS and not study:
        return
    own = (*(("--dry-run",) if verb == "submit" else ()), *_STUDY_OPTIONS) if study else _OPTIONS.get(verb, ())
    known = (*own, "-h", "--help")
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if argument.startswith("-") and (name if study else argument) not in known:
            owner = next((verb for verb, options in _OPTIONS.items() if name in options), None)
            otherwise = (
                f"a key is set without dashes: {argument.lstrip('-')}" if equals
                else f"leave it out; it belongs to nemo-cot {owner}" if owner
                else "leave it out; it goes with study=NAME or --multirun" if name in _STUDY_OPTIONS
                else f"use one of {', '.join(known)}"
            )  # fmt: skip
            fix = nearest(name, [option for option in known if option.startswith("--")], otherwise)
            raise UserError(f"there is no option {name!r}", where=f"nemo-cot {verb}", fix=fix)


if __name__ == "__main__":
    main()

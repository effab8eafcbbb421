"""The nemo-cot command. It imports only what a verb needs, so that help and show start fast."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

HELP = """\
nemo-cot: teach a base model to reason from 20 long chain-of-thought traces.

usage: nemo-cot VERB [key=value ...]

verbs
  run      run the chain on this machine; finished stages are skipped, a killed stage resumes
  show     print the resolved config
  plan     show what is wrong, what would run and why, and its cost; writes nothing
           [--all: every rule; --suggest: the best few layouts; --json: everything, for programs]
  submit   queue the chain on a Slurm cluster [--dry-run: only write the job files]
  status   show the progress of each stage of a run, and its jobs in the queue [--watch]
  logs     print the log of a submitted job: nemo-cot logs [JOB] [--follow] [key=value ...]
  cancel   remove a submitted chain from the queue
  report   write the report of a run again, or one about several: nemo-cot report [RUN[:SUBJECT] ...] [--output DIR]
           (status, logs, cancel and report find the run by name= and runs_dir=, or by experiment=)
  compare  compare runs, with intervals: nemo-cot compare RUN[:SUBJECT] RUN[:SUBJECT] ...
           [--subject NAME] [--json FILE] [--markdown FILE] [runs_dir=DIR]
  traces   measure the structure of traces, sets side by side: nemo-cot traces FILE.jsonl|RUN[:WHERE] ...
           WHERE: pool, chosen, generated, refined, transformed, or an evaluated subject [--by KEY] [--measures A,B]
           [--model DIR [--surprise FILE]] [--json FILE] [--plot FILE.html|FILE.svg] [marks=NAME]
  trace    lead a trace back to its problem, teacher and changes: nemo-cot trace RUN ID[:SAMPLE]
  show-tokens  print what is trained on and what is not: nemo-cot show-tokens RUN [--trace ID[:SAMPLE]]
  export   write the chosen traces, or the trained model, with a card: nemo-cot export RUN --dataset DIR
           [--format jsonl|parquet] [--pool] | --model DIR | --inspect FILE [--subject NAME]
  grade    grade any JSON-lines file: nemo-cot grade INPUT.jsonl OUTPUT.jsonl [grade.key=value ...]

several runs: run, plan, submit, status, cancel, compare and report take
  study=NAME     the runs of conf/study/NAME.yaml, compared in one table (compare, report)
  --multirun     (or -m) a sweep: train.seed=1,2,3 or "range(1,4)"; not compare and report
  --only NAME,.. these runs alone; --jobs N: N runs of a study at a time on this machine

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


def _dispatch(verb: str, arguments: Sequence[str]) -> int:
    verbs = {
        "run": _run, "show": _show, "plan": _plan, "submit": _submit, "status": _status, "logs": _logs,
        "cancel": _cancel, "report": _report, "compare": _compare, "traces": _traces, "grade": _grade, "trace": _trace,
        "show-tokens": _show_tokens, "export": _export,
    }  # fmt: skip
    if verb not in verbs:
        raise _unknown_verb(verb, list(verbs))
    study = any(a in ("--multirun", "-m") or a.startswith("study=") for a in arguments)
    _check_options(verb, arguments, study=study)
    if study:
        from nemo_cot.launchers.study import study_command

        return study_command(verb, arguments)
    chosen: Callable[[Sequence[str]], int] = verbs[verb]
    return chosen(arguments)


def _run(overrides: Sequence[str]) -> int:
    from nemo_cot.launchers.local import run_chain

    return run_chain(overrides)


def _show(overrides: Sequence[str]) -> int:
    from nemo_cot.experiment.compose import compose_config, to_dataclasses, to_yaml

    tree = compose_config(overrides)
    to_dataclasses(tree.copy())
    print(to_yaml(tree), end="")
    return 0


def _plan(arguments: Sequence[str]) -> int:
    from nemo_cot.launchers.plan import print_plan

    return print_plan(arguments)


def _status(overrides: Sequence[str]) -> int:
    from nemo_cot.launchers.status import print_status

    return print_status(overrides)


def _submit(arguments: Sequence[str]) -> int:
    from nemo_cot.launchers.slurm.submit import submit_chain

    return submit_chain(arguments)


def _logs(arguments: Sequence[str]) -> int:
    from nemo_cot.launchers.slurm.logs import print_logs

    return print_logs(arguments)


def _cancel(overrides: Sequence[str]) -> int:
    from nemo_cot.launchers.slurm.cancel import cancel_chain

    return cancel_chain(overrides)


def _report(arguments: Sequence[str]) -> int:
    from nemo_cot.launchers.report import report_command

    return report_command(arguments)


def _compare(arguments: Sequence[str]) -> int:
    from nemo_cot.launchers.compare import compare_command

    return compare_command(arguments)


def _traces(arguments: Sequence[str]) -> int:
    from nemo_cot.launchers.traces import traces_command

    return traces_command(arguments)


def _grade(arguments: Sequence[str]) -> int:
    from nemo_cot.launchers.grade_file import grade_command

    return grade_command(arguments)


def _trace(arguments: Sequence[str]) -> int:
    from nemo_cot.launchers.trace import trace_command

    return trace_command(arguments)


def _show_tokens(arguments: Sequence[str]) -> int:
    from nemo_cot.launchers.show_tokens import show_tokens_command

    return show_tokens_command(arguments)


def _export(arguments: Sequence[str]) -> int:
    from nemo_cot.launchers.export import export_command

    return export_command(arguments)


_OPTIONS = {
    "submit": ("--dry-run",), "plan": ("--all", "--json", "--suggest"), "status": ("--watch",),
    "logs": ("--follow", "-f"),
}  # fmt: skip
"""Options by verb; other verbs have none, except those that parse their own (they take values)."""
_OWN_OPTIONS = ("compare", "report", "traces", "trace", "show-tokens", "export")


_STUDY_OPTIONS = ("--multirun", "-m", "--only", "--jobs")


def _check_options(verb: str, arguments: Sequence[str], *, study: bool) -> None:
    """Refuse an option that ``verb`` does not have: it would be read as a job, a file or a key."""
    if verb in _OWN_OPTIONS and not study:
        return
    own = (*(("--dry-run",) if verb == "submit" else ()), *_STUDY_OPTIONS) if study else _OPTIONS.get(verb, ())
    known = (*own, "-h", "--help")
    name_of = (lambda a: a.partition("=")[0]) if study else str
    wrong = next((a for a in arguments if a.startswith("-") and name_of(a) not in known), None)
    if wrong is None:
        return
    from nemo_cot.errors import UserError

    name = wrong.partition("=")[0]
    raise UserError(f"there is no option {name!r}", where=f"nemo-cot {verb}", fix=_option_fix(wrong, known))


def _option_fix(wrong: str, known: Sequence[str]) -> str:
    import difflib

    name, equals, _ = wrong.partition("=")
    if near := difflib.get_close_matches(name, [o for o in known if o.startswith("--")], n=1):
        return f"did you mean {near[0]}?"
    if equals:
        return f"a key is set without dashes: {wrong.lstrip('-')}"
    if owner := next((verb for verb, options in _OPTIONS.items() if name in options), None):
        return f"leave it out; it belongs to nemo-cot {owner}"
    return f"use one of {', '.join(known)}"


def _unknown_verb(verb: str, verbs: list[str]) -> Exception:
    import difflib

    from nemo_cot.errors import UserError

    near = difflib.get_close_matches(verb, verbs, n=1)
    return UserError(
        f"there is no verb {verb!r}",
        where="nemo-cot",
        fix=f"did you mean {near[0]}?" if near else f"use one of {', '.join(verbs)}",
    )


if __name__ == "__main__":
    main()

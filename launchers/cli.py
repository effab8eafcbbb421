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
  plan     show what would run and why, its cost, and its errors; writes nothing
  submit   queue the chain on a Slurm cluster [--dry-run: only write the job files]
  status   show the progress of each stage of a run, and its jobs in the queue [--watch]
  logs     print the log of a submitted job: nemo-cot logs [JOB] [--follow] [key=value ...]
  cancel   remove a submitted chain from the queue
  report   write the report of a run again, or one about several: nemo-cot report [RUN[:SUBJECT] ...] [--output DIR]
           (status, logs, cancel and report find the run by name= and runs_dir=, or by experiment=)
  compare  compare runs, with intervals: nemo-cot compare RUN[:SUBJECT] RUN[:SUBJECT] ...
           [--subject NAME] [--json FILE] [--markdown FILE] [runs_dir=DIR]
  traces   measure the structure of traces, sets side by side: nemo-cot traces FILE.jsonl|RUN[:WHERE] ...
           WHERE: pool, chosen, transformed, or a subject of the evaluation [--by KEY] [--measures A,B]
           [--model DIR] [--json FILE] [--plot FILE.html|FILE.svg] [marks=NAME]
  grade    grade any JSON-lines file: nemo-cot grade INPUT.jsonl OUTPUT.jsonl [grade.key=value ...]

examples
  nemo-cot run experiment=quickstart
  nemo-cot run experiment=quickstart train.optim.lr=5e-5 name=lower_lr
  nemo-cot show experiment=quickstart train.batching=literal
  nemo-cot submit experiment=quickstart cluster=slurm_minimal

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
        "cancel": _cancel, "report": _report, "compare": _compare, "traces": _traces, "grade": _grade,
    }  # fmt: skip
    if verb not in verbs:
        raise _unknown_verb(verb, list(verbs))
    _check_options(verb, arguments)
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


def _plan(overrides: Sequence[str]) -> int:
    from nemo_cot.launchers.plan import print_plan

    return print_plan(overrides)


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


_OPTIONS = {"submit": ("--dry-run",), "status": ("--watch",), "logs": ("--follow", "-f")}
"""Options by verb; other verbs have none, except compare and traces, which parse their own (they take values)."""


def _check_options(verb: str, arguments: Sequence[str]) -> None:
    """Refuse an option that ``verb`` does not have: it would be read as a job, a file or a key."""
    if verb in ("compare", "report", "traces"):
        return
    known = (*_OPTIONS.get(verb, ()), "-h", "--help")
    wrong = next((a for a in arguments if a.startswith("-") and a not in known), None)
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

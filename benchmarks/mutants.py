"""Do the tests of the science notice when the science is wrong? Small faults, one at a time.

    python benchmarks/mutants.py [--mutants 60] [--seed 0] [--area curation] [--timeout 120]

Each mutant changes one place of one module (a boundary of a comparison, a number by one, and for or, min for max, a
statement left out, ...) in a copy of the tree, where the tests of that area run and must fail. The places are drawn
with the seed, as many from each area. Prints the survivors with file and line; the exit code says nothing.
"""

from __future__ import annotations

import argparse
import ast
import datetime
import importlib
import multiprocessing
import os
import random
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
AREAS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "curation": (("traces/selection.py", "traces/quotas.py"), ("traces/test_selection.py",)),
    "chain graph": (("experiment/graph.py",), ("experiment/test_graph.py",)),
    "packing draws": (("packing/draws.py", "packing/batches.py"), ("packing/test_draws.py", "packing/test_batches.py")),
    "objective": (
        ("training/local/objective.py", "training/local/batches.py"),
        ("training/test_objective.py", "training/test_batches.py", "training/test_token_accuracy.py"),
    ),
    "schedule": (("training/local/schedule.py",), ("training/test_schedule.py",)),
    "metrics": (
        ("evaluation/metrics.py", "evaluation/intervals.py", "evaluation/repeats.py"),
        ("evaluation",),
    ),
    "votes": (("evaluation/votes.py", "evaluation/curves.py"), ("evaluation",)),
    "extraction": (("grading/extraction.py",), ("grading/test_extraction.py",)),
    "filters": (
        tuple(f"traces/filters/{name}.py" for name in ("contamination", "measure", "repetition", "script", "tokens")),
        ("traces/test_filters.py",),
    ),
    "orders": (
        ("traces/orders.py", "traces/candidates.py", "traces/keys.py"),
        ("traces/test_selection.py", "traces/test_keys.py"),
    ),
    "structure": (
        ("traces/structure/__init__.py", "traces/structure/profile.py", "traces/structure/vectors.py"),
        ("traces/test_structure.py",),
    ),
    "transforms": (
        (
            "traces/edits.py", "traces/steps.py", "traces/thought.py",
            *(f"traces/transforms/{n}.py" for n in ("digits", "keywords", "shuffle", "delete", "replace", "truncate", "answer")),
        ),
        ("traces/test_transforms.py", "traces/test_steps.py"),
    ),
}
"""Modules below nemo_cot/, and the tests below tests/ that are to notice."""

_WARM = ("numpy", "sympy", "math_verify", "hypothesis", "hydra", "transformers.models.qwen2.modeling_qwen2")
"""Imported once, before the forks: what the tests stand on, and nothing of ours."""

_MEMORY = 12 * 2**30
"""Address space of a run of tests: a loop that no longer ends must not take the machine with it."""

_SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
}  # fmt: skip
_NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "reversed": "list"}
_LAYOUT = ("axis", "keepdims", "dtype", "device", "strict")
"""Arguments that say in which shape to compute: another value crashes, or gives the same."""


class Mutant(NamedTuple):
    """``source``: the whole module with the fault in it; ``before`` and ``after``: the place alone."""

    module: str
    line: int
    before: str
    after: str
    source: str


class Change(NamedTuple):
    """Give ``field`` of ``node`` another ``value``. To print: the code ``shown``, and what became of it."""

    node: ast.AST
    field: str
    value: object
    shown: ast.AST
    becomes: str | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mutants", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--area", choices=AREAS, action="append", help="this one only; may be given again")
    parser.add_argument("--timeout", type=float, default=120, help="seconds; a mutant that takes longer is killed")
    options = parser.parse_args()
    started = time.monotonic()
    os.environ["OMP_NUM_THREADS"] = "1"
    for module in _WARM:
        importlib.import_module(module)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = Path(folder) / "tree"
        hidden = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")
        shutil.copytree(ROOT, tree, symlinks=True, ignore=hidden)
        areas = [area for area in options.area or AREAS if _can_be_judged(area, tree, options.timeout)]
        share, rest = divmod(options.mutants, max(1, len(areas)))
        print("| area | killed | survived |\n|---|---|---|", flush=True)
        killed, made = 0, 0
        for number, area in enumerate(areas):
            chosen = _chosen(area, share + (number < rest), options.seed)
            survivors = [mutant for mutant in chosen if not _killed(mutant, area, tree, options.timeout)]
            print(f"| {area} | {len(chosen) - len(survivors)} of {len(chosen)} | {_listed(survivors)} |", flush=True)
            killed, made = killed + len(chosen) - len(survivors), made + len(chosen)
    print(
        f"\n`python benchmarks/mutants.py --mutants {options.mutants} --seed {options.seed}`, {datetime.date.today()}, "
        f"{time.monotonic() - started:.0f} s, Python {sys.version.split()[0]}\n\n"
        f"| mutants of the science killed by its tests, {len(areas)} areas | 54 of 60 | {killed} of {made} |"
    )


def mutants(module: str, source: str) -> Iterator[Mutant]:
    """Every mutant of ``source`` that this script's operators can make."""
    tree = ast.parse(source)
    for node in list(_places(tree)):
        for owner, field, value, shown, becomes in list(_changes(node)):
            former, before = getattr(owner, field), ast.unparse(shown)
            setattr(owner, field, value)
            yield Mutant(module, shown.lineno, before, becomes or ast.unparse(shown), ast.unparse(tree))
            setattr(owner, field, former)


def _places(tree: ast.Module) -> Iterator[ast.AST]:
    """Nodes in the bodies of functions: no annotations, defaults or messages of errors.

    Numbers at the top of a module are left alone: they are sizes of buffers, and change no result.
    """
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            yield function
            for statement in function.body:
                yield from _below(statement)


def _below(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.FunctionDef):
        return
    yield node
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            layout = isinstance(child, ast.keyword) and child.arg in _LAYOUT
            if isinstance(child, ast.AST) and name != "annotation" and not layout:
                yield from _below(child)


def _changes(node: ast.AST) -> Iterator[Change]:
    """What can be made wrong at ``node``."""
    match node:
        case ast.Compare(ops=[op, *others]):
            yield Change(node, "ops", [_SWAPS[type(op)](), *others], node)
        case ast.BoolOp(op=op) | ast.BinOp(op=op) if type(op) in _SWAPS:
            yield Change(node, "op", _SWAPS[type(op)](), node)
        case ast.UnaryOp(op=ast.USub()):
            yield Change(node, "op", ast.UAdd(), node)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield Change(node, "operand", ast.UnaryOp(ast.Not(), operand), node)
        case ast.Constant(value=bool(value)):
            yield Change(node, "value", not value, node)
        case ast.Constant(value=int(value)):
            yield Change(node, "value", value + 1, node)
        case ast.Constant(value=float(value)):
            yield Change(node, "value", 2 * value or 1.0, node)
        case ast.Call(func=ast.Name(id=name) as called) if name in _NAMES:
            yield Change(called, "id", _NAMES[name], node)
        case ast.Call(func=ast.Attribute(attr=name) as called) if name in _NAMES:
            yield Change(called, "attr", _NAMES[name], node)
        case ast.Call(func=ast.Name(id="sorted") | ast.Attribute(attr="sort"), keywords=keywords):
            yield Change(node, "keywords", [*keywords, ast.keyword("reverse", ast.Constant(True))], node)
        case ast.comprehension(ifs=[condition, *others]):
            yield Change(node, "ifs", [ast.Constant(True), *others], condition, "True")
        case ast.If(test=ast.Name() | ast.Attribute() | ast.Call() as test):
            yield Change(node, "test", ast.UnaryOp(ast.Not(), test), test, f"not {ast.unparse(test)}")
    for field in ("body", "orelse"):
        statements = getattr(node, field, None)
        for number, statement in enumerate(statements if isinstance(statements, list) else []):
            match statement:
                case ast.AugAssign() | ast.Expr(value=ast.Call()):
                    without = [*statements[:number], ast.Pass(), *statements[number + 1 :]]
                    yield Change(node, field, without, statement, "pass")


def _chosen(area: str, count: int, seed: int) -> list[Mutant]:
    """``count`` mutants of the area's modules, or all where there are fewer, in the order of their lines."""
    found = [
        mutant
        for module in AREAS[area][0]
        for mutant in mutants(f"nemo_cot/{module}", (ROOT / "nemo_cot" / module).read_text(encoding="utf-8"))
    ]
    chosen = random.Random(f"{seed} {area}").sample(found, min(count, len(found)))
    return sorted(chosen, key=lambda mutant: (mutant.module, mutant.line))


def _can_be_judged(area: str, tree: Path, timeout: float) -> bool:
    """Whether modules and tests are there, and the tests pass while nothing is wrong. Says why not."""
    modules, tests = AREAS[area]
    missing = [f"nemo_cot/{m}" for m in modules if not (tree / "nemo_cot" / m).exists()]
    missing += [f"tests/{t}" for t in tests if not (tree / "tests" / t).exists()]
    if missing:
        print(f"skipped: {area}: there is no {', no '.join(missing)}", flush=True)
    elif _tests_fail(tests, tree, timeout):
        print(f"skipped: {area}: its tests fail as they are: tests/{', tests/'.join(tests)}", flush=True)
    else:
        return True
    return False


def _killed(mutant: Mutant, area: str, tree: Path, timeout: float) -> bool:
    path = tree / mutant.module
    path.write_text(mutant.source, encoding="utf-8")
    try:
        return _tests_fail(AREAS[area][1], tree, timeout)
    finally:
        shutil.copyfile(ROOT / mutant.module, path)


def _tests_fail(tests: Sequence[str], tree: Path, timeout: float) -> bool:
    """Run ``tests`` in ``tree``, in a process of their own; no end within ``timeout`` seconds is a failure."""
    shutil.rmtree(tree / ".hypothesis", ignore_errors=True)  # examples that failed for another mutant
    running = multiprocessing.get_context("fork").Process(target=_run_tests, args=(tests, tree))
    running.start()
    running.join(timeout)
    if running.is_alive():
        running.kill()
        running.join()
    return running.exitcode != 0


def _run_tests(tests: Sequence[str], tree: Path) -> None:
    """In a fork: pytest's exit code is the process's."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    os.chdir(tree)
    sys.path.insert(0, str(tree))
    sys.dont_write_bytecode = True
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "ignore", "--hypothesis-seed=0"]
    sys.exit(int(pytest.main([*options, *(f"tests/{test}" for test in tests)])))


def _listed(survivors: Sequence[Mutant]) -> str:
    lines = [f"{m.module}:{m.line} {_place(m)}`{_short(m.before)}` -> `{_short(m.after)}`" for m in survivors]
    return "; ".join(lines).replace("|", "\\|")


def _place(mutant: Mutant) -> str:
    """The line, where the change alone would say nothing: a number or a name."""
    line = (ROOT / mutant.module).read_text(encoding="utf-8").splitlines()[mutant.line - 1]
    return f"in `{_short(line)}`: " if len(mutant.before) < 8 else ""


def _short(code: str) -> str:
    first = " ".join(code.split())
    return first if len(first) <= 90 else first[:87] + "..."


if __name__ == "__main__":
    main()

"""docs/nemo.md maps every trap to a check: each rule, function and test that it names exists and is called."""

import ast
import re

import pytest

from nemo_cot.experiment.compose import load_config
from nemo_cot.preflight import preflight
from nemo_cot.preflight.estimate import estimate
from tests.support import ROOT

TEXT = (ROOT / "docs" / "nemo.md").read_text()
NUMBERED = {
    int(row[1]): row
    for line in TEXT.splitlines()
    if re.match(r"\| \d+ \|", line)
    for row in [re.split(r"(?<!\\)\|", line)]
}
TESTS = sorted(set(re.findall(r"((?:[a-z]+/)+test_\w+)::(test_\w+)", TEXT)))
STOPPED_BY = [
    re.split(r"(?<!\\)\|", line)[-3 if re.match(r"\| \d+ \|", line) else -2]
    for line in TEXT[TEXT.index("## Traps") : TEXT.index("## What was compared")].splitlines()
    if line.startswith("| ") and "stopped by" not in line
]


def asked(*overrides):
    """The ids of the rules that preflight asks."""
    cfg = load_config([*overrides, "cluster=slurm_minimal"])
    return {finding.rule for finding in preflight(cfg, estimate(cfg, None, 30))}


RULE_NAMES = asked("train=nemo_aligner") | asked("train=nemo_rl")


def functions(path):
    return {
        node.name: node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)
    }


def test_every_trap_has_a_row_with_a_check_and_a_test():
    assert sorted(NUMBERED) == list(range(1, 12))
    for number, (_, _, trap, stopped, shown, _) in NUMBERED.items():
        assert trap.strip() and stopped.strip() and "open" not in stopped, number
        assert re.search(r"\w+/test_\w+::test_\w+", shown), number


@pytest.mark.parametrize(("file", "function"), TESTS)
def test_the_named_test_exists_and_asserts(file, function):
    found = functions(ROOT / "tests" / f"{file}.py")
    assert function in found
    body = ast.unparse(found[function])
    assert "assert" in body or "pytest.raises" in body


def test_the_named_rules_exist():
    named = set(
        re.findall(
            r"\b(nemo_[a-z_]+|eos_not_in_prompt|trace_fits_pack)\b(?!\.)",
            " ".join(clause for clause in re.findall(r"rules? ([a-z_, ]+)", TEXT)),
        )
    )
    assert {"nemo_schedule", "nemo_heads", "nemo_conversion", "eos_not_in_prompt"} <= named
    assert named <= RULE_NAMES, named - RULE_NAMES


def package_trees():
    folders = ("nemo_cot", "recipes", "launchers")
    return {path: ast.parse(path.read_text()) for folder in folders for path in (ROOT / folder).rglob("*.py")}


def defined_and_called(trees):
    """Names of the functions that are defined, and of those that code other than their own mentions or runs."""
    defined, called = set(), set()
    for tree in trees.values():
        defined |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
        called |= {func.id if isinstance(func, ast.Name) else getattr(func, "attr", "") for func in calls}
    return defined, called


def checks_named(cells):
    """Backticked names in the column "stopped by" that can be functions or modules of ours, last part only."""
    names = {name.rsplit(".", 1)[-1] for cell in cells for name in re.findall(r"`([a-z_][a-z_.]*)`", cell)}
    return names


def not_run(names, trees):
    """Functions among ``names`` that nothing calls, and modules that nothing imports or starts."""
    defined, called = defined_and_called(trees)
    modules = {path.stem for path in trees}
    text = "\n".join(ast.unparse(tree) for tree in trees.values())
    idle = {name for name in names & defined if name not in called}
    for name in (names & modules) - defined:
        used = rf"import .*\b{name}\b|\.{name} import|nemo_cot\.training\.\w+\.{name}['\"]"
        idle |= set() if re.search(used, text) else {name}
    return idle


def test_the_named_functions_are_called_outside_of_tests():
    trees, names = package_trees(), checks_named(STOPPED_BY)
    assert {"check_finished", "check_nemo_folder", "finish_hf_directory", "parity", "check"} <= names
    defined = defined_and_called(trees)[0] | {path.stem for path in trees}
    assert len(names & defined) >= 10
    assert not_run(names, trees) == set()


def test_a_function_that_nothing_calls_is_told():
    tree = ast.parse("def check_finished(): pass\ndef other(): check()\ndef check(): pass")
    trees = {ROOT / "alone.py": tree}
    assert not_run({"check_finished", "check", "alone"}, trees) == {"check_finished", "alone"}

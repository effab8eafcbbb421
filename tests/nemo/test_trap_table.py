"""docs/nemo.md maps every trap to a check: each rule and each test that it names exists."""

import ast
import re

import pytest

from nemo_cot.preflight.rules import RULES
from tests.support import ROOT

TEXT = (ROOT / "docs" / "nemo.md").read_text()
NUMBERED = {
    int(row[1]): row
    for line in TEXT.splitlines()
    if re.match(r"\| \d+ \|", line)
    for row in [re.split(r"(?<!\\)\|", line)]
}
TESTS = sorted(set(re.findall(r"([a-z]+/test_\w+)::(test_\w+)", TEXT)))
RULE_NAMES = {rule.__name__.strip("_") for rule in RULES}


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

"""The threat model: every claim names tests, and the tests that it names exist."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/explanation/threat-model.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def functions_of(path):
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_test_that_the_threat_model_names_exists():
    named = NAMED.findall(PAGE.read_text())
    assert len(named) > 40
    missing = [f"{path}::{name}" for path, name in named if name not in functions_of(path)]
    assert not missing


def test_every_claim_of_a_table_of_claims_names_a_test():
    text = PAGE.read_text()
    tables = text.split("| claim | shown by |\n|---|---|\n")[1:]
    rows = [line for table in tables for line in table.split("\n\n")[0].splitlines()]
    assert len(rows) > 25
    bare = [row for row in rows if not NAMED.search(row)]
    assert not bare

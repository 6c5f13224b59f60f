"""The threat model and the attack suite say the same: no attack without a test, no test without a row."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "threat-model.md"
SUITE = ROOT / "tests" / "attacks"

_TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def rows() -> list[tuple[str, ...]]:
    """The rows of the tables of attacks: attack, what stops it, tests."""
    found: list[tuple[str, ...]] = []
    inside = False
    for line in PAGE.read_text().splitlines():
        if not line.startswith("|"):
            inside = False
        elif line.startswith("| attack |"):
            inside = True
        elif inside and not line.startswith("| ---"):
            found.append(tuple(cell.strip() for cell in line.strip("|").split("|")))
    return found


@cache
def named_in(path: Path) -> frozenset[str]:
    """The test functions of a file."""
    tree = ast.parse(path.read_text())
    return frozenset(
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    )


def test_every_attack_has_a_test_and_every_test_is_there() -> None:
    assert rows()
    for row in rows():
        assert len(row) == 3, row
        assert all(row), f"a cell is empty: {row}"
        named = _TEST.findall(row[2])
        assert named, f"no test plays this attack: {row[0]}"
        for file, test in named:
            assert test in named_in(ROOT / file), f"{file} has no {test}"


@pytest.mark.parametrize("file", sorted(SUITE.glob("test_*.py")), ids=lambda file: file.name)
def test_every_test_of_the_suite_has_a_row(file: Path) -> None:
    if file == Path(__file__):
        return
    here = str(file.relative_to(ROOT))
    named = {test for row in rows() for where, test in _TEST.findall(row[2]) if where == here}
    assert named_in(file) == named


def test_no_attack_is_listed_twice() -> None:
    attacks = [row[0] for row in rows()]
    assert len(attacks) == len(set(attacks))

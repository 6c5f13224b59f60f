"""What `make test` does fewer times, `.ci/run` does in full: no test is shortened that is not run whole there."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests import thorough
from tests.docs.pages import ROOT


def unmarked(source: str) -> Iterator[str]:
    """Functions of a file that repeat something so many `times` and are not marked `@thorough`."""
    for part in ast.walk(ast.parse(source)):
        if isinstance(part, ast.FunctionDef):
            named = {
                found.func.id for found in ast.walk(part) if isinstance(found, ast.Call) and hasattr(found.func, "id")
            }
            marked = {mark.id for mark in part.decorator_list if isinstance(mark, ast.Name)}
            if "times" in named and "thorough" not in marked:
                yield part.name


def test_whatever_is_shortened_is_marked() -> None:
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if "import thorough, times" in path.read_text()]
    assert files
    assert [(path.name, name) for path in files for name in unmarked(path.read_text())] == []


def test_an_unmarked_one_would_be_noticed() -> None:
    text = "def test_a():\n    for _ in range(times(6, at_least=2)):\n        pass\n"
    assert list(unmarked(text)) == ["test_a"]
    assert list(unmarked(f"@thorough\n{text}")) == []


def test_all_that_is_marked_is_run_in_full() -> None:
    run = (ROOT / ".ci" / "run").read_text().splitlines()
    assert [line for line in run if line.startswith(f"{thorough.NAME}=1 ") and line.endswith("-m thorough")]


@pytest.mark.parametrize(("said", "expected"), [("1", 6), ("", 2)])
def test_the_environment_says_how_often(monkeypatch: pytest.MonkeyPatch, said: str, expected: int) -> None:
    monkeypatch.setenv(thorough.NAME, said)
    assert thorough.times(6, at_least=2) == expected

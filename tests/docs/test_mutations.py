"""The table of defences that are taken out stays true to the source; `make mutations` runs it."""

from __future__ import annotations

from collections import Counter

import pytest
from msgspec.structs import replace

from tools import mutate
from tools.mutate import Mutation

HARMLESS = Mutation(
    out="nothing",
    file="contracts/merkle.py",
    line="return bytes.fromhex(text)",
    instead="return bytes.fromhex(text)  # as before",
    test="tests/contracts/test_merkle.py::test_published_roots",
)


def test_every_line_is_there_once_every_test_exists_and_the_page_shows_the_table() -> None:
    assert list(mutate.stale()) == []


def test_the_table_covers_every_room() -> None:
    assert len(mutate.table()) >= 40
    rooms = Counter(mutation.file.split("/")[0] for mutation in mutate.table())
    assert min(rooms[room] for room in ("contracts", "connectors", "exchange")) >= 10
    assert sum(mutation.file.endswith(".rego") for mutation in mutate.table()) >= 5


def test_a_line_is_replaced_where_it_stands() -> None:
    mutation = Mutation(out="", file="x.py", line="if a:", instead="if False:", test="")
    assert mutation.applied("def f():\n    if a:\n        pass\n") == "def f():\n    if False:\n        pass\n"
    for text in ("if b:\n", "if a:\nif a:\n"):
        with pytest.raises(ValueError, match="not once"):
            mutation.applied(text)


@pytest.mark.parametrize(
    ("instead", "verdict"),
    [(HARMLESS.instead, mutate.SURVIVED), ("return bytes.fromhex(text", mutate.NO_VERDICT)],
    ids=["no change", "no Python"],
)
def test_only_a_test_that_fails_has_noticed(instead: str, verdict: str) -> None:
    """A mutation that changes nothing survives, and one that keeps the tests from starting proves nothing."""
    assert mutate._verdict(replace(HARMLESS, instead=instead)) == verdict


def test_a_defence_taken_out_is_noticed() -> None:
    assert mutate._verdict(mutate.table()[0]) == mutate.NOTICED

"""Resource names and their short forms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import Reason
from exchange import names
from tests.halls import refused

IDS = st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True)


@given(party=IDS, dataset=IDS)
def test_a_dataset_is_named_short_or_in_full(party: str, dataset: str) -> None:
    full = f"parties/{party}/datasets/{dataset}"
    assert names.dataset_name(f"{party}/{dataset}") == full == names.dataset_name(full)
    assert names.short_dataset(full) == f"{party}/{dataset}"
    assert (names.owner(full), names.last(full)) == (party, dataset)


@pytest.mark.parametrize(
    "text",
    ["", "visits", "a/b/c", "../visits", "a/..", "parties/a/b/c", "datasets/a/parties/b", "A/b", "a/b ", "a/b\n", "/a"],
)
def test_anything_else_is_no_dataset(text: str) -> None:
    with refused(Reason.INVALID_ARGUMENT):
        names.dataset_name(text)


@given(name=IDS)
def test_names_are_completed_once(name: str) -> None:
    assert names.full(name, "agreements") == f"agreements/{name}" == names.full(f"agreements/{name}", "agreements")


def test_nobody_owns_what_is_no_partys() -> None:
    assert [names.owner(name) for name in ("", "agreements/a-1", "parties", "x/parties/y")] == [""] * 4
    assert names.short_dataset("visits") == "visits"

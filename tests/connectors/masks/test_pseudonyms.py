"""Pseudonyms remembered from batch to batch: the same ones, hashed as seldom as pays."""

from __future__ import annotations

import hashlib
import hmac
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.masks import values as mask_values


@pytest.mark.parametrize("most", [0, 3, 200_000])
@settings(max_examples=40, deadline=None)
@given(
    batches=st.lists(st.lists(st.none() | st.sampled_from(["", "a", "b", "中", "é", "longer than that"]), max_size=40))
)
def test_a_value_has_one_pseudonym_however_often_it_came(most: int, batches: list[list[str | None]]) -> None:
    key = "0f" * 32
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(mask_values, "_MOST", most)
        made = mask_values._Pseudonyms(key)
        for batch in batches:
            found = made(pl.Series("v", batch, dtype=pl.String)).to_list()
            assert found == [
                None if value is None else hmac.new(key.encode(), value.encode(), hashlib.sha256).hexdigest()[:32]
                for value in batch
            ]


def test_many_threads_make_the_same_pseudonyms() -> None:
    values = pl.Series("v", [f"person {number % 700}" for number in range(20_000)])
    made = mask_values._Pseudonyms("0f" * 32)
    alone = mask_values._digests(values, "0f" * 32)
    with ThreadPoolExecutor(8) as pool:
        pieces = [values.slice(start, 500) for start in range(0, len(values), 500)]
        assert pl.concat(pool.map(made, pieces)).equals(alone)


def test_values_that_come_again_are_hashed_seldom_and_others_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand values in batches of four hundred: no batch alone shows that they come again."""
    hashed, plainly = list[int](), mask_values._digests
    monkeypatch.setattr(
        mask_values, "_digests", lambda values, key: (hashed.append(len(values)), plainly(values, key))[1]
    )
    often, once = mask_values._Pseudonyms("0f" * 32), mask_values._Pseudonyms("0f" * 32)
    for batch in range(40):
        often(pl.Series("v", [f"person {number * 617 % 1000}" for number in range(batch * 400, batch * 400 + 400)]))
    assert sum(hashed) < 2_000
    for batch in range(10):
        once(pl.Series("v", [f"person {number}" for number in range(batch * 400, batch * 400 + 400)]))
    assert once._known is None

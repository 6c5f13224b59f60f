"""Page tokens: sealed to their listing and their caller."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.errors import Reason
from exchange import paging
from exchange.identity import Principal
from exchange.paging import Page
from exchange.store import Store
from tests.halls import City, migrated, refused
from tests.papers import COMPANY, PROVIDER, STEWARD

WHO = City.who(PROVIDER, STEWARD, "steward")


@pytest.fixture
def city(tmp_path: Path) -> Iterator[City]:
    store = migrated(tmp_path / "x.db")
    yield City(store)
    store.close()


def numbers(
    city: City,
    *,
    count: int = 10,
    who: Principal = WHO,
    size: int = 3,
    token: str = "",
    verb: str = "v",
    **arguments: str,
) -> Page[int]:
    def fetch(after: str | None, limit: int) -> Sequence[int]:
        start = 0 if after is None else int(after) + 1
        return range(start, count)[:limit]

    with city.store.read() as tx:
        return paging.paged(
            city.hall, tx, who, fetch, str, verb=verb, arguments=arguments, page_size=size, page_token=token
        )


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(0, 30), size=st.integers(1, 12))
def test_pages_add_up(city: City, count: int, size: int) -> None:
    seen: list[int] = []
    token = ""
    while True:
        page = numbers(city, count=count, size=size, token=token)
        assert len(page.items) == size or not page.next_token
        seen += page.items
        token = page.next_token
        if not token:
            break
    assert seen == list(range(count))


def test_sizes(city: City) -> None:
    assert len(numbers(city, count=2000, size=0).items) == 100
    assert len(numbers(city, count=2000, size=1000).items) == 1000
    for size in (-1, 1001, -(2**31), 2**31 - 1):
        with refused(Reason.INVALID_ARGUMENT) as caught:
            numbers(city, size=size)
        assert "1000" in caught.value.message


def test_the_size_may_change_from_page_to_page(city: City) -> None:
    first = numbers(city, size=3)
    assert numbers(city, size=5, token=first.next_token).items == (3, 4, 5, 6, 7)


def test_a_token_is_for_one_listing_and_one_caller(city: City) -> None:
    token = numbers(city, state="A").next_token
    assert numbers(city, token=token, state="A").items == (3, 4, 5)
    with refused(Reason.PAGE_TOKEN_INVALID):
        numbers(city, token=token, state="B")
    with refused(Reason.PAGE_TOKEN_INVALID):
        numbers(city, token=token)
    with refused(Reason.PAGE_TOKEN_INVALID):
        numbers(city, token=token, verb="w", state="A")
    with refused(Reason.PAGE_TOKEN_INVALID):
        numbers(city, token=token, who=City.who(COMPANY, STEWARD, "steward"), state="A")


def test_a_token_cannot_be_edited(city: City) -> None:
    token = numbers(city).next_token
    raw = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    for position in range(len(raw)):
        edited = bytes(raw[:position]) + bytes([raw[position] ^ 1]) + bytes(raw[position + 1 :])
        with refused(Reason.PAGE_TOKEN_INVALID):
            numbers(city, token=base64.urlsafe_b64encode(edited).decode())


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "=",
        "é",
        "\x00",
        "AAAA",
        "A" * 3000,
        "W10",
        " ",
        "../..",
        base64.urlsafe_b64encode(b"\0" * 16 + b'"1"').decode(),
    ],
)
def test_what_is_no_token(city: City, token: str) -> None:
    with refused(Reason.PAGE_TOKEN_INVALID):
        numbers(city, token=token)


def test_a_token_outlives_a_restart_but_is_of_one_exchange(city: City, tmp_path: Path) -> None:
    token = numbers(city).next_token
    again = Store(str(city.store.engine.url))
    reopened = City.__new__(City)
    reopened.__dict__.update(city.__dict__, store=again)
    assert numbers(reopened, token=token).items == (3, 4, 5)
    again.close()
    elsewhere = Store(f"sqlite:///{tmp_path / 'y.db'}")
    elsewhere.migrate()
    with elsewhere.transaction() as tx:
        tx.settle("page-secret", b"another secret")
    with refused(Reason.PAGE_TOKEN_INVALID):
        numbers(City(elsewhere), token=token)
    elsewhere.close()

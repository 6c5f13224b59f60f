"""Everything in this folder runs on SQLite and on PostgreSQL: one behaviour, two databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from exchange.store import Store
from tests.halls import DATABASES, City, database


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database."""
    with database(request.param, tmp_path) as found:
        yield found


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """A migrated store."""
    opened = Store(url, patience=2.0)
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture
def city(store: Store) -> City:
    """A hall over the store, with its parties."""
    return City(store)

"""Exchanges for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.rpc.served import Exchanges, Served, founded_city


@pytest.fixture(scope="session")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example city, founded once; copies of it are served."""
    return founded_city(tmp_path_factory.mktemp("founded") / "home")


@pytest.fixture
def serve(founded: Path, tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Start an exchange over a fresh copy of the city, with some of its settings changed."""
    exchanges = Exchanges(tmp_path)
    yield partial(exchanges.start, founded, shutdown_grace=1)
    exchanges.close()


@pytest.fixture
def served(serve: Callable[..., Served]) -> Served:
    """An exchange as it is by default."""
    return serve()

"""Exchanges for the tests of this folder."""

from __future__ import annotations

import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from exchange import config
from exchange.app import exchange_server
from exchange.config import ExchangeSettings
from exchange.founding import found
from exchange.home import EXAMPLE_CITY, Home
from tests.rpc.served import Served


@pytest.fixture(scope="session")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example city, founded once; copies of it are served."""
    home = Home(tmp_path_factory.mktemp("founded") / "home")
    found(home, EXAMPLE_CITY, now=int(time.time()) - 60, entropy=os.urandom)
    return home.root


@pytest.fixture
def serve(founded: Path, tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Start an exchange over a fresh copy of the city, with some of its settings changed."""
    running: list[Served] = []
    numbers = itertools.count()

    def start(*, started: bool = True, **changes: Any) -> Served:
        home = Home(tmp_path / f"home-{next(numbers)}")
        shutil.copytree(founded, home.root)
        settings = replace(
            config.load(home.exchange, ExchangeSettings), **{"listen": "127.0.0.1:0", "shutdown_grace": 1, **changes}
        )
        served = Served(home, settings, exchange_server(settings))
        running.append(served)
        if started:
            served.server.start()
        return served

    yield start
    for served in running:
        served.close()
        served.server.stop()


@pytest.fixture
def served(serve: Callable[..., Served]) -> Served:
    """An exchange as it is by default."""
    return serve()

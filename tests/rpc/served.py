"""A real exchange: gRPC over TLS on loopback, over a founded home of its own. `tests/rpc/conftest.py` starts it."""

from __future__ import annotations

import itertools
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from msgspec.structs import replace

from contracts.errors import SluicegateError
from exchange import config
from exchange.app import exchange_server
from exchange.client import Exchange
from exchange.config import ExchangeSettings, Profile
from exchange.connection import TokenSource
from exchange.founding import found
from exchange.home import EXAMPLE_CITY, Home
from exchange.rpc.server import ExchangeServer
from exchange.rpc.status import from_rpc_error
from tests.engines import shared_engine


@dataclass
class Served:
    """A running exchange and ways to call it: stock stubs with `call`, our client with `client`."""

    home: Home
    settings: ExchangeSettings
    server: ExchangeServer
    _open: list[Any] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        return f"localhost:{self.server.address.rsplit(':', 1)[1]}"

    def profile(self, name: str) -> Profile:
        return replace(self.home.profile(name), endpoint=self.endpoint)

    def client(self, name: str) -> Exchange:
        client = Exchange(self.profile(name))
        self._open.append(client)
        return client

    def channel(self, options: Sequence[tuple[str, Any]] = ()) -> grpc.Channel:
        credentials = grpc.ssl_channel_credentials((self.home.root / "ca.pem").read_bytes())
        channel = grpc.secure_channel(self.endpoint, credentials, list(options))
        self._open.append(channel)
        return channel

    def token(self, name: str) -> str:
        profile = self.home.profile(name)
        return TokenSource(profile.token, profile.subject)()

    def bearer(self, name: str) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self.token(name)}")]

    def close(self) -> None:
        for one in self._open:
            one.close()


@dataclass
class Exchanges:
    """Exchanges over copies of homes, each in a folder of its own below `folder`; `close` ends them."""

    folder: Path
    running: list[Served] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def start(self, source: Path, *, started: bool = True, **changes: Any) -> Served:
        """Serve a copy of that home, with some of its settings changed."""
        home = Home(self.folder / f"home-{next(self._numbers)}")
        shutil.copytree(source, home.root)
        settings = replace(config.load(home.exchange, ExchangeSettings), **{"listen": "127.0.0.1:0", **changes})
        served = Served(home, settings, exchange_server(settings, policy=shared_engine()))
        self.running.append(served)
        if started:
            served.server.start()
        return served

    def close(self) -> None:
        """End all of them."""
        for served in self.running:
            served.close()
            served.server.stop()


def founded_city(root: Path) -> Path:
    """The example city, founded there; copies of it are served."""
    found(Home(root), EXAMPLE_CITY, now=int(time.time()) - 60, entropy=os.urandom)
    return root


def refused_call(call: Callable[[], object]) -> SluicegateError:
    """What our client makes of the status that a stock stub got."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return from_rpc_error(caught.value)


def fresh_id() -> str:
    return str(uuid.uuid4())

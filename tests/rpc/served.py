"""A real exchange: gRPC over TLS on loopback, over a founded home of its own. `tests/rpc/conftest.py` starts it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from msgspec.structs import replace

from contracts.errors import SluicegateError
from exchange.client import Exchange
from exchange.config import ExchangeSettings, Profile
from exchange.connection import TokenSource
from exchange.home import Home
from exchange.rpc.server import ExchangeServer
from exchange.rpc.status import from_rpc_error


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


def refused_call(call: Callable[[], object]) -> SluicegateError:
    """What our client makes of the status that a stock stub got."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return from_rpc_error(caught.value)


def fresh_id() -> str:
    return str(uuid.uuid4())

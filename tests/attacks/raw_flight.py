"""Arrow Flight by hand: the very bytes of each message, and of each error, as they come off the wire."""

from __future__ import annotations

from types import TracebackType

import grpc
import pyarrow.flight as fl

_SERVICE = "/arrow.flight.protocol.FlightService/"


class RawFlight:
    """A plain gRPC connection to a gateway, without a Flight library that would tidy up. A context manager."""

    def __init__(self, address: str, ca: str | bytes) -> None:
        trusted = grpc.ssl_channel_credentials(ca.encode() if isinstance(ca, str) else ca)
        self._channel = grpc.secure_channel(
            address.removeprefix("grpc+tls://"),
            trusted,
            options=[("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)],
        )

    def __enter__(self) -> RawFlight:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    def ask(self, method: str, message: bytes, timeout: float = 30) -> bytes:
        """The bytes of one answer; a method of another service begins with a slash. Raises `grpc.RpcError`."""
        name = method if method.startswith("/") else _SERVICE + method
        found: bytes = self._channel.unary_unary(name)(message, timeout=timeout)
        return found

    def begin(self, method: str, message: bytes, *headers: tuple[str, str], timeout: float = 60) -> grpc.Call:
        """A stream that has begun: an iterator over its messages, and a call to cancel."""
        return self._channel.unary_stream(_SERVICE + method)(message, timeout=timeout, metadata=headers)

    def stream(self, method: str, message: bytes, *headers: tuple[str, str], timeout: float = 60) -> bytes:
        """The bytes of all messages of a stream. Raises `grpc.RpcError`."""
        return b"".join(self.begin(method, message, *headers, timeout=timeout))

    def info(self, ticket: bytes) -> tuple[bytes, list[fl.FlightEndpoint]]:
        """What a ticket opens: the answer's bytes, and the endpoints in it."""
        raw = self.ask("GetFlightInfo", fl.FlightDescriptor.for_command(ticket).serialize())
        return raw, list(fl.FlightInfo.deserialize(raw).endpoints)

    def everything(self, ticket: bytes, *headers: tuple[str, str]) -> bytes:
        """Every byte that a whole transfer sends."""
        raw, endpoints = self.info(ticket)
        return raw + b"".join(self.stream("DoGet", endpoint.ticket.serialize(), *headers) for endpoint in endpoints)


def said(error: grpc.RpcError) -> str:
    """Everything that an error brings with it: status, words and the trailers, readable or not."""
    trailers = error.trailing_metadata() or ()
    return repr((error.code(), error.details(), [*trailers]))

"""Calling a gateway's Flight server: over TLS, and with what fails told in our own words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.flight as fl

from connectors.reaching import asking, unreachable
from connectors.tls import ClientPair
from contracts.errors import TRAITS, Reason, SluicegateError

# As seldom as every server allows: the answer to a ticket may take minutes, and a server of Flight hangs up on whoever
# asks more often meanwhile. Over a slow line the answer comes behind what is on its way.
_ALIVE = asking(every=330, within=60)
# So much of a stream may be on its way unread: two batches and more. The library's own 64 KiB, widened as
# it probes, lets the gateway wait for permission to go on after every few records of TLS. And frames of 16 KiB are
# many for batches of megabytes.
_STREAM = [
    ("grpc.http2.lookahead_bytes", 16 << 20),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.max_frame_size", 1 << 20),
]


@contextmanager
def connected(
    address: str, ca: bytes | None, pair: ClientPair | None = None, *, unsafe_plaintext: bool = False
) -> Iterator[fl.FlightClient]:
    """A Flight client for a gateway's address, which is shown `pair` if it asks. Raises CONFIG_UNSAFE without TLS."""
    if not address.startswith("grpc+tls://") and not unsafe_plaintext:
        raise SluicegateError(Reason.CONFIG_UNSAFE, "the gateway's address must begin with grpc+tls://")
    try:
        shown = {} if pair is None else {"cert_chain": pair.certificate, "private_key": pair.unsafe_key}
        client = fl.FlightClient(address, tls_root_certs=ca, generic_options=[*_ALIVE, *_STREAM], **shown)
    except (pa.ArrowException, ValueError, TypeError):
        raise SluicegateError(
            Reason.INVALID_ARGUMENT, "the gateway's address is not one: grpc+tls://host:port"
        ) from None
    try:
        yield client
    finally:
        client.close()


def within(seconds: float, *headers: tuple[str, str]) -> fl.FlightCallOptions:
    """Options of a call that may take so long, and headers that it says something by."""
    return fl.FlightCallOptions(timeout=seconds, headers=[(name.encode(), said.encode()) for name, said in headers])


def call(making: Callable[[], Any], address: str = "") -> Any:
    """Make a Flight call; what fails becomes one of our errors. StopIteration passes."""
    try:
        return making()
    except (fl.FlightError, pa.ArrowException, OSError) as error:
        raise told(error, address) from None


_TRANSPORT: tuple[tuple[type[Exception], Reason, str], ...] = (
    (fl.FlightTimedOutError, Reason.DEADLINE_EXCEEDED, "the gateway did not answer in time"),
    (fl.FlightCancelledError, Reason.CANCELLED, "the call was cancelled"),
)


def told(error: Exception, address: str = "") -> SluicegateError:
    """A Flight error in our own words: the reason that a gateway puts first in its text, with its request
    id, or what the transport's status means. `address` is where the gateway was looked for."""
    word, colon, rest = str(error).partition(": ")
    if colon and word in Reason.__members__:
        reason = Reason(word)
        begin, end = rest.find("["), rest.find("]")
        request = rest[begin + 1 : end] if 0 <= begin < end <= begin + 33 else ""
        metadata = {"requestId": request} if request.isalnum() else {}
        return SluicegateError(reason, f"the gateway refused: {TRAITS[reason].meaning}", metadata=metadata)
    for kind, reason, message in _TRANSPORT:
        if isinstance(error, kind):
            return SluicegateError(reason, message)
    if isinstance(error, fl.FlightUnavailableError):
        where = f"the gateway at {address.partition('://')[2] or address}" if address else "the gateway"
        return unreachable(where, str(error), authority="the certificates that it was registered with")
    return SluicegateError(Reason.UNAVAILABLE, "the connection to the gateway failed")

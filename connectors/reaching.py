"""Whether the other side is still there; and why it could not be reached, as far as the transport's own words tell it.

Both transports are gRPC underneath, and it has one status for all of this: UNAVAILABLE. Its text is never
passed on, only looked at; words that a later version has not are no harm, the sentence is then a general one.
"""

from __future__ import annotations

from contracts.errors import Reason, SluicegateError

_UNTRUSTED = ("certificate_verify_failed", "certificate verify failed", "hostname verification", "peer certificate")
_NO_TLS = ("wrong_version_number", "wrong version number", "handshake failed")
_NO_HOST = ("errors resolving", "name resolution", "dns")
# What gRPC says of an address that it never got a connection to; TLS that failed is told by the words above.
_NOBODY = ("failed to connect", "connection refused")


def asking(every: float, within: float) -> list[tuple[str, int]]:
    """Options of a channel or server: while calls run it asks the other side every so many seconds whether it is
    there, and gives the connection up that brings no answer `within` so many.

    Otherwise one that died without a word (a pulled cable, a firewall that forgot it) is waited on until the calls'
    own time is over, and what has none for ever. Who asks more often than the other side allows is hung up on.
    """
    return [
        ("grpc.keepalive_time_ms", round(every * 1000)),
        ("grpc.http2.ping_timeout_ms", round(within * 1000)),
        ("grpc.http2.max_pings_without_data", 0),  # otherwise it stops asking while nothing else is sent
    ]


def unreachable(where: str, text: str, *, authority: str) -> SluicegateError:
    """UNAVAILABLE, with the cause apart: no such host, nobody listens there, no TLS, another certificate.
    `where` names the other side with its address, `authority` what says whom its certificate is by, `text`
    is the transport's."""
    words = text.lower()
    if any(word in words for word in _UNTRUSTED):
        return SluicegateError(
            Reason.UNAVAILABLE,
            f"{where} has a TLS certificate that is not trusted: of another authority or for another host name",
            remedy=f"check {authority}, and the host name in the address",
        )
    if any(word in words for word in _NO_TLS):
        return SluicegateError(
            Reason.UNAVAILABLE,
            f"{where} does not speak TLS as it should: something else listens there",
            remedy="check the address",
        )
    if any(word in words for word in _NO_HOST):
        return SluicegateError(Reason.UNAVAILABLE, f"{where}: there is no such host", remedy="check the address")
    if any(word in words for word in _NOBODY):
        return SluicegateError(
            Reason.UNAVAILABLE,
            # Of a host with several addresses the transport tells the last failure alone.
            f"{where} cannot be reached: nobody answers there, or with a TLS certificate that is not trusted",
            remedy=f"check that it is up (sluicegate up runs all of a home), the address, and {authority}; then repeat",
        )
    return SluicegateError(Reason.UNAVAILABLE, f"{where} cannot be reached, or the connection to it broke")

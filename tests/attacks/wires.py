"""What an attacker on the network types by hand: TLS with a port, HTTP/2 frames; and what it costs them."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 8, 9
END_HEADERS, ACK = 4, 1


def frame(kind: int, payload: bytes = b"", *, stream: int = 0, flags: int = 0, length: int | None = None) -> bytes:
    """One HTTP/2 frame; `length` lies about its size."""
    size = len(payload) if length is None else length
    return size.to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def headers(method: str) -> bytes:
    """The header block of a gRPC call, every field spelled out (RFC 7541, 6.2.2)."""
    fields = {":method": "POST", ":scheme": "https", ":path": method, ":authority": "localhost"}
    fields |= {"content-type": "application/grpc", "te": "trailers"}
    block = b""
    for name, value in fields.items():
        block += bytes([0, len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
    return block


def trusting() -> ssl.SSLContext:
    """The TLS of an attacker, who checks nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context


@contextlib.contextmanager
def connected(port: int, context: ssl.SSLContext | None = None) -> Iterator[ssl.SSLSocket]:
    """A TLS connection to a port of this machine."""
    with (
        socket.create_connection(("127.0.0.1", port), 10) as plain,
        (context or trusting()).wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        secured.settimeout(10)
        yield secured


def heard(end: socket.socket, seconds: float = 0.5) -> bytes:
    """What comes back until nothing more does, or the other side hangs up."""
    end.settimeout(seconds)
    found = b""
    with contextlib.suppress(OSError):
        while more := end.recv(65_536):
            found += more
    return found


class Peak:
    """The most memory that a process takes while the block runs, beyond what it had: `megabytes`."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        self.megabytes = 0.0

    def __enter__(self) -> Peak:
        (self._folder / "clear_refs").write_text("5")  # the peak begins anew
        self._before = self._kilobytes("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        self.megabytes = (self._kilobytes("VmHWM") - self._before) / 1024

    def _kilobytes(self, what: str) -> int:
        lines = (self._folder / "status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))

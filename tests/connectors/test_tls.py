"""The embedded default's certificates work with a real TLS handshake and refuse nonsense."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from pathlib import Path

import pytest

from connectors import tls
from contracts.errors import Reason, SluicegateError


def _handshake(tmp_path: Path, pinned: bytes, server_pair: tuple[bytes, bytes], name: str) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(server_pair[0])
    key.write_bytes(server_pair[1])
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, key)
    client = ssl.create_default_context(cadata=pinned.decode())
    left, right = socket.socketpair()

    def serve() -> None:
        try:
            server.wrap_socket(left, server_side=True).close()
        except (ssl.SSLError, OSError):
            left.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        client.wrap_socket(right, server_hostname=name).close()
    finally:
        right.close()
        thread.join(5)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
def test_certificate_is_accepted_for_its_names(tmp_path: Path, name: str) -> None:
    pair = tls.self_signed(now=int(time.time()))
    _handshake(tmp_path, pair[0], pair, name)


def test_certificate_is_refused_for_another_name(tmp_path: Path) -> None:
    pair = tls.self_signed(["gateway.example"], now=int(time.time()))
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(tmp_path, pair[0], pair, "localhost")


def test_another_certificate_of_the_same_name_is_refused(tmp_path: Path) -> None:
    now = int(time.time())
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(tmp_path, tls.self_signed(now=now)[0], tls.self_signed(now=now), "localhost")


def test_an_expired_certificate_is_refused(tmp_path: Path) -> None:
    pair = tls.self_signed(now=int(time.time()) - 3 * 86400, days=2)
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(tmp_path, pair[0], pair, "localhost")


def test_expiry_is_readable() -> None:
    cert, _ = tls.self_signed(now=1_800_000_000, days=10)
    assert tls.expires(cert) == 1_800_000_000 - 300 + 10 * 86400


@pytest.mark.parametrize("hosts", [[], [""], ["localhost", ""], ["a" * 300 + ".example"]])
def test_bad_names_are_refused(hosts: list[str]) -> None:
    with pytest.raises(SluicegateError) as caught:
        tls.self_signed(hosts, now=0)
    assert caught.value.reason is Reason.CONFIG_INVALID


@pytest.mark.parametrize("days", [0, -1, 826])
def test_bad_validity_is_refused(days: int) -> None:
    with pytest.raises(SluicegateError, match="825"):
        tls.self_signed(now=0, days=days)


def test_what_is_no_certificate_is_refused() -> None:
    with pytest.raises(SluicegateError, match="PEM"):
        tls.expires(b"hello")

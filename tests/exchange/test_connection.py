"""Tokens and connections of a client: where a token comes from, when it is fetched anew, and that it never shows."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from concurrent import futures
from pathlib import Path

import grpc
import pytest

from connectors import tls
from contracts.envelope import SigningKey
from contracts.errors import Reason, SluicegateError
from exchange import config, identity, keyfiles
from exchange.config import TokenSettings
from exchange.connection import Connection, TokenSource
from tests.halls import refused

KEY = SigningKey.from_seed(b"i" * 32)
ISSUER = "https://issuer.p.example"


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def refusal(endpoint: str, ca: Path | None) -> SluicegateError:
    """What a call to that endpoint ends with."""
    from exchange.v1 import party_pb2, party_pb2_grpc

    profile = config.Profile(party="p", subject="a@p.example", endpoint=endpoint, ca=ca, timeout=5)
    with Connection.of(profile) as connection:
        connection._token = lambda: "t"
        with pytest.raises(SluicegateError) as caught:
            connection.call(connection.stub(party_pb2_grpc.PartyServiceStub).WhoAmI, party_pb2.WhoAmIRequest())
    assert caught.value.reason is Reason.UNAVAILABLE
    return caught.value


def listening(host: str = "localhost") -> tuple[grpc.Server, int, bytes]:
    """A TLS server of nothing, whose certificate is for that host; its port and certificate."""
    cert, key = tls.self_signed([host], now=int(time.time()))
    server = grpc.server(futures.ThreadPoolExecutor(1))
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, cert)]))
    server.start()
    return server, port, cert


@pytest.mark.parametrize(
    ("what", "says", "remedy"),
    [
        ("nobody", "cannot be reached: nobody answers there", "sluicegate up"),
        ("no host", "there is no such host", "check the address"),
        ("other authority", "has a TLS certificate that is not trusted", "`ca` of the profile"),
        ("other host", "has a TLS certificate that is not trusted", "`ca` of the profile"),
        ("no TLS", "does not speak TLS as it should", "check the address"),
    ],
)
def test_what_keeps_an_exchange_from_being_reached_is_told_apart(
    tmp_path: Path, what: str, says: str, remedy: str
) -> None:
    server, port, cert = listening("other.example" if what == "other host" else "localhost")
    if what == "other authority":
        cert, _ = tls.self_signed(["localhost"], now=int(time.time()))
    (tmp_path / "ca.pem").write_bytes(cert)
    with socket.socket() as plain:
        plain.bind(("127.0.0.1", 0))
        if what == "no TLS":
            plain.listen()
            threading.Thread(target=_answer_in_plain, args=(plain,), daemon=True).start()
        if what in ("nobody", "no TLS"):  # bound, so that nobody else gets the port
            port = plain.getsockname()[1]
        endpoint = f"nowhere.invalid:{port}" if what == "no host" else f"127.0.0.1:{port}"  # of one address alone
        error = refusal(endpoint, tmp_path / "ca.pem")
    server.stop(0).wait()
    assert f"the exchange at {endpoint}, as the profile of a@p.example says," in error.message
    assert says in error.message
    assert remedy in error.remedy
    assert "ipv4:" not in error.message, "the library's own words stay here"


def _answer_in_plain(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):  # closed at the end of the test
        while True:
            answering, _ = listener.accept()
            answering.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            answering.close()


def token(clock: Clock, lifetime: int = 600, subject: str = "a@p.example") -> str:
    return identity.mint(
        KEY,
        issuer=ISSUER,
        subject=subject,
        audience="sluicegate-exchange",
        lifetime=lifetime,
        now=int(clock.now),
        entropy=lambda size: b"e" * size,
    )


def saved(folder: Path, text: str | bytes, name: str = "token") -> Path:
    path = folder / "private" / name
    keyfiles.write_private(path, text if isinstance(text, bytes) else text.encode())
    return path


def test_a_token_from_a_private_file(tmp_path: Path) -> None:
    clock = Clock()
    path = saved(tmp_path, token(clock) + "\n")
    assert TokenSource(TokenSettings(file=path), "a", clock)() == token(clock)
    path.chmod(0o644)
    with refused(Reason.CONFIG_UNSAFE):
        TokenSource(TokenSettings(file=path), "a", clock)()


def test_a_token_from_a_command() -> None:
    clock = Clock()
    command = (sys.executable, "-c", f"print({token(clock)!r})")
    assert TokenSource(TokenSettings(command=command), "a", clock)() == token(clock)


@pytest.mark.parametrize(
    ("code", "says"), [("raise SystemExit(3)", "failed"), (None, "is not there")], ids=["fails", "missing"]
)
def test_a_command_that_gives_none(code: str | None, says: str) -> None:
    command = (sys.executable, "-c", code) if code else ("/nowhere/get-token", "--secret=hunter2")
    with pytest.raises(SluicegateError) as caught:
        TokenSource(TokenSettings(command=command), "a")()
    assert caught.value.reason is Reason.TOKEN_MISSING
    assert says in caught.value.message
    assert "hunter2" not in str(caught.value)


def test_no_way_to_get_one_is_said() -> None:
    with pytest.raises(SluicegateError) as caught:
        TokenSource(TokenSettings(), "a@p.example")()
    assert caught.value.reason is Reason.TOKEN_MISSING
    assert "a@p.example" in caught.value.message


@pytest.mark.parametrize(
    "text",
    ["", "a b", "line\nbreak", "\x00", b"\xff\xfe\xfd", "x" * 9000, "no-dots", "a.b.c", "ü.ü.ü"],
)
def test_what_cannot_be_a_token_is_not_sent_and_not_quoted(tmp_path: Path, text: str | bytes) -> None:
    source = TokenSource(TokenSettings(file=saved(tmp_path, text)), "a")
    with pytest.raises(SluicegateError) as caught:
        source()
    assert caught.value.reason is Reason.TOKEN_INVALID
    shown = text if isinstance(text, str) else text.decode(errors="replace")
    assert len(shown) < 4 or shown not in str(caught.value)


def test_a_token_is_used_until_a_minute_before_its_end(tmp_path: Path) -> None:
    keyfiles.write_key(tmp_path / "keys" / "issuer.jwk", KEY)
    clock = Clock()
    settings = TokenSettings(issuer=ISSUER, issuer_key=tmp_path / "keys" / "issuer.jwk")
    source = TokenSource(settings, "a@p.example", clock)
    first = source()
    clock.now += 14 * 60 - 1
    assert source() == first
    clock.now += 2
    second = source()
    assert second != first
    assert identity.expiry(second) == clock.now // 1 + 15 * 60


def test_a_file_is_read_again_when_its_token_ends(tmp_path: Path) -> None:
    clock = Clock()
    path = saved(tmp_path, token(clock, 120))
    source = TokenSource(TokenSettings(file=path), "a", clock)
    first = source()
    clock.now += 90
    path.write_text(token(clock, 120))
    assert source() != first
    path.write_text("broken")
    clock.now += 90
    with refused(Reason.TOKEN_INVALID):
        source()
    path.write_text(token(clock, 120))
    assert source() == token(clock, 120)


def test_many_threads_share_one_token(tmp_path: Path) -> None:
    counter = tmp_path / "count"
    code = f"open({str(counter)!r}, 'a').write('x'); print({token(Clock())!r})"
    source = TokenSource(TokenSettings(command=(sys.executable, "-c", code)), "a", Clock())
    threads = [threading.Thread(target=source) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.read_text() == "x"


def test_nothing_shows_a_token(tmp_path: Path) -> None:
    clock = Clock()
    source = TokenSource(TokenSettings(file=saved(tmp_path, token(clock))), "a", clock)
    assert source() not in f"{source!r} {source}"


def test_certificates_that_cannot_be_read(tmp_path: Path) -> None:
    with refused(Reason.CONFIG_INVALID):
        Connection("localhost:1", ca=tmp_path / "missing.pem", token=lambda: "", timeout=1)


def test_plaintext_stays_on_this_machine() -> None:
    with refused(Reason.CONFIG_UNSAFE):
        Connection("exchange.example:443", ca=None, token=lambda: "", timeout=1, unsafe_plaintext=True)
    Connection("localhost:1", ca=None, token=lambda: "", timeout=1, unsafe_plaintext=True).close()

"""Key sets of issuers: what they may hold, where they may stand, when they are read again."""

from __future__ import annotations

import contextlib
import http.server
import json
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from connectors import tls
from contracts.errors import Reason, SluicegateError
from exchange import identity, jwks
from tests.halls import Clock, refused
from tests.papers import NOW, key

GOOD = identity.jwk_set(key("a").public)
OTHER = identity.jwk_set(key("b").public)
A, B = key("a").kid, key("b").kid


def rsa_jwk(bits: int, **extra: Any) -> dict[str, Any]:
    public = rsa.generate_private_key(65537, bits).public_key()
    return {**jwt.algorithms.RSAAlgorithm.to_jwk(public, as_dict=True), "kid": "r", **extra}


def ec_jwk(curve: ec.EllipticCurve) -> dict[str, Any]:
    return {**jwt.algorithms.ECAlgorithm.to_jwk(ec.generate_private_key(curve).public_key(), as_dict=True), "kid": "e"}


ed = {"kty": "OKP", "crv": "Ed25519", "x": key("a").public.x, "kid": A}


# --- what a set holds


def test_a_good_set() -> None:
    assert set(jwks.parse(GOOD)) == {(A, "EdDSA")}
    assert set(jwks.parse(json.dumps({"keys": [ed, rsa_jwk(2048), ec_jwk(ec.SECP256R1())], "extra": 1}))) == {
        (A, "EdDSA"),
        ("r", "RS256"),
        ("e", "ES256"),
    }


@pytest.mark.parametrize(
    "passed_over",
    [
        {**ed, "kid": "x", "use": "enc"},
        {**ed, "kid": ""},
        {name: value for name, value in ed.items() if name != "kid"},
        {**ed, "kid": "x", "alg": "HS256"},
        {**ed, "kid": "x", "crv": "X25519"},
        {**ed, "kid": "x", "x": "!!"},
        {"kty": "strange", "kid": "x"},
        ec_jwk(ec.SECP384R1()),
    ],
)
def test_keys_that_cannot_be_used_are_passed_over(passed_over: dict[str, Any]) -> None:
    assert set(jwks.parse(json.dumps({"keys": [ed, passed_over]}))) == {(A, "EdDSA")}
    with refused(Reason.CONFIG_INVALID):
        jwks.parse(json.dumps({"keys": [passed_over]}))


def test_a_short_rsa_key_is_no_key() -> None:
    with refused(Reason.CONFIG_INVALID):
        jwks.parse(json.dumps({"keys": [rsa_jwk(1024)]}))


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "[]",
        "{}",
        '{"keys": []}',
        '{"keys": [7]}',
        '{"keys": 7}',
        "[" * 100_000,
        json.dumps({"keys": [ed] * 65}),
        json.dumps({"keys": [ed, ed]}),
        json.dumps({"keys": [ed, {"kty": "oct", "k": "c2VjcmV0", "kid": "s"}]}),
        json.dumps({"keys": [key("a").unsafe_private_jwk()]}),
        " " * (256 * 1024) + GOOD,
    ],
)
def test_what_is_no_set(raw: str) -> None:
    with refused(Reason.CONFIG_INVALID) as caught:
        jwks.parse(raw)
    assert key("a").unsafe_private_jwk()["d"] not in str(caught.value)


# --- where it stands


def test_an_inline_set(clock: Clock) -> None:
    keys = jwks.KeyStore(clock, _never)
    assert keys.find(GOOD, A, "EdDSA") is not None
    assert keys.find(GOOD, A, "RS256") is None
    assert keys.find(GOOD, B, "EdDSA") is None


def _never(url: str) -> bytes:
    raise AssertionError("nothing may be fetched")


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_file_is_read_again_when_it_changed(clock: Clock, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    place = f"file:{path}"
    keys = jwks.KeyStore(clock, _never)
    with refused(Reason.CONFIG_INVALID):
        keys.find(place, A, "EdDSA")
    path.write_text(GOOD)
    assert keys.find(place, A, "EdDSA") is not None
    fresh = tmp_path / "fresh.json"
    fresh.write_text(OTHER)
    fresh.replace(path)
    assert keys.find(f"file://{path}", A, "EdDSA") is None
    assert keys.find(place, A, "EdDSA") is None
    assert keys.find(place, B, "EdDSA") is not None


class Issuer:
    """Answers with what it is told to; counts."""

    def __init__(self, answer: str | None = GOOD) -> None:
        self.answer, self.asked = answer, 0

    def __call__(self, url: str) -> bytes:
        self.asked += 1
        if self.answer is None:
            raise SluicegateError(Reason.UNAVAILABLE, "down")
        return self.answer.encode()


URL = "https://issuer.example/keys"


def test_a_fetched_set_is_kept_ten_minutes(clock: Clock) -> None:
    issuer = Issuer()
    keys = jwks.KeyStore(clock, issuer)
    for _ in range(5):
        assert keys.find(URL, A, "EdDSA") is not None
    assert issuer.asked == 1
    clock.now += 599
    keys.find(URL, A, "EdDSA")
    assert issuer.asked == 1
    clock.now += 1
    keys.find(URL, A, "EdDSA")
    assert issuer.asked == 2


def test_an_unknown_key_id_asks_again_but_not_for_ever(clock: Clock) -> None:
    """A rolled key works at once; a flood of made-up ids does not flood the issuer."""
    issuer = Issuer()
    keys = jwks.KeyStore(clock, issuer)
    keys.find(URL, A, "EdDSA")
    clock.now += 31
    issuer.answer = OTHER
    assert keys.find(URL, B, "EdDSA") is not None
    assert issuer.asked == 2
    for number in range(100):
        assert keys.find(URL, f"made-up-{number}", "EdDSA") is None
    assert issuer.asked == 2


def test_an_issuer_that_is_down_for_a_while(clock: Clock) -> None:
    issuer = Issuer()
    keys = jwks.KeyStore(clock, issuer)
    keys.find(URL, A, "EdDSA")
    issuer.answer = None
    clock.now += 3599
    assert keys.find(URL, A, "EdDSA") is not None
    clock.now += 31
    with refused(Reason.UNAVAILABLE):
        keys.find(URL, A, "EdDSA")
    issuer.answer = GOOD
    clock.now += 30
    assert keys.find(URL, A, "EdDSA") is not None


def test_an_issuer_that_was_never_up(clock: Clock) -> None:
    issuer = Issuer(None)
    keys = jwks.KeyStore(clock, issuer)
    for _ in range(5):
        with refused(Reason.UNAVAILABLE):
            keys.find(URL, A, "EdDSA")
    assert issuer.asked == 1


def test_a_set_gone_bad_does_not_replace_a_good_one(clock: Clock) -> None:
    issuer = Issuer()
    keys = jwks.KeyStore(clock, issuer)
    keys.find(URL, A, "EdDSA")
    issuer.answer = "<html>"
    clock.now += 700
    assert keys.find(URL, A, "EdDSA") is not None


def test_many_threads_ask_once(clock: Clock) -> None:
    issuer = Issuer()
    keys = jwks.KeyStore(clock, issuer)
    threads = [threading.Thread(target=keys.find, args=(URL, A, "EdDSA")) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert issuer.asked == 1


def test_nobody_waits_for_an_issuer_that_does_not_answer(clock: Clock) -> None:
    """While somebody's fetch hangs, known keys are still known; about others nothing is said yet."""
    asked, answer, answers = threading.Event(), threading.Event(), iter([GOOD, OTHER])

    def slow(_: str) -> bytes:
        found = next(answers)
        if found == OTHER:
            asked.set()
            assert answer.wait(10)
        return found.encode()

    keys = jwks.KeyStore(clock, slow)
    assert keys.find(URL, A, "EdDSA") is not None
    clock.now += 700
    waiting = threading.Thread(target=keys.find, args=(URL, B, "EdDSA"))
    waiting.start()
    assert asked.wait(10)
    started = time.monotonic()
    assert keys.find(URL, A, "EdDSA") is not None
    for _ in range(20):
        with refused(Reason.UNAVAILABLE):
            keys.find(URL, B, "EdDSA")
    assert time.monotonic() - started < 2
    answer.set()
    waiting.join()
    assert keys.find(URL, B, "EdDSA") is not None


# --- fetching


@pytest.mark.parametrize(
    "url",
    [
        "http://issuer.example/",
        "file:///etc/passwd",
        "ftp://issuer.example/",
        "https://",
        "https:///path",
        "https://user@issuer.example/",
        "https://u:p@issuer.example/",
        "https://issuer.example/#x",
        "https://issuer.example:99999/",
        "https://issuer.example:0/",
        "https://iss uer.example/",
        "https://issuer.example/\r\nHost: evil",
        "https://[::1",
        "https://issuer.example/" + "x" * 2000,
        "",
    ],
)
def test_where_nothing_is_fetched_from(url: str) -> None:
    with refused(Reason.CONFIG_INVALID) as caught:
        jwks.fetch_https(url)
    assert "u:p" not in str(caught.value)


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/keys")
            self.end_headers()
            return
        if self.path == "/error":
            self.send_error(500)
            return
        body = b"x" * (jwks.MAX_BYTES * 2) if self.path == "/large" else GOOD.encode()
        if self.path == "/slow":
            self.server.stop.wait(5)  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.path == "/drip":
            with contextlib.suppress(OSError):
                while not self.server.stop.wait(0.05):  # type: ignore[attr-defined]
                    self.wfile.write(b" ")
                    self.wfile.flush()
            return
        with contextlib.suppress(OSError):  # the client had enough
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, ssl.SSLContext]]:
    """A real https server on loopback, and a context that trusts it."""
    monkeypatch.setenv("no_proxy", "localhost")
    certificate, secret = tls.self_signed(now=int(time.time()))
    (tmp_path / "cert.pem").write_bytes(certificate)
    (tmp_path / "key.pem").write_bytes(secret)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")

    class Quiet(http.server.ThreadingHTTPServer):
        stop = threading.Event()

        def handle_error(self, *_: object) -> None:
            """A client that hangs up is part of the test."""

    listening = Quiet(("127.0.0.1", 0), _Handler)
    listening.socket = serving.wrap_socket(listening.socket, server_side=True)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    yield f"https://localhost:{listening.server_port}", ssl.create_default_context(cadata=certificate.decode())
    listening.stop.set()
    listening.shutdown()
    thread.join()
    listening.server_close()


def test_keys_come_over_https(server: tuple[str, ssl.SSLContext]) -> None:
    url, context = server
    assert jwks.fetch_https(f"{url}/keys", context=context) == GOOD.encode()


@pytest.mark.parametrize("path", ["/moved", "/error"])
def test_redirects_and_errors_are_no_keys(server: tuple[str, ssl.SSLContext], path: str) -> None:
    url, context = server
    with refused(Reason.UNAVAILABLE):
        jwks.fetch_https(url + path, context=context)


def test_an_endless_answer_is_cut_off(server: tuple[str, ssl.SSLContext]) -> None:
    url, context = server
    raw = jwks.fetch_https(f"{url}/large", context=context)
    assert len(raw) == jwks.MAX_BYTES + 1
    with refused(Reason.CONFIG_INVALID):
        jwks.parse(raw)


def test_a_slow_answer_is_given_up(server: tuple[str, ssl.SSLContext]) -> None:
    url, context = server
    with refused(Reason.UNAVAILABLE):
        jwks.fetch_https(f"{url}/slow", context=context, timeout=0.3)


def test_an_answer_that_drips_is_given_up(server: tuple[str, ssl.SSLContext]) -> None:
    url, context = server
    started = time.monotonic()
    with refused(Reason.UNAVAILABLE):
        jwks.fetch_https(f"{url}/drip", context=context, timeout=0.3)
    assert time.monotonic() - started < 5


def test_an_unknown_authority_is_not_believed(server: tuple[str, ssl.SSLContext]) -> None:
    url, _ = server
    with refused(Reason.UNAVAILABLE):
        jwks.fetch_https(f"{url}/keys")


def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "localhost")
    with refused(Reason.UNAVAILABLE) as caught:
        jwks.fetch_https("https://localhost:1/secret-path")
    assert "secret-path" not in caught.value.message


def test_a_token_under_a_fetched_key(server: tuple[str, ssl.SSLContext]) -> None:
    from contracts.trust import PartyKind

    url, context = server
    issuer = identity.Issuer("p", PartyKind.COMPANY, "i", f"{url}/keys")
    authenticator = identity.Authenticator(
        lambda name: issuer if name == "i" else None,
        lambda party, subject: ("admin",),
        "here",
        lambda: NOW,
        fetch=lambda place: jwks.fetch_https(place, context=context),
    )
    token = identity.mint(key("a"), issuer="i", subject="s", audience="here", lifetime=60, now=NOW, entropy=bytes)
    assert authenticator.authenticate(token).party == "p"
    stranger = identity.mint(key("b"), issuer="i", subject="s", audience="here", lifetime=60, now=NOW, entropy=bytes)
    with refused(Reason.TOKEN_INVALID):
        authenticator.authenticate(stranger)

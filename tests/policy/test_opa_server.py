"""A real OPA over HTTP and TLS; and servers that are slow, silent, garbled or of another policy."""

from __future__ import annotations

import json
import shutil
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import conftest
import pytest
import suite

from connectors import tls
from contracts.errors import Reason, SluicegateError
from contracts.policy import shipped
from contracts.policy.engine import Action, Decision, PolicyEngine
from contracts.policy.opa_server import DIGEST_PATH, OpaServerEngine

Answer = Callable[[BaseHTTPRequestHandler, bytes], None]
ASKED = suite.base(Action.LEDGER_READ)


def reply(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@contextmanager
def server(decide: Answer, *, digest: str | None = None, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """A server that tells our digest, then answers decisions as the test wants."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            assert self.path == DIGEST_PATH
            reply(self, json.dumps({"result": digest or shipped.load().digest}).encode())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            try:
                decide(self, body)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass

    with Server(("127.0.0.1", 0), Handler) as httpd:
        if context is not None:
            httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
        thread = threading.Thread(target=httpd.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"{'https' if context else 'http'}://127.0.0.1:{httpd.server_address[1]}"
        finally:
            httpd.shutdown()
            thread.join()


@contextmanager
def engine_at(url: str, *, timeout: float = 5.0, **options: Path) -> Iterator[OpaServerEngine]:
    engine = OpaServerEngine(url, timeout=timeout, unsafe_plaintext=url.startswith("http:"), **options)
    try:
        yield engine
    finally:
        engine.close()


def allowed(body: bytes, **changes: object) -> bytes:
    """An allowing answer to the question in that body, changed."""
    asked = json.loads(body)["input"]["decision"]
    result = {"decision": asked, "bundle": shipped.load().digest, "allow": True, "reasons": [], "obligations": []}
    return json.dumps({"result": {**result, **changes}}).encode()


def ask(url: str, *, timeout: float = 5.0) -> Decision:
    with engine_at(url, timeout=timeout) as engine:
        return engine.decide(Action.LEDGER_READ, ASKED)


def test_a_clear_answer_is_believed() -> None:
    """Without this, the refusals below would prove nothing."""
    with server(lambda handler, body: reply(handler, allowed(body))) as url:
        assert ask(url).allow


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda handler, body: reply(handler, allowed(body), 500), id="status 500"),
        pytest.param(lambda handler, body: reply(handler, allowed(body), 302), id="status 302"),
        pytest.param(lambda handler, body: reply(handler, allowed(body), 401), id="status 401"),
        pytest.param(lambda handler, body: reply(handler, b"{}"), id="undefined"),
        pytest.param(lambda handler, body: reply(handler, b""), id="nothing"),
        pytest.param(lambda handler, body: reply(handler, b"true"), id="true"),
        pytest.param(lambda handler, body: reply(handler, b"\xff\xfe"), id="not JSON"),
        pytest.param(lambda handler, body: reply(handler, b"[" * 100_000), id="too deep"),
        pytest.param(lambda handler, body: reply(handler, b'"' + b"x" * 2_000_000 + b'"'), id="too long"),
        pytest.param(lambda handler, body: reply(handler, b'{"result": true}'), id="a bare true"),
        pytest.param(lambda handler, body: reply(handler, allowed(body, decision="d-other")), id="another question's"),
        pytest.param(lambda handler, body: reply(handler, allowed(body, bundle="sha256:00")), id="another bundle's"),
        pytest.param(lambda handler, body: reply(handler, allowed(body, allow="yes")), id="allow as text"),
        pytest.param(lambda handler, body: handler.wfile.write(b"no http at all\r\n\r\n"), id="not HTTP"),
        pytest.param(lambda handler, body: handler.connection.shutdown(socket.SHUT_RDWR), id="a closed connection"),
    ],
)
def test_no_clear_answer_never_allows(answer: Answer) -> None:
    with server(answer) as url, pytest.raises(SluicegateError) as caught:
        ask(url)
    assert caught.value.reason is Reason.POLICY_UNAVAILABLE


def slow(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    time.sleep(1.5)
    reply(handler, allowed(body))


def dripping(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    text = allowed(body)
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text))
    for byte in text:
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        time.sleep(0.1)


def dripping_headers(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(60):
        handler.wfile.write(b"X-%d: y\r\n" % number)
        handler.wfile.flush()
        time.sleep(0.1)


@pytest.mark.parametrize("answer", [slow, dripping, dripping_headers])
def test_the_deadline_covers_the_whole_call(answer: Answer) -> None:
    with server(answer) as url, engine_at(url, timeout=0.5) as engine:
        started = time.monotonic()
        with pytest.raises(SluicegateError, match=r"within 0\.5 seconds") as caught:
            engine.decide(Action.LEDGER_READ, ASKED)
        assert caught.value.reason is Reason.POLICY_UNAVAILABLE
        assert time.monotonic() - started < 5  # the server would go on for longer


def test_a_connection_that_the_server_closed_is_replaced() -> None:
    def once(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        reply(handler, allowed(body))
        handler.close_connection = True  # without saying so in a header

    with server(once) as url, engine_at(url) as engine:
        for _ in range(3):
            assert engine.decide(Action.LEDGER_READ, ASKED).allow
            time.sleep(0.05)


def test_an_answer_before_a_close_is_read_whole() -> None:
    def last(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        text = allowed(body, obligations=["x" * 50_000])
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(text))
        handler.wfile.flush()
        time.sleep(0.05)
        handler.wfile.write(text)
        handler.close_connection = True

    with server(last) as url, engine_at(url) as engine:
        for _ in range(2):
            assert engine.decide(Action.LEDGER_READ, ASKED).obligations == ("x" * 50_000,)


def test_a_server_that_goes_away() -> None:
    with server(lambda handler, body: reply(handler, allowed(body))) as url:
        engine = OpaServerEngine(url, unsafe_plaintext=True, timeout=1)
        assert engine.decide(Action.LEDGER_READ, ASKED).allow
        engine.close()
    with pytest.raises(SluicegateError) as caught:
        engine.decide(Action.LEDGER_READ, ASKED)
    assert caught.value.reason is Reason.POLICY_UNAVAILABLE


def test_nobody_there() -> None:
    with pytest.raises(SluicegateError, match="cannot be reached") as caught:
        OpaServerEngine(f"http://127.0.0.1:{conftest.free_port()}", unsafe_plaintext=True)
    assert caught.value.reason is Reason.POLICY_UNAVAILABLE


def test_somebody_who_says_nothing() -> None:
    with (
        socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as silent,
        pytest.raises(SluicegateError, match=r"within 0\.3 seconds") as caught,
    ):
        OpaServerEngine(f"http://127.0.0.1:{silent.server_address[1]}", unsafe_plaintext=True, timeout=0.3)
    assert caught.value.reason is Reason.POLICY_UNAVAILABLE


def test_another_bundle_at_start() -> None:
    with (
        server(lambda handler, body: reply(handler, allowed(body)), digest="sha256:00") as url,
        pytest.raises(SluicegateError, match="another policy bundle") as caught,
    ):
        OpaServerEngine(url, unsafe_plaintext=True)
    assert caught.value.reason is Reason.CONFIG_INVALID


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:1", Reason.CONFIG_UNSAFE),
        ("ftp://127.0.0.1:1", Reason.CONFIG_INVALID),
        ("https://", Reason.CONFIG_INVALID),
        ("https://name:secret@opa.example", Reason.CONFIG_INVALID),
        ("https://opa.example/v1", Reason.CONFIG_INVALID),
        ("https://opa.example?x=1", Reason.CONFIG_INVALID),
        ("https://opa.example:port", Reason.CONFIG_INVALID),
        ("opa.example", Reason.CONFIG_INVALID),
    ],
)
def test_urls_that_are_refused(url: str, reason: Reason) -> None:
    with pytest.raises(SluicegateError) as caught:
        OpaServerEngine(url)
    assert caught.value.reason is reason
    assert "secret" not in str(caught.value)


def test_plaintext_only_on_loopback() -> None:
    with pytest.raises(SluicegateError) as caught:
        OpaServerEngine("http://opa.example", unsafe_plaintext=True)
    assert caught.value.reason is Reason.CONFIG_UNSAFE


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        (b"abc", 0o604, Reason.CONFIG_UNSAFE),
        (b"", 0o600, Reason.CONFIG_INVALID),
        (b"two words", 0o600, Reason.CONFIG_INVALID),
        (b"a\r\nX-Injected: b", 0o600, Reason.CONFIG_INVALID),
        (b"\xff", 0o600, Reason.CONFIG_INVALID),
        (b"x" * 20_000, 0o600, Reason.CONFIG_INVALID),
        (None, 0o600, Reason.CONFIG_INVALID),
    ],
)
def test_token_files_that_are_refused(tmp_path: Path, content: bytes | None, mode: int, reason: Reason) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)
    with pytest.raises(SluicegateError) as caught:
        OpaServerEngine("https://127.0.0.1:1", token_file=path)
    assert caught.value.reason is reason


def test_token_is_sent_and_read_again(tmp_path: Path) -> None:
    path, seen = tmp_path / "token", []
    path.write_text("old\n")
    path.chmod(0o600)

    def guarded(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        seen.append(handler.headers["Authorization"])
        good = handler.headers["Authorization"] == "Bearer new"
        reply(handler, allowed(body) if good else b"{}", 200 if good else 401)

    with server(guarded) as url, engine_at(url, token_file=path) as engine:
        path.write_text("new\n")
        assert engine.decide(Action.LEDGER_READ, ASKED).allow
        assert seen == ["Bearer old", "Bearer new"]
        assert not any(token in repr(engine) for token in ("old", "new"))


def test_threads_share_an_engine() -> None:
    with (
        server(lambda handler, body: reply(handler, allowed(body))) as url,
        engine_at(url) as engine,
        ThreadPoolExecutor(8) as threads,
    ):
        assert all(threads.map(lambda _: engine.decide(Action.LEDGER_READ, ASKED).allow, range(80)))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = tls.self_signed(now=int(time.time()) - 60)
    (folder / "cert.pem").write_bytes(certificate)
    (folder / "key.pem").write_bytes(key)
    return folder / "cert.pem", folder / "key.pem"


def test_tls_is_verified(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    other, _ = tls.self_signed(now=int(time.time()) - 60)
    (tmp_path / "other.pem").write_bytes(other)
    with server(lambda handler, body: reply(handler, allowed(body)), context=context) as url:
        with engine_at(url, ca=certificate[0]) as engine:
            assert engine.decide(Action.LEDGER_READ, ASKED).allow
        for ca in (None, tmp_path / "other.pem"):
            with pytest.raises(SluicegateError) as caught:
                OpaServerEngine(url, ca=ca)
            assert caught.value.reason is Reason.POLICY_UNAVAILABLE
    (tmp_path / "none.pem").write_text("no certificate")
    with pytest.raises(SluicegateError) as caught:
        OpaServerEngine("https://127.0.0.1:1", ca=tmp_path / "none.pem")
    assert caught.value.reason is Reason.CONFIG_INVALID


@pytest.mark.needs_opa
def test_real_opa_over_tls(certificate: tuple[Path, Path]) -> None:
    files = ["--tls-cert-file", str(certificate[0]), "--tls-private-key-file", str(certificate[1])]
    process, url = conftest.start_opa(conftest.BUNDLE, *files, scheme="https")
    try:
        engine = _when_ready(lambda: OpaServerEngine(url, ca=certificate[0]))
        assert isinstance(engine, PolicyEngine)
        assert engine.decide(Action.TRANSFER, suite.base(Action.TRANSFER)).allow
        engine.close()
    finally:
        conftest.stop(process)


@pytest.mark.needs_opa
def test_real_opa_with_another_bundle(tmp_path: Path) -> None:
    """A bundle with one rule changed and its digest made to fit is refused at start."""
    changed = tmp_path / "bundle"
    shutil.copytree(conftest.BUNDLE, changed)
    limits = changed / "sluicegate" / "limits" / "data.json"
    limits.write_text(limits.read_text().replace('"controlled": 5', '"controlled": 2'))
    files = {path.relative_to(changed).as_posix(): path.read_bytes() for path in changed.rglob("*") if path.is_file()}
    (changed / shipped.DIGEST_DOCUMENT).write_text(json.dumps({"digest": shipped.digest_of(files)}))
    process, url = conftest.start_opa(changed)
    try:
        with pytest.raises(SluicegateError, match="another policy bundle") as caught:
            OpaServerEngine(url, unsafe_plaintext=True)
        assert caught.value.reason is Reason.CONFIG_INVALID
    finally:
        conftest.stop(process)


def _when_ready(make: Callable[[], OpaServerEngine]) -> OpaServerEngine:
    for _ in range(100):
        try:
            return make()
        except SluicegateError:
            time.sleep(0.05)
    return make()

"""The policy by a real OPA server over HTTP: the same bundle, asked from another process.

Written on the standard library's HTTP client rather than on an OPA client package: those at hand take
no CA file, read proxies and credentials from the environment, follow redirects and cannot bound the
time of a whole call. Here nothing but the URL decides where a question goes, and one deadline covers
connecting, sending and every byte of the answer.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from contracts.errors import Reason, SluicegateError
from contracts.policy import shipped
from contracts.policy.engine import (
    ENTRYPOINT,
    Action,
    Decision,
    Entropy,
    Timer,
    answer,
    decision_id,
    question,
    unavailable,
)

DIGEST_PATH = "/v1/data/sluicegate/bundle/digest"
DECISION_PATH = f"/v1/data/{ENTRYPOINT}"
MAX_ANSWER = 1024 * 1024
MAX_TOKEN = 16 * 1024
MAX_IDLE = 16


class OpaServerEngine:
    """PolicyEngine that asks an OPA server; safe to share between threads.

    `url` is `https://host[:port]`; plain `http://` is refused unless `unsafe_plaintext` is set and the
    host is a loopback address. `ca` is a file of the authorities to trust instead of the system's;
    `token_file` holds a bearer token and is read again when the server refuses it. `timeout` is
    seconds for one whole call.

    Making one asks the server for the digest of its bundle. Raises CONFIG_INVALID if that is not
    the digest of ours, CONFIG_UNSAFE for plaintext or a token file that everyone can read,
    POLICY_UNAVAILABLE if the server cannot be asked. Every later answer carries the digest, too.
    """

    def __init__(
        self,
        url: str,
        *,
        ca: Path | None = None,
        token_file: Path | None = None,
        timeout: float = 2.0,
        unsafe_plaintext: bool = False,
        bundle: shipped.Bundle | None = None,
        entropy: Entropy = os.urandom,
        timer: Timer = time.perf_counter,
    ) -> None:
        self._line = _Line(url, ca=ca, token_file=token_file, timeout=timeout, unsafe_plaintext=unsafe_plaintext)
        self._digest = (bundle or shipped.load()).digest
        self._entropy, self._timer = entropy, timer
        served = self._line.ask("GET", DIGEST_PATH, None)
        if served != self._digest:
            self._line.close()
            raise SluicegateError(
                Reason.CONFIG_INVALID,
                "the OPA server runs another policy bundle than this product's; load contracts/policy/bundle into it",
                metadata={"bundle": self._digest, "served": str(served)[:80]},
            )

    @property
    def bundle_digest(self) -> str:
        """`sha256:<hex>` of the bundle."""
        return self._digest

    def decide(self, action: Action, input: Mapping[str, Any]) -> Decision:
        """Ask the server. Raises POLICY_UNAVAILABLE when there is no clear answer in time."""
        started = self._timer()
        asked = decision_id(self._entropy)
        raw = self._line.ask("POST", DECISION_PATH, {"input": question(action, input, asked)})
        return answer(raw, action=action, asked=asked, bundle_digest=self._digest, seconds=self._timer() - started)

    def close(self) -> None:
        """Close the idle connections."""
        self._line.close()


class _Line:
    """Connections to one server, lent to one call at a time and kept for the next."""

    def __init__(
        self, url: str, *, ca: Path | None, token_file: Path | None, timeout: float, unsafe_plaintext: bool
    ) -> None:
        parts, port = _parts(url)
        if parts.scheme == "http" and not (unsafe_plaintext and _loopback(parts.hostname or "")):
            raise SluicegateError(
                Reason.CONFIG_UNSAFE,
                "policy questions go over TLS: use https, or unsafe plaintext on a loopback address",
            )
        if timeout <= 0:
            raise SluicegateError(Reason.CONFIG_INVALID, "the OPA server's timeout must be more than 0 seconds")
        self._host, self._port = parts.hostname or "", port
        self._tls = _context(ca) if parts.scheme == "https" else None
        self._token_file, self._timeout = token_file, timeout
        self._token = _token(token_file)
        self._lock = threading.Lock()
        self._idle: list[_Connection] = []

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> object:
        """The `result` of an OPA answer; None when the document is undefined there."""
        raw = None if body is None else json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        deadline = time.monotonic() + self._timeout
        try:
            status, text = self._call(method, path, raw, deadline)
            if status == http.client.UNAUTHORIZED and self._token_file is not None:
                self._token = _token(self._token_file)
                status, text = self._call(method, path, raw, deadline)
            if status != http.client.OK:
                raise unavailable(f"the OPA server answered with status {status}; nothing is allowed")
            value = json.loads(text)
        except TimeoutError:
            raise unavailable(
                f"the OPA server did not answer within {self._timeout:g} seconds; nothing is allowed"
            ) from None
        except (OSError, http.client.HTTPException):
            raise unavailable("the OPA server cannot be reached; nothing is allowed") from None
        except (ValueError, RecursionError):
            raise unavailable("the OPA server's answer is not JSON; nothing is allowed") from None
        return value.get("result") if isinstance(value, dict) else None

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _call(self, method: str, path: str, body: bytes | None, deadline: float) -> tuple[int, bytes]:
        """One exchange. A kept connection that the server closed meanwhile is replaced, once: the same
        question may be asked twice, since asking changes nothing."""
        with self._lock:
            kept = self._idle.pop() if self._idle else None
        if kept is not None:
            try:
                return self._exchange(kept, method, path, body, deadline)
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                pass
        fresh = _Connection(self._host, self._port, timeout=self._timeout)
        fresh.tls = self._tls
        return self._exchange(fresh, method, path, body, deadline)

    def _exchange(
        self, connection: _Connection, method: str, path: str, body: bytes | None, deadline: float
    ) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        keep = False
        try:
            connection.deadline = deadline
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            text = response.read(MAX_ANSWER + 1)
            if len(text) > MAX_ANSWER:
                raise unavailable(f"the OPA server's answer is longer than {MAX_ANSWER} bytes; nothing is allowed")
            keep = response.isclosed() and not response.will_close
            return response.status, text
        finally:
            with self._lock:
                keep = keep and len(self._idle) < MAX_IDLE
                if keep:
                    self._idle.append(connection)
            if not keep:
                connection.close()


class _Connection(http.client.HTTPConnection):
    """A connection, over TLS if it has a context, whose every wait ends at one deadline.

    The standard timeout is per wait: a server that sends a byte a second would never run into it.
    """

    tls: ssl.SSLContext | None = None
    deadline: float = 0.0

    def connect(self) -> None:
        """Connect within what is left of the time."""
        self.timeout = self._left()
        super().connect()
        if self.tls is not None:
            self.sock.settimeout(self._left())
            self.sock = self.tls.wrap_socket(self.sock, server_hostname=self.host)
        self.sock = _Timed(self.sock, self._left)

    def _left(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


class _Timed:
    """As much of a socket as the HTTP client uses, asking before each wait how long it may last."""

    def __init__(self, sock: socket.socket, left: Callable[[], float]) -> None:
        self._sock, self._left = sock, left

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(self._left())
        self._sock.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:  # noqa: ARG002 - the client asks for "rb"
        return io.BufferedReader(_Reader(self._sock, self._left))

    def close(self) -> None:
        self._sock.close()


class _Reader(io.RawIOBase):
    """Reads a socket, each time within what is left of the time. The socket's own file keeps it open
    until the answer is read, also when the client closes the connection before."""

    def __init__(self, sock: socket.socket, left: Callable[[], float]) -> None:
        self._sock, self._left = sock, left
        self._file = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._left())
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


def _parts(url: str) -> tuple[SplitResult, int]:
    """A URL of scheme and host alone, and its port (443, or OPA's 8181 for plaintext)."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 8181)
        bare = not (parts.path.strip("/") or parts.query or parts.fragment or parts.username or parts.password)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and bare
    except ValueError:
        sound = False
    if not sound:
        message = "the OPA server's URL must be https://host[:port], with nothing else in it"
        raise SluicegateError(Reason.CONFIG_INVALID, message)
    return parts, port


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _context(ca: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError):
        raise SluicegateError(
            Reason.CONFIG_INVALID, "the OPA server's CA file cannot be read as PEM certificates"
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _token(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        if path.stat().st_mode & 0o007:
            raise SluicegateError(Reason.CONFIG_UNSAFE, "the OPA token file is open to everyone; chmod 600 it")
        with path.open("rb") as file:
            token = file.read(MAX_TOKEN + 1).decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise SluicegateError(Reason.CONFIG_INVALID, "the OPA token file cannot be read") from None
    if not token or len(token) > MAX_TOKEN or any(not 33 <= ord(character) < 127 for character in token):
        raise SluicegateError(Reason.CONFIG_INVALID, "the OPA token file must hold one bearer token and nothing else")
    return token

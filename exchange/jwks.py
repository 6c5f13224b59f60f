"""Public keys of token issuers: JWK sets (RFC 7517), given inline, in a file or by an https URL.

A set holds signature keys only: Ed25519, P-256, or RSA of at least 2048 bits. Symmetric and private
keys, and keys for encryption, are refused or passed over; what a set says about algorithms is obeyed.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from msgspec import Struct

from contracts.errors import Reason, SluicegateError

MAX_BYTES = 256 * 1024
MAX_KEYS = 64
TIMEOUT = 5.0  # seconds for one fetch
FRESH = 600  # seconds a fetched set is used without asking again
PATIENT = 3600  # seconds a fetched set is used when its URL cannot be reached
MOMENT = 1.0  # seconds to wait for a fetch that somebody else makes
RETRY = 30  # seconds between two fetches, whatever tokens arrive
SMALLEST_RSA = 2048  # bits

AnyPublicKey = Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey
KeySet = Mapping[tuple[str, str], AnyPublicKey]  # (kid, alg) -> key
Fetch = Callable[[str], bytes]


def parse(raw: str | bytes) -> KeySet:
    """The keys of a JWK set by id and algorithm. Raises CONFIG_INVALID when it is none, when it holds
    a secret, or no key that could be used."""
    if len(raw) > MAX_BYTES:
        raise _bad(f"it has more than {MAX_BYTES} bytes")
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        raise _bad("it is not JSON") from None
    listed = value.get("keys") if isinstance(value, dict) else None
    if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_KEYS:
        raise _bad(f"it must be an object with 1 to {MAX_KEYS} `keys`")
    keys: dict[tuple[str, str], AnyPublicKey] = {}
    for item in listed:
        found = _key(item)
        if found is None:
            continue
        if found[0] in keys:
            raise _bad("two of its keys have the same `kid`")
        keys[found[0]] = found[1]
    if not keys:
        raise _bad("no key of it can be used: Ed25519, P-256 or RSA of 2048 bits, each with a `kid`, for signatures")
    return keys


def _key(item: object) -> tuple[tuple[str, str], AnyPublicKey] | None:
    if not isinstance(item, dict):
        raise _bad("a key of it is not an object")
    if item.get("kty") == "oct" or "d" in item or "k" in item:
        raise _bad("it holds a secret key; only public keys belong there")
    kid = item.get("kid")
    if not isinstance(kid, str) or not kid or item.get("use", "sig") != "sig":
        return None
    try:
        key = jwt.PyJWK.from_dict({name: value for name, value in item.items() if name != "alg"}).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    algorithm = _algorithm(key)
    if algorithm is None or item.get("alg", algorithm) != algorithm:
        return None
    return (kid, algorithm), key


def _algorithm(key: object) -> str | None:
    if isinstance(key, Ed25519PublicKey):
        return "EdDSA"
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return "ES256"
    if isinstance(key, RSAPublicKey) and key.key_size >= SMALLEST_RSA:
        return "RS256"
    return None


def _bad(why: str) -> SluicegateError:
    return SluicegateError(Reason.CONFIG_INVALID, f"the issuer's JWK set cannot be used: {why}")


def check_url(url: str) -> str:
    """The URL, if keys may be fetched from it. Raises CONFIG_INVALID unless it is plain https."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme == "https" and bool(parts.hostname) and not parts.username and not parts.fragment
        usable = (
            usable and (parts.port is None or parts.port > 0) and url.isascii() and url.isprintable() and " " not in url
        )
    except ValueError:
        usable = False
    if not usable or len(url) > 2000:
        raise SluicegateError(
            Reason.CONFIG_INVALID, "a JWK set is fetched by https only, from a URL without user, password or fragment"
        )
    return url


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object, **__: object) -> None:
        """Follow none: a redirect is an answer without keys, so an error."""


def fetch_https(url: str, *, context: ssl.SSLContext | None = None, timeout: float = TIMEOUT) -> bytes:
    """The bytes behind an https URL: verified TLS, no redirect, at most 256 KiB, `timeout` seconds for
    each step and twice that for the whole answer.

    Raises UNAVAILABLE; the message has no more of the URL than its host.
    """
    check_url(url)
    opener = urllib.request.build_opener(
        _NoRedirect(), urllib.request.HTTPSHandler(context=context or ssl.create_default_context())
    )
    request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310 - https by check_url
    try:
        with opener.open(request, timeout=timeout) as answer:
            raw = _read(answer, time.monotonic() + 2 * timeout)
    except (OSError, urllib.error.URLError, ValueError) as error:
        raise SluicegateError(
            Reason.UNAVAILABLE, f"the issuer's keys cannot be fetched from {urlsplit(url).hostname}: repeat later"
        ) from error
    return raw


def _read(answer: IO[bytes], until: float) -> bytes:
    """What is answered until then. A socket's own timeout begins anew with each byte, so that an issuer
    that sends one now and then would hold us for ever."""
    raw = b""
    while len(raw) <= MAX_BYTES and (piece := answer.read1(MAX_BYTES + 1 - len(raw))):  # type: ignore[attr-defined]
        raw += piece
        if time.monotonic() > until:
            raise TimeoutError
    return raw


@contextmanager
def _turn(lock: threading.Lock, patience: float) -> Iterator[bool]:
    """The lock for the context, if it can be had within so many seconds; whether it was."""
    mine = lock.acquire(timeout=patience)
    try:
        yield mine
    finally:
        if mine:
            lock.release()


class _Fetched(Struct):
    keys: KeySet = {}
    at: int | None = None  # of the last success
    tried: int | None = None


class KeyStore:
    """Key sets by where they are found: JSON inline, `https://...`, or `file:...` (an absolute path).

    Inline sets are parsed once; a file is read again when it changed; a URL is asked again after ten
    minutes, or at once for an unknown key id but never twice within half a minute.
    """

    def __init__(self, clock: Callable[[], int], fetch: Fetch = fetch_https) -> None:
        self._clock, self._fetch = clock, fetch
        self._lock = threading.Lock()
        self._inline: dict[str, KeySet] = {}
        self._files: dict[str, tuple[tuple[int, int, int], KeySet]] = {}
        self._urls: dict[str, tuple[threading.Lock, _Fetched]] = {}

    def find(self, place: str, kid: str, algorithm: str) -> AnyPublicKey | None:
        """The key of that id and algorithm, or None. `kid` is only ever compared with ids of the set.

        Raises CONFIG_INVALID for a set that cannot be used, UNAVAILABLE when it cannot be fetched.
        """
        wanted = (kid, algorithm)
        if place.startswith("https://"):
            return self._by_url(place, wanted)
        keys = self._by_file(place) if place.startswith("file:") else self._by_value(place)
        return keys.get(wanted)

    def _by_value(self, raw: str) -> KeySet:
        with self._lock:
            keys = self._inline.get(raw)
        if keys is None:
            keys = parse(raw)
            with self._lock:
                if len(self._inline) >= 1024:
                    self._inline.clear()
                self._inline[raw] = keys
        return keys

    def _by_file(self, place: str) -> KeySet:
        path = Path(place.removeprefix("file://").removeprefix("file:"))
        try:
            status = path.stat()
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            with self._lock:
                known = self._files.get(place)
            if known is not None and known[0] == stamp:
                return known[1]
            keys = parse(path.read_bytes()[: MAX_BYTES + 1])
        except OSError as error:
            raise SluicegateError(
                Reason.CONFIG_INVALID, f"the issuer's JWK set cannot be read: {error.strerror}"
            ) from error
        with self._lock:
            self._files[place] = (stamp, keys)
        return keys

    def _by_url(self, url: str, wanted: tuple[str, str]) -> AnyPublicKey | None:
        with self._lock:
            lock, state = self._urls.setdefault(url, (threading.Lock(), _Fetched()))
        now = self._clock()
        fresh = state.at is not None and now - state.at < FRESH
        if fresh and wanted in state.keys:
            return state.keys[wanted]
        # One fetch at a time, and nobody waits for it longer than a moment: an issuer that answers slowly
        # would hold a thread for every token that names it, whoever wrote that token.
        with _turn(lock, MOMENT if state.at is None else 0) as mine:
            if mine and (state.tried is None or now - state.tried >= RETRY):
                self._refresh(url, state, now)
        unknown = not mine and wanted not in state.keys
        if unknown or state.at is None or now - state.at >= PATIENT:
            raise SluicegateError(
                Reason.UNAVAILABLE,
                f"the issuer's keys cannot be fetched from {urlsplit(url).hostname}: repeat later",
            )
        return state.keys.get(wanted)

    def _refresh(self, url: str, state: _Fetched, now: int) -> None:
        state.tried = now
        try:
            state.keys = parse(self._fetch(url))
            state.at = now
        except SluicegateError:
            if state.at is None:
                raise
            # An issuer that is down for a moment does not lock its people out; see PATIENT.

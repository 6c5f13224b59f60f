"""A connection to the exchange: TLS, bearer token, deadlines, retries, errors as our own."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc

from connectors.commands import printed
from connectors.reaching import asking
from contracts.errors import Reason, SluicegateError
from exchange import identity
from exchange.config import Profile, TokenSettings, loopback
from exchange.keyfiles import check_private, read_key
from exchange.rpc.alarm import Alarm
from exchange.rpc.status import from_rpc_error

TOKEN_LIFETIME = 15 * 60  # seconds; of tokens that we mint ourselves
RENEW_BEFORE = 60  # seconds before its end that a token is replaced
# A bearer token is header text; what is none would be quoted, secret and all, by the HTTP library.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{1,8192}", re.ASCII)
# Every mutation carries a request id, so repeating a call that found nobody is safe.
SERVICE_CONFIG = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.2s",
                    "maxBackoff": "2s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)


ALIVE = asking(every=15, within=20)  # an exchange takes no more than a question in ten seconds


class TokenSource:
    """Bearer tokens as the settings say, fetched again a minute before they expire. Safe for many threads."""

    def __init__(self, settings: TokenSettings, subject: str, clock: Callable[[], float] = time.time) -> None:
        self._settings, self._subject, self._clock = settings, subject, clock
        self._token, self._expires = "", 0.0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"TokenSource(subject={self._subject!r})"

    def __call__(self) -> str:
        """A token, fetched anew when the one at hand ends within a minute. Whether it is good is for the
        exchange to say. Raises TOKEN_MISSING when there is no way to get one, TOKEN_INVALID for what
        cannot be one, CONFIG_UNSAFE for a file that others can read."""
        with self._lock:
            if self._clock() > self._expires - RENEW_BEFORE:
                token = self._fetch()
                if not _TOKEN.fullmatch(token):
                    raise SluicegateError(Reason.TOKEN_INVALID, "what the profile names as its token is none")
                self._expires = identity.expiry(token)
                self._token = token
            return self._token

    def _fetch(self) -> str:
        settings = self._settings
        if settings.file is not None:
            check_private(settings.file)
            return settings.file.read_bytes().decode(errors="replace").strip()
        if settings.command:
            told = f"the profile's token command {settings.command[0][:80]}"
            return printed(settings.command, Reason.TOKEN_MISSING, told).decode(errors="replace").strip()
        if settings.issuer_key is not None:
            return identity.mint(
                read_key(settings.issuer_key),
                issuer=settings.issuer,
                subject=self._subject,
                audience=settings.audience,
                lifetime=TOKEN_LIFETIME,
                now=int(self._clock()),
                entropy=os.urandom,
            )
        raise SluicegateError(
            Reason.TOKEN_MISSING, f"the profile of {self._subject} names no token file, command or issuer key"
        )


class Connection:
    """One channel with one identity. Use as a context manager, or call `close`."""

    def __init__(
        self,
        endpoint: str,
        *,
        ca: Path | None,
        token: Callable[[], str],
        timeout: int,
        unsafe_plaintext: bool = False,
        named_by: str = "",
    ) -> None:
        options = [
            *ALIVE,
            # Otherwise the library shares one among all connections that say the same.
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.service_config", SERVICE_CONFIG),
            ("grpc.enable_retries", 1),
            # An exchange that comes back is found within seconds, not after the library's two minutes.
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 2000),
            ("grpc.max_receive_message_length", 16 * 1024 * 1024),
        ]
        if unsafe_plaintext:
            if not loopback(endpoint):
                raise SluicegateError(Reason.CONFIG_UNSAFE, "plaintext is for loopback only; use TLS")
            self._channel = grpc.insecure_channel(endpoint, options)
        else:
            try:
                roots = ca.read_bytes() if ca is not None else None
            except OSError as error:
                raise SluicegateError(Reason.CONFIG_INVALID, f"cannot read {ca}: {error.strerror}") from None
            self._channel = grpc.secure_channel(endpoint, grpc.ssl_channel_credentials(roots), options)
        self._again: Callable[[], Connection] = lambda: Connection(
            endpoint, ca=ca, token=token, timeout=timeout, unsafe_plaintext=unsafe_plaintext, named_by=named_by
        )
        self._token, self._timeout = token, timeout
        self._where = f"the exchange at {endpoint}{f', as {named_by} says,' if named_by else ''}"

    @classmethod
    def of(cls, profile: Profile) -> Connection:
        """The connection that a profile describes."""
        return cls(
            profile.endpoint,
            ca=profile.ca,
            token=TokenSource(profile.token, profile.subject),
            timeout=profile.timeout,
            unsafe_plaintext=profile.unsafe_plaintext,
            named_by=f"the profile of {profile.subject}",
        )

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def again(self) -> Connection:
        """Another connection with the same identity, which whatever ails this one does not touch."""
        return self._again()

    def stub(self, kind: Callable[[grpc.Channel], Any]) -> Any:
        """A generated stub on this channel."""
        return kind(self._channel)

    def _metadata(self) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self._token()}")]

    def call(self, method: Any, message: Any, *, timeout: float | None = None) -> Any:
        """One unary call. Raises SluicegateError, never grpc.RpcError."""
        try:
            return method(message, timeout=timeout or self._timeout, metadata=self._metadata())
        except grpc.RpcError as error:
            raise from_rpc_error(error, self._where) from None

    def stream(self, method: Any, message: Any, silence: Alarm) -> Iterator[Any]:
        """A server stream without deadline, for the watch. Closing the iterator cancels it. One that says nothing
        until the alarm goes off is given up: DEADLINE_EXCEEDED."""
        running, silent = method(message, metadata=self._metadata()), threading.Event()

        def give_up() -> None:
            silent.set()
            running.cancel()

        try:
            while True:
                with silence.unless_done(give_up):
                    found = next(running, None)
                if found is None:
                    return
                yield found
        except grpc.RpcError as error:
            if silent.is_set():
                raise SluicegateError(Reason.DEADLINE_EXCEEDED, f"{self._where} fell silent") from None
            raise from_rpc_error(error, self._where) from None
        finally:
            running.cancel()

"""What surrounds every call: observe, bound, authenticate, translate.

One context manager serves all call kinds. Inside it the servicer finds its caller with `caller()`.
Whatever leaves it is a `SluicegateError` turned into a status; the text of anything else stays in
the log under the request id that the client is given.

Deadline and token are looked at before the message is read: who has no business here holds no thread
by sending it slowly, or never.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import traceback
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import grpc
import msgspec

from contracts.errors import Reason, SluicegateError
from exchange.identity import Authenticator, Principal
from exchange.rpc.alarm import Alarm
from exchange.rpc.places import Places
from exchange.rpc.status import to_status

log = logging.getLogger("sluicegate.rpc")

HEALTH, REFLECTION = "/grpc.health.v1.Health/", "/grpc.reflection."
STREAMS_WITHOUT_DEADLINE = ("/exchange.v1.AgreementService/WatchAgreements",)
NO_DEADLINE = 10**9  # time_remaining() of a call without deadline is about 9.2e18 seconds
# Reflection is open to anybody and its stream holds a thread: so many at once, for so many seconds.
REFLECTIONS, REFLECTION_LIFE = 4, 30.0
MESSAGE_WITHIN = 5.0  # seconds that the message of a call may take
UNREADABLE = "the bytes of the call are not a message of its kind"
MOMENT = 0.25  # seconds that a call may wait for the turn to read its message
# Exit codes of refusals, which the use cases put on record: allowed to act, by the contract, in that state.
REFUSED = (4, 5, 6)
# gRPC codes of what is no caller's fault, so that its cause belongs into the log.
OUR_FAULT = ("INTERNAL", "UNAVAILABLE", "DATA_LOSS")

_caller: ContextVar[Principal] = ContextVar("caller")


def caller() -> Principal:
    """The authenticated principal of the running call."""
    try:
        return _caller.get()
    except LookupError:
        raise SluicegateError(Reason.TOKEN_MISSING, "the call carries no bearer token") from None


class RateLimit:
    """A token bucket per key, refilled evenly; remembers at most 10,000 keys. `what` is what is counted."""

    def __init__(self, per_minute: int, what: str, now: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._size, self._what, self._now = per_minute / 60, float(per_minute), what, now
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, key: str) -> None:
        """Spend one; raises RATE_LIMITED with the seconds to wait when there is none left."""
        self._demand(key, spend=1.0)

    def demand(self, key: str) -> None:
        """Raise RATE_LIMITED when there is none left, without spending."""
        self._demand(key, spend=0.0)

    def _demand(self, key: str, *, spend: float) -> None:
        with self._lock:
            now = self._now()
            level, seen = self._buckets.pop(key, (self._size, now))
            level = min(self._size, level + (now - seen) * self._rate)
            self._buckets[key] = (level - spend if level >= 1 else level, now)
            if len(self._buckets) > 10_000:
                self._buckets.popitem(last=False)
        if level < 1:
            wait = max(1, round((1 - level) / self._rate))
            raise SluicegateError(
                Reason.RATE_LIMITED,
                f"too many {self._what}; wait {wait} s",
                metadata={"retryAfterSeconds": str(wait)},
            )


class _Unread:
    """Bytes in the place of a message."""


def _reading(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """The deserializer, which says `_Unread` of what is no message. Whatever it raises, the library answers
    itself, and keeps the call for as long as its connection lives: 200 of them and the connection is dead."""

    def read(raw: bytes) -> Any:
        try:
            return deserialize(raw)
        except Exception:  # noqa: BLE001 - what a parser raises is its own affair
            return _Unread()

    return read


def _refuse_unread(request: Any, context: grpc.ServicerContext) -> None:
    if isinstance(request, _Unread):
        unread = SluicegateError(Reason.INVALID_ARGUMENT, UNREADABLE)
        context.abort_with_status(to_status(unread, str(uuid.uuid4())))


def _read_ones(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
    for request in requests:
        _refuse_unread(request, context)
        yield request


def _unread_refused(handler: Any) -> Any:
    """The handler of a call that nothing else surrounds, which refuses what is no message."""
    make, act = (
        (grpc.unary_stream_rpc_method_handler, handler.unary_stream)
        if handler.response_streaming
        else (grpc.unary_unary_rpc_method_handler, handler.unary_unary)
    )

    def call(request: Any, context: grpc.ServicerContext) -> Any:
        _refuse_unread(request, context)
        return act(request, context)

    return make(call, _reading(handler.request_deserializer), handler.response_serializer)


class Surround(grpc.ServerInterceptor):
    """The one interceptor of the exchange."""

    def __init__(
        self,
        authenticator: Authenticator,
        *,
        workers: int,
        watchers: int,
        max_deadline: int,
        calls_per_minute: int,
        refusals_per_minute: int,
    ) -> None:
        """`workers` threads serve calls, so at most half of them wait for messages of one party, and one
        always for none; likewise with the threads of the `watchers`."""
        self._authenticator = authenticator
        self._arriving = Places(max(1, workers - 1), max(1, workers // 2), "calls without their message")
        self._beginning = Places(watchers, max(1, watchers // 2), "watches without their message")
        self._max_deadline = max_deadline
        self._calls = RateLimit(calls_per_minute, "calls")
        self._refusals = RateLimit(refusals_per_minute, "refused calls")
        self._reflections = threading.BoundedSemaphore(REFLECTIONS)
        self._messageless, self._reflecting = Alarm(MESSAGE_WITHIN), Alarm(REFLECTION_LIFE)
        self._surrounded: dict[str, Any] = {}

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Wrap the handler of one call, whatever its kind."""
        handler = continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None:
            return handler
        # The methods that there are, each surrounded once.
        if method not in self._surrounded:
            self._surrounded[method] = self._surround(method, handler)
        return self._surrounded[method]

    def _surround(self, method: str, handler: Any) -> Any:
        if method.startswith(HEALTH):
            return _unread_refused(handler)
        if method.startswith(REFLECTION):
            return self._reflected(handler)
        # On the wire a single message is a stream of one: read as a stream, it is read when we ask for it.
        if handler.response_streaming:

            def stream(requests: Any, context: grpc.ServicerContext) -> Iterator[Any]:
                with self._around(method, context):
                    yield from handler.unary_stream(self._message(requests, context, self._beginning), context)

            return grpc.stream_stream_rpc_method_handler(
                stream, _reading(handler.request_deserializer), handler.response_serializer
            )

        def unary(requests: Any, context: grpc.ServicerContext) -> Any:
            with self._around(method, context):
                return handler.unary_unary(self._message(requests, context, self._arriving), context)

        return grpc.stream_unary_rpc_method_handler(
            unary, _reading(handler.request_deserializer), handler.response_serializer
        )

    def _message(self, requests: Iterator[Any], context: grpc.ServicerContext, places: Places) -> Any:
        """The one message of a call. One that does not come shortly ends the call: it holds a thread."""
        with places.place(caller().party, wait=MOMENT), self._messageless.unless_done(context.cancel):
            for request in requests:
                if isinstance(request, _Unread):
                    raise SluicegateError(Reason.INVALID_ARGUMENT, UNREADABLE)
                return request
        raise SluicegateError(Reason.INVALID_ARGUMENT, "the call brought no message")

    def _reflected(self, handler: Any) -> Any:
        def stream(requests: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            if not self._reflections.acquire(blocking=False):
                busy = SluicegateError(Reason.RATE_LIMITED, "too many ask for the protocol at once; repeat later")
                context.abort_with_status(to_status(busy, str(uuid.uuid4())))
            try:
                with self._reflecting.unless_done(context.cancel):
                    yield from handler.stream_stream(_read_ones(requests, context), context)
            finally:
                self._reflections.release()

        return grpc.stream_stream_rpc_method_handler(
            stream, _reading(handler.request_deserializer), handler.response_serializer
        )

    @contextlib.contextmanager
    def _around(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        started, token = time.monotonic(), None
        line = {"request": str(uuid.uuid4()), "method": method.rsplit("/", 1)[-1], "principal": "-", "outcome": "OK"}
        try:
            self._bound(method, context)
            who = self._authenticator.authenticate(_bearer(context))
            line["principal"] = who.name
            self._calls.take(who.name)
            self._refusals.demand(who.name)
            token = _caller.set(who)
            yield
        except SluicegateError as error:
            if token is not None and error.traits.exit_code in REFUSED:
                with contextlib.suppress(SluicegateError):
                    self._refusals.take(line["principal"])
            self._abort(error, line, context)
        except (GeneratorExit, grpc.RpcError):
            line["outcome"] = "CANCELLED"
            raise
        except Exception as error:  # noqa: BLE001 - its text must not reach the caller
            unknown = SluicegateError(Reason.INTERNAL, f"an unexpected error; its id is {line['request']}")
            unknown.__cause__ = error
            self._abort(unknown, line, context)
        finally:
            if token is not None:
                # A stream's generator may be closed from another thread's context.
                with contextlib.suppress(ValueError):
                    _caller.reset(token)
            took = round((time.monotonic() - started) * 1000, 1)
            said = msgspec.json.encode({**line, "ms": took}).decode()
            log.log(logging.ERROR if "error" in line else logging.INFO, said)

    @staticmethod
    def _abort(error: SluicegateError, line: dict[str, str], context: grpc.ServicerContext) -> None:
        """End the call with the error; what caused it goes to the log alone. Always raises."""
        line["outcome"] = error.reason.value
        if error.traits.code in OUR_FAULT:
            line["error"] = "".join(traceback.format_exception(error.__cause__ or error))
        context.abort_with_status(to_status(error, line["request"]))

    def _bound(self, method: str, context: grpc.ServicerContext) -> None:
        if method in STREAMS_WITHOUT_DEADLINE:
            return
        remaining, most = context.time_remaining(), {"maxDeadlineSeconds": str(self._max_deadline)}
        if remaining is None or remaining > NO_DEADLINE:
            raise SluicegateError(
                Reason.DEADLINE_REQUIRED, f"set a deadline of at most {self._max_deadline} s", metadata=most
            )
        if remaining > self._max_deadline + 1:
            raise SluicegateError(
                Reason.DEADLINE_REQUIRED,
                f"the deadline is {remaining:.0f} s away; at most {self._max_deadline} s are allowed",
                metadata=most,
            )


def _bearer(context: grpc.ServicerContext) -> str:
    values = [value for key, value in context.invocation_metadata() if key == "authorization"]
    if not values:
        raise SluicegateError(Reason.TOKEN_MISSING, "send the header authorization: Bearer <token>")
    value = values[0]
    if len(values) > 1 or not isinstance(value, str) or value[:7].lower() != "bearer ":
        raise SluicegateError(Reason.TOKEN_INVALID, "the header authorization must be one Bearer token")
    return value[7:].strip()

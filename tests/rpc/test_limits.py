"""What one caller can take from the others: nothing, whether with big, many, slow or refused calls."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import Reason, SluicegateError
from exchange.rpc.interceptors import REFLECTIONS, RateLimit
from exchange.v1 import catalog_pb2, catalog_pb2_grpc, party_pb2, party_pb2_grpc
from tests.halls import refused
from tests.rpc.served import Served, fresh_id, refused_call

DATASET = "health-bureau/hospital-visits"


def test_a_message_that_is_too_large_is_refused(served: Served) -> None:
    stub = catalog_pb2_grpc.CatalogServiceStub(served.channel([("grpc.max_send_message_length", -1)]))
    message = catalog_pb2.PublishContractRequest(parent="parties/health-bureau", document=b"x" * (5 << 20))
    error = refused_call(lambda: stub.PublishContract(message, timeout=20, metadata=served.bearer("steward")))
    assert error.reason is Reason.TOO_LARGE
    assert served.client("steward").whoami().roles == ("steward",)


def test_a_contract_that_is_too_large_is_refused(served: Served) -> None:
    """Small enough for the wire, too large for a contract."""
    from contracts.agreement import ContractStatement
    from contracts.envelope import Kind, sign
    from exchange.keyfiles import read_key

    key = read_key(served.home.profile("steward").signing_key)
    digest = f"sha256:{'0' * 64}"
    statement = ContractStatement(
        provider="health-bureau",
        dataset="d",
        version="1.0.0",
        document_digest=digest,
        terms_digest=digest,
        published="2026-01-01T00:00:00Z",
    )
    stub = catalog_pb2_grpc.CatalogServiceStub(served.channel())
    message = catalog_pb2.PublishContractRequest(
        parent="parties/health-bureau",
        document=b"# " + b"x" * (2 << 20),
        statement=sign(Kind.CONTRACT, statement, key).to_bytes(),
        gateway="parties/health-bureau/gateways/health-bureau-1",
        request_id=fresh_id(),
    )
    error = refused_call(lambda: stub.PublishContract(message, timeout=20, metadata=served.bearer("steward")))
    assert error.reason is Reason.TOO_LARGE


def test_metadata_that_is_too_large_is_refused(served: Served) -> None:
    stub = party_pb2_grpc.PartyServiceStub(served.channel())
    metadata = [*served.bearer("steward"), ("x-filler", "y" * 60_000)]
    error = refused_call(lambda: stub.WhoAmI(party_pb2.WhoAmIRequest(), timeout=10, metadata=metadata))
    assert error.reason is not Reason.INTERNAL
    assert served.client("steward").whoami().roles == ("steward",)


def test_a_token_of_any_length_is_refused_politely(served: Served) -> None:
    stub = party_pb2_grpc.PartyServiceStub(served.channel())
    metadata = [("authorization", f"Bearer {'a' * 9000}")]
    error = refused_call(lambda: stub.WhoAmI(party_pb2.WhoAmIRequest(), timeout=10, metadata=metadata))
    assert error.reason is Reason.TOKEN_INVALID


def test_calls_are_limited_per_caller(serve: Callable[..., Served]) -> None:
    served = serve(calls_per_minute=5)
    client = served.client("steward")
    for _ in range(5):
        client.whoami()
    with pytest.raises(SluicegateError) as caught:
        client.whoami()
    assert caught.value.reason is Reason.RATE_LIMITED
    assert 1 <= int(caught.value.metadata["retryAfterSeconds"]) <= 12
    assert served.client("planner").whoami().roles == ("admin", "requester")


def test_refusals_are_limited_per_caller_and_so_are_their_entries(serve: Callable[..., Served]) -> None:
    from pathlib import Path

    served = serve(refusals_per_minute=3)
    example = Path(__file__).resolve().parents[2] / "examples" / "hospital-visits.odcs.yaml"
    served.client("steward").publish(example.read_bytes(), gateway="health-bureau-1")
    planner, auditor = served.client("planner"), served.client("auditor")

    def ask() -> None:
        planner.request(DATASET, purpose="marketing", reason="find customers")

    for _ in range(3):
        with refused(Reason.REQUEST_OUTSIDE_CONTRACT):
            ask()
    for _ in range(3):
        with refused(Reason.RATE_LIMITED):
            ask()
    told = [entry for entry in auditor.entries() if entry.event == "request.refused"]
    assert len(told) == 3
    assert served.client("analyst").whoami().party_kind == "department"


@pytest.mark.parametrize("times", [3])
def test_missing_roles_count_as_refusals_and_bad_arguments_do_not(serve: Callable[..., Served], times: int) -> None:
    served = serve(refusals_per_minute=times)
    planner = served.client("planner")
    for _ in range(times * 2):
        with refused(Reason.INVALID_ARGUMENT):
            planner.register_principal("not a subject", ("requester",))
    for _ in range(times):
        with refused(Reason.ROLE_MISSING):
            planner.create_party("x", kind="company", root_key="", issuer="", jwks="", admin="")
    with refused(Reason.RATE_LIMITED):
        planner.whoami()


class Clocked:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@given(
    per_minute=st.integers(1, 300),
    steps=st.lists(st.tuples(st.floats(0, 30, allow_nan=False), st.integers(1, 60)), max_size=20),
)
def test_a_rate_limit_lets_pass_what_it_says(per_minute: int, steps: list[tuple[float, int]]) -> None:
    """Never more than the bucket and what flowed in since; never less than one after the stated wait."""
    clock = Clocked()
    limit = RateLimit(per_minute, "calls", clock)
    passed = 0
    for seconds, calls in steps:
        clock.now += seconds
        for _ in range(calls):
            try:
                limit.take("a")
                passed += 1
            except SluicegateError as error:
                wait = int(error.metadata["retryAfterSeconds"])
                assert 1 <= wait <= 61
                break
        assert passed <= per_minute + clock.now * per_minute / 60 + 1e-6
    clock.now += 61
    limit.demand("a")
    limit.take("a")


def test_a_rate_limit_remembers_so_many_callers_and_no_more() -> None:
    limit = RateLimit(1, "calls", Clocked())
    for number in range(20_000):
        limit.take(str(number))
    assert len(limit._buckets) == 10_000
    with refused(Reason.RATE_LIMITED):
        limit.take("19999")


def test_demanding_spends_nothing() -> None:
    limit = RateLimit(2, "calls", Clocked())
    for _ in range(10):
        limit.demand("a")
    limit.take("a")
    limit.demand("a")
    limit.take("a")
    with refused(Reason.RATE_LIMITED):
        limit.demand("a")


def _never(stop: threading.Event) -> Iterator[Any]:
    stop.wait(20)
    return
    yield


def test_messages_that_never_come_hold_up_nobody(serve: Callable[..., Served]) -> None:
    """Without a good token a call is refused before its message is awaited; with one it ends by its
    deadline. Meanwhile others are served."""
    served = serve(workers=2, watchers=1)
    stop, channel = threading.Event(), served.channel()
    slow = channel.stream_unary(
        "/exchange.v1.PartyService/WhoAmI",
        request_serializer=party_pb2.WhoAmIRequest.SerializeToString,
        response_deserializer=party_pb2.Principal.FromString,
    )
    for metadata in ([], [("authorization", "Bearer not.a.token")]):
        error = refused_call(lambda: slow(_never(stop), timeout=10, metadata=metadata))  # noqa: B023
        assert error.reason in (Reason.TOKEN_MISSING, Reason.TOKEN_INVALID)
    error = refused_call(lambda: slow(_never(stop), metadata=served.bearer("steward")))
    assert error.reason is Reason.DEADLINE_REQUIRED
    error = refused_call(lambda: slow(_never(stop), timeout=1, metadata=served.bearer("steward")))
    assert error.reason is Reason.DEADLINE_EXCEEDED
    error = refused_call(lambda: slow(iter(()), timeout=5, metadata=served.bearer("steward")))
    assert error.reason is Reason.INVALID_ARGUMENT
    assert served.client("steward").whoami().roles == ("steward",)
    stop.set()


def test_one_party_cannot_hold_every_worker(serve: Callable[..., Served]) -> None:
    """However many of its calls send no message, others are served at once, and it soon again."""
    served = serve(workers=4, watchers=1)
    others = served.client("planner")
    others.whoami()
    stop, channel = threading.Event(), served.channel()
    slow = channel.stream_unary(
        "/exchange.v1.PartyService/WhoAmI",
        request_serializer=party_pb2.WhoAmIRequest.SerializeToString,
        response_deserializer=party_pb2.Principal.FromString,
    )
    bearer = served.bearer("steward")
    held = [slow.future(_never(stop), timeout=30, metadata=bearer) for _ in range(12)]
    try:
        for _ in range(5):
            assert others.whoami().roles == ("admin", "requester")
        errors = [refused_call(call.result).reason for call in held]
        assert errors.count(Reason.RATE_LIMITED) >= 8
        assert set(errors) <= {Reason.RATE_LIMITED, Reason.CANCELLED}, "the rest is ended soon"
        assert served.client("steward").whoami().roles == ("steward",)
    finally:
        stop.set()


def test_stalled_reflection_starves_no_call(serve: Callable[..., Served]) -> None:
    served = serve(workers=2, watchers=1)
    stop = threading.Event()
    stub = reflection_pb2_grpc.ServerReflectionStub(served.channel())

    def lingering() -> Iterator[Any]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        stop.wait(20)

    held = [stub.ServerReflectionInfo(lingering()) for _ in range(REFLECTIONS)]
    for each in held:
        assert next(each).list_services_response.service
    for _ in range(8):
        error = refused_call(lambda: next(stub.ServerReflectionInfo(lingering(), timeout=10)))
        assert error.reason is Reason.RATE_LIMITED
    assert served.client("steward").whoami().roles == ("steward",)
    for each in held:
        each.cancel()
    stop.set()
    end = time.monotonic() + 10
    while True:
        try:
            list(stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=5))
            break
        except grpc.RpcError:
            assert time.monotonic() < end, "places for reflection are not given back"
            time.sleep(0.1)


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        ("/exchange.v1.PartyService/ListParties", "unary_unary"),
        ("/exchange.v1.AgreementService/WatchAgreements", "unary_stream"),
        ("/grpc.health.v1.Health/Check", "unary_unary"),
        ("/grpc.health.v1.Health/Watch", "unary_stream"),
        ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "stream_stream"),
    ],
)
def test_messages_that_are_none_use_up_no_connection(serve: Callable[..., Served], call: str, kind: str) -> None:
    """A library that answers them itself keeps each call while its connection lives, 200 at the most: the
    next one is refused before anybody sees it."""
    served = serve(calls_per_minute=10**6, refusals_per_minute=10**6)
    channel, bearer = served.channel(), served.bearer("steward")
    bad = b"[" * 99
    method = getattr(channel, kind)(call)

    def asked() -> object:
        answer = method(iter([bad]) if kind == "stream_stream" else bad, timeout=20, metadata=bearer)
        return list(answer) if kind.endswith("stream") else answer

    for _ in range(250):
        error = refused_call(asked)
        assert error.reason is Reason.INVALID_ARGUMENT, error

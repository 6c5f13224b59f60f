"""The watch of a gateway: it beats, it is limited, it ends with the server, it starves nobody."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from msgspec.structs import replace

from connectors.reaching import asking
from contracts import merkle
from contracts.envelope import Envelope
from contracts.errors import Reason, SluicegateError
from exchange import config, connection, evidence, keyfiles
from exchange.config import GatewaySettings
from exchange.connection import Connection, TokenSource
from exchange.control_plane import GrpcControlPlane
from exchange.rpc import server
from exchange.v1 import agreement_pb2, agreement_pb2_grpc
from tests.e2e.city import free_ports
from tests.e2e.proxy import Proxy
from tests.halls import refused
from tests.rpc.served import Served, refused_call

GATEWAY = "parties/health-bureau/gateways/health-bureau-1"


def gateway_of(
    served: Served, endpoint: str = "", *, patience: float = 60, timeout: int = 10
) -> tuple[Connection, GrpcControlPlane]:
    """The gateway's own connection, as `exchange.app` makes it."""
    settings = config.load(served.home.gateway("health-bureau-1"), GatewaySettings)
    token = TokenSource(settings.token, settings.subject)
    connection = Connection(endpoint or served.endpoint, ca=settings.exchange_ca, token=token, timeout=timeout)
    served._open.append(connection)
    return connection, GrpcControlPlane(connection, GATEWAY, patience=patience)


@contextlib.contextmanager
def behind_a_firewall(served: Served) -> Iterator[tuple[Proxy, str]]:
    """What stands before an exchange and may forget connections; where the exchange is reached through it."""
    port = free_ports(1)
    with Proxy(port, int(served.endpoint.rpartition(":")[2])) as network:
        yield network, f"localhost:{port}"


def sooner(options: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """The same options, with all that is about whether the other side is there a twentieth of its time."""
    return [(name, value // 20 if name in dict(asking(1, 1)) else value) for name, value in options]


def watch(served: Served, gateway: str = GATEWAY, token: str | None = None) -> Any:
    settings = config.load(served.home.gateway("health-bureau-1"), GatewaySettings)
    bearer = token or TokenSource(settings.token, settings.subject)()
    stub = agreement_pb2_grpc.AgreementServiceStub(served.channel())
    return stub.WatchAgreements(
        agreement_pb2.WatchAgreementsRequest(gateway=gateway), metadata=[("authorization", f"Bearer {bearer}")]
    )


def a_place_comes_free(served: Served, otherwise: str, seconds: float = 15) -> None:
    """Wait until somebody else can watch."""
    end = time.monotonic() + seconds
    while True:
        try:
            next(watch(served))
            return
        except grpc.RpcError:
            assert time.monotonic() < end, otherwise
            time.sleep(0.2)


def test_it_beats_with_time_and_checkpoint(serve: Callable[..., Served]) -> None:
    served = serve(heartbeat=1)
    _, plane = gateway_of(served)
    beats = plane.watch()
    first, second = next(beats), next(beats)
    assert first.time <= second.time <= int(time.time()) + 1
    assert first.stopped == frozenset()
    trust = evidence.read_trust(served.home.trust)
    assert isinstance(first.checkpoint, Envelope)
    assert merkle.verify_checkpoint(first.checkpoint, trust).tree_size == 4
    beats.close()  # type: ignore[attr-defined]


def test_a_stopped_agreement_is_told_within_a_beat(serve: Callable[..., Served]) -> None:
    served = serve(heartbeat=1)
    example = Path(__file__).resolve().parents[2] / "examples" / "hospital-visits.odcs.yaml"
    steward, planner = served.client("steward"), served.client("planner")
    steward.publish(example.read_bytes(), gateway="health-bureau-1")
    asked = planner.request("health-bureau/hospital-visits", purpose="transport-planning", reason="buses")
    agreement = steward.approve(asked.name).agreement
    planner.sign(agreement)
    _, plane = gateway_of(served)
    beats = plane.watch()
    assert next(beats).stopped == frozenset()
    steward.suspend(agreement, reason="a complaint", until="2099-01-01T00:00:00Z")
    assert any(agreement in next(beats).stopped for _ in range(3))
    steward.resume(agreement, reason="settled")
    assert any(agreement not in next(beats).stopped for _ in range(3))
    beats.close()  # type: ignore[attr-defined]


def test_only_the_gateway_itself_may_watch(served: Served) -> None:
    token = served.token("steward")
    assert refused_call(lambda: next(watch(served, token=token))).reason is Reason.ROLE_MISSING
    other = "parties/health-bureau/gateways/health-bureau-2"
    assert refused_call(lambda: next(watch(served, other))).reason is Reason.NOT_FOUND
    assert refused_call(lambda: next(watch(served, token="no.good.token"))).reason is Reason.TOKEN_INVALID


def test_watchers_are_limited_and_a_place_is_given_back(serve: Callable[..., Served]) -> None:
    served = serve(watchers=2, heartbeat=1)
    held = [watch(served) for _ in range(2)]
    for each in held:
        next(each)
    assert refused_call(lambda: next(watch(served))).reason is Reason.RATE_LIMITED
    held[0].cancel()
    a_place_comes_free(served, "the place of a gateway that left is not given back")


def test_one_department_cannot_take_every_place(serve: Callable[..., Served]) -> None:
    served = serve(watchers=40, heartbeat=1)
    held = [watch(served) for _ in range(10)]
    for each in held:
        next(each)
    error = refused_call(lambda: next(watch(served)))
    assert (error.reason, "health-bureau has 10" in error.message) == (Reason.RATE_LIMITED, True)
    held[0].cancel()
    a_place_comes_free(served, "the place of a watch that ended is not given back")


def test_watches_that_never_say_what_they_watch_hold_no_thread(serve: Callable[..., Served]) -> None:
    """A watch has no deadline; whoever has any token at all could otherwise take every thread for good."""
    served = serve(workers=1, watchers=1)
    stop, channel = threading.Event(), served.channel()

    def never() -> Iterator[Any]:
        stop.wait(60)
        return
        yield

    silent = channel.stream_stream(
        "/exchange.v1.AgreementService/WatchAgreements",
        request_serializer=agreement_pb2.WatchAgreementsRequest.SerializeToString,
        response_deserializer=agreement_pb2.WatchAgreementsResponse.FromString,
    )
    held = [silent(never(), metadata=served.bearer("planner")) for _ in range(6)]
    time.sleep(0.5)
    started = time.monotonic()
    assert served.client("steward").whoami().roles == ("steward",)
    assert time.monotonic() - started < 10
    for each in held:
        with pytest.raises(grpc.RpcError):
            next(each)
    stop.set()


def test_watches_starve_no_call(serve: Callable[..., Served]) -> None:
    """As many watches as there are places and a server with two workers: calls are still answered, also
    when nobody reads the watches."""
    served = serve(workers=2, watchers=6, heartbeat=1)
    held = [watch(served) for _ in range(6)]
    for each in held:
        next(each)
    client = served.client("steward")
    started = time.monotonic()
    for _ in range(20):
        client.whoami()
    assert time.monotonic() - started < 20


def test_it_ends_when_the_server_stops(serve: Callable[..., Served]) -> None:
    served = serve(heartbeat=30, shutdown_grace=10)
    running = watch(served)
    next(running)
    ended = threading.Event()

    def read() -> None:
        try:
            for _ in running:
                pass
        except grpc.RpcError:
            pass
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    started = time.monotonic()
    served.server.stop()
    assert time.monotonic() - started < 5, "a watch kept the server waiting for its grace"
    assert ended.wait(5)


def test_the_gateway_gets_proofs_and_countersigns(served: Served) -> None:
    _, plane = gateway_of(served)
    settings = config.load(served.home.gateway("health-bureau-1"), GatewaySettings)
    beats = plane.watch()
    seen = next(beats).checkpoint
    assert seen is not None
    served.client("dpo").register_principal("new@health.example", ("steward",))
    head = served.client("dpo").checkpoint()
    sizes = [merkle.verify_checkpoint(each, evidence.read_trust(served.home.trust)) for each in (seen, head)]
    path = plane.consistency(sizes[0].tree_size, sizes[1].tree_size)
    merkle.verify_consistency(sizes[0].tree_size, sizes[1].tree_size, sizes[0].root_bytes, sizes[1].root_bytes, path)
    from contracts.envelope import Kind, countersign

    signed = countersign(Kind.CHECKPOINT, head, keyfiles.read_key(settings.signing_key))
    plane.countersign(signed)
    plane.countersign(signed)  # a repeat is the same call
    assert len(served.client("dpo").checkpoint().signatures) == 2
    beats.close()  # type: ignore[attr-defined]


def test_a_watch_ends_as_one_of_our_errors(serve: Callable[..., Served]) -> None:
    served = serve(heartbeat=1)
    _, plane = gateway_of(served)
    beats = plane.watch()
    next(beats)
    stopping = threading.Thread(target=served.server.stop)
    stopping.start()
    with contextlib.suppress(SluicegateError):
        list(beats)
    stopping.join(20)
    with refused(Reason.UNAVAILABLE):
        next(plane.watch())


# --- connections that are lost without a word: neither side is told ---------------------------


def test_a_watch_that_falls_silent_is_given_up_and_the_next_one_is_heard(serve: Callable[..., Served]) -> None:
    served = serve(heartbeat=1)
    with behind_a_firewall(served) as (network, endpoint):
        _, plane = gateway_of(served, endpoint, patience=2.5)
        beats = plane.watch()
        assert [next(beats).stopped for _ in range(4)] == [frozenset()] * 4, "each beat begins the patience anew"
        network.freeze()
        started = time.monotonic()
        with refused(Reason.DEADLINE_EXCEEDED) as caught:
            list(beats)
        assert "fell silent" in caught.value.message
        assert time.monotonic() - started < 12, "that is when the connection itself is found dead"
        # The same network, and nobody was told that the old connection is dead: the next watch has one of its own.
        assert next(plane.watch()).stopped == frozenset()


def test_a_watch_that_never_begins_is_given_up(served: Served) -> None:
    """Somebody listens there, and says nothing at all: the connection itself never comes about."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        _, plane = gateway_of(served, f"localhost:{listener.getsockname()[1]}", patience=0.5)
        started = time.monotonic()
        with refused(Reason.DEADLINE_EXCEEDED):
            next(plane.watch())
        assert time.monotonic() - started < 12


def test_calls_find_out_that_their_connection_is_lost(
    serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "ALIVE", sooner(connection.ALIVE))
    served = serve()
    with behind_a_firewall(served) as (network, endpoint):
        _, plane = gateway_of(served, endpoint, timeout=30)
        assert plane.consistency(1, 2)
        network.freeze()
        started = time.monotonic()
        assert plane.consistency(1, 3)
        assert time.monotonic() - started < 20, "the call was lost with its connection, and not made again"


def test_a_gateway_that_went_without_a_word_keeps_no_place(
    serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "OPTIONS", sooner(server.OPTIONS))
    served = serve(watchers=1, heartbeat=1)
    with behind_a_firewall(served) as (network, endpoint):
        _, lost = gateway_of(served, endpoint)
        beats = lost.watch()
        next(beats)
        network.freeze()
        assert refused_call(lambda: next(watch(served))).reason is Reason.RATE_LIMITED
        a_place_comes_free(served, "the place of a gateway that is gone is not given back", seconds=20)


def test_no_token_means_no_watch(served: Served) -> None:
    settings = config.load(served.home.gateway("health-bureau-1"), GatewaySettings)
    token = replace(settings.token, issuer="", issuer_key=None)
    connection = Connection(served.endpoint, ca=settings.exchange_ca, token=TokenSource(token, "x"), timeout=5)
    with refused(Reason.TOKEN_MISSING):
        next(GrpcControlPlane(connection, GATEWAY, patience=60).watch())
    connection.close()

"""The server itself: health, reflection, where it listens, how it ends."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from contracts.errors import Reason
from exchange.app import exchange_server
from exchange.rpc.server import SERVICES
from tests.halls import refused
from tests.rpc.served import Served

SIX = [f"exchange.v1.{name}Service" for name in ("Party", "Catalog", "Request", "Agreement", "Transfer", "Ledger")]
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def test_there_are_six_services() -> None:
    assert SERVICES == SIX


def test_reflection_lists_and_describes_them_without_a_token(served: Served) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(served.channel())
    asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
    asked += [reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in SIX]
    listed, *described = stub.ServerReflectionInfo(iter(asked), timeout=10)
    names = {service.name for service in listed.list_services_response.service}
    assert names == {*SIX, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    assert all(answer.file_descriptor_response.file_descriptor_proto for answer in described)


def test_health_tells_when_it_serves(serve: Callable[..., Served]) -> None:
    served = serve(started=False)
    stub = health_pb2_grpc.HealthStub(served.channel())
    told: list[int] = []
    first, last = threading.Event(), threading.Event()

    def watch() -> None:
        for answer in stub.Watch(health_pb2.HealthCheckRequest(service=""), wait_for_ready=True):
            told.append(answer.status)
            (first if answer.status == SERVING else last).set()

    def watching() -> None:
        try:
            watch()
        except grpc.RpcError:
            last.set()

    thread = threading.Thread(target=watching)
    thread.start()
    served.server.start()
    assert first.wait(10)
    for name in ("", *SIX):
        assert stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5).status == SERVING
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(health_pb2.HealthCheckRequest(service="exchange.v1.NoService"), timeout=5)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND  # type: ignore[attr-defined]
    served.server.stop()
    thread.join(10)
    assert last.is_set()
    assert told[-2:] == [SERVING, NOT_SERVING]


def test_before_it_starts_it_says_not_serving(serve: Callable[..., Served]) -> None:
    """The servicer's own answer, as it is before `start`."""
    served = serve(started=False)
    answer = served.server._health.Check(health_pb2.HealthCheckRequest(service=""), None)
    assert answer.status == NOT_SERVING
    served.server.start()


def test_a_running_call_ends_well_when_the_server_stops(served: Served) -> None:
    client = served.client("steward")
    answers: list[str] = []
    begun = threading.Event()

    def ask() -> None:
        while True:
            try:
                answers.append(client.whoami().name)
            except Exception as error:
                answers.append(str(getattr(error, "reason", error)))
                break
            finally:
                begun.set()

    thread = threading.Thread(target=ask)
    thread.start()
    begun.wait(10)
    served.server.stop()
    thread.join(60)
    assert answers[0] == "parties/health-bureau/principals/steward@health.example"
    assert answers[-1] in ("UNAVAILABLE", "CANCELLED")
    assert len(set(answers)) == 2


def test_it_says_what_keeps_it_from_listening(serve: Callable[..., Served], served: Served) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with refused(Reason.CONFIG_INVALID):
            serve(listen=f"127.0.0.1:{taken.getsockname()[1]}")
    with refused(Reason.CONFIG_INVALID):
        serve(tls_certificate=Path("/nowhere/cert.pem"))


def test_plaintext_is_for_loopback(serve: Callable[..., Served]) -> None:
    with refused(Reason.CONFIG_UNSAFE):
        serve(listen="0.0.0.0:0", unsafe_plaintext=True)
    served = serve(unsafe_plaintext=True)
    from msgspec.structs import replace

    from exchange.client import Exchange

    with Exchange(replace(served.profile("steward"), unsafe_plaintext=True)) as client:
        assert client.whoami().roles == ("steward",)
    with refused(Reason.CONFIG_UNSAFE):
        Exchange(replace(served.profile("steward"), unsafe_plaintext=True, endpoint="example.org:443"))


def test_a_tls_key_that_lies_open_is_refused(served: Served) -> None:
    served.settings.tls_key.chmod(0o644)
    with refused(Reason.CONFIG_UNSAFE):
        exchange_server(served.settings)


def test_two_of_them_serve_one_store(served: Served) -> None:
    """A second process on the same database answers alike: nothing is kept in memory."""
    second = exchange_server(served.settings)
    second.start()
    try:
        other = Served(served.home, served.settings, second)
        served.client("dpo").register_principal("new@health.example", ("steward",))
        assert "new@health.example" in {each.name.split("/")[-1] for each in other.client("dpo").principals()}
        other.close()
    finally:
        second.stop()


def test_stopping_is_quick_when_nothing_runs(served: Served) -> None:
    started = time.monotonic()
    served.server.stop()
    assert time.monotonic() - started < 3

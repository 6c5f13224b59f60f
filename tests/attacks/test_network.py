"""Anyone on the network: a connection to both ports, the gRPC exchange's and the Flight gateway's, and
the time of day. No key, no token, no ticket."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
import time
import warnings
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pyarrow.flight as fl
import pytest
from msgspec.structs import replace

from connectors import tls
from connectors.consumer import pull
from connectors.gateway.flight import MAX_ORDER
from contracts.errors import Reason, SluicegateError
from exchange.client import Exchange
from exchange.rpc.server import OPTIONS
from tests.attacks.conftest import REGISTRY, Attacked
from tests.attacks.wires import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Peak,
    connected,
    frame,
    headers,
    heard,
    trusting,
)
from tests.e2e.city import eventually, free_ports
from tests.e2e.proxy import Proxy
from tests.e2e.steps import Fetching, refused

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("attacks")]

PORTS = ("exchange", REGISTRY)
SHAKEN = PREFACE + frame(SETTINGS)
MOST_MEGABYTES = 64


def port_of(attacked: Attacked, name: str) -> int:
    return int(attacked.city.town.addresses[name].rpartition(":")[2])


def certificate_of(attacked: Attacked) -> Path:
    """What the grants for the gateway name as its certificate."""
    return attacked.city.home.gateway(REGISTRY).parent / "tls" / "cert.pem"


def gate_of(attacked: Attacked) -> fl.FlightClient:
    """Somebody else's honest connection to the gateway, of its own."""
    ca = certificate_of(attacked).read_bytes()
    address = f"grpc+tls://localhost:{port_of(attacked, REGISTRY)}"
    return fl.FlightClient(address, tls_root_certs=ca, generic_options=[("grpc.use_local_subchannel_pool", 1)])


def others_are_served(attacked: Attacked) -> None:
    """At both ports, on connections that are opened now."""
    with Exchange(attacked.city.home.profile("planner")) as planner:
        assert "requester" in planner.whoami().roles
    with gate_of(attacked) as client:
        (answer,) = client.do_action(fl.Action("health", b""), fl.FlightCallOptions(timeout=20))
        assert b'"serving": true' in answer.body.to_pybytes()


# --- who is at the other end


def answers_in_the_clear(port: int) -> bool:
    """Whether anything but an alert of TLS comes back to who begins to speak gRPC in the clear."""
    with socket.create_connection(("127.0.0.1", port), 10) as plain:
        plain.sendall(SHAKEN)
        return heard(plain)[:1] not in (b"", b"\x15")


@pytest.mark.parametrize("name", PORTS)
def test_speaks_without_tls(attacked: Attacked, name: str) -> None:
    """Nothing is said in the clear, not even that gRPC is spoken here."""
    assert not answers_in_the_clear(port_of(attacked, name))
    # The same servers do answer where plaintext was asked for.
    if name == "exchange":
        plain = grpc.server(futures.ThreadPoolExecutor(1), options=OPTIONS)
        port = plain.add_insecure_port("127.0.0.1:0")
        plain.start()
        assert answers_in_the_clear(port)
        plain.stop(0).wait()
    else:
        with fl.FlightServerBase("grpc://127.0.0.1:0") as gateway:
            assert answers_in_the_clear(gateway.port)


def shakes_hands(port: int, version: ssl.TLSVersion) -> bool:
    """Whether the server speaks this version of TLS with who offers no other."""
    context = trusting()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    try:
        with connected(port, context) as end:
            return end.version() is not None
    except (ssl.SSLError, ConnectionResetError):
        return False


OLD = (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1)


@pytest.mark.parametrize("name", PORTS)
def test_offers_an_old_version_of_tls(attacked: Attacked, tmp_path: Path, name: str) -> None:
    """TLS 1.2 or 1.3, nothing older; and whoever does speak the old versions would be found out."""
    port = port_of(attacked, name)
    assert [shakes_hands(port, version) for version in (*OLD, ssl.TLSVersion.TLSv1_2)] == [False, False, True]
    with Stranger(tmp_path, tls.self_signed(now=int(time.time())), oldest=ssl.TLSVersion.TLSv1) as stranger:
        assert [shakes_hands(stranger.port, version) for version in OLD] == [True, True]


class Stranger:
    """A TLS server with a certificate of its own that keeps what it is told."""

    def __init__(
        self, folder: Path, pair: tuple[bytes, bytes], *, oldest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    ) -> None:
        (folder / "cert.pem").write_bytes(pair[0])
        (folder / "key.pem").write_bytes(pair[1])
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        self._context.set_alpn_protocols(["h2"])
        if oldest < ssl.TLSVersion.TLSv1_2:
            self._context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            self._context.minimum_version = oldest
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.told, self.visitors = b"", 0
        threading.Thread(target=self._listen, daemon=True).start()

    def __enter__(self) -> Stranger:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                self.visitors += 1
                with contextlib.suppress(OSError), self._context.wrap_socket(plain, server_side=True) as end:
                    self.told += heard(end, 0.3)


@pytest.mark.parametrize("name", PORTS)
@pytest.mark.parametrize("certificate", ["foreign", "for another name"])
def test_answers_in_the_place_of_a_server(attacked: Attacked, tmp_path: Path, name: str, certificate: str) -> None:
    """A client pins its exchange's certificate, and a gateway's is named in the grant: neither token nor
    ticket is told to anybody else, not even to whom a trusted authority certified under another name."""
    pair = tls.self_signed(
        ["other.example"] if certificate == "for another name" else tls.LOOPBACK, now=int(time.time())
    )
    pinned = attacked.city.home.root / "ca.pem" if name == "exchange" else certificate_of(attacked)
    if certificate == "for another name":
        pinned = tmp_path / "pinned.pem"
        pinned.write_bytes(pair[0])
    with Stranger(tmp_path, pair) as stranger:
        if name == "exchange":
            endpoint = f"localhost:{stranger.port}"
            profile = replace(attacked.city.home.profile("planner"), endpoint=endpoint, ca=pinned, timeout=3)
            with Exchange(profile) as planner:
                refused(planner.whoami, Reason.UNAVAILABLE)
        else:
            address = f"grpc+tls://localhost:{stranger.port}"
            refused(lambda: pull.end(address, pinned.read_bytes(), b"the ticket"), Reason.UNAVAILABLE)
        assert stranger.visitors
        assert stranger.told == b""


class Meddler(Proxy):
    """Passes everything on; once told to, it turns one bit of each answer."""

    meddling, spoils = False, 0

    def spoilt(self, raw: bytes) -> bytes:
        """The bytes on their way to the client."""
        if not self.meddling:
            return raw
        self.spoils += 1
        return raw[:-1] + bytes([raw[-1] ^ 1])


@pytest.mark.parametrize("name", PORTS)
def test_flips_a_bit_on_the_way(attacked: Attacked, name: str) -> None:
    """What was changed on the way is not an answer: TLS authenticates every record."""
    port = free_ports(1)
    with Meddler(port, port_of(attacked, name)) as meddler, contextlib.ExitStack() as stack:
        if name == "exchange":
            profile = replace(attacked.city.home.profile("planner"), endpoint=f"localhost:{port}", timeout=3)
            ask: Any = stack.enter_context(Exchange(profile)).whoami
        else:
            ca = certificate_of(attacked).read_text()
            fetching = stack.enter_context(Fetching(*_no_grant(), address=f"grpc+tls://localhost:{port}", ca=ca))
            ask = lambda: _health(fetching)  # noqa: E731
        ask()
        meddler.meddling = True
        refused(ask, Reason.UNAVAILABLE, Reason.DEADLINE_EXCEEDED, Reason.INTERNAL)
        assert meddler.spoils
        meddler.meddling = False
        eventually(lambda: answers(ask), "once nobody meddles any more, it answers again")


def answers(ask: Any) -> bool:
    try:
        ask()
    except SluicegateError:
        return False
    return True


def _no_grant() -> tuple[Any, bytes]:
    class Granted:
        name = "transfers/t-none"

    return Granted, b""


def _health(fetching: Fetching) -> None:
    from connectors.calling import told

    try:
        list(fetching.client.do_action(fl.Action("health", b""), fl.FlightCallOptions(timeout=3)))
    except (fl.FlightError, pa.ArrowException) as error:
        raise told(error) from None


# --- what is said

HOSTILE = {
    "random bytes": os.urandom(100_000),
    "a preface and random bytes": PREFACE + os.urandom(100_000),
    "a frame of 16 MiB": SHAKEN + frame(DATA, b"x" * 50_000, stream=1, length=0xFFFFFF),
    "frames of an unknown kind": SHAKEN + frame(0xFE, b"abcd") * 5_000,
    "resets of streams that are not there": SHAKEN + frame(RST_STREAM, b"\0\0\0\0", stream=1) * 5_000,
    "20,000 settings": SHAKEN + frame(SETTINGS) * 20_000,
    "calls begun and reset": SHAKEN
    + b"".join(
        frame(HEADERS, headers("/x/Y"), stream=n, flags=END_HEADERS) + frame(RST_STREAM, b"\0\0\0\x08", stream=n)
        for n in range(1, 401, 2)
    ),
}
ANY_CALL = frame(HEADERS, headers("/x/Y"), stream=1, flags=END_HEADERS)
FLOODS = {
    "pings": SHAKEN + frame(PING, b"abcdefgh") * 20_000,
    "answers to pings that nobody sent": SHAKEN + frame(PING, b"abcdefgh", flags=ACK) * 20_000,
    "headers without end": SHAKEN
    + frame(HEADERS, b"\x82", stream=1)
    + frame(CONTINUATION, b"\0" * 16_384, stream=1) * 400,
    "empty continuations": SHAKEN + frame(HEADERS, b"\x82", stream=1) + frame(CONTINUATION, stream=1) * 100_000,
    "settings": SHAKEN + frame(SETTINGS, b"\0\4\0\1\0\0" * 100) * 2_000,
    "empty data": SHAKEN + ANY_CALL + frame(DATA, stream=1) * 100_000,
    "window updates": SHAKEN + ANY_CALL + frame(WINDOW_UPDATE, b"\0\0\0\1", stream=1) * 60_000,
    "window updates of the connection": SHAKEN + frame(WINDOW_UPDATE, b"\0\0\0\1") * 60_000,
}


@pytest.mark.parametrize("name", PORTS)
def test_sends_hostile_frames(attacked: Attacked, name: str) -> None:
    """Frames that break every rule, before and after the handshake of TLS: others are served meanwhile,
    and the memory that they take is bounded."""
    port, pid = port_of(attacked, name), attacked.city.town.processes[name].pid
    with Peak(pid) as peak, contextlib.ExitStack() as stack:
        plain = stack.enter_context(socket.create_connection(("127.0.0.1", port), 10))
        plain.sendall(os.urandom(5_000))
        for raw in HOSTILE.values():
            end = stack.enter_context(connected(port))
            with contextlib.suppress(OSError):
                end.sendall(raw)
                heard(end, 0.2)
        others_are_served(attacked)
    assert peak.megabytes < MOST_MEGABYTES
    assert attacked.city.town.processes[name].poll() is None


@pytest.mark.parametrize("name", PORTS)
@pytest.mark.parametrize("flood", FLOODS)
def test_floods(attacked: Attacked, name: str, flood: str) -> None:
    """Both ports answer or hang up; they do not pile up what comes. The gateway once took gigabytes for
    pings: its gRPC freed into another allocator than it had taken from (decision 34)."""
    with Peak(attacked.city.town.processes[name].pid) as peak:
        for _ in range(3):
            with contextlib.suppress(OSError), connected(port_of(attacked, name)) as end:
                end.sendall(FLOODS[flood])
                heard(end, 0.3)
        others_are_served(attacked)
    assert peak.megabytes < MOST_MEGABYTES
    assert attacked.city.town.processes[name].poll() is None


def test_begins_and_resets_calls_at_the_exchange(attacked: Attacked) -> None:
    """Rapid resets: the exchange has workers for so many calls, and none for the rest. The gateway does not
    hold this: see "What remains possible"."""
    call = headers("/exchange.v1.PartyService/WhoAmI")
    resets = b"".join(
        frame(HEADERS, call, stream=n, flags=END_HEADERS) + frame(RST_STREAM, b"\0\0\0\x08", stream=n)
        for n in range(1, 40_001, 2)
    )
    with Peak(attacked.city.town.processes["exchange"].pid) as peak:
        for _ in range(3):
            with contextlib.suppress(OSError), connected(port_of(attacked, "exchange")) as end:
                end.sendall(SHAKEN + resets)
                heard(end, 0.3)
        others_are_served(attacked)
    assert peak.megabytes < MOST_MEGABYTES


def test_sends_the_gateway_too_much(attacked: Attacked) -> None:
    """Tickets, orders and headers beyond any honest size are refused before they are looked into."""
    pid = attacked.city.town.processes[REGISTRY].pid
    with Peak(pid) as peak, gate_of(attacked) as client:
        big, timeout = b"[" * (1 << 20), fl.FlightCallOptions(timeout=20)
        for ask in (
            lambda: client.get_flight_info(fl.FlightDescriptor.for_command(big), timeout),
            lambda: client.do_get(fl.Ticket(big), timeout).read_all(),
            lambda: list(client.do_action(fl.Action("receipt", big), timeout)),
            lambda: list(client.do_action(fl.Action("suspend", b"[" * (MAX_ORDER + 1)), timeout)),
        ):
            with pytest.raises(fl.FlightError, match="TOO_LARGE: "):
                ask()
        fat = fl.FlightCallOptions(timeout=20, headers=[(b"x-filler", b"y" * 1_000_000)])
        with pytest.raises((fl.FlightError, pa.ArrowException)):
            list(client.do_action(fl.Action("health", b""), fat))
    assert peak.megabytes < MOST_MEGABYTES
    others_are_served(attacked)


# --- how long it takes


@pytest.mark.parametrize("name", PORTS)
def test_opens_many_connections_and_dawdles(attacked: Attacked, name: str) -> None:
    """Without a handshake, within the headers, before the message: others are served meanwhile."""
    port = port_of(attacked, name)
    method = "/exchange.v1.PartyService/WhoAmI" if name == "exchange" else "/arrow.flight.protocol.FlightService/DoGet"
    begun = frame(HEADERS, headers(method), stream=1, flags=END_HEADERS)
    with Peak(attacked.city.town.processes[name].pid) as peak, contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), 10))
        for said in [SHAKEN + begun[:20]] * 40 + [SHAKEN + begun] * 40:
            stack.enter_context(connected(port)).sendall(said)
        others_are_served(attacked)
    assert peak.megabytes < 2 * MOST_MEGABYTES

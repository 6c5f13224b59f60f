"""The exchange as strangers and insiders reach it: every method of a running server, called over TLS with
messages of a recorded day that were spoilt, and signed again where the caller could.

An input is a line and a message: `PartyService.CreateParty admin fresh sign`, a line feed, the message's bytes.
`fresh` gives it a request id of its own, `sign` has its papers signed again by who signed them. A line that
says nothing of that kind calls some method as somebody.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import random
import shutil
import tempfile
import time
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import grpc
import msgspec
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message

from contracts.envelope import Envelope, SigningKey
from contracts.errors import Reason, SluicegateError
from contracts.instants import rfc3339
from contracts.trust import PartyKind
from exchange import config, keyfiles
from exchange.app import RunningGateway, exchange_server
from exchange.config import DatasetSettings, ExchangeSettings, GatewaySettings
from exchange.connection import Connection, TokenSource
from exchange.founding import Ports, bind, found
from exchange.home import Founder, Home
from exchange.identity import jwk_set
from exchange.rpc.alarm import Alarm
from exchange.rpc.server import SERVICES
from exchange.rpc.status import from_rpc_error
from tests.attacks.marks import Marks
from tests.connectors.gate import Entropy
from tests.e2e.city import CONTRACTS, free_ports
from tests.e2e.conftest import people
from tests.fuzz.mutating import signed_anew, spoilt, spoilt_message
from tests.fuzz.watching import Find, Watch
from tests.rpc.served import Served

GATEWAY, ROWS = "registry-1", 600
PEOPLE = (
    Founder("city-data-office", PartyKind.COORDINATION, {"mediator@cdo.example": ("mediator", "admin", "auditor")}),
    Founder("registry-office", PartyKind.DEPARTMENT, {"keeper@registry.example": ("steward", "admin")}, GATEWAY),
    Founder("harbour-analytics", PartyKind.COMPANY, {"analyst@harbour.example": ("requester", "admin")}),
)
CALLERS = ("keeper", "analyst", "mediator", GATEWAY)
METHODS: dict[str, MethodDescriptor] = {
    f"{method.containing_service.name}.{method.name}": method
    for name in SERVICES
    for method in descriptor_pool.Default().FindServiceByName(name).methods
}
NAMES = tuple(METHODS)
TIMEOUT = 30


@dataclass
class Hall:
    """The running exchange, what a day there sounded like, and everybody's keys."""

    served: Served
    gateway: RunningGateway
    channel: grpc.Channel
    keys: dict[str, SigningKey] = field(default_factory=dict)  # by kid
    recorded: list[bytes] = field(default_factory=list)
    tokens: dict[str, TokenSource] = field(default_factory=dict)
    watch: Watch = field(default_factory=Watch)


@functools.cache
def hall() -> Hall:
    """The exchange of this process, founded once with the same keys each time, with one day behind it."""
    folder = Path(tempfile.mkdtemp(prefix="fuzzed-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    home = Home(folder / "home")
    base = free_ports(2)
    ports = Ports(exchange=base, gateway=base + 1)
    found(home, PEOPLE, now=int(time.time()) - 60, entropy=Entropy("fuzzed"), ports=ports)
    settings = msgspec.structs.replace(
        config.load(home.exchange, ExchangeSettings),
        calls_per_minute=10**9,
        refusals_per_minute=10**9,
        heartbeat=1,
    )
    served = Served(home, settings, exchange_server(settings))
    served.server.start()
    people(ROWS).write_parquet(folder / "people.parquet")
    bind(home.gateway(GATEWAY), "people", DatasetSettings(path=folder / "people.parquet", format="parquet"))
    gate = config.load(home.gateway(GATEWAY), GatewaySettings)
    made = Hall(served, RunningGateway(gate, home.gateway(GATEWAY)), served.channel())
    made.tokens = {name: TokenSource(home.profile(name).token, home.profile(name).subject) for name in CALLERS[:3]}
    made.tokens[GATEWAY] = TokenSource(gate.token, gate.subject)
    for file in home.root.rglob("*.jwk"):
        key = keyfiles.read_key(file)
        made.keys[key.kid] = key
    with _recorded(made):
        _a_day(made)
    made.watch = Watch(mark for marks in Marks.of(home.root).marks.values() for mark in marks)
    return made


@contextlib.contextmanager
def _recorded(made: Hall) -> Iterator[None]:
    """Keep what anybody's client or gateway sends meanwhile, as inputs."""
    call, stream = Connection.call, Connection.stream

    def caller(connection: Connection) -> str:
        subject = connection._token._subject  # type: ignore[attr-defined]
        return next((name for name in CALLERS if subject.startswith(name)), CALLERS[0])

    def keep(connection: Connection, method: Any, message: Message) -> None:
        name = method._method.decode().rsplit("/", 1)
        line = f"{name[0].rsplit('.', 1)[-1]}.{name[1]} {caller(connection)}"
        made.recorded.append(_input(line, message))

    def called(self: Connection, method: Any, message: Message, **options: Any) -> Any:
        keep(self, method, message)
        return call(self, method, message, **options)

    def streamed(self: Connection, method: Any, message: Message, silence: Alarm) -> Any:
        keep(self, method, message)
        return stream(self, method, message, silence)

    with mock.patch.object(Connection, "call", called), mock.patch.object(Connection, "stream", streamed):
        yield


def _a_day(made: Hall) -> None:
    """Everything that people do, once."""
    served = made.served
    keeper, analyst, mediator = (served.client(name) for name in CALLERS[:3])
    made.gateway.start()
    keeper.publish((CONTRACTS / "people.odcs.yaml").read_bytes(), gateway=GATEWAY)
    asked = analyst.request("registry-office/people", purpose="planning", reason="another day")
    analyst.cancel(asked.name)
    asked = analyst.request("registry-office/people", purpose="planning", reason="nor that")
    keeper.reject(asked.name, "not that day")
    asked = analyst.request("registry-office/people", purpose="planning", reason="a working day")
    keeper.approve(asked.name)
    agreement = analyst.ready(analyst.request_status(asked.name).agreement).name
    pulled = analyst.pull(agreement)
    analyst.create_transfer(agreement)
    for client in (keeper, analyst, mediator):
        client.whoami()
        list(client.parties())
        list(client.transfers())
    list(mediator.entries())
    list(mediator.search("people"))
    analyst.transfer(pulled.transfer)
    mediator.create_party(
        "tram-lines",
        kind="company",
        root_key=json.dumps(msgspec.to_builtins(SigningKey.from_seed(b"t" * 32).public)),
        issuer="tram",
        jwks=jwk_set(SigningKey.from_seed(b"u" * 32).public),
        admin="boss@tram.example",
    )
    keeper.register_principal("clerk@registry.example", ("steward",))
    until = rfc3339(int(time.time()) + 3600)
    keeper.suspend(agreement, reason="an incident", until=until)
    keeper.resume(agreement, reason="it was none")
    list(analyst.keys()), list(analyst.gateways()), list(analyst.datasets()), list(analyst.agreements())
    analyst.gateway(f"parties/registry-office/gateways/{GATEWAY}")
    made.gateway.stop()


def _input(line: str, message: Message) -> bytes:
    return f"{line}\n".encode() + message.SerializeToString()


def _read(data: bytes) -> tuple[str, str, set[str], bytes]:
    """Method, caller, flags and message of an input."""
    line, _, body = data.partition(b"\n")
    words = line.decode("latin-1").split()
    chosen = zlib.crc32(line)
    name = words[0] if words and words[0] in METHODS else NAMES[chosen % len(NAMES)]
    who = words[1] if len(words) > 1 and words[1] in CALLERS else CALLERS[chosen % len(CALLERS)]
    return name, who, set(words[2:]), body


def seeds() -> list[bytes]:
    """The recorded day, and every method with an empty message."""
    return [*dict.fromkeys(hall().recorded), *(f"{name} keeper fresh\n".encode() for name in NAMES)]


def spoil(data: bytes, chance: random.Random) -> bytes:
    """Another call, near this one: other fields, another caller, or bytes that are no message."""
    name, who, flags, body = _read(data)
    if chance.random() < 0.1:
        return data.partition(b"\n")[0] + b"\n" + spoilt(body, chance)
    message = message_factory.GetMessageClass(METHODS[name].input_type)()
    with contextlib.suppress(DecodeError):
        message.ParseFromString(body)
    for _ in range(chance.choice((1, 1, 2, 4))):
        spoilt_message(message, chance)
    who = chance.choice(CALLERS) if chance.random() < 0.1 else who
    flags = {flag for flag in ("fresh", "sign") if chance.random() < 0.7}
    return _input(" ".join((name, who, *sorted(flags))), message)


def call(data: bytes) -> None:
    """One call. Raises Find for an answer that is our fault, or tells what is nobody's to know."""
    made = hall()
    name, who, flags, body = _read(data)
    message = message_factory.GetMessageClass(METHODS[name].input_type)()
    with contextlib.suppress(DecodeError):
        message.ParseFromString(body)
        if "fresh" in flags and "request_id" in message.DESCRIPTOR.fields_by_name:
            message.request_id = str(uuid.uuid4())
        if "sign" in flags:
            _sign(message, made)
        body = message.SerializeToString()
    try:
        said = _answer(made, METHODS[name], body, [("authorization", f"Bearer {made.tokens[who]()}")])
    except grpc.RpcError as error:
        told = f"{error.details()} {error.trailing_metadata()}".encode()
        made.watch.demand_clean(told, "an error's status")
        ours = from_rpc_error(error)
        made.watch.demand_decent(ours)
        if ours.reason in FAULTS:
            logged = " ".join(made.watch.heard.taken())[-2000:]
            raise Find(f"{name}: {ours}; {error.details()}; {logged}") from None
        return
    made.watch.demand_clean(said, f"an answer of {name}")


# What no message may bring about: our own fault, or a call that takes too long or that nobody answers.
FAULTS = frozenset({Reason.INTERNAL, Reason.DEADLINE_EXCEEDED, Reason.UNAVAILABLE, Reason.LEDGER_UNAVAILABLE})


def _answer(made: Hall, method: MethodDescriptor, body: bytes, bearer: list[tuple[str, str]]) -> bytes:
    path = f"/{method.containing_service.full_name}/{method.name}"
    if not method.server_streaming:
        return bytes(made.channel.unary_unary(path)(body, timeout=TIMEOUT, metadata=bearer))
    running = made.channel.unary_stream(path)(body, timeout=TIMEOUT, metadata=bearer)
    try:
        return bytes(next(running))
    finally:
        running.cancel()


def _sign(message: Message, made: Hall) -> None:
    """Have every paper in a message signed again."""
    for part, value in message.ListFields():
        if part.message_type and not part.is_repeated:
            _sign(value, made)
        elif part.type == part.TYPE_BYTES and not part.is_repeated:
            with contextlib.suppress(SluicegateError):
                setattr(message, part.name, signed_anew(Envelope.from_bytes(value), made.keys).to_bytes())

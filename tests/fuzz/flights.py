"""A department's gateway as strangers reach it: its Flight server over TLS, with tickets, orders and commands
that were spoilt, and signed again where the forger could have the keys.

An input is a line and a body: `do_get fresh`, a line feed, the bytes. `fresh` makes a grant that lasts out of
the one in the ticket, with an id of its own, signed by exchange and holder: what follows is looked at too.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import random
import shutil
import tempfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.flight as fl

from connectors.gateway.admission import parse_part_ticket, part_ticket
from contracts.envelope import Envelope, Kind, sign
from contracts.errors import TRAITS, Reason, SluicegateError
from contracts.instants import rfc3339
from tests import papers
from tests.connectors import reversible
from tests.connectors.gate import Gate
from tests.fuzz.mutating import spoilt
from tests.fuzz.watching import Find, Watch

VERBS = (
    "get_flight_info",
    "do_get",
    "receipt",
    "suspend",
    "reveal",
    "health",
    "other",
    "list_flights",
    "get_schema",
    "do_put",
)
TIMEOUT = fl.FlightCallOptions(timeout=60)
# Words that begin each name, number and postcode of the department's table; none of them may leave. Long enough that
# no signature has one by chance.
CELLS = (b"CID00", b"NAME00", b"10K00", b"11K00", b"19:00:02")


@dataclass
class Door:
    """The running gateway, and a client of it."""

    gate: Gate
    client: fl.FlightClient
    watch: Watch
    calls: int = 0
    suspended: bool = False
    seeds: list[bytes] = field(default_factory=list)


@functools.cache
def door() -> Door:
    """The gateway of this process, which has served one transfer whole."""
    folder = Path(tempfile.mkdtemp(prefix="fuzzed-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    gate = reversible.make_gate(folder, rows={"people": 100}, part_bytes=8 << 10)
    gate.start()
    atexit.register(gate.stop)
    keys = [papers.key(owner) for owner in (papers.GATEWAY, "grant", f"holder:{gate.papers.consumer}", papers.STEWARD)]
    secrets = [key._private.private_bytes_raw() for key in keys]
    secrets.append(bytes.fromhex((folder / "keys" / "master.key").read_text()))
    made = Door(gate, gate.client(), Watch([*secrets, *CELLS]))
    ticket = gate.ticket()
    parts = [part_ticket(Envelope.from_bytes(ticket), number) for number in (0, 1)]
    order = gate.order(until=gate.clock() + 3600)
    opening = reversible.order(gate).to_bytes()
    made.seeds = [
        *(
            f"{verb} {flag}\n".encode() + ticket
            for verb in ("get_flight_info", "receipt")
            for flag in ("as-is", "fresh")
        ),
        *(f"do_get {flag}\n".encode() + part for flag in ("as-is", "fresh") for part in parts),
        b"suspend fresh\n" + order,
        b"suspend as-is\n" + order,
        *(f"reveal {flag}\n".encode() + opening for flag in ("as-is", "fresh")),
        *(f"{verb} as-is\n".encode() + b"x" for verb in ("health", "other", "list_flights", "get_schema", "do_put")),
    ]
    return made


def seeds() -> list[bytes]:
    """Each call, with what belongs to it, as it is and made anew."""
    return door().seeds


def spoil(data: bytes, chance: random.Random) -> bytes:
    """Another call, near this one."""
    line, _, body = data.partition(b"\n")
    verb, flag = _read(line)
    verb = chance.choice(VERBS) if chance.random() < 0.1 else verb
    flag = chance.choice(("as-is", "fresh")) if chance.random() < 0.3 else flag
    return f"{verb} {flag}\n".encode() + (spoilt(body, chance) if chance.random() < 0.95 else body)


def _read(line: bytes) -> tuple[str, str]:
    words = line.decode("latin-1").split()
    verb = words[0] if words and words[0] in VERBS else VERBS[zlib.crc32(line) % len(VERBS)]
    return verb, words[1] if len(words) > 1 else "as-is"


def flight(data: bytes) -> None:
    """One call. Raises Find for what is our fault, or tells what is nobody's to know."""
    made = door()
    line, _, body = data.partition(b"\n")
    verb, flag = _read(line)
    if flag == "fresh":
        body = _anew(made.gate, verb, body)
    made.calls += 1
    if made.calls % 20 == 0:  # the exchange is heard, and time goes on: grants expire, transfers end
        made.gate.clock.now += 30
        made.gate.hear()
    try:
        said = _said(made.client, verb, body)
    except (fl.FlightError, pa.ArrowException, OSError) as error:
        _demand_told(made, verb, error)
    else:
        made.watch.demand_clean(said, f"an answer to {verb}")
    if verb == "suspend":
        _resumed(made.gate)


def _said(client: fl.FlightClient, verb: str, body: bytes) -> bytes:
    if verb == "get_flight_info":
        info = client.get_flight_info(fl.FlightDescriptor.for_command(body), TIMEOUT)
        return bytes(info.app_metadata) + b"".join(end.ticket.ticket for end in info.endpoints)
    if verb == "do_get":
        table = client.do_get(fl.Ticket(body), TIMEOUT).read_all()
        return b"".join(bytes(part) for column in table.columns for chunk in column.chunks for part in _buffers(chunk))
    if verb == "list_flights":
        return repr(list(client.list_flights(body, TIMEOUT))).encode()
    if verb == "get_schema":
        return repr(client.get_schema(fl.FlightDescriptor.for_command(body), TIMEOUT)).encode()
    if verb == "do_put":
        writer, _ = client.do_put(fl.FlightDescriptor.for_command(body), pa.schema([("a", pa.int8())]), TIMEOUT)
        writer.close()
        return b""
    kind = body[:40].decode("latin-1") if verb == "other" else verb
    return b"".join(result.body.to_pybytes() for result in client.do_action(fl.Action(kind, body), TIMEOUT))


def _buffers(chunk: pa.Array) -> list[pa.Buffer]:
    return [part for part in chunk.buffers() if part is not None]


def _demand_told(made: Door, verb: str, error: Exception) -> None:
    """The error is one of our reasons with its fixed sentence. Raises Find."""
    text = str(error)
    made.watch.demand_clean(text.encode(errors="replace"), f"an error of {verb}")
    word = text.split(":")[0]
    if verb == "do_put" and word not in Reason.__members__:
        return  # the library's own word: the stream was refused before it began
    if word not in Reason.__members__ or not text.startswith(f"{word}: {TRAITS[Reason(word)].meaning} ["):
        raise Find(f"{verb}: {text[:500]}")
    if Reason(word) in (Reason.INTERNAL, Reason.UNAVAILABLE, Reason.SOURCE_UNAVAILABLE, Reason.PLAN_REFUSED):
        raise Find(f"{verb}: {text[:500]} {made.watch.heard.taken()[-1:]}")


def _anew(gate: Gate, verb: str, body: bytes) -> bytes:
    """The ticket in the body with a grant of today, or the order of today, each signed by whom it needs."""
    with contextlib.suppress(SluicegateError, ValueError, TypeError, KeyError):
        if verb == "suspend":
            payload = Envelope.from_bytes(body).payload
            return sign(Kind.REVOCATION, payload | {"at": rfc3339(gate.clock())}, papers.key(papers.STEWARD)).to_bytes()
        if verb == "reveal":
            payload = Envelope.from_bytes(body).payload | {"at": rfc3339(gate.clock())}
            return sign(Kind.REVEAL, payload, papers.key(papers.STEWARD), papers.key(papers.DPO)).to_bytes()
        ticket, part = parse_part_ticket(body) if verb == "do_get" else (body, None)
        proof = Envelope.from_bytes(ticket).payload
        fresh = gate.grant()
        shown: Any = proof["grant"]["payload"]
        named = {name: fresh.payload[name] for name in ("id", "transfer", "issued", "expires") if name in shown}
        grant = sign(Kind.GRANT, {**shown, **named}, papers.key("grant"))
        payload = {**proof, "grant": msgspec.to_builtins(grant), "created": rfc3339(gate.clock())}
        anew = sign(Kind.PROOF, payload, gate.papers.holder)
        if verb != "get_flight_info":  # parts and receipts are of transfers that were begun
            with contextlib.suppress(fl.FlightError, OSError):
                door().client.get_flight_info(fl.FlightDescriptor.for_command(anew.to_bytes()), TIMEOUT)
        return anew.to_bytes() if part is None else part_ticket(anew, part)
    return body


def _resumed(gate: Gate) -> None:
    """The department takes its stop back, so that something is served again."""
    gate.clock.now += 1
    lifted = gate.order(until=None, lifted=True)
    with contextlib.suppress(SluicegateError):
        gate.gateway.suspend(lifted)

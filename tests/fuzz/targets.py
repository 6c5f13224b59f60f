"""What strangers' bytes reach first: every parser and verifier, with good examples to begin from.

A target may return or raise a `SluicegateError`; anything else is a find. The error's text is short and
has no control character in it, whatever the input was: it goes to logs and terminals.
"""

from __future__ import annotations

import base64
import functools
import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from cryptography.hazmat.primitives.asymmetric import ed25519

from connectors import digest
from connectors.admission import parse_part_ticket, part_ticket
from contracts import evidence, merkle, odcs, receipt
from contracts.envelope import Envelope, Kind, verify
from contracts.errors import SluicegateError
from contracts.receipt import PartDigest
from contracts.trust import PartyKind
from exchange import identity
from exchange.identity import Authenticator, Issuer
from tests import papers
from tests.papers import NOW, key

ROOT = Path(__file__).resolve().parents[2]
CORPUS = Path(__file__).parent / "corpus"
LONGEST_TEXT = 100_000  # a contract's thousand violations, each of a line
ISSUER, SUBJECT, AUDIENCE = "https://issuer.health-bureau.example", "steward@health.example", "sluicegate-exchange"


@dataclass(frozen=True)
class Target:
    """One entrance: its name, what it does with bytes, and good examples."""

    name: str
    run: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]


@functools.cache
def made() -> papers.Papers:
    """One agreement and its transfer, all papers good."""
    return papers.make()


def contract(data: bytes) -> object:
    """A contract somebody wants to publish, or a client was given."""
    return odcs.load(data).contract


def envelope(data: bytes) -> object:
    """A signed paper of any kind, by anybody."""
    parsed = Envelope.from_bytes(data)
    return [_quiet(lambda kind=kind: verify(kind, parsed, _keys())) for kind in Kind]


@functools.cache
def _keys() -> list[Any]:
    trust = made().trust
    return [*(party.root for party in trust.parties.values()), trust.grant_key, trust.checkpoint_key]


def evidence_file(data: bytes) -> object:
    """An evidence file that an auditor was given."""
    return evidence.verify(evidence.EvidenceBundle.from_bytes(data), made().trust, at=NOW + 120)


def token(data: bytes) -> object:
    """A bearer token of any call."""
    return _authenticator().authenticate(data.decode("latin-1"))


def ticket(data: bytes) -> object:
    """A ticket, and a part's ticket, shown to a gateway."""
    _quiet(lambda: parse_part_ticket(data))
    receipt.claimed_grant(data)
    agreed = made().agreed
    return receipt.verify_ticket(data, trust=made().trust, agreement=agreed, gateway=papers.GATEWAY, now=NOW)


def ledger_proof(data: bytes) -> object:
    """Inclusion and consistency proofs that an exchange shows."""
    try:
        proof = msgspec.json.decode(data, type=evidence.LedgerProof)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    _quiet(lambda: evidence.verify_ledger(proof, made().trust))
    # Anybody can show any path, for any two trees.
    path = [item.encode()[:32] for item in proof.path]
    first, second, root = abs(proof.index), len(proof.entry), proof.salt.encode()[:32].ljust(32)
    return _quiet(lambda: merkle.verify_consistency(first, second, root, root, path))


def data_file(data: bytes) -> object:
    """A file that came with a receipt."""
    with tempfile.NamedTemporaryFile(suffix=".data") as file:
        Path(file.name).write_bytes(data)
        return digest.of_file(Path(file.name), SCHEMA, [PartDigest(rows=3, digest="blake3:" + "0" * 64)], "blake3")


SCHEMA = [("name", "string"), ("score", "int64")]


@functools.cache
def _ed25519() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.from_private_bytes(b"i" * 32)


@functools.cache
def _authenticator() -> Authenticator:
    public = {
        **jwt.algorithms.OKPAlgorithm.to_jwk(_ed25519().public_key(), as_dict=True),
        "kid": "ed-1",
        "alg": "EdDSA",
        "use": "sig",
    }
    issuers = {
        ISSUER: Issuer("health-bureau", PartyKind.DEPARTMENT, ISSUER, json.dumps({"keys": [public]})),
        "metro": Issuer(
            "metro-planning", PartyKind.COMPANY, "metro", identity.jwk_set(key("issuer:metro-planning").public)
        ),
    }
    people = {("health-bureau", SUBJECT): ("steward",)}
    return Authenticator(issuers.get, lambda party, subject: people.get((party, subject)), AUDIENCE, lambda: NOW)


def _tokens() -> list[bytes]:
    claims = {"iss": ISSUER, "sub": SUBJECT, "aud": AUDIENCE, "iat": NOW, "exp": NOW + 600}
    good = jwt.PyJWS().encode(
        json.dumps(claims).encode(), _ed25519(), algorithm="EdDSA", headers={"typ": "JWT", "kid": "ed-1"}
    )
    header = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT","kid":"ed-1"}').rstrip(b"=")
    return [good.encode(), header + b"." + good.split(".")[1].encode() + b"."]


def _files() -> list[bytes]:
    table = pa.table({"name": ["a", None, "ccc"], "score": pa.array([1, 2, None], pa.int64())})
    arrow, parquet = io.BytesIO(), io.BytesIO()
    with pa.ipc.new_file(arrow, table.schema) as writer:
        writer.write_table(table)
    pq.write_table(table, parquet)
    return [arrow.getvalue(), parquet.getvalue()]


def _papers() -> list[bytes]:
    one = made()
    return [
        found.to_bytes()
        for found in (
            one.statement,
            one.request,
            one.agreement,
            one.grant,
            one.intent,
            one.receipt,
            one.acknowledgement,
        )
    ]


def _tickets() -> list[bytes]:
    whole = made().ticket
    return [whole, part_ticket(Envelope.from_bytes(whole), 0)]


TARGETS = {
    target.name: target
    for target in (
        Target("contract", contract, lambda: [(ROOT / "examples" / "hospital-visits.odcs.yaml").read_bytes()]),
        Target("envelope", envelope, _papers),
        Target("evidence", evidence_file, lambda: [made().evidence().to_bytes()]),
        Target("token", token, _tokens),
        Target("ticket", ticket, _tickets),
        Target("ledger", ledger_proof, lambda: [msgspec.json.encode(proof) for proof in made().evidence().ledger]),
        Target("file", data_file, _files),
    )
}


def attack(target: Target, data: bytes) -> None:
    """One input. Raises whatever should not have happened."""
    try:
        target.run(data)
    except SluicegateError as error:
        _decent(error)


def kept(target: Target) -> list[bytes]:
    """The good examples, and every find of the past."""
    return [*target.seeds(), *(path.read_bytes() for path in sorted((CORPUS / target.name).glob("*")))]


def _quiet(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except SluicegateError as error:
        _decent(error)
        return None


def _decent(error: SluicegateError) -> None:
    text = str(error)
    assert len(text) < LONGEST_TEXT, f"an error of {len(text)} characters"
    shown = "".join(text.split("\n"))
    assert shown.isprintable(), f"control characters in an error: {text!r}"[:500]

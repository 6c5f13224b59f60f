"""What strangers' bytes reach first: every parser and verifier, the exchange's calls and a gateway's port, with
good examples to begin from. `watching` says what counts as a find.

What is signed is looked at twice: as it came, and signed again by those whose keys are known here, for what was
spoilt would otherwise come no further than its first signature.
"""

from __future__ import annotations

import base64
import functools
import io
import json
import random
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from cryptography.hazmat.primitives.asymmetric import ed25519
from msgspec.structs import replace

from connectors import digest
from connectors.gateway.admission import parse_part_ticket, part_ticket
from contracts import evidence, merkle, odcs, receipt
from contracts.agreement import Agreement, Approval, ContractStatement, Request
from contracts.envelope import Envelope, Kind, PublicKey, SigningKey, verify
from contracts.errors import SluicegateError
from contracts.receipt import PartDigest
from contracts.trust import KeyRevocation, KeyStatement, PartyKind, read
from exchange import identity
from exchange.identity import Authenticator, Issuer
from tests import papers
from tests.fuzz import calls, flights
from tests.fuzz.mutating import signed_anew, spoilt
from tests.fuzz.watching import Watch
from tests.papers import NOW, key

ROOT = Path(__file__).resolve().parents[2]
CORPUS = Path(__file__).parent / "corpus"
CELL = "zqxcell"  # in every text cell of the data files
ISSUER, SUBJECT, AUDIENCE = "https://issuer.health-bureau.example", "steward@health.example", "sluicegate-exchange"


@dataclass(frozen=True)
class Target:
    """One entrance: its name, what it does with bytes, good examples, how one is spoilt, and who looks on."""

    name: str
    run: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]
    watch: Callable[[], Watch]
    spoil: Callable[[bytes, random.Random], bytes] = spoilt


@functools.cache
def made() -> papers.Papers:
    """One agreement and its transfer, all papers good."""
    return papers.make()


def contract(data: bytes) -> object:
    """A contract somebody wants to publish, or a client was given."""
    return odcs.load(data).contract


def envelope(data: bytes) -> object:
    """A signed paper of any kind, by anybody; signed again, its payload is read as what it says it is."""
    parsed = Envelope.from_bytes(data)
    anew = signed_anew(parsed, _secrets())
    for kind, document in DOCUMENTS.items():
        _quiet(lambda kind=kind: verify(kind, parsed, _keys()))
        _quiet(lambda kind=kind, document=document: (verify(kind, anew, _keys()), read(document, anew)))
    return parsed.digest


DOCUMENTS: dict[Kind, Any] = {
    Kind.CONTRACT: ContractStatement,
    Kind.REQUEST: Request,
    Kind.APPROVAL: Approval,
    Kind.AGREEMENT: Agreement,
    Kind.GRANT: receipt.Grant,
    Kind.PROOF: receipt.Proof,
    Kind.INTENT: receipt.Intent,
    Kind.RECEIPT: receipt.Receipt,
    Kind.ACKNOWLEDGEMENT: receipt.Acknowledgement,
    Kind.CHECKPOINT: merkle.Checkpoint,
    Kind.KEY: KeyStatement,
    Kind.REVOCATION: KeyRevocation,
}


@functools.cache
def _secrets() -> dict[str, SigningKey]:
    """Everybody's keys, by kid."""
    owners = [*(subject for _, subject, _ in papers.PEOPLE), *(f"root:{party}" for party in papers.PARTIES)]
    owners += ["grant", "checkpoint", f"holder:{papers.COMPANY}", f"holder:{papers.CENTRE}"]
    return {key(owner).kid: key(owner) for owner in owners}


@functools.cache
def _keys() -> list[PublicKey]:
    return [known.public for known in _secrets().values()]


def evidence_file(data: bytes) -> object:
    """An evidence file that an auditor was given: one half as they came, one half with every paper signed again."""
    bundle = evidence.EvidenceBundle.from_bytes(data)
    return evidence.verify(_bundle_anew(bundle) if zlib.crc32(data) % 2 else bundle, made().trust, at=NOW + 120)


def _bundle_anew(bundle: evidence.EvidenceBundle) -> evidence.EvidenceBundle:
    def again(paper: Envelope | None) -> Envelope | None:
        return None if paper is None else signed_anew(paper, _secrets())

    agreed = bundle.agreement
    if agreed is not None:
        agreed = replace(
            agreed,
            **{name: again(getattr(agreed, name)) for name in ("agreement", "request", "contract")},
            **{
                name: tuple(again(paper) for paper in getattr(agreed, name))
                for name in ("approvals", "statements", "revocations")
            },
        )
    return replace(
        bundle,
        agreement=agreed,
        **{name: again(getattr(bundle, name)) for name in ("grant", "intent", "receipt", "acknowledgement")},
        ledger=tuple(replace(proof, checkpoint=again(proof.checkpoint)) for proof in bundle.ledger),
    )


def token(data: bytes) -> object:
    """A bearer token of any call; or, where the input is JSON, header and claims that an issuer signs."""
    try:
        header, claims = json.loads(data)
        data = (
            jwt.PyJWS()
            .encode(json.dumps(claims).encode(), _ed25519(), algorithm="EdDSA", headers={"typ": "JWT", **header})
            .encode()
        )
    except (ValueError, TypeError, RecursionError, jwt.PyJWTError):
        pass
    return _authenticator().authenticate(data.decode("latin-1"))


def ticket(data: bytes) -> object:
    """A ticket, and a part's ticket, shown to a gateway; and grant and proof signed again."""
    _quiet(lambda: parse_part_ticket(data))
    receipt.claimed_grant(data)
    _shown(data)
    proof = Envelope.from_bytes(data)
    try:
        grant = msgspec.convert(proof.payload.get("grant"), Envelope)
        again = {**proof.payload, "grant": msgspec.to_builtins(signed_anew(grant, _secrets()))}
        anew = signed_anew(Envelope(again, proof.signatures), _secrets()).to_bytes()
    except msgspec.ValidationError:
        return None
    receipt.claimed_grant(anew)
    return _shown(anew)


def _shown(raw: bytes) -> object:
    one = made()
    return _quiet(
        lambda: receipt.verify_ticket(raw, trust=one.trust, agreement=one.agreed, gateway=papers.GATEWAY, now=NOW)
    )


def ledger_proof(data: bytes) -> object:
    """Inclusion and consistency proofs that an exchange shows; and its checkpoint signed again."""
    try:
        proof = msgspec.json.decode(data, type=evidence.LedgerProof)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    _quiet(lambda: evidence.verify_ledger(proof, made().trust))
    anew = replace(proof, checkpoint=signed_anew(proof.checkpoint, _secrets()))
    _quiet(lambda: evidence.verify_ledger(anew, made().trust))
    # Anybody can show any path, for any two trees.
    path = [item.encode()[:32] for item in proof.path]
    first, second, root = abs(proof.index), len(proof.entry), proof.salt.encode()[:32].ljust(32)
    return _quiet(lambda: merkle.verify_consistency(first, second, root, root, path))


def data_file(data: bytes) -> object:
    """A file that came with a receipt, whose schema it may or may not have."""
    with tempfile.NamedTemporaryFile(suffix=".data") as file:
        Path(file.name).write_bytes(data)
        parts = [PartDigest(rows=rows, digest="blake3:" + "0" * 64) for rows in (2, 1)]
        for schema in SCHEMAS:
            _quiet(lambda schema=schema: digest.of_file(Path(file.name), schema, parts, "blake3"))


SCHEMAS = [
    [("name", "string"), ("score", "int64")],
    [
        ("raw", "binary"),
        ("yes", "boolean"),
        ("day", "date"),
        ("part", "float32"),
        ("at", "timestamp(us,Etc/UTC)"),
        ("hour", "time(us)"),
        ("price", "decimal(9,2)"),
        ("small", "uint8"),
    ],
]


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
    return [
        json.dumps([{"kid": "ed-1"}, claims]).encode(),
        good.encode(),
        header + b"." + good.split(".")[1].encode() + b".",
    ]


def _files() -> list[bytes]:
    """Both kinds of file, plain and packed, of each schema: text, nulls, dictionaries, several groups."""
    texts = pa.array([f"{CELL}-a", None, f"{CELL}-ccc"])
    first = pa.table({"name": texts, "score": pa.array([1, 2, None], pa.int64())})
    packed = first.set_column(0, "name", texts.dictionary_encode())
    columns = {
        "raw": [CELL.encode(), b"", None],
        "yes": [True, None, False],
        "day": [1, None, 3],
        "part": [1.5, float("nan"), None],
        "at": [1, 2, None],
        "hour": [1, None, 3],
        "price": [Decimal("1.50"), None, Decimal("-2.25")],
        "small": [1, 2, None],
    }
    typed = {name: digest.arrow_type(kind) for name, kind in SCHEMAS[1]}
    second = pa.table({name: pa.array(columns[name], kind) for name, kind in typed.items()})
    made = []
    for table in (first, packed, second):
        for options in ({}, {"compression": "zstd"}):
            arrow, parquet = io.BytesIO(), io.BytesIO()
            with pa.ipc.new_file(arrow, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
                writer.write_table(table, max_chunksize=2)
            pq.write_table(table, parquet, row_group_size=2, **(options or {"compression": "none"}))
            made += [arrow.getvalue(), parquet.getvalue()]
    return made


def _contracts() -> list[bytes]:
    """As people write them, and as JSON, whose values can be spoilt one by one."""
    files = [ROOT / "examples" / "hospital-visits.odcs.yaml", ROOT / "tests/e2e/contracts/people.odcs.yaml"]
    return [*(path.read_bytes() for path in files), json.dumps(papers.document()).encode()]


def _papers() -> list[bytes]:
    one = made()
    bundle = one.evidence()
    assert bundle.agreement is not None
    found = [one.statement, one.request, *bundle.agreement.approvals, one.agreement, one.grant, one.intent, one.receipt]
    found += [one.acknowledgement, bundle.agreement.statements[0], bundle.ledger[0].checkpoint]
    found.append(one.cast.revocation(papers.COMPANY, papers.ANALYST, NOW))
    return [paper.to_bytes() for paper in found] + [one.ticket]


def _proofs() -> list[bytes]:
    return [msgspec.json.encode(proof) for proof in made().evidence().ledger]


def _tickets() -> list[bytes]:
    whole = made().ticket
    return [whole, part_ticket(Envelope.from_bytes(whole), 0)]


@functools.cache
def watch() -> Watch:
    """Looks on at the parsers: no cell, no key, and none of what proves who somebody is."""
    keys = [base64.urlsafe_b64decode(known.unsafe_private_jwk()["d"] + "=") for known in _secrets().values()]
    spoken = [
        _tokens()[1].rpartition(b".")[2],
        *(token.encode()[-40:] for token in Envelope.from_bytes(made().ticket).signatures),
    ]
    return Watch([*keys, *spoken, CELL.encode()])


TARGETS = {
    target.name: target
    for target in (
        Target("calls", calls.call, calls.seeds, lambda: calls.hall().watch, calls.spoil),
        Target("contract", contract, _contracts, watch),
        Target("envelope", envelope, _papers, watch),
        Target("evidence", evidence_file, lambda: [made().evidence().to_bytes()], watch),
        Target("file", data_file, _files, watch),
        Target("gateway", flights.flight, flights.seeds, lambda: flights.door().watch, flights.spoil),
        Target(
            "ledger", ledger_proof, lambda: [msgspec.json.encode(proof) for proof in made().evidence().ledger], watch
        ),
        Target("ticket", ticket, _tickets, watch),
        Target("token", token, _tokens, watch),
    )
}


def attack(target: Target, data: bytes) -> None:
    """One input. Raises whatever should not have happened."""
    looking = target.watch()
    looking.begin()
    try:
        target.run(data)
    except SluicegateError as error:
        looking.demand_decent(error)
    looking.end()


def kept(target: Target) -> list[bytes]:
    """The good examples, and every find of the past."""
    return [*target.seeds(), *(path.read_bytes() for path in sorted((CORPUS / target.name).glob("*")))]


def _quiet(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except SluicegateError as error:
        watch().demand_decent(error)
        return None

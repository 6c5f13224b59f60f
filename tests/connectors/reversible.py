"""A gateway whose agreement sends an identifier that can be turned back, and orders to open values of it."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from connectors.keys import KeyRing, MasterKey
from connectors.masks.reversible import aes_siv
from contracts import techniques
from contracts.envelope import Envelope, Kind
from contracts.instants import rfc3339
from contracts.papers import RevealOrder
from tests import papers
from tests.connectors.gate import POLICY, Clock, FakeExchange, Gate, visits

MASK = {"mask": "aes_siv", "domain": "person", "legal_basis": "dpv:LegalObligation"}
PRIVATE = X25519PrivateKey.from_private_bytes(bytes(range(32)))  # of who asks
WHY = "a court asks, file 17/26"


def document() -> dict[str, Any]:
    """The test contract, with one purpose that sends `citizen_id` so that it can be turned back."""
    made = papers.document()
    (purposes,) = (each["value"] for each in made["customProperties"] if each["property"] == "purposes")
    purpose = purposes["outbreak-monitoring"]
    purpose["fields"] = {"citizen_id": MASK, "birth_date": {"mask": "bucket", "size": "20y"}}
    purpose["effectiveness"] |= {"quasiIdentifiers": ["birth_date"], "require": {"k": 10}, "onViolation": "refuse"}
    # A national id may not be encrypted; a case number that the department gave itself may.
    case = next(field for field in made["schema"][0]["properties"] if field["name"] == "citizen_id")
    case["classification"] = "semi-private"
    case["customProperties"] = [{"property": "identifiability", "value": "indirect"}]
    return made


def make_gate(folder: Path, *, rows: dict[str, int] | None = None, **settings: Any) -> Gate:
    """A gateway under that contract, not started yet, over a table of visits."""
    cast = papers.Cast(policy_digest=POLICY.bundle_digest)
    made = papers.make(purpose="outbreak-monitoring", document=document(), cast=cast)
    visits(folder / "visits.parquet", **(rows or {}))
    return Gate(folder, made, FakeExchange({made.agreed.id: made.bundle}), Clock(papers.NOW), settings=settings)


def sent(gate: Gate, *raw: str) -> tuple[str, ...]:
    """What these identifiers leave as."""
    ring = KeyRing(MasterKey.load(gate.folder / "keys" / "master.key"), gate.state.salt)
    mask = techniques.parse(MASK)
    assert isinstance(mask, techniques.AesSiv)
    expr = aes_siv(mask, pl.col("id"), ring.secrets(gate.papers.verified.digest))
    return tuple(pl.DataFrame({"id": raw}).select(expr).to_series())


def order(gate: Gate, *by: str, **changed: Any) -> Envelope:
    """An order of these people; by default of two, about one value."""
    agreed = gate.papers.verified
    public = base64.urlsafe_b64encode(PRIVATE.public_key().public_bytes_raw()).decode().rstrip("=")
    asked = RevealOrder(
        agreement=agreed.agreement.id,
        agreement_digest=agreed.digest,
        field="citizen_id",
        values=changed.pop("values", None) or sent(gate, "CID000007"),
        reason=WHY,
        answer_key=public,
        at=rfc3339(gate.clock()),
    )
    signed_by = by or (papers.STEWARD, papers.DPO)
    return papers.Cast.sign(Kind.REVEAL, msgspec.structs.replace(asked, **changed), *signed_by)

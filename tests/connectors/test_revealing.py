"""Opening single values: by two people of the department, once, stated before it is answered; and by nobody else."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from connectors.keys import KeyRing, MasterKey
from connectors.mask_reversible import aes_siv
from connectors.sealing import seal, unseal
from contracts import techniques
from contracts.envelope import Envelope, Kind
from contracts.errors import Reason, SluicegateError
from contracts.instants import SKEW, rfc3339
from contracts.papers import RevealOrder
from contracts.revealing import GOOD_FOR, MOST_VALUES, verify_revealed
from tests import papers
from tests.connectors.gate import POLICY, Clock, FakeExchange, Gate, act, refused, until, visits

MASK = {"mask": "aes_siv", "domain": "person", "legal_basis": "dpv:LegalObligation"}
PRIVATE = X25519PrivateKey.from_private_bytes(bytes(range(32)))
WHY = "a court asks, file 17/26"


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    made = reversible_gate(tmp_path)
    made.start()
    # As after its first transfer: the gateway knows the papers of its own people.
    made.state.keep_papers(
        "statement", [p for p in made.papers.bundle.statements if p.payload["party"] == papers.PROVIDER]
    )
    made.state.keep_agreement(made.papers.agreed.id, made.papers.verified.digest)
    made.state.salt(made.papers.verified.digest)
    yield made
    made.stop()


def reversible_gate(folder: Path) -> Gate:
    """A gateway whose agreement sends an identifier that can be turned back."""
    document = papers.document()
    (purposes,) = (each["value"] for each in document["customProperties"] if each["property"] == "purposes")
    purposes["outbreak-monitoring"]["fields"]["citizen_id"] = MASK
    # A national id may not be encrypted; a case number that the department gave itself may.
    case = next(field for field in document["schema"][0]["properties"] if field["name"] == "citizen_id")
    case["classification"] = "semi-private"
    case["customProperties"] = [{"property": "identifiability", "value": "indirect"}]
    cast = papers.Cast(policy_digest=POLICY.bundle_digest)
    made = papers.make(purpose="outbreak-monitoring", document=document, cast=cast)
    visits(folder / "visits.parquet")
    return Gate(folder, made, FakeExchange({made.agreed.id: made.bundle}), Clock(papers.NOW))


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
        gateway=agreed.agreement.gateway,
        field="citizen_id",
        values=changed.pop("values", None) or sent(gate, "CID000007"),
        reason=WHY,
        answer_key=public,
        at=rfc3339(gate.clock()),
    )
    signed_by = by or (papers.STEWARD, papers.DPO)
    return papers.Cast.sign(Kind.REVEAL, msgspec.structs.replace(asked, **changed), *signed_by)


def test_two_people_open_values_and_the_ledger_is_told(gate: Gate) -> None:
    asked = order(gate, values=sent(gate, "CID000007", "CID000003"))
    sealed = act(gate.client(), "reveal", asked.to_bytes())
    assert b"CID000007" not in sealed
    assert json.loads(unseal(sealed, PRIVATE, order=asked.digest)) == ["CID000007", "CID000003"]
    until(lambda: gate.exchange.revealed)
    (stated,) = gate.exchange.revealed
    paper = verify_revealed(stated, gate.papers.verified, at=gate.clock())
    assert (paper.field, paper.count, paper.order_digest) == ("citizen_id", 2, asked.digest)
    assert set(paper.people) == {papers.STEWARD, papers.DPO}
    told = stated.to_bytes()
    assert not [word for word in (b"CID0", WHY.encode(), asked.payload["values"][0].encode()) if word in told]


def test_the_statement_is_stored_before_a_value_leaves(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits in the outbox, also over a restart; a state that cannot be written opens nothing."""
    down = SluicegateError(Reason.UNAVAILABLE, "not now")
    gate.exchange.answers["report_reveal"] = down
    asked = order(gate)
    assert act(gate.client(), "reveal", asked.to_bytes())
    assert [report.kind for report in gate.state.reports()] == ["revealed"]
    gate.stop()
    del gate.exchange.answers["report_reveal"]
    gate.start()
    until(lambda: gate.exchange.revealed)
    assert gate.exchange.revealed[0].payload["orderDigest"] == asked.digest

    def full(*_: object) -> None:
        raise SluicegateError(Reason.INTERNAL, "the disk is full")

    monkeypatch.setattr(gate.state, "reveal", full)
    assert refused(lambda: act(gate.client(), "reveal", order(gate, reason="another").to_bytes())) == "INTERNAL"


def test_an_order_is_good_once_and_for_an_hour(gate: Gate) -> None:
    asked = order(gate)
    act(gate.client(), "reveal", asked.to_bytes())
    for again in (asked, Envelope(asked.payload, tuple(reversed(asked.signatures)))):
        assert refused(lambda again=again: act(gate.client(), "reveal", again.to_bytes())) == "STATE_WRONG"
    gate.stop()
    gate.start()
    assert refused(lambda: act(gate.client(), "reveal", asked.to_bytes())) == "STATE_WRONG"
    old = order(gate, at=rfc3339(gate.clock() - GOOD_FOR))
    assert refused(lambda: act(gate.client(), "reveal", old.to_bytes())) == "STATE_WRONG"
    early = order(gate, at=rfc3339(gate.clock() + SKEW + 1))
    assert refused(lambda: act(gate.client(), "reveal", early.to_bytes())) in ("INVALID_ARGUMENT", "KEY_UNTRUSTED")
    until(lambda: len(gate.exchange.revealed) == 1)


@pytest.mark.parametrize(
    "by",
    [
        (papers.STEWARD,),
        (papers.DPO,),
        (papers.STEWARD, papers.ANALYST),
        (papers.EPIDEMIOLOGIST, papers.ANALYST),
        (papers.STEWARD, papers.DPO, papers.ANALYST),
        (papers.STEWARD, papers.GATEWAY),
    ],
    ids=["one", "the other", "with a stranger", "the consumer", "one too many", "with the gateway"],
)
def test_nobody_else_opens_anything(gate: Gate, by: tuple[str, ...]) -> None:
    assert refused(lambda: act(gate.client(), "reveal", order(gate, *by).to_bytes())) in (
        "SIGNATURE_INVALID",
        "KEY_UNTRUSTED",
    )
    assert not gate.exchange.revealed
    assert not gate.state.reports()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"values": ("0" * 64,)}, "DATA_INVALID"),
        ({"values": ("no pseudonym",)}, "DATA_INVALID"),
        ({"values": tuple(f"{n:064x}" for n in range(MOST_VALUES + 1))}, "INVALID_ARGUMENT"),
        ({"values": ("0" * 64, "0" * 64)}, "INVALID_ARGUMENT"),
        ({"field": "sex"}, "PLAN_REFUSED"),
        ({"field": "patient_name"}, "PLAN_REFUSED"),
        ({"agreement_digest": "sha256:" + "0" * 64}, "INVALID_ARGUMENT"),
        ({"gateway": "other"}, "INVALID_ARGUMENT"),
        ({"reason": "  "}, "INVALID_ARGUMENT"),
        ({"answer_key": "AAAA"}, "INVALID_ARGUMENT"),
        ({"answer_key": "A" * 43}, "INVALID_ARGUMENT"),
    ],
    ids=["strange", "malformed", "many", "twice", "kept", "not sent", "digest", "gateway", "why", "short", "zero"],
)
def test_what_is_not_opened(gate: Gate, changed: dict[str, Any], reason: str) -> None:
    assert refused(lambda: act(gate.client(), "reveal", order(gate, **changed).to_bytes())) == reason
    assert not gate.exchange.revealed
    assert not gate.state.reports()


def test_destroyed_keys_open_nothing(gate: Gate) -> None:
    asked = order(gate)
    act(gate.client(), "suspend", gate.order(until=None))
    assert refused(lambda: act(gate.client(), "reveal", asked.to_bytes())) == "AGREEMENT_NOT_LIVE"
    assert not gate.exchange.revealed


def test_an_agreement_that_ran_out_still_opens(gate: Gate) -> None:
    """While its keys live: whoever must be told has time after the data went."""
    value = sent(gate, "CID000007")
    gate.clock.now += 91 * 86_400
    asked = order(gate, values=value)
    assert json.loads(unseal(act(gate.client(), "reveal", asked.to_bytes()), PRIVATE, order=asked.digest)) == [
        "CID000007"
    ]


def test_who_stole_the_answer_or_the_order_reads_nothing(gate: Gate) -> None:
    asked = order(gate)
    sealed = act(gate.client(), "reveal", asked.to_bytes())
    for key, digest in ((X25519PrivateKey.generate(), asked.digest), (PRIVATE, "sha256:" + "0" * 64)):
        with pytest.raises(SluicegateError, match="was not sealed"):
            unseal(sealed, key, order=digest)
    for spoilt in (sealed[:-1], b"", bytes(32) + sealed[32:]):
        with pytest.raises(SluicegateError):
            unseal(spoilt, PRIVATE, order=asked.digest)


def test_two_answers_never_share_a_key() -> None:
    import os

    to = PRIVATE.public_key().public_bytes_raw()
    one, other = (seal(b"the same", to=to, order="sha256:a", entropy=os.urandom) for _ in range(2))
    assert one != other
    assert unseal(one, PRIVATE, order="sha256:a") == unseal(other, PRIVATE, order="sha256:a") == b"the same"

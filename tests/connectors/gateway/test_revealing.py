"""Opening single values: by two people of the department, once, stated before it is answered; and by nobody else."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from connectors.gateway.sealing import seal, unseal
from contracts.envelope import Envelope
from contracts.errors import Reason, SluicegateError
from contracts.instants import SKEW, rfc3339
from contracts.revealing import GOOD_FOR, MOST_VALUES, verify_revealed
from contracts.trust import Use
from tests import papers
from tests.connectors.gate import Gate, act, refused
from tests.connectors.reversible import PRIVATE, WHY, make_gate, order, sent

DEPUTY = "deputy@health.example"  # an approver, whom the contract does not name


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    made = make_gate(tmp_path)
    made.start()
    # As after its first transfer: the gateway knows the papers of its own people.
    known = [paper for paper in made.papers.bundle.statements if paper.payload["party"] == papers.PROVIDER]
    for owner, subject in (
        (DEPUTY, DEPUTY),
        ("second key", papers.STEWARD),
        ("otherwise written", papers.STEWARD.upper()),
        ("two names", papers.STEWARD),
        ("two names", papers.DPO),
    ):
        known.append(made.papers.cast.statement(papers.PROVIDER, subject, Use.APPROVER, owner=owner))
    made.state.keep_papers("statement", known)
    made.state.keep_agreement(made.papers.agreed.id, made.papers.verified.digest)
    made.state.salt(made.papers.verified.digest)
    yield made
    made.stop()


def opened(gate: Gate, asked: Envelope) -> Any:
    """What the values of an order stand for, as who asked reads it."""
    return json.loads(unseal(act(gate.client(), "reveal", asked.to_bytes()), PRIVATE, order=asked.digest))


def test_two_people_open_values_and_the_ledger_is_told(gate: Gate) -> None:
    asked = order(gate, values=sent(gate, "CID000007", "CID000003"))
    sealed = act(gate.client(), "reveal", asked.to_bytes())
    assert b"CID000007" not in sealed
    assert json.loads(unseal(sealed, PRIVATE, order=asked.digest)) == ["CID000007", "CID000003"]
    (stated,) = gate.exchange.revealed  # before the answer came
    paper = verify_revealed(stated, gate.papers.verified, at=gate.clock())
    assert (paper.field, paper.count, paper.order_digest) == ("citizen_id", 2, asked.digest)
    assert set(paper.people) == {papers.STEWARD, papers.DPO}
    told = stated.to_bytes()
    assert not [word for word in (b"CID0", WHY.encode(), asked.payload["values"][0].encode()) if word in told]


@pytest.mark.parametrize("reason", [Reason.UNAVAILABLE, Reason.INTERNAL])
def test_nothing_is_opened_before_the_ledger_was_told(gate: Gate, reason: Reason) -> None:
    """The order waits, over a restart too; then it is good once, and was stated once."""
    gate.exchange.answers["report_reveal"] = SluicegateError(reason, "not now")
    asked = order(gate)
    for _ in range(2):
        assert refused(lambda: act(gate.client(), "reveal", asked.to_bytes())) == reason
    assert [report.kind for report in gate.state.reports()] == ["revealed"]
    gate.stop()
    gate.start()
    assert refused(lambda: act(gate.client(), "reveal", asked.to_bytes())) == reason
    del gate.exchange.answers["report_reveal"]
    assert opened(gate, asked) == ["CID000007"]
    assert refused(lambda: act(gate.client(), "reveal", asked.to_bytes())) == "STATE_WRONG"
    assert [stated.payload["orderDigest"] for stated in gate.exchange.revealed] == [asked.digest]


def test_what_the_exchange_rejects_is_never_opened(gate: Gate) -> None:
    """Also not once the outbox has given the statement up, and has nothing left to deliver."""
    gate.exchange.answers["report_reveal"] = SluicegateError(Reason.RECEIPT_INVALID, "no")
    asked = order(gate)
    assert refused(lambda: act(gate.client(), "reveal", asked.to_bytes())) == "RECEIPT_INVALID"
    del gate.exchange.answers["report_reveal"]
    assert refused(lambda: act(gate.client(), "reveal", asked.to_bytes())) == "UNAVAILABLE"
    assert gate.state.outbox_size() == (0, 1)
    assert not gate.exchange.revealed


def test_a_gateway_that_may_not_serve_opens_nothing(gate: Gate) -> None:
    asked = order(gate)
    gate.ticks.leap += 31
    assert refused(lambda: act(gate.client(), "reveal", asked.to_bytes())) == "CONTROL_PLANE_SILENT"
    assert not gate.state.reports()


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
    assert len(gate.exchange.revealed) == 1


@pytest.mark.parametrize(
    ("by", "reason"),
    [
        ((papers.STEWARD,), "SIGNATURE_INVALID"),
        ((papers.DPO,), "SIGNATURE_INVALID"),
        ((papers.STEWARD, papers.ANALYST), "KEY_UNTRUSTED"),
        ((papers.EPIDEMIOLOGIST, papers.ANALYST), "KEY_UNTRUSTED"),
        ((papers.STEWARD, papers.DPO, papers.ANALYST), "KEY_UNTRUSTED"),
        ((papers.STEWARD, papers.GATEWAY), "KEY_UNTRUSTED"),
        ((papers.STEWARD, papers.STEWARD), "SIGNATURE_INVALID"),
        ((papers.STEWARD, papers.DPO, DEPUTY), "SIGNATURE_INVALID"),
        ((papers.STEWARD, "second key"), "SIGNATURE_INVALID"),
        ((papers.STEWARD, "otherwise written"), "SIGNATURE_INVALID"),
        (("two names",), "SIGNATURE_INVALID"),
        ((papers.STEWARD, DEPUTY), "POLICY_REFUSED"),
        ((papers.DPO, DEPUTY), "POLICY_REFUSED"),
    ],
    ids=lambda value: value if isinstance(value, str) else " and ".join(value),
)
def test_nobody_else_opens_anything(gate: Gate, by: tuple[str, ...], reason: str) -> None:
    """Not one person with two keys, not one key with two names, and no approver whom the contract does not name."""
    assert refused(lambda: act(gate.client(), "reveal", order(gate, *by).to_bytes())) == reason
    assert not gate.exchange.revealed
    assert not gate.state.reports()


def test_a_key_that_was_taken_back_orders_nothing(gate: Gate) -> None:
    """Even if this gateway first hears of it with the agreement. What left before stays openable: by a new key."""
    gate.clock.now += 60
    asked, taken = order(gate), gate.papers.cast.revocation(papers.PROVIDER, papers.DPO, gate.clock())
    bundle = gate.exchange.bundles[gate.papers.agreed.id]
    gate.exchange.bundles[gate.papers.agreed.id] = msgspec.structs.replace(bundle, revocations=(taken,))
    assert refused(lambda: act(gate.client(), "reveal", asked.to_bytes())) == "KEY_UNTRUSTED"
    assert not gate.state.reports()
    gate.exchange.bundles[gate.papers.agreed.id] = bundle  # hidden again: it stays known
    assert refused(lambda: act(gate.client(), "reveal", asked.to_bytes())) == "KEY_UNTRUSTED"
    fresh = gate.papers.cast.statement(papers.PROVIDER, papers.DPO, Use.APPROVER, owner="fresh", begin=gate.clock())
    gate.state.keep_papers("statement", [fresh])
    assert opened(gate, order(gate, papers.STEWARD, "fresh")) == ["CID000007"]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"values": ("0" * 64,)}, "DATA_INVALID"),
        ({"values": ("no pseudonym",)}, "DATA_INVALID"),
        ({"values": tuple(f"{n:064x}" for n in range(MOST_VALUES + 1))}, "INVALID_ARGUMENT"),
        ({"values": ("0" * 64, "0" * 64)}, "INVALID_ARGUMENT"),
        ({"field": "birth_date"}, "INVALID_ARGUMENT"),
        ({"field": "patient_name"}, "INVALID_ARGUMENT"),
        ({"agreement_digest": "sha256:" + "0" * 64}, "AGREEMENT_NOT_LIVE"),
        ({"agreement": "agreements/a-zzzzzzzzzz"}, "NOT_FOUND"),
        ({"reason": "  "}, "INVALID_ARGUMENT"),
        ({"answer_key": "AAAA"}, "INVALID_ARGUMENT"),
        ({"answer_key": "A" * 43}, "INVALID_ARGUMENT"),
    ],
    ids=["strange", "malformed", "many", "twice", "coarser", "not sent", "digest", "name", "why", "short", "zero"],
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


def test_keys_that_are_destroyed_meanwhile_open_nothing(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the exchange is told, the department ends the agreement: the answer was made, and is not given."""
    told = gate.exchange.report_reveal

    def meanwhile(agreement: str, revealed: Envelope) -> None:
        gate.gateway.suspend(gate.order(until=None))
        told(agreement, revealed)

    monkeypatch.setattr(gate.exchange, "report_reveal", meanwhile)
    assert refused(lambda: act(gate.client(), "reveal", order(gate).to_bytes())) == "AGREEMENT_NOT_LIVE"
    assert len(gate.exchange.revealed) == 1


def test_an_agreement_that_was_never_served_gets_no_secret(tmp_path: Path) -> None:
    gate = make_gate(tmp_path)
    gate.start()
    try:
        gate.state.keep_papers("statement", gate.papers.bundle.statements)
        asked = order(gate, values=("0" * 64,))
        assert refused(lambda: act(gate.client(), "reveal", asked.to_bytes())) == "AGREEMENT_NOT_LIVE"
        with pytest.raises(SluicegateError, match="no secret"):
            gate.state.secret_since(gate.papers.verified.digest)
    finally:
        gate.stop()


def test_an_agreement_that_ran_out_still_opens(gate: Gate) -> None:
    """While its keys live: whoever must be told has time after the data went."""
    value = sent(gate, "CID000007")
    gate.clock.now += 91 * 86_400
    assert opened(gate, order(gate, values=value)) == ["CID000007"]


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
    to = PRIVATE.public_key().public_bytes_raw()
    one, other = (seal(b"the same", to=to, order="sha256:a", entropy=os.urandom) for _ in range(2))
    assert one != other
    assert unseal(one, PRIVATE, order="sha256:a") == unseal(other, PRIVATE, order="sha256:a") == b"the same"

"""The exchange's operator, and what it shows: grants, keys, tokens, papers, stops.

It holds everything that the exchange holds: grant key, checkpoint key, TLS key, the built-in token
issuers, the database and the process, so it may answer anybody anything. What it has not is any party's
key. What it does to the ledger is in `test_exchange_ledger.py`.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.flight as fl
import pytest

from connectors import tls
from contracts import odcs
from contracts.agreement import Approval, verify_bundle
from contracts.canonical import digest, terms_digest
from contracts.envelope import Envelope, Kind, SigningKey, sign
from contracts.errors import Reason, SluicegateError
from contracts.instants import rfc3339
from contracts.receipt import Grant, Proof, verify_receipt
from contracts.trust import KeyStatement, Use
from exchange import keyfiles, records, views
from exchange.client import Exchange
from exchange.store import Store
from tests import papers
from tests.attacks.conftest import REGISTRY, Attacked
from tests.connectors.gate import POLICY, Gate, act, info_of, make_gate, reason
from tests.connectors.gateway.test_shelf import renamed
from tests.e2e.city import CONTRACTS, City
from tests.e2e.steps import Fetching, refused
from tests.papers import GATEWAY, PROVIDER, STEWARD, Cast, Papers, key

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("attacks")]

OPERATOR = SigningKey.from_seed(b"a key that only the operator has")


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """A department's gateway. The exchange that it listens to is the operator's to play."""
    made = make_gate(tmp_path)
    made.start()
    yield made
    made.stop()


def gateway_refuses(gate: Gate, ticket: bytes, *reasons: Reason) -> None:
    """Nothing comes of the ticket: not its flight info, and so no part."""
    with pytest.raises((fl.FlightError, pa.ArrowException)) as caught:
        info_of(gate.client(), ticket)
    assert reason(caught.value) in reasons, str(caught.value)


def client_refuses(forged: Papers, *reasons: Reason) -> None:
    """So does the consumer, who pins the same trust file."""
    with pytest.raises(SluicegateError) as caught:
        verify_bundle(forged.bundle, genuine().trust, at=forged.now)
    assert caught.value.reason in reasons, str(caught.value)


def genuine() -> Papers:
    """What both sides really signed."""
    return papers.make(cast=Cast(policy_digest=POLICY.bundle_digest))


@contextlib.contextmanager
def told_otherwise(city: City, name: str, **changed: Any) -> Iterator[None]:
    """The operator changes a gateway's record in its own database, under the running exchange."""
    store = Store(f"sqlite:///{city.home.exchange.parent / 'exchange.db'}")

    def put(values: dict[str, Any]) -> records.Gateway:
        with store.transaction() as tx:
            known = tx.get(records.Gateway, name)
            assert known is not None
            tx.replace(msgspec.structs.replace(known, **values), expected_version=known.version)
            return known

    honest = put(changed)
    try:
        yield
    finally:
        put({each: getattr(honest, each) for each in changed})
        store.close()


# --- grants


def test_it_mints_a_grant_for_its_own_key(attacked: Attacked) -> None:
    """The exchange's operator, alone, can mint grants but pull nothing."""
    city, now = attacked.city, int(time.time())
    agreed = city.exchange("analyst").bundle(attacked.analysts).agreement
    grant = Grant(
        id="g-operatorrr",
        transfer="transfers/t-operatorrr",
        agreement=attacked.analysts,
        agreement_digest=agreed.digest,
        gateway=REGISTRY,
        release=None,
        parts=None,
        issued=rfc3339(now),
        expires=rfc3339(now + 600),
    )
    minted = sign(Kind.GRANT, grant, keyfiles.read_key(city.home.exchange.parent / "keys" / "grant.jwk"))
    there = city.exchange("keeper").gateway(REGISTRY)
    for holder in (OPERATOR, keyfiles.read_key(city.home.exchange.parent / "keys" / "grant.jwk")):
        ticket = sign(Kind.PROOF, Proof(grant=minted, created=rfc3339(now)), holder).to_bytes()
        transfer = views.Transfer(name=grant.transfer)
        with Fetching(transfer, ticket, address=there.address, ca=there.ca_certificate) as fetching:
            refused(fetching.announce, Reason.GRANT_INVALID)


def test_it_grants_on_after_the_department_stopped_the_agreement(gate: Gate) -> None:
    """The department's own suspension acts locally first: no fresh grant goes past it."""
    granted = gate.ticket()
    assert info_of(gate.client(), granted).endpoints
    act(gate.client(), "suspend", gate.order(until=gate.clock() + 3600))
    gate.hear()  # the operator withholds the suspension: its stop list is empty
    gateway_refuses(gate, gate.ticket(), Reason.AGREEMENT_NOT_LIVE)


def test_it_withholds_a_tightened_contract(gate: Gate) -> None:
    """The department published a stricter version; the exchange goes on granting under the old one, which both
    sides signed once, and shows the new one to nobody. The department ends it at its own gateway, for good: no
    grant, no agreement of that name and no restart brings the old terms back."""
    assert info_of(gate.client(), gate.ticket()).endpoints
    stricter = papers.make(cast=gate.papers.cast, document=papers.document() | {"version": "9.0.0"})
    assert stricter.agreed.document_digest != gate.papers.agreed.document_digest
    act(gate.client(), "suspend", gate.order(until=None))
    gate.hear()  # its stop list is empty, as if nothing had happened
    gateway_refuses(gate, gate.ticket(), Reason.AGREEMENT_NOT_LIVE)
    gate.stop()
    gate.start()
    gateway_refuses(gate, gate.ticket(), Reason.AGREEMENT_NOT_LIVE)
    with pytest.raises(SluicegateError) as caught:
        gate.state.salt(gate.papers.agreement.digest)
    assert caught.value.reason is Reason.AGREEMENT_NOT_LIVE
    # An agreement under the version that was withheld is served.
    gate.papers = replace(stricter, agreement=renamed(stricter, "agreements/a-bbbbbbbbbb"))
    gate.exchange.bundles[gate.papers.agreed.id] = gate.papers.bundle
    gate.clock.now += 7 * papers.DAY  # the consumer's interval goes on under whatever agreement
    gate.hear()
    assert info_of(gate.client(), gate.ticket()).endpoints


def test_it_hides_that_a_key_was_revoked(gate: Gate) -> None:
    """The gateway remembers what its department took back, whatever the exchange shows later."""
    agreement, honest = gate.papers.agreed.id, gate.papers.bundle
    revocation = gate.papers.cast.revocation(PROVIDER, STEWARD, gate.clock() - 60)
    gate.exchange.bundles[agreement] = msgspec.structs.replace(honest, revocations=(revocation,))
    gateway_refuses(gate, gate.ticket(), Reason.KEY_UNTRUSTED)
    gate.exchange.bundles[agreement] = honest
    gateway_refuses(gate, gate.ticket(), Reason.KEY_UNTRUSTED)


def test_it_invents_that_a_key_was_revoked(gate: Gate) -> None:
    """That only withholds service for as long as it is shown: nothing of it is kept."""
    agreement, honest = gate.papers.agreed.id, gate.papers.bundle
    invented = sign(Kind.REVOCATION, gate.papers.cast.revocation(PROVIDER, STEWARD, gate.clock()).payload, OPERATOR)
    gate.exchange.bundles[agreement] = msgspec.structs.replace(honest, revocations=(invented,))
    gateway_refuses(gate, gate.ticket(), Reason.KEY_UNTRUSTED, Reason.SIGNATURE_INVALID)
    gate.exchange.bundles[agreement] = honest
    assert info_of(gate.client(), gate.ticket()).endpoints


# --- registered keys


def certified_by_itself(forged: Cast, subject: str, party: str, use: Use) -> Envelope:
    """A key statement for the operator's own key, in somebody's name, under a root of its own."""
    statement = KeyStatement(
        party=party,
        subject=subject,
        use=use,
        key=OPERATOR.public,
        not_before=rfc3339(forged.now - papers.DAY),
        not_after=rfc3339(forged.now + papers.DAY),
    )
    return sign(Kind.KEY, statement, OPERATOR)


def test_it_swaps_a_stewards_key_and_approves(gate: Gate) -> None:
    """Keys count by a statement of their party's root, which gateway and client pin."""
    real = gate.papers
    approval = sign(Kind.APPROVAL, real.approvals[0].payload, OPERATOR)
    statement = certified_by_itself(real.cast, STEWARD, PROVIDER, Use.APPROVER)
    forged = replace(real, approvals=(approval,))
    others = tuple(one for one in real.cast.statements if one.payload["subject"] != STEWARD)
    for statements in ((*real.cast.statements, statement), (*others, statement), real.cast.statements):
        bundle = msgspec.structs.replace(forged.bundle, statements=statements)
        gate.exchange.bundles[real.agreed.id] = bundle
        gateway_refuses(gate, gate.ticket(), Reason.KEY_UNTRUSTED, Reason.SIGNATURE_INVALID)
        with pytest.raises(SluicegateError) as caught:
            verify_bundle(bundle, real.trust, at=real.now)
        assert caught.value.reason in (Reason.KEY_UNTRUSTED, Reason.SIGNATURE_INVALID)


def test_it_swaps_the_holders_key(gate: Gate) -> None:
    """The holder key stands in the request that the consumer signed: the only key that may pull."""
    real = gate.papers
    holder = msgspec.to_builtins(OPERATOR.public)
    request = Envelope({**real.request.payload, "holder": holder}, real.request.signatures)
    approvals = tuple(
        Envelope({**each.payload, "requestDigest": request.digest}, each.signatures) for each in real.approvals
    )
    follows = {"requestDigest": request.digest, "approvals": [each.digest for each in approvals]}
    agreement = Envelope({**real.agreement.payload, "holder": holder, **follows}, real.agreement.signatures)
    # One paper after the other, until everything follows from everything, but for the signatures.
    for changed in (
        {"request": request},
        {"agreement": agreement},
        {"request": request, "approvals": approvals, "agreement": agreement},
    ):
        forged = replace(real, **changed)  # type: ignore[arg-type]
        gate.exchange.bundles[real.agreed.id] = forged.bundle
        grant = gate.grant(agreement_digest=forged.agreement.digest)
        gateway_refuses(gate, real.ticket_of(grant, OPERATOR), Reason.SIGNATURE_INVALID)
        client_refuses(forged, Reason.SIGNATURE_INVALID)


def test_it_swaps_a_gateways_key_and_forges_a_receipt() -> None:
    """A receipt is the word of the gateway that the department certified."""
    real = genuine()
    statement = certified_by_itself(real.cast, GATEWAY, PROVIDER, Use.GATEWAY)
    receipt = sign(Kind.RECEIPT, real.receipt.payload, OPERATOR)
    for statements in (real.cast.statements, (*real.cast.statements, statement)):
        bundle = msgspec.structs.replace(real.bundle, statements=statements)
        with pytest.raises(SluicegateError) as caught:
            verify_receipt(receipt, verify_bundle(bundle, real.trust, at=real.now), at=real.now + 60)
        assert caught.value.reason in (Reason.KEY_UNTRUSTED, Reason.SIGNATURE_INVALID)


def test_it_puts_a_gateway_of_its_own_in_the_place_of_the_departments(attacked: Attacked) -> None:
    """The department certified its gateway's certificate: a ticket is shown to nobody else."""
    city = attacked.city
    own, _ = tls.self_signed(now=int(time.time()))
    name = f"parties/registry-office/gateways/{REGISTRY}"
    with told_otherwise(city, name, address="grpc+tls://localhost:1", ca_certificate=own.decode()):
        granted = city.exchange("analyst").create_transfer(attacked.analysts)
        assert granted.gateway_ca_certificate == own.decode()
        refused(lambda: city.exchange("analyst").sign_ticket(granted), Reason.KEY_UNTRUSTED)


# --- tokens


def test_it_mints_a_stewards_token(attacked: Attacked, tmp_path: Path) -> None:
    """A token says who calls. Approving and publishing need the department's personal key."""
    city = attacked.city
    keyfiles.write_key(tmp_path / "operator.jwk", OPERATOR)
    minting = msgspec.structs.replace(city.home.profile("keeper"), signing_key=tmp_path / "operator.jwk")
    document = (CONTRACTS / "people.odcs.yaml").read_bytes()
    city.exchange("keeper").publish(document.replace(b"name: people", b"name: people-again"), gateway=REGISTRY)
    asked = city.exchange("planner").request("registry-office/people-again", purpose="planning", reason="to try it")
    with Exchange(minting) as in_the_stewards_name:
        assert in_the_stewards_name.whoami().roles == ("admin", "steward"), "the token is good"
        refused(lambda: in_the_stewards_name.approve(asked.name), Reason.KEY_UNTRUSTED)
        later = document.replace(b"version: 1.0.0", b"version: 9.0.0")
        refused(lambda: in_the_stewards_name.publish(later, gateway=REGISTRY), Reason.KEY_UNTRUSTED)
    assert city.exchange("planner").request_status(asked.name).state == "SUBMITTED"


def test_it_writes_an_approval_into_its_own_database(gate: Gate) -> None:
    """An exchange that checks nothing makes an agreement that no gateway serves and no consumer signs."""
    real = gate.papers
    approval = Approval(
        request=real.request.payload["id"],
        request_digest=real.request.digest,
        approver=STEWARD,
        created=rfc3339(real.now - 900),
    )
    invented = sign(Kind.APPROVAL, approval, OPERATOR)
    follows = {**real.agreement.payload, "approvals": [invented.digest]}
    both = Cast.sign(Kind.AGREEMENT, follows, real.requester, STEWARD)
    consumers = sign(Kind.AGREEMENT, real.agreement.payload, key(real.requester)).signatures
    own = sign(Kind.AGREEMENT, real.agreement.payload, OPERATOR).signatures
    for forged in (
        replace(real, approvals=(invented,), agreement=both),  # the approval alone is false
        replace(real, agreement=Envelope(real.agreement.payload, (*consumers, *own))),  # and here the signature
        replace(real, agreement=Envelope(real.agreement.payload, consumers)),
    ):
        gate.exchange.bundles[real.agreed.id] = forged.bundle
        grant = gate.grant(agreement_digest=forged.agreement.digest)
        gateway_refuses(gate, real.ticket_of(grant), Reason.KEY_UNTRUSTED, Reason.SIGNATURE_INVALID)
        client_refuses(forged, Reason.KEY_UNTRUSTED, Reason.SIGNATURE_INVALID)


# --- papers


def unmasked() -> dict[str, Any]:
    """The contract with one mask taken out."""
    document = papers.document()
    (purposes,) = [item for item in document["customProperties"] if item["property"] == "purposes"]
    purposes["value"]["transport-planning"]["fields"]["home_postcode"] = {"mask": "prefix", "length": 3}
    return document


def test_it_replaces_the_contract(gate: Gate) -> None:
    """The contract is held by digest: statement, request and agreement name the bytes that were signed."""
    real, document = gate.papers, unmasked()
    weaker = json.dumps(document, ensure_ascii=False).encode()
    odcs.load(weaker)  # a good contract, but for the signature
    restated = {
        **real.statement.payload,
        "documentDigest": digest(document),
        "termsDigest": terms_digest(document),
    }
    reasons = (
        Reason.CONTRACT_INVALID,
        Reason.SIGNATURE_INVALID,
        Reason.KEY_UNTRUSTED,
        Reason.REQUEST_OUTSIDE_CONTRACT,
    )
    for statement in (
        real.statement,
        Envelope(restated, real.statement.signatures),
        sign(Kind.CONTRACT, restated, OPERATOR),
        Cast.sign(Kind.CONTRACT, restated, STEWARD),  # a version that the department did sign, once
    ):
        forged = replace(real, document=weaker, statement=statement)
        gate.exchange.bundles[real.agreed.id] = forged.bundle
        gateway_refuses(gate, gate.ticket(), *reasons)
        client_refuses(forged, *reasons)


@pytest.mark.parametrize("what", ["standards", "policies"])
def test_it_replaces_the_standard_or_the_policy_bundle(gate: Gate, what: str) -> None:
    """Even an agreement that both sides were talked into signing counts only under the standard and the
    policy bundle that the trust file pins."""
    real = gate.papers
    assert info_of(gate.client(), gate.ticket()).endpoints
    own = msgspec.structs.replace(real.trust, **{what: (digest("the operator's own"),)})
    gate.papers = _Pinning(real, own)
    gateway_refuses(gate, gate.ticket(), Reason.KEY_UNTRUSTED)
    with pytest.raises(SluicegateError) as caught:
        verify_bundle(real.bundle, own, at=real.now)
    assert caught.value.reason is Reason.KEY_UNTRUSTED


class _Pinning:
    """The papers, with another trust file pinned: seen from the gateway, it is the papers that differ."""

    def __init__(self, real: Papers, trust: object) -> None:
        self._real, self.trust = real, trust

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def test_it_serves_another_agreement_than_the_signed_one(gate: Gate) -> None:
    """The grant names agreement and digest: papers of another one, properly signed too, do not answer it."""
    real = gate.papers
    other = papers.make(cast=real.cast, duration="P30D")
    gate.exchange.bundles[real.agreed.id] = other.bundle
    assert other.agreement.digest != real.agreement.digest
    gateway_refuses(gate, gate.ticket(), Reason.GRANT_INVALID)
    # Nor does a grant for the other one help who does not hold its key.
    elsewhere = papers.make(purpose="outbreak-monitoring", cast=real.cast)
    gate.exchange.bundles[real.agreed.id] = elsewhere.bundle
    grant = gate.grant(agreement_digest=elsewhere.agreement.digest)
    gateway_refuses(gate, real.ticket_of(grant), Reason.GRANT_INVALID)
    assert not gate.exchange.intents

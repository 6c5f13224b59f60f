"""The coordination team oversteps: it mediates, so it sees papers and may stop an agreement for a while.

It holds mediators', an auditor's and an admin's identities, any role that its own party can take, keys
of its own, and a place in every ledger entry. It has no data, no key of a department, no gateway.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from contracts.agreement import Approval
from contracts.envelope import Kind, SigningKey, countersign, sign
from contracts.errors import Reason
from contracts.evidence import LedgerProof, verify_ledger
from contracts.instants import rfc3339
from contracts.receipt import Proof
from contracts.trust import KeyStatement, PartyKind, Use
from exchange import agreements, identity, ledger, rechecking
from exchange.erasing import erase
from exchange.identity import Principal
from exchange.v1 import agreement_pb2 as pb
from exchange.v1 import party_pb2, request_pb2
from tests.attacks.archive import ARCHIVIST, OFFICE, Register, archive
from tests.attacks.conftest import ARCHIVE, Attacked
from tests.e2e.steps import Fetching, refused
from tests.exchange.town import Town
from tests.papers import PROVIDER

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("attacks")]

DAY = 86_400
MEDIATOR = "mediator@cdo.example"


@pytest.fixture(scope="module")
def deeds(attacked: Attacked) -> Register:
    """A register of its own."""
    return archive(attacked, "deeds")


@pytest.fixture(scope="module")
def agreement(attacked: Attacked, deeds: Register) -> str:
    """The analyst's agreement on it, live."""
    return attacked.city.agree("analyst", deeds.dataset, "planning", approvers=["archivist"])


@pytest.fixture
def town(tmp_path: Path) -> Town:
    """The exchange's use cases, with a clock that can leap over months."""
    return Town(tmp_path)


@contextmanager
def also(attacked: Attacked, *roles: str) -> Iterator[None]:
    """The team's admin gives the mediator these roles besides, for a while."""
    admin = attacked.city.exchange("admin")
    admin.register_principal(MEDIATOR, ("mediator", *roles))
    try:
        yield
    finally:
        admin.register_principal(MEDIATOR, ("mediator",))


def until(seconds: int) -> str:
    return rfc3339(int(time.time()) + seconds)


def identifier() -> str:
    return str(uuid.uuid4())


# --- data


def test_pulls_under_anothers_agreement(attacked: Attacked, agreement: str) -> None:
    """The coordination team reads no data: an agreement is its consumer's, whoever may see it."""
    mediator = attacked.city.exchange("mediator")
    assert mediator.agreement(agreement).state == "ACTIVE"  # it may see the paper
    refused(lambda: mediator.create_transfer(agreement), Reason.ROLE_MISSING)
    with also(attacked, "requester", "dpo", "auditor"):
        refused(lambda: mediator.create_transfer(agreement), Reason.ROLE_MISSING)


def test_presents_anothers_grant_under_its_own_key(attacked: Attacked, agreement: str) -> None:
    """Only the holder key that the department signed may pull; a grant alone opens nothing."""
    analyst, mediator = attacked.city.exchange("analyst"), attacked.city.exchange("mediator")
    granted = analyst.create_transfer(agreement)
    assert granted.grant is not None
    assert mediator.transfer(granted.name).grant is None  # it is not even shown
    own = SigningKey.from_seed(os.urandom(32))
    stolen = sign(Kind.PROOF, Proof(grant=granted.grant, created=until(0)), own).to_bytes()
    with Fetching(granted, stolen) as fetching:
        refused(fetching.announce, Reason.GRANT_INVALID)
    assert attacked.city.state("analyst", granted.name) == "GRANTED"


# --- suspending


def test_suspends_without_a_reason(attacked: Attacked, agreement: str) -> None:
    """No agreement is stopped without a reason on record."""
    mediator = attacked.city.exchange("mediator")
    for reason in ("", "   ", "\n\t", "x" * 2001):
        refused(lambda: mediator.suspend(agreement, reason=reason, until=until(DAY)), Reason.INVALID_ARGUMENT)  # noqa: B023
    assert mediator.agreement(agreement).state == "ACTIVE"


def test_suspends_without_an_end(attacked: Attacked, agreement: str) -> None:
    """Every suspension has an end, in the future, and a mediator's lies within 30 days."""
    mediator = attacked.city.exchange("mediator")
    endless = pb.SuspendAgreementRequest(name=agreement, reason="for ever", request_id=identifier())
    refused(lambda: mediator.connection.call(mediator._agreements.SuspendAgreement, endless), Reason.INVALID_ARGUMENT)
    for seconds in (-DAY, 30 * DAY + 60, 9_000 * DAY):
        refused(
            lambda: mediator.suspend(agreement, reason="for ever", until=until(seconds)),  # noqa: B023
            Reason.INVALID_ARGUMENT,
        )
    assert mediator.agreement(agreement).state == "ACTIVE"


def test_chains_suspensions_for_ever(town: Town) -> None:
    """A suspension lapses by itself, and one after the other does not end an agreement: mediators have
    30 days in all, however they are cut, extended or spread."""
    name = town.agreement()
    town.suspend("mediator", name, seconds=10 * DAY)
    town.wait(9 * DAY)
    refused(lambda: town.suspend("mediator", name, seconds=21 * DAY + 1), Reason.INVALID_ARGUMENT)
    assert town.suspend("mediator", name, seconds=20 * DAY).suspended_until == town.now + 20 * DAY
    town.wait(DAY)
    town.resume("mediator", name)  # what was not used is not lost
    assert town.suspend("mediator", name, seconds=20 * DAY).state == "SUSPENDED"
    refused(lambda: town.suspend("mediator", name, seconds=20 * DAY + 1), Reason.INVALID_ARGUMENT)
    town.wait(20 * DAY)
    assert town.pull("analyst", name).state == "GRANTED"
    for later in (0, DAY, 20 * DAY):
        town.wait(later)
        refused(lambda: town.suspend("mediator", name, seconds=1), Reason.INVALID_ARGUMENT)
    assert town.suspend("steward", name, seconds=DAY).suspended_by == PROVIDER


def test_ends_or_takes_over_a_departments_suspension(attacked: Attacked, agreement: str) -> None:
    """Only the side that suspended ends that early, or changes it; and no mediator ends an agreement."""
    archivist, mediator = attacked.city.exchange("archivist"), attacked.city.exchange("mediator")
    archivist.suspend(agreement, reason="an incident", until=until(DAY))
    try:
        with also(attacked, "dpo", "requester"):
            refused(lambda: mediator.resume(agreement, reason="settled"), Reason.ROLE_MISSING)
            refused(lambda: mediator.suspend(agreement, reason="ours", until=until(60)), Reason.ROLE_MISSING)
            refused(lambda: mediator.terminate(agreement, reason="settled"), Reason.ROLE_MISSING)
        found = archivist.agreement(agreement)
        assert (found.state, found.state_reason) == ("SUSPENDED", "an incident")
    finally:
        archivist.resume(agreement, reason="cleared")


# --- in a department's name


def test_approves_in_a_departments_name(attacked: Attacked, deeds: Register) -> None:
    """An approval is a person's of the department, under a key that its root certified."""
    mediator = attacked.city.exchange("mediator")
    asked = attacked.city.exchange("planner").request(deeds.dataset, purpose="planning", reason="to try it")
    refused(
        lambda: attacked.city.exchange("admin").register_principal(MEDIATOR, ("mediator", "steward")),
        Reason.INVALID_ARGUMENT,
    )
    seen = mediator.request_status(asked.name)
    assert seen.statement is not None
    own = SigningKey.from_seed(os.urandom(32))
    with also(attacked, "dpo", "requester"):
        for approver in (MEDIATOR, ARCHIVIST):
            paper = Approval(
                request=asked.name, request_digest=seen.statement.digest, approver=approver, created=until(0)
            )
            message = request_pb2.ApproveRequestRequest(
                name=asked.name,
                approval=sign(Kind.APPROVAL, paper, own).to_bytes(),
                etag=seen.etag,
                request_id=identifier(),
            )
            refused(
                lambda: mediator.connection.call(mediator._requests.ApproveRequest, message),  # noqa: B023
                Reason.ROLE_MISSING,
            )
        refused(lambda: mediator.reject(asked.name, "no"), Reason.ROLE_MISSING)
    assert mediator.request_status(asked.name).state == "SUBMITTED"
    attacked.city.exchange("planner").cancel(asked.name)


def test_signs_an_agreement_in_a_departments_name(attacked: Attacked, deeds: Register) -> None:
    """An agreement is signed by its two sides; nobody else's signature makes it live."""
    planner, mediator = attacked.city.exchange("planner"), attacked.city.exchange("mediator")
    drafted = attacked.city.exchange("archivist").approve(
        planner.request(deeds.dataset, purpose="planning", reason="to try it").name
    )
    papers = mediator.bundle(drafted.agreement)
    forged = countersign(Kind.AGREEMENT, papers.agreement, SigningKey.from_seed(os.urandom(32)))
    message = pb.SignAgreementRequest(name=drafted.agreement, statement=forged.to_bytes(), request_id=identifier())
    with also(attacked, "dpo", "requester"):
        refused(lambda: mediator.connection.call(mediator._agreements.SignAgreement, message), Reason.ROLE_MISSING)
    assert planner.agreement(drafted.agreement).state == "PENDING"
    planner.terminate(drafted.agreement, reason="was only tried")


def test_certifies_a_key_in_a_departments_name(attacked: Attacked) -> None:
    """A party's keys are those that its own root certified; its people those that its own admin named."""
    admin = attacked.city.exchange("admin")
    own = SigningKey.from_seed(os.urandom(32))
    stated = KeyStatement(
        party=OFFICE,
        subject=ARCHIVIST,
        use=Use.APPROVER,
        key=own.public,
        not_before=until(-60),
        not_after=until(DAY),
    )
    statement = sign(Kind.KEY, stated, own).to_bytes()
    for parent in (f"parties/{OFFICE}", "parties/city-data-office"):
        message = party_pb2.RegisterKeyRequest(parent=parent, statement=statement, request_id=identifier())
        refused(
            lambda: admin.connection.call(admin._parties.RegisterKey, message),  # noqa: B023
            Reason.ROLE_MISSING,
            Reason.KEY_UNTRUSTED,
        )
    person = party_pb2.RegisterPrincipalRequest(
        parent=f"parties/{OFFICE}", subject=MEDIATOR, roles=["steward"], request_id=identifier()
    )
    refused(lambda: admin.connection.call(admin._parties.RegisterPrincipal, person), Reason.ROLE_MISSING)
    gateway = party_pb2.RegisterGatewayRequest(parent=f"parties/{OFFICE}", gateway_id=ARCHIVE, request_id=identifier())
    gateway.gateway.address = "grpc+tls://gate.cdo.example:443"
    refused(lambda: admin.connection.call(admin._parties.RegisterGateway, gateway), Reason.ROLE_MISSING)


def test_admits_a_department_a_second_time(attacked: Attacked) -> None:
    """A party's root and issuer stay what they are: the team admits organisations, and replaces none."""
    own = SigningKey.from_seed(os.urandom(32))
    root = json.dumps(msgspec.to_builtins(own.public))
    for party, issuer in ((OFFICE, "https://issuer.cdo-2.example"), ("archive-2", f"https://issuer.{OFFICE}.example")):
        refused(
            lambda: attacked.city.exchange("admin").create_party(
                party,  # noqa: B023
                kind="department",
                root_key=root,
                issuer=issuer,  # noqa: B023
                jwks=identity.jwk_set(own.public),
                admin=MEDIATOR,
            ),
            Reason.ALREADY_EXISTS,
        )


# --- its trace


def test_leaves_no_trace_of_a_suspension(attacked: Attacked, agreement: str) -> None:
    """What the team did is on record with who, why and until when, and both sides see it."""
    mediator, end = attacked.city.exchange("mediator"), until(DAY)
    mediator.suspend(agreement, reason="a complaint", until=end)
    mediator.resume(agreement, reason="nothing was wrong")
    team = f"parties/city-data-office/principals/{MEDIATOR}"
    for side in ("analyst", "archivist"):
        entries = [entry.entry for entry in attacked.city.exchange(side).entries(resource=agreement)]
        told = {entry["event"]: entry["detail"] for entry in entries if entry["actor"] == team}
        assert (told["agreement.suspended"]["reason"], told["agreement.suspended"]["until"]) == ("a complaint", end)
        assert told["agreement.resumed"]["by"] == "city-data-office"
    attacked.city.ledger_verifies("analyst", "archivist")


def test_erases_its_own_trace(town: Town) -> None:
    """Entries may be erased, since personal data has a right to that; the tree stays, and so does the
    entry on who erased what and why."""
    name = town.agreement()
    town.suspend("mediator", name, seconds=DAY)
    dpo = Principal("city-data-office", PartyKind.COORDINATION, "dpo@cdo.example", ("dpo", "mediator"), "")
    auditor = town.principal("auditor")
    (trace, *_) = ledger.entries(town.hall, auditor, resource=name).items
    before = ledger.checkpoint(town.hall)
    refused(lambda: erase(town.hall, dpo, None, trace.name, reason="  "), Reason.INVALID_ARGUMENT)
    refused(lambda: erase(town.hall, town.principal("mediator"), None, trace.name, reason="mine"), Reason.ROLE_MISSING)
    erase(town.hall, dpo, None, trace.name, reason="a mistake")
    (telling, *_) = ledger.entries(town.hall, auditor, resource=trace.name).items
    refused(lambda: erase(town.hall, dpo, None, telling.name, reason="a mistake too"), Reason.STATE_WRONG)
    entry = town.last_entry()
    assert (entry["event"], entry["resource"], entry["actor"]) == ("entry.erased", trace.name, dpo.name)
    with town.store.read() as tx:
        rechecking.recheck(tx)
        assert ledger.size(tx) == telling.index + 1 > before.payload["treeSize"]
    assert agreements.get(town.hall, auditor, name).state == "SUSPENDED"


def _dpo() -> Principal:
    return Principal("city-data-office", PartyKind.COORDINATION, "dpo@cdo.example", ("dpo",), "")


def test_erases_the_proof_of_a_transfer(town: Town) -> None:
    """The leaf stays where it is: the side that kept salt and entry proves it as before, and in every later
    checkpoint; and both sides see who erased it, and why."""
    auditor, name = town.principal("auditor"), town.agreement()
    transfer = town.pull("analyst", name).name
    (kept, *_) = ledger.entries(town.hall, auditor, resource=transfer).items
    assert kept.entry is not None
    assert kept.salt is not None
    old = ledger.checkpoint(town.hall)
    town.wait(DAY)
    erase(town.hall, _dpo(), None, kept.name, reason="nothing happened")
    assert ledger.entries(town.hall, auditor, resource=transfer).items == ()
    trust = town.hall.trust()
    for head in (old, ledger.checkpoint(town.hall)):
        size = head.payload["treeSize"]
        path = ledger.inclusion(town.hall, auditor, kept.index, size).path
        proof = LedgerProof(
            index=kept.index,
            salt=kept.salt.hex(),
            entry=kept.entry.decode(),
            path=tuple(item.hex() for item in path),
            checkpoint=head,
        )
        assert verify_ledger(proof, trust).tree_size == size
    for side in ("analyst", "steward"):
        (told,) = ledger.entries(town.hall, town.principal(side), resource=kept.name).items
        assert told.entry is not None
        assert json.loads(told.entry)["detail"] == {"reason": "nothing happened"}


def test_erases_a_report_that_is_waited_for(attacked: Attacked, agreement: str) -> None:
    """Whoever reported demands the proof, or takes the ledger for forged: so the team cannot stop a department's
    gateway by erasing what it says. Transfers' entries are erased a day later."""
    analyst, mediator = attacked.city.exchange("analyst"), attacked.city.exchange("mediator")
    pulled = analyst.pull(agreement)
    entries = list(analyst.entries(resource=pulled.transfer))
    assert {entry.event for entry in entries} >= {"transfer.granted", "transfer.announced", "transfer.completed"}
    with also(attacked, "dpo"):
        for entry in entries:
            refused(
                lambda: mediator.erase_entry(entry.index, reason="to stop them", etag=entry.etag),  # noqa: B023
                Reason.STATE_WRONG,
            )
    assert list(analyst.entries(resource=pulled.transfer)) == entries
    assert analyst.pull(agreement).rows == pulled.rows

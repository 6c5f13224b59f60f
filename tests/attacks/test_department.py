"""A department goes back on its word, or its gateway lies.

It holds its root key, its approvers' keys, its gateway with source, spool and signing key, and an
admin's identity at the exchange. What it says about its own data nobody else can see; what it signed,
sent and reported, everybody concerned can hold against it.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from contracts import agreement as law
from contracts import odcs
from contracts import receipt as receipts
from contracts.canonical import digest_bytes
from contracts.envelope import Envelope, Kind, SigningKey, sign
from contracts.errors import Reason
from contracts.evidence import EvidenceBundle, succeeded, verify
from contracts.instants import epoch, rfc3339
from contracts.steps import Step
from contracts.trust import KeyRevocation, KeyStatement, Use
from exchange import config, evidence, keyfiles, transfers
from exchange.client import Exchange
from exchange.config import GatewaySettings
from exchange.v1 import catalog_pb2, request_pb2, transfer_pb2
from tests.attacks import archive as archives
from tests.attacks.archive import ARCHIVIST, OFFICE, Register, archive
from tests.attacks.conftest import ARCHIVE, REGISTRY, Attacked
from tests.e2e.conftest import people
from tests.e2e.steps import Fetching, refused
from tests.exchange.town import Town

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("attacks")]

DAY = 86_400


@dataclass
class Sent:
    """A release that the archive office sent: its register, the agreement, the file that the analyst got,
    and the evidence beside it."""

    attacked: Attacked
    register: Register
    agreement: str
    file: Path

    @property
    def bundle(self) -> EvidenceBundle:
        """What the analyst keeps."""
        return EvidenceBundle.from_bytes(self.file.with_name(self.file.name + ".receipt.json").read_bytes())

    def steps(self, bundle: EvidenceBundle | None = None, *revocations: Envelope) -> tuple[Step, ...]:
        """The evidence, judged by a stranger with the trust file, tomorrow; where it shows no ledger, he lets that
        pass."""
        trust = evidence.read_trust(self.attacked.city.home.trust)
        shown, tomorrow = bundle or self.bundle, int(time.time()) + DAY
        return verify(shown, trust, at=tomorrow, revocations=revocations, without_ledger=not shown.ledger)

    def takes_back(self, key: SigningKey, seconds: int) -> Envelope:
        """The archive office's root revokes a key, as of so many seconds from now."""
        return revocation(self.attacked, key, seconds)


def root(attacked: Attacked) -> SigningKey:
    return keyfiles.read_key(attacked.city.home.party(OFFICE) / "root.jwk")


def revocation(attacked: Attacked, key: SigningKey, seconds: int) -> Envelope:
    at = rfc3339(int(time.time()) + seconds)
    document = KeyRevocation(party=OFFICE, kid=key.kid, at=at, reason="it was never ours")
    return sign(Kind.REVOCATION, document, root(attacked))


def signing_key(attacked: Attacked, who: str = "archivist") -> SigningKey:
    """A person's key; the archivist's approves, and signs contracts."""
    path = attacked.city.home.profile(who).signing_key
    assert path is not None
    return keyfiles.read_key(path)


def gateway_key(attacked: Attacked) -> SigningKey:
    return keyfiles.read_key(attacked.city.home.gateway(ARCHIVE).parent / "keys" / "signing.jwk")


@pytest.fixture(scope="module")
def sent(attacked: Attacked, tmp_path_factory: pytest.TempPathFactory) -> Sent:
    """One release, pulled, verified and acknowledged."""
    register = archive(attacked, "loans")
    agreement = attacked.city.agree("analyst", register.dataset, "planning", approvers=["archivist"])
    file = tmp_path_factory.mktemp("sent") / "loans.parquet"
    attacked.city.exchange("analyst").pull(agreement, to=file)
    return Sent(attacked, register, agreement, file)


@contextmanager
def second_key(attacked: Attacked) -> Iterator[SigningKey]:
    """A second key of the archivist, certified and revoked: the exchange knows of both."""
    key, now = SigningKey.from_seed(os.urandom(32)), int(time.time())
    stated = KeyStatement(
        party=OFFICE,
        subject=ARCHIVIST,
        use=Use.APPROVER,
        key=key.public,
        not_before=rfc3339(now - 60),
        not_after=rfc3339(now + DAY),
    )
    attacked.city.exchange("archivist").register_key(sign(Kind.KEY, stated, root(attacked)))
    yield key


# --- denying


def test_denies_an_approval(sent: Sent) -> None:
    """The department cannot deny what it approved: its approver's signature stands offline, even once
    the key is taken back, because a checkpoint of the ledger is older."""
    gone = sent.takes_back(signing_key(sent.attacked), 3600)
    steps = sent.steps(sent.bundle, gone)
    assert succeeded(steps)
    assert any(ARCHIVIST in step.detail and "1 of 1 needed" in step.detail for step in steps)
    assert not succeeded(sent.steps(msgspec.structs.replace(sent.bundle, ledger=()), gone))


def test_denies_a_sent_release(sent: Sent) -> None:
    """The department cannot deny what it sent: its gateway signed the digest of the very rows."""
    gone = sent.takes_back(gateway_key(sent.attacked), 3600)
    assert succeeded(sent.steps(sent.bundle, gone))
    exchange = sent.attacked.city.exchange("analyst")
    assert sent.bundle.receipt is not None
    told = [entry.entry["detail"] for entry in exchange.entries(resource=sent.bundle.receipt.payload["transfer"])]
    assert sent.bundle.receipt.digest in [detail.get("receipt") for detail in told]
    shown = sent.attacked.city.run("verify", f"{sent.file}.receipt.json", "--data", sent.file, "--as", "planner")
    assert gateway_key(sent.attacked).kid not in shown.stderr


def test_takes_a_key_back_as_of_long_ago(attacked: Attacked) -> None:
    """A revocation counts from now on: one that is dated back would undo every paper that others rely on."""
    archivist = attacked.city.exchange("archivist")
    with second_key(attacked) as key:
        for seconds in (-3600, -400 * DAY):
            refused(lambda: archivist.register_key(revocation(attacked, key, seconds)), Reason.INVALID_ARGUMENT)  # noqa: B023
        assert [found.revoked for found in list(archivist.keys()) if found.name.endswith(key.kid)] == [False]


def test_tells_two_stories_of_one_transfer(tmp_path: Path) -> None:
    """A receipt is kept once: a second one is refused, and both digests are in the ledger."""
    town = Town(tmp_path)
    run = town.pull("analyst", town.agreement())
    town.announce("gateway", run.name)
    first = town.deliver("gateway", run.name)
    refused(
        lambda: town.deliver("gateway", run.name, finished=rfc3339(town.now + 30), sent=(0,), complete=False),
        Reason.RECEIPT_INVALID,
    )
    entry = town.last_entry()
    assert entry["event"] == "transfer.contradicted"
    assert entry["detail"]["kept"] == Envelope.from_bytes(first.receipt).digest


# --- changing


def test_edits_a_contract_under_a_live_agreement(attacked: Attacked) -> None:
    """A live agreement keeps the terms that both sides signed, whatever is published since; also for its
    first release, which is made after that."""
    city, exchange, archivist = attacked.city, attacked.city.exchange("analyst"), attacked.city.exchange("archivist")
    register = archive(attacked, "fines")
    deal = city.agree("analyst", register.dataset, "planning", approvers=["archivist"])
    later, edited = (
        archives.contract("fines", version=version).replace(b"          score: {mask: keep}\n", b"")
        for version in ("2.0.0", "1.0.0")
    )
    etag = archivist.dataset(register.dataset).etag
    error = refused(lambda: archivist.publish(edited, gateway=ARCHIVE, etag=etag), Reason.ALREADY_EXISTS)
    assert "with other content" in error.message
    published = archivist.publish(later, gateway=ARCHIVE, etag=etag)
    assert published.contract.name.endswith("2.0.0")
    pulled = exchange.pull(deal)
    agreed = exchange.verified(deal).agreement
    assert pulled.receipt.payload["termsDigest"] == agreed.terms_digest
    assert pulled.receipt.payload["documentDigest"] == digest_of(register.contract)
    assert "score" in pulled.frame().columns
    # Nor do other bytes pass for the contract that the agreement names: not under the old statement, not under
    # one that the department signs anew, and not with a later request of the same consumer, approved.
    papers, trust, now = exchange.bundle(deal), evidence.read_trust(city.home.trust), int(time.time())
    changed = odcs.load(later).contract
    asked = sign(
        Kind.REQUEST,
        {
            **papers.request.payload,
            "documentDigest": changed.document_digest,
            "termsDigest": changed.terms_digest,
            "fields": [field for field in papers.request.payload["fields"] if field != "score"],
        },
        signing_key(attacked, "analyst"),
    )
    paper = {**papers.approvals[0].payload, "requestDigest": asked.digest}
    approval = sign(Kind.APPROVAL, paper, signing_key(attacked))
    stated = {document: sign(Kind.CONTRACT, statement(document), signing_key(attacked)) for document in (later, edited)}
    for document in (later, edited):
        swapped = msgspec.structs.replace(papers, document=document.decode())
        refused(lambda: law.verify_bundle(swapped, trust, at=now), Reason.SIGNATURE_INVALID)  # noqa: B023
        swapped = msgspec.structs.replace(swapped, contract=stated[document])
        error = refused(lambda: law.verify_bundle(swapped, trust, at=now), Reason.REQUEST_OUTSIDE_CONTRACT)  # noqa: B023
        assert "for another contract" in error.message
    swapped = msgspec.structs.replace(
        papers, document=later.decode(), contract=stated[later], request=asked, approvals=(approval,)
    )
    error = refused(lambda: law.verify_bundle(swapped, trust, at=now), Reason.SIGNATURE_INVALID)
    assert "document_digest, terms_digest" in error.message


def digest_of(document: bytes) -> str:
    """The document digest of a contract's bytes."""
    return odcs.load(document).contract.document_digest


# --- backdating


def test_signs_with_a_revoked_key(attacked: Attacked, sent: Sent) -> None:
    """A revoked key signs nothing new, whatever date it writes."""
    archivist = attacked.city.exchange("archivist")
    asked = attacked.city.exchange("planner").request(sent.register.dataset, purpose="planning", reason="to try it")
    with second_key(attacked) as key:
        archivist.register_key(revocation(attacked, key, 0))
        for age in (0, 3600):
            paper = law.Approval(
                request=asked.name,
                request_digest=asked.statement.digest,
                approver=ARCHIVIST,
                created=rfc3339(int(time.time()) - age),
            )
            refused(lambda: approve(archivist, asked, sign(Kind.APPROVAL, paper, key)), Reason.KEY_UNTRUSTED)  # noqa: B023
        document = archives.contract("ledgers")
        refused(lambda: publish(archivist, document, key), Reason.KEY_UNTRUSTED)
    attacked.city.exchange("planner").cancel(asked.name)


def approve(exchange: Exchange, asked: Any, approval: Envelope) -> None:
    message = request_pb2.ApproveRequestRequest(
        name=asked.name, approval=approval.to_bytes(), etag=asked.etag, request_id=str(uuid.uuid4())
    )
    exchange.connection.call(exchange._requests.ApproveRequest, message)


def statement(document: bytes) -> law.ContractStatement:
    """What the archive office says of a contract of its own."""
    contract = odcs.load(document).contract
    return law.ContractStatement(
        provider=OFFICE,
        dataset=contract.dataset,
        version=contract.version,
        document_digest=contract.document_digest,
        terms_digest=contract.terms_digest,
        published=rfc3339(int(time.time())),
    )


def publish(exchange: Exchange, document: bytes, key: SigningKey, **changed: Any) -> None:
    """Publish a contract with a statement of one's own making."""
    message = catalog_pb2.PublishContractRequest(
        parent=changed.get("parent", f"parties/{OFFICE}"),
        document=document,
        statement=sign(Kind.CONTRACT, statement(document), key).to_bytes(),
        gateway=changed.get("gateway", f"parties/{OFFICE}/gateways/{ARCHIVE}"),
        request_id=str(uuid.uuid4()),
    )
    exchange.connection.call(exchange._catalog.PublishContract, message)


def test_backdates_a_receipt(sent: Sent) -> None:
    """A receipt that claims a time before its key was revoked is not believed for saying so: only a
    checkpoint of the ledger proves when it was there."""
    key, bundle = gateway_key(sent.attacked), sent.bundle
    assert bundle.receipt is not None
    early = rfc3339(epoch(bundle.receipt.payload["finished"]) + 1)
    forged = sign(Kind.RECEIPT, {**bundle.receipt.payload, "finished": early}, key)
    gone = sent.takes_back(key, 60)
    for ledger in (bundle.ledger, ()):
        steps = sent.steps(msgspec.structs.replace(bundle, receipt=forged, acknowledgement=None, ledger=ledger), gone)
        assert "nothing proves that it signed before" in " ".join(step.detail for step in steps if step.failed)


def test_dates_papers_before_their_grant(tmp_path: Path) -> None:
    """Intent and receipt cannot be older than the grant that they are for: the consumer's evidence would
    not stand. A gateway whose intent is refused sends no row."""
    town = Town(tmp_path)
    deal = town.agreement()
    town.wait(DAY)
    run = town.pull("analyst", deal)
    early = rfc3339(town.now - 3600)
    old = town.papers(run.name).intent_of(created=early)
    gateway = town.principal("gateway")
    refused(lambda: transfers.report_intent(town.hall, gateway, None, run.name, old), Reason.RECEIPT_INVALID)
    town.announce("gateway", run.name)
    refused(lambda: town.deliver("gateway", run.name, started=early), Reason.RECEIPT_INVALID)
    assert town.deliver("gateway", run.name).state == "COMPLETED"


# --- another source


def test_serves_another_source_than_it_measured(attacked: Attacked, tmp_path: Path) -> None:
    """What is measured is what is served: a release is masked once, and its rows' digest is signed before
    the first of them leaves."""
    wills = archive(attacked, "wills")
    deal = attacked.city.agree("analyst", wills.dataset, "planning", approvers=["archivist"])
    exchange = attacked.city.exchange("analyst")
    before = set(attacked.city.releases(ARCHIVE))
    first = exchange.pull(deal)
    # One person a district: nothing of this would meet the bounds.
    people(8).with_columns(district=pl.col("serial")).write_parquet(wills.source)
    assert exchange.pull(deal).content_digest == first.content_digest
    # The gateway's own hand in the spool, between measuring and serving.
    (release,) = set(attacked.city.releases(ARCHIVE)) - before
    touched = 0
    for part in (attacked.city.home.gateway(ARCHIVE).parent / "spool" / release).iterdir():
        raw = part.read_bytes()
        if b"north" in raw:
            part.write_bytes(raw.replace(b"north", b"nadir"))
            touched += 1
    assert touched
    refused(lambda: exchange.pull(deal, to=tmp_path / "wills.parquet"), Reason.DIGEST_MISMATCH)
    assert not (tmp_path / "wills.parquet").exists()


def test_counts_rows_as_persons(attacked: Attacked) -> None:
    """`entity` says what k counts. A contract that names the row's own key is refused when it is
    published, however it is worded, as long as it says what the key is."""
    row = b"""      - name: visit_id
        logicalType: string
        %s
        classification: internal
        customProperties: [{property: identifiability, value: %s}]
"""
    good = archives.contract("entries").replace(b"entity: person_id", b"entity: visit_id")
    at = b"      - name: person_id\n"
    for key, kind in ((b"unique: true", b"indirect"), (b"primaryKey: true", b"indirect"), (b"required: true", b"none")):
        document = good.replace(at, row % (key, kind) + at)
        offer = functools.partial(publish, attacked.city.exchange("archivist"), document, signing_key(attacked))
        error = refused(offer, Reason.CONTRACT_INVALID)
        assert {violation.code for violation in error.violations} & {"ENTITY_IS_ROW", "ENTITY_WRONG"}


def test_lets_identifiers_slip_through(attacked: Attacked, tmp_path: Path) -> None:
    """A clerk typed a citizen's id into the notes, a program put a photo into the remarks: columns that the
    contract keeps and calls harmless. Neither leaves, and no message quotes it; what is mended leaves."""
    city, consumer, keeper = attacked.city, attacked.city.exchange("analyst"), attacked.city.exchange("archivist")
    column = "      - {name: %s, logicalType: string, classification: internal, customProperties: [%s]}\n"
    declared = "".join(column % (name, "{property: identifiability, value: none}") for name in ("notes", "remark"))
    text = archives.contract("letters").decode().replace("team:\n", declared + "team:\n", 1)
    kept = "          since: {mask: keep}\n"
    document = text.replace(kept, kept + "          notes: {mask: keep}\n          remark: {mask: keep}\n").encode()
    citizen, photo = (
        "11010519491231002X",
        base64.b64encode(b"\xff\xd8\xff\xe0\0\x10JFIF\0" + bytes(range(256))).decode(),
    )
    plain = people(400).with_columns(notes=pl.lit("nothing to add"), remark=pl.lit(None, dtype=pl.String))
    source = tmp_path / "letters.parquet"

    def hidden(name: str, value: str) -> pl.DataFrame:
        return plain.with_columns(pl.when(pl.col("score") == 31).then(pl.lit(value)).otherwise(name).alias(name))

    bad = {
        "found.notes.national-id": hidden("notes", f"his mother, {citizen}, called"),
        "found.remark.image": hidden("remark", photo),
    }
    plain.write_parquet(source)
    city.publish("archivist", document, source, gateway=ARCHIVE)
    deal = city.agree("analyst", f"{OFFICE}/letters", "planning", approvers=["archivist"])
    for found, rows in bad.items():
        rows.write_parquet(source)
        error = refused(
            lambda: consumer.pull(deal, to=tmp_path / "letters-pulled.parquet"), Reason.RESIDUAL_IDENTIFIERS
        )
        transfer = city.settle("analyst", next(consumer.transfers(deal, 1)).name, "REFUSED").name
        told = keeper.transfer(transfer).as_json()
        assert json.loads(told["failure_detail"])[found] == "1"
        shown = [consumer.transfer(transfer).as_json(), [entry.as_json() for entry in consumer.entries(transfer)]]
        assert "notes" not in f"{error} {json.dumps(shown)}"
        everything = "\n".join((str(error), json.dumps([shown, told]), city.log(ARCHIVE), city.log("exchange")))
        assert citizen not in everything
        assert photo[:40] not in everything
        assert not (tmp_path / "letters-pulled.parquet").exists()
    plain.write_parquet(source)
    assert consumer.pull(deal).frame().height == 400


def test_receipt_says_what_was_counted(sent: Sent) -> None:
    """Who names another entity signs it: the receipt says what k counts, over how many classes, and
    commits to their counts, which an auditor can have opened."""
    receipt = sent.bundle.receipt
    assert receipt is not None
    bounds = receipt.payload["bounds"]
    assert (bounds["entity"], bounds["quasiIdentifiers"], bounds["classes"]) == ("person_id", ["district"], 4)
    # Kept beside the spool, where it stays when the release is gone.
    opened = (sent.attacked.city.home.gateway(ARCHIVE).parent / "openings" / receipt.payload["release"]).read_bytes()
    assert digest_bytes(opened) == bounds["classCommitment"]
    assert opened.count((500).to_bytes(4, "little")) == 4  # 2,000 persons in four districts
    judged = bounds["certificate"]
    assert (judged["level"], judged["drB"], judged["risk"], judged["averageClass"]) == (3, 0.002, 0.002, 500)
    # Its gateway cannot sign away what was to be counted: not in the receipt, and not in both papers together.
    for name, lie, why in (
        ("entity", "serial", "over another entity"),
        ("quasiIdentifiers", [], "without a declared quasi-identifier"),
        ("kRequired", 1, "against less than the contract demands"),
        ("certificate", {**bounds["certificate"], "level": 4}, "level 4 does not follow"),
        ("certificate", {**bounds["certificate"], "drC": 0.0, "risk": 0.0}, "no classes have such"),
    ):
        step = failed(sent, {**bounds, name: lie}, intent_too=True)
        assert "bounds" in step.what
        assert why in step.detail
        assert "keeps to it" in failed(sent, {**bounds, "classCommitment": "sha256:" + "0" * 64}, intent_too=False).what


def failed(sent: Sent, bounds: dict[str, Any], *, intent_too: bool) -> Step:
    """The first step that fails when the gateway's key signs papers with these bounds."""
    bundle, key = sent.bundle, gateway_key(sent.attacked)
    assert bundle.receipt is not None and bundle.intent is not None  # noqa: PT018
    intent = bundle.intent
    if intent_too:
        intent = sign(Kind.INTENT, {**intent.payload, "bounds": bounds}, key)
    receipt = sign(Kind.RECEIPT, {**bundle.receipt.payload, "bounds": bounds, "intentDigest": intent.digest}, key)
    forged = msgspec.structs.replace(bundle, receipt=receipt, intent=intent, acknowledgement=None, ledger=())
    return next(step for step in sent.steps(forged) if step.failed)


# --- for another department


def test_answers_for_another_department(attacked: Attacked, sent: Sent) -> None:
    """A gateway reports only what was granted at it; a department approves, publishes and certifies only
    what is its own."""
    settings = config.load(attacked.city.home.gateway(REGISTRY), GatewaySettings)
    profile = msgspec.structs.replace(
        attacked.city.home.profile("keeper"), subject=settings.gateway, token=settings.token
    )
    bundle = sent.bundle
    assert bundle.intent is not None and bundle.receipt is not None  # noqa: PT018
    transfer = bundle.receipt.payload["transfer"]
    with Exchange(profile) as registry:
        for method, message in (
            ("ReportIntent", transfer_pb2.ReportIntentRequest(intent=bundle.intent.to_bytes())),
            ("ReportReceipt", transfer_pb2.ReportReceiptRequest(receipt=bundle.receipt.to_bytes())),
            ("ReportRefusal", transfer_pb2.ReportRefusalRequest(reason="BOUNDS_NOT_MET")),
        ):
            message.name, message.request_id = transfer, str(uuid.uuid4())
            refused(
                lambda: registry.connection.call(getattr(registry._transfers, method), message),  # noqa: B023
                Reason.NOT_FOUND,
            )
    keeper = attacked.city.exchange("keeper")
    asked = attacked.city.exchange("planner").request(sent.register.dataset, purpose="planning", reason="to try it")
    refused(lambda: keeper.approve(asked), Reason.NOT_FOUND)
    refused(
        lambda: keeper.suspend(sent.agreement, reason="ours", until=rfc3339(int(time.time()) + 60)), Reason.NOT_FOUND
    )
    attacked.city.exchange("planner").cancel(asked.name)
    document = archives.contract("letters")
    refused(lambda: publish(keeper, document, signing_key(attacked)), Reason.ROLE_MISSING)
    mine = {"parent": "parties/registry-office", "gateway": f"parties/registry-office/gateways/{REGISTRY}"}
    refused(lambda: publish(keeper, document, signing_key(attacked), **mine), Reason.CONTRACT_INVALID)


def test_poses_as_another_departments_gateway(attacked: Attacked, sent: Sent) -> None:
    """A consumer shows its ticket only where the provider's own root certified the TLS authority."""
    analyst = attacked.city.exchange("analyst")
    granted = analyst.create_transfer(sent.agreement)
    registry = analyst.gateway(f"parties/registry-office/gateways/{REGISTRY}")
    assert registry.ca_certificate != granted.gateway_ca_certificate
    posed = msgspec.structs.replace(
        granted, gateway_address=registry.address, gateway_ca_certificate=registry.ca_certificate
    )
    refused(lambda: analyst.sign_ticket(posed), Reason.KEY_UNTRUSTED)
    with Fetching(granted, analyst.sign_ticket(granted), address=registry.address, ca=registry.ca_certificate) as at:
        refused(at.announce, Reason.GRANT_INVALID)


# --- keeping silent


def test_withholds_a_receipt(attacked: Attacked, sent: Sent) -> None:
    """Before the first row the gateway signed what was about to leave, and the ledger has it: a receipt
    that never comes leaves the department with that intent, and the consumer with no finished file."""
    analyst = attacked.city.exchange("planner")
    deal = attacked.city.agree("planner", sent.register.dataset, "planning", approvers=["archivist"])
    with Fetching.granted(analyst, deal) as fetching:
        fetching.announce()
        told = [entry.entry for entry in analyst.entries(resource=fetching.transfer)]
        found = analyst.transfer(fetching.transfer)
        assert found.intent is not None and found.receipt is None  # noqa: PT018
        (announced,) = [entry["detail"] for entry in told if entry["event"] == "transfer.announced"]
        assert announced["intent"] == found.intent.digest
        stated = receipts.verify_intent(found.intent, analyst.verified(deal), at=int(time.time()))
        rows = fetching.read_all()
        assert (stated.rows_out, announced["content"]) == (rows.num_rows, stated.content_digest)
        assert stated.content_digest == fetching.intent["contentDigest"]
        # What the consumer has by then does not pass for a receipt.
        withheld = msgspec.structs.replace(evidence.collect(analyst, fetching.transfer), receipt=None)
        assert not succeeded(sent.steps(withheld))

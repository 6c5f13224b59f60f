"""A town to test in: a store on disk, the real policy, parties with keys, a published contract.

    town = Town(tmp_path)
    wish = town.request("analyst")
    town.approve("steward", wish.name)
    town.sign("steward", agreement); town.sign("analyst", agreement)
    granted = town.pull("analyst", agreement)

Everybody acts through the use cases, with signatures by real keys; only the clock and the random
bytes are the test's. What is registered at the start is put into the store as founding does.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from contracts import odcs, standard
from contracts.agreement import Approval, ContractStatement, Request
from contracts.canonical import digest, terms_digest
from contracts.envelope import Envelope, Kind, SigningKey, countersign, sign
from contracts.instants import rfc3339
from contracts.policy.embedded import EmbeddedEngine
from contracts.receipt import Receipt
from contracts.trust import PartyKind, TrustedParty, TrustFile, Use
from exchange import agreements, ledger, records, requests, suspending, transfers
from exchange.hall import Hall
from exchange.identity import Principal
from exchange.records import Call
from tests import papers
from tests.engines import shared_engine
from tests.halls import migrated
from tests.papers import ANALYST, CENTRE, COMPANY, DPO, EPIDEMIOLOGIST, GATEWAY, NOW, PROVIDER, STEWARD, Cast, key

OFFICE, INSPECTION, RIVAL = "city-data-office", "city-inspection", "rival-maps"
KINDS = {
    PROVIDER: PartyKind.DEPARTMENT,
    CENTRE: PartyKind.DEPARTMENT,
    COMPANY: PartyKind.COMPANY,
    RIVAL: PartyKind.COMPANY,
    OFFICE: PartyKind.COORDINATION,
    INSPECTION: PartyKind.SUPERVISION,
}
DATASET = f"parties/{PROVIDER}/datasets/hospital-visits"
GATEWAY_NAME = f"parties/{PROVIDER}/gateways/{GATEWAY}"

# Short name -> party, subject, roles. A subject that stands under two parties is one person.
ACTORS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "steward": (PROVIDER, STEWARD, ("steward",)),
    "dpo": (PROVIDER, DPO, ("dpo",)),
    "deputy": (PROVIDER, "deputy@health.example", ("steward",)),
    "clerk": (PROVIDER, "clerk@health.example", ("requester",)),
    "gateway": (PROVIDER, GATEWAY, ("gateway",)),
    "other-gateway": (PROVIDER, "health-bureau-2", ("gateway",)),
    "foreign-gateway": (CENTRE, GATEWAY, ("gateway",)),
    "analyst": (COMPANY, ANALYST, ("requester",)),
    "colleague": (COMPANY, "colleague@metro.example", ("requester",)),
    "visitor": (COMPANY, "visitor@metro.example", ()),
    "twin": (COMPANY, STEWARD, ("requester",)),
    "epidemiologist": (CENTRE, EPIDEMIOLOGIST, ("requester",)),
    "centre-steward": (CENTRE, "steward@dcc.example", ("steward",)),
    "rival": (RIVAL, "scout@rival.example", ("requester",)),
    "mediator": (OFFICE, "mediator@cdo.example", ("mediator",)),
    "auditor": (INSPECTION, "auditor@inspection.example", ("auditor",)),
}
_USES = {"steward": Use.APPROVER, "dpo": Use.APPROVER, "requester": Use.REQUESTER, "gateway": Use.GATEWAY}


@dataclass
class Town:
    """Everything is built on first use of the folder; `document` is the contract to publish."""

    folder: Path
    document: dict[str, Any] | None = None
    contract_signers: tuple[str, ...] = (STEWARD,)
    engine: EmbeddedEngine = field(default_factory=shared_engine)
    now: int = NOW

    def __post_init__(self) -> None:
        self.random = itertools.count()
        self.store = migrated(self.folder / "exchange.db")
        self.standard = standard.load("desensitisation/1")
        self.cast = Cast(now=self.now, policy_digest=self.engine.bundle_digest)
        self.hall = Hall(
            store=self.store,
            policy=self.engine,
            standard=self.standard,
            trust=lambda: self.trust,
            clock=lambda: self.now,
            entropy=self.entropy,
            grant_key=key("grant"),
            checkpoint_key=key("checkpoint"),
        )
        self._register()
        self.publish(self.document or papers.document())

    def entropy(self, count: int) -> bytes:
        """Bytes that never repeat, the same in every run."""
        return hashlib.shake_256(f"town {next(self.random)}".encode()).digest(count)

    @property
    def trust(self) -> TrustFile:
        """The parties' roots, as the exchange knows them."""
        return TrustFile(
            parties={party: TrustedParty(kind=kind, root=key(f"root:{party}").public) for party, kind in KINDS.items()},
            checkpoint_key=key("checkpoint").public,
            grant_key=key("grant").public,
            standards=(self.standard.digest,),
            policies=(self.engine.bundle_digest,),
        )

    def principal(self, actor: str) -> Principal:
        """The actor as the interceptors would hand it in."""
        party, subject, roles = ACTORS[actor]
        return Principal(party, KINDS[party], subject, roles, f"https://issuer.{party}.example")

    def call(self, actor: str, method: str, *body: object, request_id: str = "") -> Call:
        """A mutating call with a fresh id, or a given one."""
        fresh = str(uuid.UUID(bytes=self.entropy(16), version=4))
        return Call(self.principal(actor).name, method, request_id or fresh, digest([repr(part) for part in body]))

    def wait(self, seconds: int) -> None:
        """Let time pass."""
        self.now += seconds

    # --- what is there from the start

    def _register(self) -> None:
        times = {"created": self.now, "updated": self.now}
        with self.store.transaction() as tx:
            for party, kind in KINDS.items():
                root = json.dumps(msgspec.to_builtins(key(f"root:{party}").public))
                issuer = f"https://issuer.{party}.example"
                name = f"parties/{party}"
                tx.insert(records.Party(name=name, party=party, kind=kind, root_key=root, issuer=issuer, **times))
            for party, subject, roles in ACTORS.values():
                name = f"parties/{party}/principals/{subject}"
                tx.insert(records.Person(name=name, party=party, subject=subject, roles=roles, **times))
            address = {"address": "grpc+tls://localhost:7460", "ca_certificate": "PEM"}
            tx.insert(records.Gateway(name=GATEWAY_NAME, party=PROVIDER, gateway=GATEWAY, **address, **times))
        for party, subject, roles in ACTORS.values():
            for role in roles:
                if role in _USES:
                    self.certify(party, subject, _USES[role])

    def certify(self, party: str, subject: str, use: Use, *, owner: str = "", end: int | None = None) -> SigningKey:
        """Register a key statement; `owner` names the key, the subject's own by default."""
        owner = owner or self.owner(party, subject)
        statement = self.cast.statement(party, subject, use, owner=owner, end=end)
        kid = key(owner).kid
        with self.store.transaction() as tx:
            tx.insert(
                records.Key(
                    name=f"parties/{party}/keys/{kid}.{next(self.random)}",
                    party=party,
                    kid=kid,
                    subject=subject,
                    use=use.value,
                    statement=statement.to_bytes(),
                    created=self.now,
                    updated=self.now,
                )
            )
        return key(owner)

    def revoke(self, actor: str) -> None:
        """The party's root takes the actor's key back, now."""
        party, subject, _ = ACTORS[actor]
        with self.store.transaction() as tx:
            (record,) = tx.page(records.Key, where={"party": party, "subject": subject})
            revocation = self.cast.revocation(party, self.owner(party, subject), self.now).to_bytes()
            tx.replace(msgspec.structs.replace(record, revocation=revocation), expected_version=record.version)

    @staticmethod
    def owner(party: str, subject: str) -> str:
        """Whose key it is: a person under a second party has another one there."""
        first = next(found for found, known, _ in ACTORS.values() if known == subject)
        return subject if first == party else f"{subject} of {party}"

    def key(self, actor: str) -> SigningKey:
        """The actor's signing key."""
        party, subject, _ = ACTORS[actor]
        return key(self.owner(party, subject))

    def publish(self, document: dict[str, Any]) -> records.Contract:
        """Put a contract into the store as the dataset's current one."""
        raw = json.dumps(document, ensure_ascii=False).encode()
        contract = odcs.load(raw).contract
        stated = ContractStatement(
            provider=PROVIDER,
            dataset=contract.dataset,
            version=contract.version,
            document_digest=digest(document),
            terms_digest=terms_digest(document),
            published=rfc3339(self.now),
        )
        name = f"parties/{PROVIDER}/datasets/{contract.dataset}"
        record = records.Contract(
            name=f"{name}/contracts/{contract.version}",
            party=PROVIDER,
            dataset=contract.dataset,
            document=raw,
            statement=self.cast.sign(Kind.CONTRACT, stated, *self.contract_signers).to_bytes(),
            document_digest=contract.document_digest,
            terms_digest=contract.terms_digest,
            gateway=GATEWAY_NAME,
            created=self.now,
            updated=self.now,
        )
        dataset = records.Dataset(
            name=name,
            party=PROVIDER,
            dataset=contract.dataset,
            contract=record.name,
            description=contract.description,
            sharing_class=contract.sharing.class_.value,
            purposes=tuple(contract.purposes),
            columns=tuple(one.name for one in contract.fields),
            consumers=tuple({party for purpose in contract.purposes.values() for party in purpose.consumers}),
            created=self.now,
            updated=self.now,
        )
        with self.store.transaction() as tx:
            tx.insert(record)
            known = tx.get(records.Dataset, name)
            if known is None:
                tx.insert(dataset)
            else:
                tx.replace(dataset, expected_version=known.version)
        return record

    def current(self, dataset: str = "hospital-visits") -> records.Contract:
        """The dataset's current contract."""
        with self.store.read() as tx:
            known = tx.get(records.Dataset, f"parties/{PROVIDER}/datasets/{dataset}")
            assert known is not None
            found = tx.get(records.Contract, known.contract)
        assert found is not None
        return found

    # --- documents

    def wish(self, actor: str, *, purpose: str = "transport-planning", **changed: Any) -> Request:
        """The request that the actor would sign; `changed` replaces its fields."""
        party, subject, _ = ACTORS[actor]
        record = self.current()
        offered = odcs.load(record.document).contract.purposes.get(purpose)
        asked = Request(
            id=f"requests/{_new('r', self.entropy)}",
            provider=PROVIDER,
            dataset="hospital-visits",
            consumer=party,
            requester=subject,
            document_digest=record.document_digest,
            terms_digest=record.terms_digest,
            purpose=purpose,
            fields=tuple(offered.fields) if offered else ("hospital_code",),
            duration="P90D",
            reason="to see where people travel to hospital from",
            holder=key(f"holder:{party}").public,
            created=rfc3339(self.now),
        )
        return msgspec.structs.replace(asked, **changed)

    def approval(self, actor: str, name: str, /, **changed: Any) -> Envelope:
        """The actor's signed approval of a request as it is in the store."""
        with self.store.read() as tx:
            record = tx.get(records.Request, name)
        assert record is not None
        paper = Approval(
            request=name,
            request_digest=Envelope.from_bytes(record.statement).digest,
            approver=ACTORS[actor][1],
            created=rfc3339(self.now),
        )
        return sign(Kind.APPROVAL, msgspec.structs.replace(paper, **changed), self.key(actor))

    def papers(self, transfer: str) -> papers.Papers:
        """The factory of gateway's and consumer's papers for a granted transfer."""
        with self.store.read() as tx:
            run = tx.get(records.Transfer, transfer)
            assert run is not None
            agreement = tx.get(records.Agreement, run.agreement)
            assert agreement is not None
            request = tx.get(records.Request, agreement.request)
            contract = tx.get(records.Contract, agreement.contract)
        assert request is not None
        assert contract is not None
        return papers.Papers(
            cast=self.cast,
            now=self.now,
            consumer=agreement.consumer,
            requester=request.requester,
            approvers=(),
            parsed=json.loads(contract.document),
            document=contract.document,
            contract=odcs.load(contract.document).contract,
            statement=Envelope.from_bytes(contract.statement),
            request=Envelope.from_bytes(request.statement),
            approvals=tuple(Envelope.from_bytes(raw) for raw in request.approvals),
            agreement=Envelope.from_bytes(agreement.statement),
            transfer=transfer,
        )

    # --- deeds

    def request(self, actor: str, *, request_id: str = "", **wished: Any) -> records.Request:
        """Sign and hand in a request."""
        statement = sign(Kind.REQUEST, self.wish(actor, **wished), self.key(actor))
        call = self.call(actor, "CreateRequest", statement.digest, request_id=request_id)
        return requests.create(self.hall, self.principal(actor), call, statement)

    def approve(self, actor: str, request: str, *, etag: str | None = None, request_id: str = "") -> records.Request:
        """Sign and give an approval."""
        approval = self.approval(actor, request)
        call = self.call(actor, "ApproveRequest", request, approval.digest, etag, request_id=request_id)
        etag = self.etag(records.Request, request) if etag is None else etag
        return requests.approve(self.hall, self.principal(actor), call, request, approval, etag)

    def reject(self, actor: str, request: str, *, reason: str = "not now", etag: str | None = None) -> records.Request:
        """Refuse a request."""
        call = self.call(actor, "RejectRequest", request, reason)
        etag = self.etag(records.Request, request) if etag is None else etag
        return requests.reject(self.hall, self.principal(actor), call, request, reason, etag)

    def cancel(self, actor: str, request: str, *, etag: str | None = None) -> records.Request:
        """Take a request back."""
        call = self.call(actor, "CancelRequest", request)
        etag = self.etag(records.Request, request) if etag is None else etag
        return requests.cancel(self.hall, self.principal(actor), call, request, etag)

    def sign(self, actor: str, agreement: str) -> records.Agreement:
        """Countersign an agreement as it is in the store."""
        with self.store.read() as tx:
            record = tx.get(records.Agreement, agreement)
        assert record is not None
        statement = countersign(Kind.AGREEMENT, Envelope.from_bytes(record.statement), self.key(actor))
        call = self.call(actor, "SignAgreement", agreement, statement.digest)
        return agreements.sign(self.hall, self.principal(actor), call, agreement, statement)

    def suspend(
        self, actor: str, agreement: str, *, seconds: int = 3600, reason: str = "a suspicion", etag: str = ""
    ) -> records.Agreement:
        """Stop an agreement for that long."""
        until = self.now + seconds
        call = self.call(actor, "SuspendAgreement", agreement, until, reason)
        who = self.principal(actor)
        return suspending.suspend(self.hall, who, call, agreement, reason=reason, until=until, etag=etag)

    def resume(self, actor: str, agreement: str, *, reason: str = "cleared", etag: str = "") -> records.Agreement:
        """Let it go on."""
        call = self.call(actor, "ResumeAgreement", agreement, reason)
        return suspending.resume(self.hall, self.principal(actor), call, agreement, reason=reason, etag=etag)

    def terminate(self, actor: str, agreement: str, *, reason: str = "done", etag: str = "") -> records.Agreement:
        """End it."""
        call = self.call(actor, "TerminateAgreement", agreement, reason)
        return suspending.terminate(self.hall, self.principal(actor), call, agreement, reason=reason, etag=etag)

    def pull(
        self, actor: str, agreement: str, *, resume: str = "", parts: tuple[int, ...] = (), request_id: str = ""
    ) -> records.Transfer:
        """Ask for a grant."""
        call = self.call(actor, "CreateTransfer", agreement, resume, *map(str, parts), request_id=request_id)
        return transfers.create(self.hall, self.principal(actor), call, agreement, resume=resume, parts=parts)

    def announce(self, actor: str, name: str, /, **changed: Any) -> records.Transfer:
        """The gateway reports its intent."""
        intent = self.papers(name).intent_of(created=rfc3339(self.now), **changed)
        call = self.call(actor, "ReportIntent", name, intent.digest)
        return transfers.report_intent(self.hall, self.principal(actor), call, name, intent)

    def receipt(self, name: str, /, *, sent: tuple[int, ...] | None = None, **changed: Any) -> Envelope:
        """The receipt that the gateway would sign, after the intent that is in the store."""
        factory = self.papers(name)
        with self.store.read() as tx:
            run = tx.get(records.Transfer, name)
        assert run is not None
        everything = tuple(range(len(factory.parts)))
        sent = everything if sent is None else sent
        intent = Envelope.from_bytes(run.intent) if run.intent else factory.intent_of(created=rfc3339(self.now))
        facts = {
            "parts_sent": sent,
            "complete": sent == everything,
            "intent_digest": intent.digest,
            "started": rfc3339(self.now),
            "finished": rfc3339(self.now),
        }
        return factory.receipt_of(**{**facts, **changed})

    def deliver(
        self, actor: str, name: str, /, *, sent: tuple[int, ...] | None = None, **changed: Any
    ) -> records.Transfer:
        """The gateway reports its receipt."""
        receipt = self.receipt(name, sent=sent, **changed)
        call = self.call(actor, "ReportReceipt", name, receipt.digest)
        return transfers.report_receipt(self.hall, self.principal(actor), call, name, receipt)

    def refuse(self, actor: str, transfer: str, *, reason: str, detail: str = "") -> records.Transfer:
        """The gateway reports that it did not serve."""
        call = self.call(actor, "ReportRefusal", transfer, reason, detail)
        return transfers.report_refusal(self.hall, self.principal(actor), call, transfer, reason, detail)

    def acknowledgement(self, actor: str, name: str, /, **changed: Any) -> Envelope:
        """The acknowledgement of the receipt that is in the store."""
        with self.store.read() as tx:
            run = tx.get(records.Transfer, name)
        assert run is not None
        receipt = Envelope.from_bytes(run.receipt)
        attested = msgspec.convert(receipt.payload, Receipt)
        paper = {
            "transfer": name,
            "receiptDigest": receipt.digest,
            "contentDigest": attested.content_digest,
            "created": rfc3339(self.now),
        }
        return sign(Kind.ACKNOWLEDGEMENT, {**paper, **changed}, self.key(actor))

    def acknowledge(self, actor: str, name: str, /, **changed: Any) -> records.Transfer:
        """The consumer says that it received."""
        paper = self.acknowledgement(actor, name, **changed)
        call = self.call(actor, "AcknowledgeTransfer", name, paper.digest)
        return transfers.acknowledge(self.hall, self.principal(actor), call, name, paper)

    # --- shortcuts and questions

    def agreement(self, consumer: str = "analyst", **wished: Any) -> str:
        """A live agreement; its name."""
        wish = self.request(consumer, **wished)
        for approver in ("steward", "dpo")[: wish.approvals_needed]:
            wish = self.approve(approver, wish.name)
        drafted = agreements.get(self.hall, self.principal(consumer), wish.agreement)
        if PROVIDER in drafted.unsigned_parties:
            self.sign("steward", drafted.name)
        assert self.sign(consumer, drafted.name).state == "ACTIVE"
        return drafted.name

    def etag(self, kind: type[records.Record], name: str) -> str:
        """The etag as of now; of a thing that is not there, some etag."""
        with self.store.read() as tx:
            record = tx.get(kind, name)
        return record.etag if record else '"1"'

    def events(self, resource: str = "") -> list[str]:
        """What the ledger tells of a resource, or of everything, oldest first."""
        auditor = self.principal("auditor")
        page = ledger.entries(self.hall, auditor, resource=resource, page_size=1000)
        return [entry.event for entry in reversed(page.items)]

    def last_entry(self) -> dict[str, Any]:
        """The newest entry of the ledger."""
        (entry,) = ledger.entries(self.hall, self.principal("auditor"), page_size=1).items
        assert entry.entry is not None
        found: dict[str, Any] = json.loads(entry.entry)
        return found


def _new(letter: str, entropy: Any) -> str:
    from exchange.papers import new_id

    return new_id(letter, entropy)

"""A whole, consistent set of signed papers, made from seeds: for every test that needs real ones.

    from tests.papers import make

    papers = make()                                    # transport-planning, fully signed, live at NOW
    papers = make(purpose="outbreak-monitoring")       # another consumer, two approvers
    papers = make(document=document(sharing="unconditional"))
    other = papers.cast.sign(Kind.RECEIPT, changed, "health-bureau-1")

Every key is derived from its owner's name, every instant from `now`; two runs make equal bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import msgspec

from contracts import merkle, standard
from contracts.agreement import (
    Agreement,
    AgreementBundle,
    Approval,
    ContractStatement,
    Request,
    draft,
    verify_bundle,
)
from contracts.canonical import canonical, digest, terms_digest
from contracts.certificate import figure
from contracts.envelope import Envelope, Kind, SigningKey, sign
from contracts.evidence import EvidenceBundle, LedgerProof
from contracts.instants import epoch, rfc3339
from contracts.merkle import Checkpoint
from contracts.model import Contract
from contracts.receipt import (
    Acknowledgement,
    Bounds,
    Certificate,
    FieldTreatment,
    Grant,
    Intent,
    PartDigest,
    Proof,
    Receipt,
    content_digest,
)
from contracts.trust import KeyRevocation, KeyStatement, PartyKind, TrustedParty, TrustFile, Use

NOW = epoch("2026-03-02T09:00:00Z")
DAY = 86_400

PROVIDER, GATEWAY = "health-bureau", "health-bureau-1"
STEWARD, DPO = "steward@health.example", "dpo@health.example"
COMPANY, CENTRE = "metro-planning", "disease-control-centre"
ANALYST, EPIDEMIOLOGIST = "analyst@metro.example", "epidemiologist@dcc.example"

# party, subject, use
PEOPLE: tuple[tuple[str, str, Use], ...] = (
    (PROVIDER, STEWARD, Use.APPROVER),
    (PROVIDER, DPO, Use.APPROVER),
    (PROVIDER, GATEWAY, Use.GATEWAY),
    (COMPANY, ANALYST, Use.REQUESTER),
    (CENTRE, EPIDEMIOLOGIST, Use.REQUESTER),
)
PARTIES = {
    PROVIDER: PartyKind.DEPARTMENT,
    CENTRE: PartyKind.DEPARTMENT,
    COMPANY: PartyKind.COMPANY,
    "city-data-office": PartyKind.COORDINATION,
}
POLICY_DIGEST = digest("the policy bundle of the test papers")


def key(owner: str) -> SigningKey:
    """The key of that owner: a person, a gateway, `root:<party>`, `holder:<party>`, `grant`, `checkpoint`."""
    return SigningKey.from_seed(hashlib.sha256(f"sluicegate test papers: {owner}".encode()).digest())


def standard_digest() -> str:
    """Digest of the standard that the test contract is held to."""
    from contracts import standard

    return standard.load("desensitisation/1").digest


def document(sharing: str = "conditional", **root: Any) -> dict[str, Any]:
    """A contract as a plain ODCS document; `root` replaces keys at its root."""
    return {
        "apiVersion": "v3.2.0",
        "kind": "DataContract",
        "id": "0d9f3c1e-8a52-4a0b-9f0e-1f6d2b7c5a44",
        "name": "hospital-visits",
        "version": "1.0.0",
        "status": "active",
        "domain": "health",
        "description": {"purpose": "One row per visit at a municipal hospital."},
        "schema": [
            {
                "name": "visits",
                "physicalType": "table",
                "logicalType": "object",
                "properties": [
                    _column("citizen_id", "string", "highly-private", "direct", "national-id", required=True),
                    _column("patient_name", "string", "highly-private", "direct", "person-name"),
                    _column("birth_date", "date", "semi-private", "quasi", "birth-date"),
                    _column("home_postcode", "string", "semi-private", "quasi", "address"),
                    _column("visit_ts", "timestamp", "internal", "quasi", required=True),
                    _column("hospital_code", "string", "open", "quasi", required=True),
                    _column("diagnosis_icd10", "string", "highly-private", "sensitive", "medical-code"),
                ],
            }
        ],
        "team": {"name": PROVIDER, "members": [{"username": STEWARD, "role": "data steward"}]},
        "roles": [
            {
                "role": "outbreak-monitoring",
                "access": "read",
                "firstLevelApprovers": STEWARD,
                "secondLevelApprovers": DPO,
            },
            {"role": "transport-planning", "access": "read", "firstLevelApprovers": STEWARD},
        ],
        "customProperties": [
            {"property": name, "vendor": "sluicegate", "value": value} for name, value in _terms(sharing).items()
        ],
        **root,
    }


def _column(
    name: str, kind: str, tier: str, identifiability: str, category: str = "", required: bool = False
) -> dict[str, Any]:
    about = [{"property": "identifiability", "value": identifiability}]
    about += [{"property": "category", "value": category}] if category else []
    return {
        "name": name,
        "logicalType": kind,
        "required": required,
        "classification": tier,
        "customProperties": about,
    }


def _terms(sharing: str) -> dict[str, Any]:
    responsible = {"party": PROVIDER, "person": STEWARD, "manager": "director@health.example"}
    return {
        "sharing": {"standard": "desensitisation/1", "class": sharing}
        | ({"legalBasis": "dpv:LegalObligation"} if sharing == "not-shared" else {}),
        "purposes": {
            "outbreak-monitoring": {
                "term": "sector-health:PublicHealthSurveillance",
                "legalBasis": "dpv:PublicInterest",
                "consumers": [CENTRE],
                "fields": {
                    "citizen_id": {"mask": "hmac", "domain": "person", "period": {"field": "visit_ts", "unit": "week"}},
                    "birth_date": {"mask": "bucket", "size": "20y"},
                    "home_postcode": {"mask": "prefix", "length": 4},
                    "visit_ts": {"mask": "truncate", "unit": "week", "zone": "Etc/UTC"},
                    "diagnosis_icd10": {"mask": "prefix", "length": 3},
                },
                "effectiveness": {
                    "sharingModel": "controlled",
                    "entity": "citizen_id",
                    "quasiIdentifiers": ["birth_date", "home_postcode", "visit_ts"],
                    "require": {"k": 10, "l": {"diagnosis_icd10": 2}, "maxSuppression": 0.05},
                    "onViolation": "suppress",
                },
                "refresh": "P1D",
                "retention": "P90D",
                "geography": {"allowed": ["XX-CTY"], "crossBorder": "prohibited"},
            },
            "transport-planning": {
                "term": "dpv:ImproveTransportMobility",
                "legalBasis": "dpv:OfficialAuthorityOfController",
                "consumers": ["*"],
                "fields": {
                    "hospital_code": {"mask": "keep"},
                    "home_postcode": {"mask": "prefix", "length": 2},
                    "visit_ts": {"mask": "truncate", "unit": "day", "zone": "Etc/UTC"},
                },
                "effectiveness": {
                    "sharingModel": "controlled",
                    "entity": "citizen_id",
                    "quasiIdentifiers": ["home_postcode", "visit_ts", "hospital_code"],
                    "require": {"k": 20},
                    "onViolation": "refuse",
                },
                "refresh": "P7D",
                "retention": "P365D",
                "geography": {"allowed": ["XX-CTY", "XX-PRV"], "crossBorder": "prohibited"},
            },
        },
        "negativeList": {
            "fields": ["patient_name"],
            "together": [["citizen_id", "diagnosis_icd10", "hospital_code"]],
            "uses": ["dpv:Marketing"],
        },
        "obligations": {
            "onwardSharing": "prohibited",
            "reidentification": "prohibited",
            "deletionProof": "P7D",
            "breachNotice": "PT24H",
        },
        "responsibilities": {
            "accuracy": responsible,
            "classification": responsible,
            "masking": responsible,
            "lawfulUse": {"party": "consumer"},
            "deletion": {"party": "consumer"},
            "audit": {"party": "city-data-office", "person": "auditor@cdo.example", "manager": "head@cdo.example"},
        },
    }


@dataclass(frozen=True)
class Cast:
    """Everybody with a key: the parties' people and gateways, certified from `now` for a year."""

    now: int = NOW
    policy_digest: str = POLICY_DIGEST
    people: tuple[tuple[str, str, Use], ...] = PEOPLE

    @property
    def trust(self) -> TrustFile:
        """What a careful verifier pins."""
        return TrustFile(
            parties={
                party: TrustedParty(kind=kind, root=key(f"root:{party}").public) for party, kind in PARTIES.items()
            },
            checkpoint_key=key("checkpoint").public,
            grant_key=key("grant").public,
            standards=(standard_digest(),),
            policies=(self.policy_digest,),
        )

    @cached_property
    def statements(self) -> tuple[Envelope, ...]:
        """A key statement for each of the people, signed by the party's root."""
        return tuple(self.statement(party, subject, use) for party, subject, use in self.people)

    def statement(
        self, party: str, subject: str, use: Use, *, owner: str = "", begin: int | None = None, end: int | None = None
    ) -> Envelope:
        """A key statement; `owner` names another key than the subject's own."""
        begin = self.now - DAY if begin is None else begin
        return sign(
            Kind.KEY,
            KeyStatement(
                party=party,
                subject=subject,
                use=use,
                key=key(owner or subject).public,
                not_before=rfc3339(begin),
                not_after=rfc3339(begin + 365 * DAY if end is None else end),
            ),
            key(f"root:{party}"),
        )

    def revocation(self, party: str, owner: str, at: int) -> Envelope:
        """The party's root takes a key back."""
        document = KeyRevocation(party=party, kid=key(owner).kid, at=rfc3339(at), reason="lost")
        return sign(Kind.REVOCATION, document, key(f"root:{party}"))

    @staticmethod
    def sign(kind: Kind, payload: msgspec.Struct | Mapping[str, Any], *owners: str) -> Envelope:
        """The payload signed by the keys of these owners."""
        return sign(kind, payload, *(key(owner) for owner in owners))


@dataclass(frozen=True)
class Papers:
    """One agreement and one transfer under it, every paper signed by whom it should be.

    `document` is the contract's bytes as published; the rest are envelopes. All of it verifies under
    `trust` at `now`, and until the agreement ends.
    """

    cast: Cast
    now: int
    consumer: str
    requester: str
    approvers: tuple[str, ...]
    parsed: dict[str, Any]
    document: bytes
    contract: Contract
    statement: Envelope
    request: Envelope
    approvals: tuple[Envelope, ...]
    agreement: Envelope
    revocations: tuple[Envelope, ...] = ()
    transfer: str = "transfers/t-aaaaaaaaaa"
    release: str = "release-1"
    parts: tuple[PartDigest, ...] = field(
        default=(PartDigest(rows=600, digest="sha256:" + "1" * 64), PartDigest(rows=400, digest="sha256:" + "2" * 64))
    )

    @property
    def trust(self) -> TrustFile:
        """The trust file under which all of it verifies."""
        return self.cast.trust

    @property
    def holder(self) -> SigningKey:
        """The only key that may pull."""
        return key(f"holder:{self.consumer}")

    @property
    def agreed(self) -> Agreement:
        """The agreement's payload."""
        return msgspec.convert(self.agreement.payload, Agreement)

    @property
    def bundle(self) -> AgreementBundle:
        """Everything behind the agreement."""
        return AgreementBundle(
            agreement=self.agreement,
            request=self.request,
            approvals=self.approvals,
            contract=self.statement,
            document=self.document.decode(),
            statements=self.cast.statements,
            revocations=self.revocations,
        )

    @property
    def verified(self) -> Any:
        """The agreement, verified at `now`."""
        return verify_bundle(self.bundle, self.trust, at=self.now)

    def grant_of(self, **changed: Any) -> Envelope:
        """A grant for the transfer; `changed` replaces fields of its payload."""
        grant = Grant(
            id="g-aaaaaaaaaa",
            transfer=self.transfer,
            agreement=self.agreed.id,
            agreement_digest=self.agreement.digest,
            gateway=self.agreed.gateway,
            release=None,
            parts=None,
            issued=rfc3339(self.now),
            expires=rfc3339(self.now + 600),
        )
        return sign(Kind.GRANT, msgspec.structs.replace(grant, **changed), key("grant"))

    @property
    def grant(self) -> Envelope:
        """The grant."""
        return self.grant_of()

    def ticket_of(self, grant: Envelope, holder: SigningKey | None = None) -> bytes:
        """The bytes that a Flight client presents for a grant."""
        proof = Proof(grant=grant, created=rfc3339(self.now))
        return sign(Kind.PROOF, proof, holder or self.holder).to_bytes()

    @property
    def ticket(self) -> bytes:
        """The ticket for the grant."""
        return self.ticket_of(self.grant)

    @property
    def treatments(self) -> tuple[FieldTreatment, ...]:
        """What was done to each field, in the contract's order."""
        masks = self.contract.purposes[self.agreed.purpose].fields
        types = {"birth_date": "date", "visit_ts": "timestamp(us,Etc/UTC)"}
        return tuple(
            FieldTreatment(
                name=column.name,
                technique=msgspec.to_builtins(masks[column.name]),
                type=types.get(column.name, "string"),
            )
            for column in self.contract.fields
            if column.name in self.agreed.fields
        )

    @property
    def schema(self) -> tuple[tuple[str, str], ...]:
        """Names and types as sent."""
        return tuple((item.name, item.type) for item in self.treatments)

    @property
    def bounds(self) -> Bounds | None:
        """Bounds as the gateway measured them."""
        demanded = self.contract.purposes[self.agreed.purpose].effectiveness
        if demanded is None:
            return None
        return Bounds(
            entity=demanded.entity,
            quasi_identifiers=demanded.quasi_identifiers,
            composite="citizen_id" in self.agreed.fields,
            k_required=demanded.require.k,
            k_met=demanded.require.k + 3,
            l_required=demanded.require.l,
            l_met={name: least + 1 for name, least in demanded.require.l.items()},
            at_least=False,
            classes=12,
            class_commitment="sha256:" + "3" * 64,
            certificate=self.certificate(demanded.require.k + 3, self.suppressed),
        )

    def certificate(self, k_met: int, suppressed: int) -> Certificate:
        """The gateway's judgement of effectiveness, where the smallest class has `k_met` entities."""
        demanded = self.contract.purposes[self.agreed.purpose].effectiveness
        assert demanded is not None
        held_to = standard.load(self.contract.sharing.standard)
        highest = figure(1 / k_met if k_met else 0.0)
        return Certificate(
            level=3,
            sharing_model=demanded.sharing_model,
            tau=figure(held_to.tau(demanded.sharing_model)),
            context_risk=1.0,
            dr_a=0.0,
            dr_b=highest,
            dr_c=0.04,
            risk=0.04,
            risk_tolerated=held_to.risk,
            risk_required=demanded.require.max_risk,
            prosecutor_risk=highest,
            journalist_risk=None,
            marketer_risk=0.025,
            uniques=0.0,
            suppressed=figure(suppressed / (1000 + suppressed)),
            average_class=40.0,
            discernibility=20_000.0,
            spread={},
            loss=0.5,
        )

    @property
    def suppressed(self) -> int:
        """Rows suppressed: one purpose allows it."""
        return 10 if self.agreed.purpose == "outbreak-monitoring" else 0

    def intent_of(self, **changed: Any) -> Envelope:
        """The gateway's intent; `changed` replaces fields of its payload."""
        intent = Intent(
            transfer=self.transfer,
            agreement=self.agreed.id,
            agreement_digest=self.agreement.digest,
            gateway=self.agreed.gateway,
            release=self.release,
            plan_digest=digest("plan"),
            content_digest=content_digest("sha-256", self.schema, self.parts),
            hash="sha-256",
            schema=self.schema,
            parts=self.parts,
            rows_in=1010,
            rows_out=1000,
            rows_suppressed=self.suppressed,
            bounds=self.bounds,
            created=rfc3339(self.now + 10),
        )
        return sign(Kind.INTENT, msgspec.structs.replace(intent, **changed), key(self.agreed.gateway))

    @property
    def intent(self) -> Envelope:
        """The intent."""
        return self.intent_of()

    def receipt_of(self, **changed: Any) -> Envelope:
        """The gateway's receipt; `changed` replaces fields of its payload."""
        agreed, intent = self.agreed, msgspec.convert(self.intent.payload, Intent)
        receipt = Receipt(
            transfer=self.transfer,
            agreement=agreed.id,
            agreement_digest=self.agreement.digest,
            document_digest=agreed.document_digest,
            terms_digest=agreed.terms_digest,
            plan_digest=intent.plan_digest,
            standard_digest=agreed.standard_digest,
            policy_digest=agreed.policy_digest,
            decision="d-aaaaaaaaaa",
            gateway=agreed.gateway,
            release=self.release,
            consumer=self.consumer,
            purpose=agreed.purpose,
            fields=self.treatments,
            schema=self.schema,
            rows_in=intent.rows_in,
            rows_out=intent.rows_out,
            rows_suppressed=intent.rows_suppressed,
            bounds=self.bounds,
            content_digest=intent.content_digest,
            hash=intent.hash,
            parts=self.parts,
            parts_sent=tuple(range(len(self.parts))),
            parts_begun=(),
            complete=True,
            order="keyed",
            refresh=self.contract.purposes[agreed.purpose].refresh,
            intent_digest=self.intent.digest,
            started=rfc3339(self.now + 10),
            finished=rfc3339(self.now + 20),
        )
        return sign(Kind.RECEIPT, msgspec.structs.replace(receipt, **changed), key(agreed.gateway))

    @property
    def receipt(self) -> Envelope:
        """The receipt of a complete transfer."""
        return self.receipt_of()

    def acknowledgement_of(self, receipt: Envelope, **changed: Any) -> Envelope:
        """The consumer's acknowledgement of a receipt; `changed` replaces fields of its payload."""
        acknowledgement = Acknowledgement(
            transfer=self.transfer,
            receipt_digest=receipt.digest,
            content_digest=receipt.payload["contentDigest"],
            created=rfc3339(self.now + 30),
        )
        return sign(Kind.ACKNOWLEDGEMENT, msgspec.structs.replace(acknowledgement, **changed), key(self.requester))

    @property
    def acknowledgement(self) -> Envelope:
        """The acknowledgement of the receipt."""
        return self.acknowledgement_of(self.receipt)

    def ledger_proof(self, event: str, paper: Envelope, *, signed: int | None = None, **changed: Any) -> LedgerProof:
        """Proof that a small ledger holds the entry about a paper, in a checkpoint `signed` then
        (default: a minute after `now`). `changed` replaces fields of the entry."""
        signed = self.now + 60 if signed is None else signed
        entry = {
            "event": event,
            "resource": self.transfer,
            "actor": f"{PROVIDER}/{GATEWAY}",
            "parties": sorted({PROVIDER, self.consumer}),
            "detail": {"digest": paper.digest},
            "at": rfc3339(min(signed, self.now + 40)),
            **changed,
        }
        raw, salt = canonical(entry), hashlib.sha256(b"salt").digest()[:16]
        tree = Tree([b"one", b"two", b"three"])
        index = tree.append(merkle.leaf_hash(salt, raw))
        tree.append(merkle.leaf_hash(b"", b"five"))
        return LedgerProof(
            index=index,
            salt=salt.hex(),
            entry=raw.decode(),
            path=tuple(item.hex() for item in merkle.inclusion(tree.read, index, tree.size)),
            checkpoint=checkpoint(tree, signed),
        )

    def evidence(self, **changed: Any) -> EvidenceBundle:
        """Everything about the transfer; `changed` replaces papers."""
        papers: dict[str, Any] = {
            "agreement": self.bundle,
            "grant": self.grant,
            "intent": self.intent,
            "receipt": self.receipt,
            "acknowledgement": self.acknowledgement,
            "ledger": (
                self.ledger_proof("transfer.completed", self.receipt),
                self.ledger_proof("transfer.acknowledged", self.acknowledgement),
            ),
        }
        return EvidenceBundle(**{**papers, **changed})


class Tree:
    """A Merkle tree in memory, for tests that need a real one."""

    def __init__(self, entries: Iterable[bytes] = ()) -> None:
        self._nodes: dict[tuple[int, int], bytes] = {}
        self.size = 0
        for entry in entries:
            self.append(merkle.leaf_hash(b"", entry))

    def read(self, level: int, index: int) -> bytes:
        """A stored node."""
        return self._nodes[level, index]

    def append(self, leaf: bytes) -> int:
        """Add a leaf; its index."""
        for level, index, value in merkle.append(self.read, self.size, leaf):
            assert (level, index) not in self._nodes, "nothing is ever rewritten"
            self._nodes[level, index] = value
        self.size += 1
        return self.size - 1

    def root(self, size: int | None = None) -> bytes:
        """Root of the first `size` leaves."""
        return merkle.root(self.read, self.size if size is None else size)


def checkpoint(tree: Tree, at: int, *owners: str) -> Envelope:
    """A checkpoint of the tree, signed by the exchange, or by these owners instead."""
    head = Checkpoint(origin="city", tree_size=tree.size, root=tree.root().hex(), time=rfc3339(at))
    return Cast.sign(Kind.CHECKPOINT, head, *(owners or ("checkpoint",)))


def make(
    *,
    purpose: str = "transport-planning",
    fields: tuple[str, ...] | None = None,
    now: int = NOW,
    document: dict[str, Any] | None = None,
    cast: Cast | None = None,
    approvers: tuple[str, ...] | None = None,
    contract_signers: tuple[str, ...] = (STEWARD,),
    agreement_signers: tuple[str, ...] | None = None,
    duration: str = "P90D",
    revocations: tuple[Envelope, ...] = (),
) -> Papers:
    """All papers of one agreement. Who asks follows from the purpose, who approves from the contract's
    role; everything can be set otherwise, also wrongly."""
    from contracts import odcs

    parsed = _default_document() if document is None else document
    raw = json.dumps(parsed, ensure_ascii=False, indent=1).encode()
    contract = odcs.load(raw).contract
    cast = cast or Cast(now=now)
    consumer, requester = (CENTRE, EPIDEMIOLOGIST) if purpose == "outbreak-monitoring" else (COMPANY, ANALYST)
    standing = contract.sharing.class_ == "unconditional"
    role = contract.role(purpose)
    if approvers is None:
        approvers = () if standing or role is None else role.approvers
    statement = cast.sign(
        Kind.CONTRACT,
        ContractStatement(
            provider=PROVIDER,
            dataset=contract.dataset,
            version=contract.version,
            document_digest=digest(parsed),
            terms_digest=terms_digest(parsed),
            published=rfc3339(now - 3600),
        ),
        *contract_signers,
    )
    offered = contract.purposes.get(purpose)
    request = cast.sign(
        Kind.REQUEST,
        Request(
            id="requests/r-aaaaaaaaaa",
            provider=PROVIDER,
            dataset=contract.dataset,
            consumer=consumer,
            requester=requester,
            document_digest=contract.document_digest,
            terms_digest=contract.terms_digest,
            purpose=purpose,
            fields=fields if fields is not None else tuple(offered.fields if offered else ()),
            duration=duration,
            reason="to see where people travel to hospital from",
            holder=key(f"holder:{consumer}").public,
            created=rfc3339(now - 1800),
        ),
        requester,
    )
    approvals = tuple(
        cast.sign(
            Kind.APPROVAL,
            Approval(
                request="requests/r-aaaaaaaaaa",
                request_digest=request.digest,
                approver=person,
                created=rfc3339(now - 900),
            ),
            person,
        )
        for person in approvers
    )
    agreed = draft(
        id="agreements/a-aaaaaaaaaa",
        request=request,
        approvals=approvals,
        contract=contract,
        gateway=GATEWAY,
        standard_digest=standard_digest(),
        policy_digest=cast.policy_digest,
        now=now - 600,
    )
    if agreement_signers is None:
        agreement_signers = (requester,) if standing or not approvers else (approvers[-1], requester)
    return Papers(
        cast=cast,
        now=now,
        consumer=consumer,
        requester=requester,
        approvers=approvers,
        parsed=parsed,
        document=raw,
        contract=contract,
        statement=statement,
        request=request,
        approvals=approvals,
        agreement=cast.sign(Kind.AGREEMENT, agreed, *agreement_signers),
        revocations=revocations,
    )


_default_document = document

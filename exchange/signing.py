"""What a client signs, with keys that stay in its profile: the papers of a request, an agreement and
a transfer, consumer's and department's side. Each function builds one document from what the exchange
shows, after checking that it is what the caller meant, and signs it."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from connectors import tls
from contracts import odcs
from contracts.agreement import (
    Agreement,
    AgreementBundle,
    Approval,
    ContractStatement,
    Request,
    Suspension,
    VerifiedAgreement,
    verify_draft,
)
from contracts.canonical import digest_bytes
from contracts.envelope import Envelope, Kind, SigningKey, countersign, sign
from contracts.errors import Reason, SluicegateError
from contracts.instants import rfc3339
from contracts.papers import RevealOrder
from contracts.receipt import Acknowledgement, Proof, Receipt
from contracts.revealing import demand_terms
from contracts.trust import Keys, Use
from exchange import evidence, views
from exchange.config import Profile
from exchange.keyfiles import read_key, read_pair
from exchange.names import last


def _now() -> str:
    return rfc3339(int(time.time()))


def _key(profile: Profile, path: Path | None, which: str) -> SigningKey:
    if path is None:
        raise SluicegateError(
            Reason.CONFIG_INVALID,
            f"the profile of {profile.subject} names no {which}: make one with sluicegate key new, have your party's "
            "admin certify it, and name it in the profile",
        )
    return read_key(path)


def _own_key(profile: Profile) -> SigningKey:
    return _key(profile, profile.signing_key, "signing_key")


def _requester_key(profile: Profile) -> SigningKey:
    return _key(profile, profile.requester_key or profile.signing_key, "signing_key")


def _holder_key(profile: Profile) -> SigningKey:
    return _key(profile, profile.holder_key, "holder_key")


def _payload(found: Envelope | None, what: str) -> Envelope:
    if found is None:
        raise SluicegateError(Reason.STATE_WRONG, f"there is no {what} yet")
    return found


D = TypeVar("D")


def _read(document: Envelope, kind: type[D]) -> D:
    """The payload as that document: the exchange is not believed to have sent one."""
    try:
        return msgspec.convert(document.payload, kind)
    except msgspec.ValidationError as error:
        raise SluicegateError(
            Reason.SIGNATURE_INVALID, f"the exchange shows something that is no {kind.__name__}: {error}"
        ) from None


def gateway_pair(profile: Profile) -> tls.ClientPair | None:
    """What the profile shows a gateway that demands certificates; None without. Raises CONFIG_UNSAFE for a key
    that others can read, CONFIG_INVALID for what is no pair."""
    if profile.gateway_certificate is None or profile.gateway_key is None:
        return None
    return tls.ClientPair(*read_pair(profile.gateway_certificate, profile.gateway_key))


def contract_statement(profile: Profile, document: bytes, signed: Envelope | None = None) -> Envelope:
    """These bytes are our contract: version and digests as they are in the document. `signed` is the
    same statement with a colleague's signature, to which ours is added.

    Raises SIGNATURE_INVALID when it is about another contract.
    """
    contract = odcs.load(document).contract
    stated = ContractStatement.of(contract, provider=profile.party, published=_now())
    if signed is None:
        return sign(Kind.CONTRACT, stated, _own_key(profile))
    theirs = _read(signed, ContractStatement)
    if msgspec.structs.replace(theirs, published=stated.published) != stated:
        raise SluicegateError(
            Reason.SIGNATURE_INVALID,
            "what your colleague signed is another contract: digest, provider, dataset or version differs",
        )
    return countersign(Kind.CONTRACT, signed, _own_key(profile))


def request(
    profile: Profile, dataset: views.Dataset, *, purpose: str, fields: tuple[str, ...], duration: str, reason: str
) -> Envelope:
    """We ask for these fields, for this purpose, and only this holder key may pull."""
    published = dataset.contract
    if published is None:
        raise SluicegateError(Reason.NOT_FOUND, f"{dataset.name} has no contract")
    contract = odcs.load(published.document.encode()).contract
    offered = contract.purposes.get(purpose)
    return sign(
        Kind.REQUEST,
        Request(
            id="requests/r-" + base64.b32encode(os.urandom(7)).decode().lower()[:10],
            provider=dataset.name.split("/")[1],
            dataset=contract.dataset,
            consumer=profile.party,
            requester=profile.subject,
            document_digest=contract.document_digest,
            terms_digest=contract.terms_digest,
            purpose=purpose,
            fields=fields or (tuple(offered.fields) if offered else ()),
            duration=duration,
            reason=reason,
            holder=_holder_key(profile).public,
            created=_now(),
        ),
        _requester_key(profile),
    )


def approval_payload(profile: Profile, found: views.Request) -> Approval:
    """What an approver is about to sign."""
    return Approval(
        request=found.name,
        request_digest=_payload(found.statement, "signed request").digest,
        approver=profile.subject,
        created=_now(),
    )


def approval(profile: Profile, paper: Approval) -> Envelope:
    """I approve exactly this."""
    return sign(Kind.APPROVAL, paper, _own_key(profile))


def agreement(profile: Profile, found: views.Agreement, papers: AgreementBundle) -> Envelope:
    """We agree. Refuses to sign what does not follow, under the profile's trust file, from a request that
    the consumer signed, the approvals that it needs and the contract that the department published."""
    statement = _payload(found.statement, "agreement to sign")
    paper = _read(statement, Agreement)
    if papers.agreement.digest != statement.digest or paper.id != found.name:
        raise SluicegateError(
            Reason.SIGNATURE_INVALID, f"the exchange shows other papers than those of {found.name}; it was not signed"
        )
    verify_draft(papers, evidence.trust_of(profile), at=int(time.time()))
    ours = paper.consumer == profile.party
    return countersign(Kind.AGREEMENT, statement, _requester_key(profile) if ours else _own_key(profile))


def ticket(profile: Profile, granted: views.Transfer, agreement: VerifiedAgreement) -> bytes:
    """The ticket for a grant: a proof by the holder key, good at one gateway for ten minutes.

    Signed only for a gateway whose TLS authority its own department certified: the exchange, which
    tells where the gateway is, could otherwise name a place of its own and read along. Raises
    KEY_UNTRUSTED.
    """
    grant, document = _payload(granted.grant, "grant"), agreement.agreement
    pem = granted.gateway_ca_certificate
    if not gateway_certified(profile, agreement.keys, document.provider, document.gateway, pem):
        raise SluicegateError(
            Reason.KEY_UNTRUSTED,
            f"the exchange names a TLS certificate for {document.gateway} that {document.provider} did not certify; "
            "no ticket was signed",
        )
    return sign(Kind.PROOF, Proof(grant=grant, created=_now()), _holder_key(profile)).to_bytes()


def gateway_certified(profile: Profile, keys: Keys, party: str, gateway: str, pem: str) -> bool:
    """Whether the party itself certified this TLS authority for its gateway. The exchange only says where
    a gateway is. Without TLS, which a profile must allow, there is nothing to certify."""
    named = keys.certified(party, Use.GATEWAY, int(time.time()))
    certified = {key.tls_certificate for key in named if key.subject == gateway}
    return digest_bytes(pem.encode()) in certified or (profile.unsafe_plaintext and not pem)


def acknowledgement(
    profile: Profile, found: views.Transfer, content_digest: str, *, recomputed: bool = True
) -> Envelope:
    """We received it and computed the same digest. Refuses to sign when the receipt says otherwise."""
    receipt = _payload(found.receipt, "receipt")
    attested = _read(receipt, Receipt)
    if attested.content_digest != content_digest and attested.complete:
        raise SluicegateError(
            Reason.DIGEST_MISMATCH, f"the receipt of {last(found.name)} attests other content than what was received"
        )
    return sign(
        Kind.ACKNOWLEDGEMENT,
        Acknowledgement(
            transfer=found.name,
            receipt_digest=receipt.digest,
            content_digest=content_digest,
            created=_now(),
            recomputed=recomputed,
        ),
        _requester_key(profile),
    )


def reveal_order(
    profile: Profile, found: VerifiedAgreement, *, field: str, values: Sequence[str], reason: str, key: bytes
) -> Envelope:
    """Ask our gateway to open values, the first of two signatures. `key`: what the answer is sealed to."""
    order = RevealOrder(
        agreement=found.agreement.id,
        agreement_digest=found.digest,
        field=field,
        values=tuple(values),
        reason=reason,
        answer_key=base64.urlsafe_b64encode(key).decode().rstrip("="),
        at=_now(),
    )
    demand_terms(order)
    return sign(Kind.REVEAL, order, _own_key(profile))


def reveal_countersigned(profile: Profile, order: Envelope) -> Envelope:
    """The second signature under an order to open values."""
    return countersign(Kind.REVEAL, order, _own_key(profile))


def suspension(
    profile: Profile, agreement_name: str, *, reason: str, until: str | None, lifted: bool = False
) -> Envelope:
    """Stop (or serve again) this agreement at our gateway."""
    return sign(
        Kind.REVOCATION,
        Suspension(agreement=agreement_name, reason=reason, at=_now(), until=until, lifted=lifted),
        _own_key(profile),
    )

"""How an agreement is verified: each signed paper by itself, then the whole bundle in numbered steps.

`contracts.agreement.verify_bundle` and `contracts.evidence.verify` run `AGREEMENT_CHECKS`; the
functions for single papers are what the exchange runs when a paper arrives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from contracts import odcs, standard
from contracts.canonical import digest, terms_digest
from contracts.envelope import Envelope, Kind
from contracts.errors import Reason, SluicegateError, nearest
from contracts.instants import SKEW, duration, epoch, rfc3339
from contracts.model import AccessRole, Contract, Purpose, SharingClass
from contracts.papers import Agreement, AgreementBundle, Approval, ContractStatement, Request, Suspension
from contracts.standard import Standard
from contracts.steps import Check, need
from contracts.trust import CertifiedKey, Keys, Use, read


@dataclass(frozen=True, slots=True)
class VerifiedAgreement:
    """An agreement that was properly made, with everything it stands on. Only the functions of this
    module make one. `digest` is what grants, intents and receipts refer to; `keys` verify what the
    same parties sign under the agreement."""

    agreement: Agreement
    contract: Contract
    request: Request
    approvals: tuple[Approval, ...]
    digest: str
    keys: Keys


def verify_contract(envelope: Envelope, document: bytes, keys: Keys, *, latest: int | None) -> Contract:
    """The contract that a statement and the bytes it is about make, verified.

    The bytes load, have the stated digests, provider, dataset and version, and approvers of the
    provider signed the statement. `latest` as for `Keys.certified`; live, it is now. Raises
    CONTRACT_INVALID, SIGNATURE_INVALID or KEY_UNTRUSTED.
    """
    contract, statement = _stated_contract(envelope, document)
    _contract_signers(envelope, statement, keys, latest)
    return contract


def verify_request(envelope: Envelope, keys: Keys, *, latest: int | None) -> Request:
    """The request in an envelope: signed by one requester key of the consumer, by the named person.

    `latest` as for `Keys.certified`. Raises SIGNATURE_INVALID or KEY_UNTRUSTED.
    """
    request = read(Request, envelope)
    signers = keys.signers(
        Kind.REQUEST, envelope, [(request.consumer, Use.REQUESTER)], epoch(request.created), latest=latest
    )
    _one_person(signers, request.requester, "request")
    return request


def verify_approval(
    envelope: Envelope, keys: Keys, *, contract: Contract, request: Envelope, latest: int | None
) -> tuple[Approval, CertifiedKey]:
    """The approval in an envelope, and the key that gave it.

    It is about this very request, by one person whom the contract names as approver of the purpose,
    under a key that the provider certified, and not by the requester. `latest` as for
    `Keys.certified`. Raises SIGNATURE_INVALID, KEY_UNTRUSTED or POLICY_REFUSED.
    """
    approval, asked = read(Approval, envelope), read(Request, request)
    signers = keys.signers(
        Kind.APPROVAL, envelope, [(contract.provider, Use.APPROVER)], epoch(approval.created), latest=latest
    )
    signer = _one_person(signers, approval.approver, "approval")
    if approval.request != asked.id or approval.request_digest != request.digest:
        raise SluicegateError(Reason.SIGNATURE_INVALID, f"the approval is not of {asked.id} as it was signed")
    named = _approvers(contract, asked.purpose)
    if approval.approver not in named:
        raise SluicegateError(
            Reason.POLICY_REFUSED,
            f"{approval.approver} is no approver of {asked.purpose}; the contract names {', '.join(named) or 'nobody'}",
        )
    requesters = keys.certified(asked.consumer, Use.REQUESTER, epoch(asked.created), latest=latest)
    own = {asked.holder.kid, *(key.key.kid for key in requesters if key.subject == asked.requester)}
    # One person, however the name is written.
    if approval.approver.casefold() == asked.requester.casefold() or signer.key.kid in own:
        raise SluicegateError(Reason.POLICY_REFUSED, f"{approval.approver} made the request and cannot approve it")
    return approval, signer


def verify_suspension(envelope: Envelope, agreement: Agreement, keys: Keys, *, at: int) -> Suspension:
    """A department's own order to stop (or, `lifted`, to serve again) an agreement, verified.

    Signed by approvers of the agreement's provider with keys good at `at` (epoch seconds, now); about
    this agreement; not from the future; ending, if at all, after it begins. Raises SIGNATURE_INVALID,
    KEY_UNTRUSTED or INVALID_ARGUMENT.
    """
    order = read(Suspension, envelope)
    ordered = epoch(order.at)
    keys.signers(Kind.REVOCATION, envelope, [(agreement.provider, Use.APPROVER)], ordered, latest=at)
    if order.agreement != agreement.id:
        raise SluicegateError(Reason.INVALID_ARGUMENT, f"the suspension is about {order.agreement}, not {agreement.id}")
    if ordered > at + SKEW:
        raise SluicegateError(Reason.INVALID_ARGUMENT, f"the suspension is dated in the future: {order.at}")
    if order.until is not None and epoch(order.until) <= ordered:
        raise SluicegateError(Reason.INVALID_ARGUMENT, "the suspension ends before it begins")
    return order


def approvals_needed(contract: Contract, fields: Sequence[str], held_to: Standard) -> int:
    """How many distinct approvers a request for these fields needs: by the highest tier among them,
    none where the contract is a standing offer (`unconditional`)."""
    if contract.sharing.class_ is SharingClass.UNCONDITIONAL:
        return 0
    return held_to.approvals_needed(contract.highest_tier(tuple(fields)))


@dataclass(slots=True)
class AgreementCase:
    """An agreement under examination: the bundle, what to verify it with, and what the steps have
    established so far. `latest` as for `Keys.certified`."""

    bundle: AgreementBundle
    keys: Keys
    at: int
    latest: int | None
    contract: Contract | None = None
    contract_signers: tuple[CertifiedKey, ...] | None = None
    standard: Standard | None = None
    request: Request | None = None
    purpose: Purpose | None = None
    approvals: tuple[Approval, ...] | None = None
    agreement: Agreement | None = None

    @property
    def standing_offer(self) -> bool:
        """Whether the signed contract itself is the provider's consent."""
        contract, request = need(self.contract, "the contract"), need(self.request, "the request")
        return approvals_needed(contract, request.fields, need(self.standard, "the standard")) == 0

    def verified(self) -> VerifiedAgreement:
        """What the steps established, once all of them passed."""
        return VerifiedAgreement(
            agreement=need(self.agreement, "the agreement"),
            contract=need(self.contract, "the contract"),
            request=need(self.request, "the request"),
            approvals=need(self.approvals, "the approvals"),
            digest=self.bundle.agreement.digest,
            keys=self.keys,
        )


def _contract_bytes(case: AgreementCase) -> str:
    case.contract, _ = _stated_contract(case.bundle.contract, case.bundle.document.encode())
    contract = case.contract
    return f"{contract.dataset} {contract.version} of {contract.provider}, terms {contract.terms_digest}"


def _contract_signed(case: AgreementCase) -> str:
    need(case.contract, "the contract")
    statement = read(ContractStatement, case.bundle.contract)
    case.contract_signers = _contract_signers(case.bundle.contract, statement, case.keys, case.latest)
    return f"signed by {_people(case.contract_signers)}"


def _standard_trusted(case: AgreementCase) -> str:
    contract = need(case.contract, "the contract")
    held_to = standard.load(contract.sharing.standard)
    if held_to.digest not in case.keys.trust.standards:
        raise SluicegateError(
            Reason.KEY_UNTRUSTED,
            f"{contract.sharing.standard} has digest {held_to.digest}, which the trust file does not name",
        )
    case.standard = held_to
    return f"{contract.sharing.standard}, {held_to.digest}"


def _request_signed(case: AgreementCase) -> str:
    case.request = verify_request(case.bundle.request, case.keys, latest=case.latest)
    return f"{case.request.id}, signed by {case.request.requester} of {case.request.consumer}"


def _request_for_contract(case: AgreementCase) -> str:
    contract = need(case.contract, "the contract")
    same_contract(need(case.request, "the request"), contract)
    return f"both bind document {contract.document_digest}"


def _request_inside(case: AgreementCase) -> str:
    contract, request = need(case.contract, "the contract"), need(case.request, "the request")
    if contract.sharing.class_ is SharingClass.NOT_SHARED:
        raise SluicegateError(Reason.NOT_SHARED, f"the contract says not-shared: {contract.sharing.legal_basis}")
    purpose = contract.purposes.get(request.purpose)
    if purpose is None:
        raise _outside(
            f"the contract has no purpose {request.purpose!r}; {nearest(request.purpose, contract.purposes)}"
        )
    if request.consumer not in purpose.consumers and "*" not in purpose.consumers:
        raise _outside(f"{request.purpose} is for {', '.join(purpose.consumers)}, not for {request.consumer}")
    if not request.fields or len(set(request.fields)) != len(request.fields):
        raise _outside("a request names at least one field, and none twice")
    unknown = [field for field in request.fields if field not in purpose.fields]
    if unknown:
        raise _outside(f"{request.purpose} does not offer {', '.join(unknown)}; {nearest(unknown[0], purpose.fields)}")
    # Months differ in length: what could outlast the retention in some month is too long.
    if duration(request.duration).longest > duration(purpose.retention).longest:
        raise _outside(f"{request.duration} is longer than the retention of {request.purpose}, {purpose.retention}")
    case.purpose = purpose
    return f"{request.purpose}: {', '.join(request.fields)}"


def _approved(case: AgreementCase) -> str:
    contract, request = need(case.contract, "the contract"), need(case.request, "the request")
    held_to = need(case.standard, "the standard")
    if case.standing_offer:
        return _standing_offer(case, contract, request, held_to)
    needed = approvals_needed(contract, request.fields, held_to)
    given = [
        verify_approval(item, case.keys, contract=contract, request=case.bundle.request, latest=case.latest)
        for item in case.bundle.approvals
    ]
    people = {approval.approver.casefold(): approval.approver for approval, _ in given}
    if len(people) != len(given) or len({key.key.kid for _, key in given}) != len(given):
        raise SluicegateError(Reason.POLICY_REFUSED, "one approver, or one key, stands behind two approvals")
    if len(given) < needed:
        tier = contract.highest_tier(request.fields)
        raise SluicegateError(Reason.POLICY_REFUSED, f"{tier} fields need {needed} approvers; {len(given)} approved")
    case.approvals = tuple(approval for approval, _ in given)
    return f"{len(given)} of {needed} needed: {', '.join(sorted(people.values()))}"


def _standing_offer(case: AgreementCase, contract: Contract, request: Request, held_to: Standard) -> str:
    """The signatures under the contract stand in for approvals: as many persons as the tier demands."""
    if case.bundle.approvals:
        raise SluicegateError(Reason.POLICY_REFUSED, "a standing offer takes no approvals, and some are shown")
    needed = held_to.approvals_needed(contract.highest_tier(request.fields))
    signers = {key.subject for key in need(case.contract_signers, "the contract's signatures")}
    counted = signers & set(_approvers(contract, request.purpose)) if needed else signers
    if len({person.casefold() for person in counted}) < max(1, needed):
        raise SluicegateError(
            Reason.POLICY_REFUSED,
            f"a standing offer needs the signatures of {max(1, needed)} approvers that the contract names; "
            f"it has {len(counted)}",
        )
    case.approvals = ()
    return f"standing offer, signed by {', '.join(sorted(counted))}"


def _says_the_same(case: AgreementCase) -> str:
    contract, request = need(case.contract, "the contract"), need(case.request, "the request")
    agreement = read(Agreement, case.bundle.agreement)
    expected = {
        "provider": contract.provider,
        "dataset": contract.dataset,
        "consumer": request.consumer,
        "request_digest": case.bundle.request.digest,
        "approvals": tuple(sorted(item.digest for item in case.bundle.approvals)),
        "document_digest": contract.document_digest,
        "terms_digest": contract.terms_digest,
        "purpose": request.purpose,
        "fields": request.fields,
        "holder": request.holder,
    }
    wrong = [name for name, value in expected.items() if getattr(agreement, name) != value]
    if wrong:
        raise SluicegateError(
            Reason.SIGNATURE_INVALID, f"the agreement differs from request, approvals or contract in {', '.join(wrong)}"
        )
    begin, end = epoch(agreement.not_before), epoch(agreement.not_after)
    if not begin < end <= duration(request.duration).after(begin):
        raise SluicegateError(
            Reason.SIGNATURE_INVALID, f"the agreement is valid for longer than the {request.duration} requested"
        )
    case.agreement = agreement
    return f"{agreement.id}: {agreement.purpose} by {agreement.consumer}, through {agreement.gateway}"


def both_signed(case: AgreementCase) -> str:
    """Provider and consumer signed; under a standing offer the provider did by signing the contract."""
    contract, agreement = need(case.contract, "the contract"), need(case.agreement, "the agreement")
    parties = [(agreement.consumer, Use.REQUESTER), (agreement.provider, Use.APPROVER)]
    signers = case.keys.signers(
        Kind.AGREEMENT, case.bundle.agreement, parties, epoch(agreement.not_before), until=case.at, latest=case.latest
    )
    consumers = [key for key in signers if (key.party, key.use) == parties[0]]
    providers = [key for key in signers if (key.party, key.use) == parties[1]]
    if not consumers:
        raise SluicegateError(Reason.SIGNATURE_INVALID, f"the consumer, {agreement.consumer}, has not signed")
    if {key.key.kid for key in consumers} & {key.key.kid for key in providers}:
        raise SluicegateError(Reason.KEY_UNTRUSTED, "one key signed for both sides")
    if case.standing_offer:
        return f"{_people(consumers)}; for the provider the signed contract stands"
    named = _approvers(contract, agreement.purpose)
    if not any(key.subject in named for key in providers):
        raise SluicegateError(
            Reason.SIGNATURE_INVALID,
            f"no approver of {agreement.purpose} has signed for the provider, {agreement.provider}",
        )
    return f"{_people(signers)}"


def _digests_trusted(case: AgreementCase) -> str:
    agreement, held_to = need(case.agreement, "the agreement"), need(case.standard, "the standard")
    if agreement.standard_digest != held_to.digest:
        raise SluicegateError(
            Reason.KEY_UNTRUSTED,
            f"the agreement is held to another standard than the contract: {agreement.standard_digest}",
        )
    if agreement.policy_digest not in case.keys.trust.policies:
        raise SluicegateError(
            Reason.KEY_UNTRUSTED, f"the trust file does not name the policy bundle {agreement.policy_digest}"
        )
    return f"policy {agreement.policy_digest}"


def _valid_now(case: AgreementCase) -> str:
    agreement = need(case.agreement, "the agreement")
    if not epoch(agreement.not_before) - SKEW <= case.at < epoch(agreement.not_after):
        raise SluicegateError(
            Reason.AGREEMENT_NOT_LIVE,
            f"{agreement.id} is valid from {agreement.not_before} to {agreement.not_after}, not at {rfc3339(case.at)}",
        )
    return f"from {agreement.not_before} to {agreement.not_after}"


AGREEMENT_CHECKS: tuple[Check[AgreementCase], ...] = (
    Check("the contract's bytes are the ones that the contract statement names", _contract_bytes),
    Check("approvers of the provider signed the contract", _contract_signed),
    Check("the trust file names the standard that the contract is held to", _standard_trusted),
    Check("the consumer's requester signed the request", _request_signed),
    Check("the request is for this contract", _request_for_contract),
    Check("the contract offers what was requested", _request_inside),
    Check("enough of the approvers that the contract names agreed", _approved),
    Check("the agreement says what was requested and approved", _says_the_same),
    Check("provider and consumer signed the agreement", both_signed),
    Check("the trust file names the agreement's policy bundle", _digests_trusted),
    Check("the agreement was valid at the time", _valid_now),
)


@lru_cache(16)  # the same bytes come with every grant
def _read_contract(document: bytes) -> tuple[Contract, tuple[str, ...]]:
    """The contract in a document, and what a statement says of it."""
    loaded = odcs.load(document)
    contract = loaded.contract
    stated = (
        contract.provider,
        contract.dataset,
        contract.version,
        digest(loaded.document),
        terms_digest(loaded.document),
    )
    return contract, stated


def _stated_contract(envelope: Envelope, document: bytes) -> tuple[Contract, ContractStatement]:
    statement = read(ContractStatement, envelope)
    contract, found = _read_contract(document)
    if found != (
        statement.provider,
        statement.dataset,
        statement.version,
        statement.document_digest,
        statement.terms_digest,
    ):
        raise SluicegateError(
            Reason.SIGNATURE_INVALID,
            "the contract's bytes are not the ones that were signed: digest, provider, dataset or version differs",
        )
    return contract, statement


def _contract_signers(
    envelope: Envelope, statement: ContractStatement, keys: Keys, latest: int | None
) -> tuple[CertifiedKey, ...]:
    return keys.signers(
        Kind.CONTRACT, envelope, [(statement.provider, Use.APPROVER)], epoch(statement.published), latest=latest
    )


def same_contract(request: Request, contract: Contract) -> None:
    """Raise REQUEST_OUTSIDE_CONTRACT when the request is for another contract, version or wording."""
    asked = (request.provider, request.dataset, request.document_digest, request.terms_digest)
    if asked != (contract.provider, contract.dataset, contract.document_digest, contract.terms_digest):
        raise _outside(f"the request is for another contract than {contract.dataset} {contract.version} as published")


def _one_person(signers: Sequence[CertifiedKey], person: str, kind: str) -> CertifiedKey:
    if len(signers) != 1 or signers[0].subject != person:
        raise SluicegateError(
            Reason.SIGNATURE_INVALID, f"the {kind} must be signed by {person} alone; it is signed by {_people(signers)}"
        )
    return signers[0]


def _approvers(contract: Contract, purpose: str) -> tuple[str, ...]:
    role: AccessRole | None = contract.role(purpose)
    return role.approvers if role is not None else ()


def _people(signers: Sequence[CertifiedKey]) -> str:
    return ", ".join(f"{key.subject} of {key.party}" for key in signers)


def _outside(message: str) -> SluicegateError:
    return SluicegateError(Reason.REQUEST_OUTSIDE_CONTRACT, message)

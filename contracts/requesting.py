"""Whether a contract offers what a request asks for, judged the moment it is asked.

    check(contract, request, standard) -> violations     each names what would pass

Policy and approvers come after: what is refused here nobody has to decide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from contracts import instants, plan
from contracts.agreement import Request
from contracts.errors import SluicegateError, Violation, nearest
from contracts.model import Contract, Purpose, SharingClass
from contracts.standard import Standard

EVERYONE = "*"
REASON_LENGTH = range(3, 2001)


def check(contract: Contract, request: Request, standard: Standard) -> tuple[Violation, ...]:
    """Everything in which the request goes beyond the contract. Paths are the request's own.

    1. It is about this contract, as it stands, and the dataset is shared at all.
    2. The purpose exists and the consumer is named for it.
    3. The fields are offered, each named once; the duration is within the retention; a reason is given.
    4. Just these fields could be sent: the standard, the negative list and the bounds hold for them.
    """
    found = [*_same(contract, request)]
    if (refused := not_shared(contract)) is not None:
        return (*found, refused)
    purpose = contract.purposes.get(request.purpose)
    if purpose is None:
        return (*found, _purpose_unknown(contract, request))
    found += _consumer(contract, purpose, request)
    fields = (*_fields(purpose, request),)
    found += (*fields, *_duration(purpose, request), *_reason(request))
    if not fields:
        found += _unsendable(contract, request, standard)
    return tuple(found)


def beside(contract: Contract, asked: frozenset[str], others: Mapping[str, frozenset[str]]) -> tuple[Violation, ...]:
    """Why fields that are `asked` for may not leave, where the consumer has those of `others` (each as `sent`) already:
    a combination on the negative list is no release's, nor that of two which one consumer has."""
    had, found = frozenset[str]().union(*others.values()), list[Violation]()
    for number, group in enumerate(contract.negative_list.together):
        if asked.isdisjoint(group) or not (asked | had).issuperset(group):
            continue
        names = ", ".join(name for name in group if name in had)
        whose = ", ".join(who for who, some in others.items() if not some.isdisjoint(group))
        message = f"the negative list never sends {', '.join(group)} together, and {names} is sent under {whose}"
        hint = "leave one of them out, or wait until the consumer may have the others no more"
        found.append(Violation("fields", message, hint, code=f"NEGATIVE_TOGETHER_{number}"))
    return tuple(found)


def sent(purpose: Purpose, fields: Iterable[str]) -> frozenset[str]:
    """The fields that leave for a purpose, and what their masks reveal of others."""
    names = frozenset(fields)
    return names.union(*(purpose.fields[name].reveals for name in names))


def not_shared(contract: Contract) -> Violation | None:
    """Why nobody is given this dataset, with the legal basis; None if it is shared."""
    if contract.sharing.class_ is not SharingClass.NOT_SHARED:
        return None
    basis = contract.sharing.legal_basis or "not stated"
    return Violation(
        "dataset", f"{contract.dataset} is not shared; legal basis: {basis}", "ask the department", code="NOT_SHARED"
    )


def purposes_for(contract: Contract, consumer: str) -> tuple[str, ...]:
    """The purposes that a consumer may ask for, in the contract's order."""
    return tuple(name for name, purpose in contract.purposes.items() if _named(purpose, consumer))


def offered(purpose: Purpose) -> tuple[str, ...]:
    """The fields that a purpose sends, in the contract's order; those it drops are not offered."""
    return tuple(name for name, mask in purpose.fields.items() if mask.sent)


def _named(purpose: Purpose, consumer: str) -> bool:
    return consumer in purpose.consumers or EVERYONE in purpose.consumers


def _same(contract: Contract, request: Request) -> Iterator[Violation]:
    """The request binds the terms that its signer saw."""
    named = {"provider": contract.provider, "dataset": contract.dataset, "terms_digest": contract.terms_digest}
    for name, value in named.items():
        if getattr(request, name) != value:
            message = "the request is about another contract, or another version of its terms"
            yield Violation(name, message, "read the contract again, then ask anew", code="CONTRACT_OTHER")


def _purpose_unknown(contract: Contract, request: Request) -> Violation:
    open_to = purposes_for(contract, request.consumer)
    message = f"{contract.dataset} has no purpose {request.purpose[:64]!r}; {_open_to(request.consumer, open_to)}"
    return Violation("purpose", message, nearest(request.purpose, open_to), code="PURPOSE_UNKNOWN")


def _open_to(consumer: str, purposes: tuple[str, ...]) -> str:
    return f"open to {consumer}: {', '.join(purposes)}" if purposes else f"none is open to {consumer}"


def _consumer(contract: Contract, purpose: Purpose, request: Request) -> Iterator[Violation]:
    if not _named(purpose, request.consumer):
        open_to = _open_to(request.consumer, purposes_for(contract, request.consumer))
        yield Violation(
            "consumer", f"{request.purpose} does not name {request.consumer}; {open_to}", code="CONSUMER_NOT_NAMED"
        )


def _fields(purpose: Purpose, request: Request) -> Iterator[Violation]:
    allowed = offered(purpose)
    everything = f"the purpose offers: {', '.join(allowed)}"
    if not request.fields:
        yield Violation("fields", f"no field is asked for; {everything}", code="FIELDS_EMPTY")
    for name, times in Counter(request.fields).items():
        if times > 1:
            yield Violation(f"fields.{name[:64]}", f"asked for {times} times", "name it once", code="FIELD_TWICE")
        if name not in allowed:
            message = f"{request.purpose} does not offer the field {name[:64]!r}; {everything}"
            yield Violation(f"fields.{name[:64]}", message, nearest(name, allowed), code="FIELD_NOT_OFFERED")


def _duration(purpose: Purpose, request: Request) -> Iterator[Violation]:
    try:
        wanted, longest = instants.duration(request.duration), instants.duration(purpose.retention)
    except SluicegateError as error:
        yield Violation("duration", error.message, f"at most {purpose.retention}", code="DURATION_INVALID")
        return
    # Months differ in length: what could outlast the retention in some month is too long.
    if wanted.longest > longest.longest:
        message = f"{request.duration} is longer than the retention of {request.purpose}, {purpose.retention}"
        yield Violation("duration", message, f"at most {purpose.retention}", code="DURATION_TOO_LONG")


def _reason(request: Request) -> Iterator[Violation]:
    if len(request.reason.strip()) not in REASON_LENGTH:
        message = f"a reason has {REASON_LENGTH.start} to {REASON_LENGTH.stop - 1} characters; approvers read it"
        yield Violation("reason", message, "say what the data is for", code="REASON_MISSING")


def _unsendable(contract: Contract, request: Request, standard: Standard) -> Iterator[Violation]:
    """What no gateway would send is not worth asking for: a row scope on a field left out, no
    quasi-identifier left to bound, a combination on the negative list."""
    terms = plan.PlanTerms(purpose=request.purpose, fields=request.fields)
    for found in plan.refusals(terms, contract, standard):
        hint = found.hint or "ask for all fields of the purpose, or ask the department to mend its contract"
        yield Violation("fields", f"just these fields could not be sent: {found.message}", hint, code=found.code)

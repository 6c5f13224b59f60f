"""Who may see and who may do: the checks that every use case starts with.

A role is asked for before existence: a caller without it learns nothing. What belongs to other
parties is not found, in the very words used for what is not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from contracts.errors import Reason, SluicegateError, Violation
from contracts.trust import PartyKind
from exchange.identity import Principal
from exchange.records import Record
from exchange.store import Tx

REQUESTER = "requester"
APPROVERS = ("steward", "dpo")
MEDIATOR = "mediator"
AUDITOR = "auditor"
GATEWAY = "gateway"

REASON_AT_MOST = 2000  # characters
_OVERSIGHT = (PartyKind.COORDINATION, PartyKind.SUPERVISION)

R = TypeVar("R", bound=Record)


def require(principal: Principal, *roles: str) -> None:
    """Demand any of the roles. Raises ROLE_MISSING naming them."""
    if not set(roles) & set(principal.roles):
        wanted = " or ".join(roles)
        raise SluicegateError(
            Reason.ROLE_MISSING,
            f"this needs the role {wanted}; {principal.subject} of {principal.party} has "
            + (", ".join(sorted(principal.roles)) or "none"),
            metadata={"roles": ",".join(roles)},
        )


def oversees(principal: Principal) -> bool:
    """Whether the caller may see what concerns any party: mediators and auditors of the coordination
    and the supervision party."""
    return principal.kind in _OVERSIGHT and bool({MEDIATOR, AUDITOR} & set(principal.roles))


def sees(principal: Principal, *parties: str) -> bool:
    """Whether the caller may see what concerns these parties."""
    return principal.party in parties or oversees(principal)


def concerned(principal: Principal) -> Mapping[str, object] | None:
    """Store condition (`either`) for what the caller may list; None stands for everything."""
    return None if oversees(principal) else {"provider": principal.party, "consumer": principal.party}


def find(tx: Tx, kind: type[R], name: str, principal: Principal) -> R:
    """The record of that name, if it concerns the caller's party. Raises NOT_FOUND otherwise."""
    record = tx.get(kind, name)
    if record is None or not sees(principal, getattr(record, "provider"), getattr(record, "consumer")):  # noqa: B009
        raise missing(name)
    return record


def missing(name: str) -> SluicegateError:
    """What a caller is told of something absent, or of something that is none of its business."""
    return SluicegateError(Reason.NOT_FOUND, f"there is no {name[:120]}, or you may not see it")


def acts_for(principal: Principal, party: str, what: str) -> None:
    """Demand that the caller belongs to `party`. For somebody who may see the thing but stands on the
    other side of it. Raises ROLE_MISSING."""
    if principal.party != party:
        raise SluicegateError(Reason.ROLE_MISSING, f"only {party} may {what}; you act for {principal.party}")


def reason(text: str) -> str:
    """A stated reason, trimmed. Raises INVALID_ARGUMENT when it is empty or too long."""
    text = text.strip()
    if not 1 <= len(text) <= REASON_AT_MOST:
        message = f"a reason of 1 to {REASON_AT_MOST} characters is needed"
        raise SluicegateError(Reason.INVALID_ARGUMENT, message, (Violation("reason", message),))
    return text

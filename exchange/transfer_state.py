"""A transfer as it stands at an instant, and as its caller may see it."""

from __future__ import annotations

from msgspec.structs import replace

from contracts.errors import Reason, SluicegateError
from exchange import access, agreements
from exchange.hall import Hall
from exchange.identity import Principal
from exchange.records import Agreement, Transfer
from exchange.store import Tx

SILENT_AFTER = 24 * 3600  # seconds past the grant without a receipt: the gateway is not coming back


def as_of(record: Transfer, now: int) -> Transfer:
    """The transfer as it stands at `now`: a grant that nobody used in time has EXPIRED, and so has a
    stream of which no receipt came for a day. A receipt that comes later still counts."""
    unused = record.state == "GRANTED" and now >= record.grant_expires
    silent = record.state == "SERVING" and now >= record.grant_expires + SILENT_AFTER
    return replace(record, state="EXPIRED") if unused or silent else record


def shown(record: Transfer, agreement: Agreement, principal: Principal, now: int) -> Transfer:
    """The transfer as the caller may see it at `now`.

    The grant is for the consumer's requesters, while it is good and the agreement live. Figures
    behind a refusal are for the department's people only.
    """
    record = as_of(record, now)
    usable = record.state in ("GRANTED", "SERVING") and now < record.grant_expires and agreements.live(agreement, now)
    entitled = principal.party == record.consumer and access.REQUESTER in principal.roles
    return replace(
        record,
        grant=record.grant if usable and entitled else b"",
        failure_detail=record.failure_detail if principal.party == record.provider else "",
    )


def find(tx: Tx, hall: Hall, principal: Principal, name: str) -> Transfer:
    """One transfer of the caller's party, as the caller may see it. Raises NOT_FOUND."""
    record = access.find(tx, Transfer, name, principal)
    return shown(record, agreement_of(tx, record), principal, hall.clock())


def agreement_of(tx: Tx, record: Transfer) -> Agreement:
    """The agreement that the transfer is a run of."""
    found = tx.get(Agreement, record.agreement)
    if found is None:
        raise SluicegateError(Reason.INTERNAL, f"{record.agreement} is missing from the store")
    return found

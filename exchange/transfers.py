"""Transfers: one run of an agreement, granted here and carried out between gateway and consumer.

    GRANTED -> SERVING -> COMPLETED or PARTIAL -> ACKNOWLEDGED,  or REFUSED, FAILED, EXPIRED

All verbs of the noun: looking them up (here), granting them (`exchange.grants`), and what is reported
about them afterwards (`exchange.reports`).
"""

from __future__ import annotations

from exchange import access, paging, records
from exchange.grants import create
from exchange.hall import Hall
from exchange.identity import Principal
from exchange.paging import Page
from exchange.records import Transfer
from exchange.reports import acknowledge, report_intent, report_receipt, report_refusal
from exchange.transfer_state import agreement_of, find, shown

__all__ = [
    "acknowledge",
    "create",
    "gateway_of",
    "get",
    "list_",
    "report_intent",
    "report_receipt",
    "report_refusal",
]


def get(hall: Hall, principal: Principal, name: str) -> Transfer:
    """One transfer of the caller's party, as the caller may see it. Raises NOT_FOUND."""
    with hall.store.read() as tx:
        return find(tx, hall, principal, name)


def list_(
    hall: Hall, principal: Principal, *, agreement: str = "", page_size: int = 0, page_token: str = ""
) -> Page[Transfer]:
    """The transfers of the caller's party, newest first; of one agreement where given.

    Raises INVALID_ARGUMENT, PAGE_TOKEN_INVALID.
    """
    now = hall.clock()
    with hall.store.read() as tx:
        page = paging.page(
            hall,
            tx,
            Transfer,
            principal,
            verb="transfers.list",
            arguments={"agreement": agreement},
            page_size=page_size,
            page_token=page_token,
            where={"agreement": agreement} if agreement else None,
            either=access.concerned(principal),
        )
        behind = {record.agreement: agreement_of(tx, record) for record in page.items}
    return Page(tuple(shown(item, behind[item.agreement], principal, now) for item in page.items), page.next_token)


def gateway_of(hall: Hall, record: Transfer) -> records.Gateway | None:
    """Where the transfer is to be fetched, for who was shown the transfer."""
    with hall.store.look() as tx:
        return tx.get(records.Gateway, record.gateway)

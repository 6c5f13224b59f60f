"""Erasing what an entry of the ledger says, where the law demands it.

Leaf hash and tree stay: whoever kept the entry's salt and bytes proves it as before, and everybody else
that there was an entry. So nothing can be undone or denied this way, only forgotten.
"""

from __future__ import annotations

import sqlalchemy as sa

from contracts.errors import Reason, SluicegateError
from contracts.instants import rfc3339
from contracts.trust import PartyKind
from exchange import access, ledger
from exchange.databases import empty_log
from exchange.hall import Hall
from exchange.identity import Principal
from exchange.ledger import Entry
from exchange.records import Call
from exchange.tables import ledger_entries

# An erasure is itself an entry, the one kind that is never erased.
ERASED = "entry.erased"
# Gateways and consumers demand proof of what they reported of a transfer: of an entry that is gone too soon they
# would never have it, take the ledger for a forged one, and serve or believe nothing any more.
PROVED_WITHIN = 86_400  # seconds


def erase(hall: Hall, principal: Principal, call: Call | None, name: str, *, reason: str, etag: str = "") -> Entry:
    """Erase what the entry `ledger/entries/{index}` says: entry, salt and resource go, in the database's
    file too; returns what is left. That it was erased, by whom and why, becomes an entry that the same
    parties see. `etag` is the entry's as the caller saw it; empty erases it unseen.

    Role: dpo of the coordination party. Raises ROLE_MISSING, INVALID_ARGUMENT without a reason, NOT_FOUND,
    ETAG_MISMATCH (another entry stands there), STATE_WRONG (erased before; about a transfer and not a day old;
    or itself about an erasure: who erases does not erase that he did).
    """
    if principal.kind is not PartyKind.COORDINATION or "dpo" not in principal.roles:
        raise SluicegateError(Reason.ROLE_MISSING, "only a dpo of the coordination party may erase an entry")
    reason, index = access.reason(reason), ledger.index_of(name)
    with hall.store.transaction() as tx:
        if tx.replay(call) is not None:
            return ledger.at(tx, index)
        known = ledger.at(tx, index)
        if known.entry is None:
            raise SluicegateError(Reason.STATE_WRONG, f"{name} was erased before")
        if known.event == ERASED:
            raise SluicegateError(Reason.STATE_WRONG, f"{name} says what was erased, by whom and why: it stays")
        if known.event.startswith("transfer.") and hall.clock() < known.created + PROVED_WITHIN:
            when = rfc3339(known.created + PROVED_WITHIN)
            raise SluicegateError(Reason.STATE_WRONG, f"{name} may be waited for as proof: erase it after {when}")
        if etag not in ("", known.etag):
            raise SluicegateError(Reason.ETAG_MISMATCH, f"{name} is not the entry that you read: read it again")
        gone = sa.update(ledger_entries).where(ledger_entries.c.position == index)
        tx.connection.execute(gone.values(entry=None, salt=None, resource=""))
        ledger.append(
            tx,
            hall,
            event=ERASED,
            resource=name,
            actor=principal.name,
            parties=(principal.party, *ledger.concerned(tx, index)),
            detail={"reason": reason},
        )
        tx.remember(call, name)
        left = ledger.at(tx, index)
    empty_log(hall.store.engine)
    return left

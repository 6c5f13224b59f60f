"""The agreements that a consumer has on one dataset at once, and what they forbid the next one.

One is live for each purpose. What is released under them is the gateway's to compare; what no comparison of rows
sees is refused here: a second one for the same purpose, at another gateway, or on fields that must not come together.
"""

from __future__ import annotations

from msgspec.structs import replace

from contracts import agreement as law
from contracts import instants, model, requesting
from contracts.errors import Reason, SluicegateError
from exchange import agreements, ledger, records
from exchange.hall import Hall
from exchange.records import Agreement
from exchange.store import Tx

_OPEN = ("PENDING", "ACTIVE", "SUSPENDED")
_MOST = 1000  # purposes of one contract


def live_key(asked: records.Request | law.Request) -> str:
    """What there is one live agreement of. Two for one purpose are a mistake, or would make its refresh interval
    shorter."""
    return f"{asked.provider}/{asked.dataset}/{asked.consumer}/{asked.purpose}"


def demand(
    tx: Tx, hall: Hall, asked: records.Request | law.Request, contract: records.Contract, terms: model.Contract
) -> None:
    """Demand that the consumer may have an agreement as it is asked for beside those that it has. One for the same
    purpose that expired gives its place up.

    Raises ALREADY_EXISTS, naming the one for the same purpose, or one that is served by another gateway, which alone
    knows what was sent under it; REQUEST_OUTSIDE_CONTRACT for fields that must not come together.
    """
    now, others = hall.clock(), dict[str, tuple[str, ...]]()
    where = {"provider": asked.provider, "dataset": asked.dataset, "consumer": asked.consumer, "state": _OPEN}
    for holder in tx.page(Agreement, where=where, limit=_MOST):
        current = agreements.as_of(holder, now)
        if current.live_key is None:
            if holder.live_key == live_key(asked):
                _expired(tx, hall, holder, current, now)
        elif holder.purpose == asked.purpose:
            raise _exists(current, "use it, or end it first; another purpose needs neither")
        elif holder.gateway != contract.gateway:
            raise _exists(
                current,
                "at another gateway than the dataset has now, so nobody could compare what the two send: end it first",
            )
        else:
            others[holder.purpose] = holder.fields
    if found := requesting.beside(terms, asked.purpose, asked.fields, others):
        message = f"{asked.consumer} has agreements on {asked.dataset} that these fields must not come beside"
        raise SluicegateError(Reason.REQUEST_OUTSIDE_CONTRACT, message, found)


def _exists(holder: Agreement, remedy: str) -> SluicegateError:
    stands = f"{holder.state} until {instants.rfc3339(holder.not_after)}"
    return SluicegateError(
        Reason.ALREADY_EXISTS,
        f"{holder.consumer} has {holder.name} on this dataset for {holder.purpose}, {stands}: {remedy}",
        metadata={"agreement": holder.name, "state": holder.state},
    )


def _expired(tx: Tx, hall: Hall, holder: Agreement, current: Agreement, now: int) -> None:
    ledger.append(
        tx,
        hall,
        event="agreement.expired",
        resource=holder.name,
        parties=(holder.provider, holder.consumer),
        actor="exchange",
        detail={"notAfter": instants.rfc3339(holder.not_after)},
    )
    tx.replace(replace(current, updated=now), expected_version=holder.version)

"""The agreements that a consumer has on one dataset at once, or had, and what they forbid the next one.

One is live for each purpose. What is released under them is the gateway's to compare; what no comparison of rows
sees is refused here: a second one for the same purpose, at another gateway, or on fields that must not come together.
An agreement that ended forbids what it did while the consumer may keep what was sent under it.
"""

from __future__ import annotations

from msgspec.structs import replace

from contracts import agreement as law
from contracts import instants, lifecycle, model, requesting
from contracts.envelope import Envelope
from contracts.errors import Reason, SluicegateError
from exchange import agreements, papers, records
from exchange.hall import Hall
from exchange.records import Agreement, Transfer
from exchange.store import Tx

# The states of a transfer of which something may have left, or may still: a ticket is good for a while after the end.
_MAY_HAVE_LEFT = tuple(sorted(lifecycle.TRANSFER.keys() - {"REFUSED"}))


def live_key(asked: records.Request | law.Request) -> str:
    """What there is one live agreement of. Two for one purpose are a mistake, or would make its refresh interval
    shorter."""
    return f"{asked.provider}/{asked.dataset}/{asked.consumer}/{asked.purpose}"


def demand(
    tx: Tx, hall: Hall, asked: records.Request | law.Request, contract: records.Contract, terms: model.Contract
) -> None:
    """Demand that the consumer may have an agreement as it is asked for beside those that it has, and beside what it
    may still keep of those that ended. One for the same purpose that expired gives its place up.

    Raises ALREADY_EXISTS, naming the one for the same purpose, or one that is served by another gateway, which alone
    knows what was sent under it; REQUEST_OUTSIDE_CONTRACT for fields that must not come together.
    """
    now, others = hall.clock(), dict[str, frozenset[str]]()
    where: dict[str, object] = {name: getattr(asked, name) for name in ("provider", "dataset", "consumer")}
    for holder in papers.every(tx, Agreement, where):
        current = agreements.as_of(holder, now)
        if current.live_key is None and holder.live_key == live_key(asked):
            _expired(tx, hall, holder, current, now)
        purpose = _purpose(tx, holder)
        kept = f"{current.state} until {instants.rfc3339(holder.not_after)}"
        if current.live_key is None:
            until = _gone(current, purpose)
            if until <= now or not _served(tx, holder):
                continue
            kept = f"{current.state}; what it sent may be kept until {instants.rfc3339(until)}"
        elif holder.purpose == asked.purpose:
            raise _exists(current, kept, "use it, or end it first; another purpose needs neither")
        if holder.gateway != contract.gateway:
            why = "at another gateway than the dataset has now, so nobody could compare what the two send"
            raise _exists(current, kept, f"{why}: ask once the consumer may have nothing from there")
        others[f"{holder.name} for {holder.purpose} ({kept})"] = requesting.sent(purpose, holder.fields)
    if found := requesting.beside(terms, requesting.sent(terms.purposes[asked.purpose], asked.fields), others):
        message = f"{asked.consumer} has agreements on {asked.dataset} that these fields must not come beside"
        raise SluicegateError(Reason.REQUEST_OUTSIDE_CONTRACT, message, found)


def _purpose(tx: Tx, holder: Agreement) -> model.Purpose:
    """The purpose of an agreement as its own contract has it: the dataset's may be another by now."""
    document = papers.read(law.Agreement, Envelope.from_bytes(holder.statement))
    return papers.contract(tx, holder.contract, document.document_digest).purposes[holder.purpose]


def _gone(ended: Agreement, purpose: model.Purpose) -> int:
    """When the last release that could be made under it is to be gone, as its gateway reckons."""
    end = ended.updated if ended.state == "TERMINATED" else ended.not_after
    return instants.duration(purpose.retention).after(instants.duration(purpose.refresh).after(end))


def _served(tx: Tx, ended: Agreement) -> bool:
    """Whether something may have been sent under it."""
    return bool(tx.page(Transfer, where={"agreement": ended.name, "state": _MAY_HAVE_LEFT}, limit=1))


def _exists(holder: Agreement, kept: str, remedy: str) -> SluicegateError:
    return SluicegateError(
        Reason.ALREADY_EXISTS,
        f"{holder.consumer} has {holder.name} on this dataset for {holder.purpose}, {kept}: {remedy}",
        metadata={"agreement": holder.name, "state": holder.state},
    )


def _expired(tx: Tx, hall: Hall, holder: Agreement, current: Agreement, now: int) -> None:
    detail = {"notAfter": instants.rfc3339(holder.not_after)}
    agreements.note(tx, hall, "agreement.expired", holder, "exchange", detail)
    tx.replace(replace(current, updated=now), expected_version=holder.version)

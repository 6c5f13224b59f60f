"""Which moves a contract, a request, an agreement and a transfer can make: one table each.

    move(kind, state, verb) -> the new state, or STATE_WRONG naming the verbs that are allowed

The tables are the whole truth; whoever changes a state goes through `move`. A verb that leaves the
state as it is (an approval that is not yet the last one) stands in the table too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from contracts.errors import Reason, SluicegateError, nearest

Noun = Literal["contract", "request", "agreement", "transfer"]

# state -> verb -> state
Table = Mapping[str, Mapping[str, str]]

CONTRACT: Table = {
    "DRAFT": {"publish": "PUBLISHED"},
    "PUBLISHED": {"supersede": "SUPERSEDED", "withdraw": "WITHDRAWN"},
    # Agreements pin a contract by digest: superseded, it still governs those that it made.
    "SUPERSEDED": {"withdraw": "WITHDRAWN"},
    "WITHDRAWN": {},
}

REQUEST: Table = {
    # `endorse` is an approval that is not yet the last one needed, `approve` the last.
    "SUBMITTED": {"endorse": "SUBMITTED", "approve": "APPROVED", "reject": "REJECTED", "cancel": "CANCELLED"},
    "APPROVED": {},
    "REJECTED": {},
    "CANCELLED": {},
}

AGREEMENT: Table = {
    # `sign` is a signature that is not yet the last one needed, `activate` the last.
    "PENDING": {"sign": "PENDING", "activate": "ACTIVE", "terminate": "TERMINATED", "expire": "EXPIRED"},
    "ACTIVE": {"suspend": "SUSPENDED", "terminate": "TERMINATED", "expire": "EXPIRED"},
    # Suspending again changes the end or the reason.
    "SUSPENDED": {"suspend": "SUSPENDED", "resume": "ACTIVE", "terminate": "TERMINATED", "expire": "EXPIRED"},
    "TERMINATED": {},
    "EXPIRED": {},
}

TRANSFER: Table = {
    "GRANTED": {
        "serve": "SERVING",
        "complete": "COMPLETED",
        "partial": "PARTIAL",
        "refuse": "REFUSED",
        "fail": "FAILED",
        "expire": "EXPIRED",
    },
    "SERVING": {
        "serve": "SERVING",
        "complete": "COMPLETED",
        "partial": "PARTIAL",
        "refuse": "REFUSED",
        "fail": "FAILED",
        "expire": "EXPIRED",
    },
    "COMPLETED": {"acknowledge": "ACKNOWLEDGED"},
    "PARTIAL": {"acknowledge": "ACKNOWLEDGED"},
    # A receipt is signed by the gate and outranks what the exchange had concluded from silence: a
    # gateway that was cut off, or killed and restarted, reports late what really left.
    "FAILED": {"complete": "COMPLETED", "partial": "PARTIAL"},
    "EXPIRED": {"complete": "COMPLETED", "partial": "PARTIAL"},
    "REFUSED": {},
    "ACKNOWLEDGED": {},
}

# Moves that come about by themselves: an end that is reached, an approval or signature that is not, or is,
# the last one needed. Nobody can ask for them by these names.
BY_ITSELF = frozenset({"expire", "endorse", "activate"})

TABLES: Mapping[Noun, Table] = {
    "contract": CONTRACT,
    "request": REQUEST,
    "agreement": AGREEMENT,
    "transfer": TRANSFER,
}


def verbs(noun: Noun, state: str) -> tuple[str, ...]:
    """The moves that this state allows, in the table's order. Raises INTERNAL for an unknown state."""
    return tuple(_row(noun, state))


def ended(noun: Noun, state: str) -> bool:
    """Whether nothing can happen any more. Raises INTERNAL for an unknown state."""
    return not _row(noun, state)


def move(noun: Noun, state: str, verb: str) -> str:
    """The state after `verb`. Raises STATE_WRONG naming what can be asked for instead."""
    row = _row(noun, state)
    if verb not in row:
        moves = [other for other in row if other not in BY_ITSELF]
        allowed = ", ".join(moves) if row else "nothing: it has ended"
        raise SluicegateError(
            Reason.STATE_WRONG,
            f"{'an' if noun == 'agreement' else 'a'} {noun} that is {state} cannot {verb}; allowed: {allowed}",
            metadata={"state": state, "verb": verb, "allowed": ",".join(moves)},
        )
    return row[verb]


def _row(noun: Noun, state: str) -> Mapping[str, str]:
    table = TABLES[noun]
    if state not in table:
        raise SluicegateError(Reason.INTERNAL, f"a {noun} has no state {state!r}; {nearest(state, table)}")
    return table[state]

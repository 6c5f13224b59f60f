"""Signed papers as the exchange takes them in: their shape, their signer, the contract behind them.

Contracts and signed documents never change once they have a digest, so what was parsed from them is
remembered under it. Everything that can change, keys and states, is read anew for every call.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TypeVar

import jwt
import msgspec
from msgspec import Struct

from contracts import instants, model, odcs, trust
from contracts.envelope import Envelope, Kind
from contracts.errors import Reason, SluicegateError
from contracts.trust import CertifiedKey, Use, _Document
from exchange import records
from exchange.hall import Entropy, Hall
from exchange.identity import Principal
from exchange.memo import Memo
from exchange.store import Tx

OLDEST = 24 * 3600  # seconds a signed wish may lie around before it is handed in

P = TypeVar("P", bound=_Document)
R = TypeVar("R", bound=records.Record)


_contracts: Memo[model.Contract] = Memo()


def new_id(letter: str, entropy: Entropy) -> str:
    """A fresh id: the letter, a hyphen, 10 lower-case base32 characters (50 random bits)."""
    return f"{letter}-{base64.b32encode(entropy(7)).decode().lower()[:10]}"


def unsigned(document: Struct) -> Envelope:
    """A document that nobody has signed yet."""
    return Envelope(msgspec.to_builtins(document), ())


def read(kind: type[P], document: Envelope) -> P:
    """The payload as that kind of document. Raises INVALID_ARGUMENT saying which part does not fit.

    Proves nothing about who signed it.
    """
    return trust.read(kind, document, Reason.INVALID_ARGUMENT)


def signer(tx: Tx, hall: Hall, kind: Kind, document: Envelope, principal: Principal, use: Use) -> CertifiedKey:
    """The key of the document's one signature: the caller's own, certified by the caller's party for
    this use, and good now. Raises SIGNATURE_INVALID or KEY_UNTRUSTED, saying what is known of the key."""
    if len(document.signatures) != 1:
        count = len(document.signatures)
        raise SluicegateError(
            Reason.SIGNATURE_INVALID, f"a {kind} takes the caller's one signature; this one has {count}"
        )
    statements, revocations = key_papers(tx, principal.party, subject=principal.subject)
    keys = trust.Keys(hall.trust(), statements, revocations)
    signed = keys.signers(kind, document, [(principal.party, use)], hall.clock())[0]
    if signed.subject != principal.subject:
        raise SluicegateError(
            Reason.KEY_UNTRUSTED, f"the {kind} is signed with the key of {signed.subject}, not the caller's"
        )
    return signed


def kids(document: Envelope) -> frozenset[str]:
    """Ids of the keys that a document names as its signers. For documents that were verified when
    they came in; of any other this proves nothing."""
    return frozenset(str(jwt.get_unverified_header(token)["kid"]) for token in document.signatures)


def key_papers(
    tx: Tx, party: str, *, use: Use | None = None, subject: str | None = None
) -> tuple[tuple[Envelope, ...], tuple[Envelope, ...]]:
    """Key statements and revocations of a party, narrowed to a use and a subject where given."""
    where: dict[str, object] = {"party": party}
    where |= {} if use is None else {"use": use.value}
    where |= {} if subject is None else {"subject": subject}
    keys = every(tx, records.Key, where)
    statements = tuple(Envelope.from_bytes(key.statement) for key in keys)
    revocations = tuple(Envelope.from_bytes(key.revocation) for key in keys if key.revocation is not None)
    return statements, revocations


def every(tx: Tx, kind: type[R], where: dict[str, object]) -> Sequence[R]:
    """All records that match, page by page."""
    found: list[R] = []
    while page := tx.page(kind, where=where, after=found[-1].name if found else None, limit=500):
        found.extend(page)
        if len(page) < 500:
            break
    return found


def contract(tx: Tx, name: str, document_digest: str) -> model.Contract:
    """The contract version of that resource name and digest, parsed. Raises NOT_FOUND, or INTERNAL
    when the store holds other bytes under that name."""

    def load() -> model.Contract:
        record = tx.get(records.Contract, name)
        if record is None:
            raise SluicegateError(Reason.NOT_FOUND, f"there is no {name}, or you may not see it")
        found = odcs.load(record.document, name=name).contract
        if found.document_digest != document_digest:
            raise SluicegateError(Reason.INTERNAL, f"the stored bytes of {name} are not what was published")
        return found

    return _contracts.get(document_digest, load)


def fresh(created: str, now: int, what: str) -> None:
    """Refuse a document that says it was made in the future, or more than a day ago: an old one was
    meant for something else by now. Raises INVALID_ARGUMENT."""
    made = instants.epoch(created)
    if made > now + instants.SKEW:
        raise SluicegateError(
            Reason.INVALID_ARGUMENT, f"the {what} was made in the future: check the clock of its signer"
        )
    if made < now - OLDEST:
        raise SluicegateError(Reason.INVALID_ARGUMENT, f"the {what} was signed more than a day ago: sign a new one")

"""The ledger: everything that was decided, refusals too, in an append-only tree that anyone can check.

An entry is canonical JSON {event, resource, actor, parties, at, detail}; its leaf hashes 16 random
bytes and the entry. It is appended in the transaction of the change that it tells of, so neither is
ever there without the other. The tree (contracts.merkle) keeps the hash of every complete subtree:
appending and proving read O(log n) rows, whatever the size.

A party sees the entries that concern it; auditors of coordination and supervision see all. For
anybody else an entry is not there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa
from msgspec import Struct
from msgspec.structs import replace

from contracts import merkle, trust
from contracts.canonical import canonical
from contracts.envelope import MAX_SIGNATURES, Envelope, Kind, sign
from contracts.errors import Reason, SluicegateError, printable
from contracts.instants import epoch, rfc3339
from contracts.policy import inputs
from contracts.policy.engine import Action
from contracts.trust import PartyKind, Use
from exchange import decisions, paging, papers
from exchange.access import missing
from exchange.hall import Entropy, Hall
from exchange.identity import Principal
from exchange.paging import Page
from exchange.records import Call
from exchange.session import Rows, Statement
from exchange.store import Tx
from exchange.tables import checkpoints, ledger_entries, ledger_nodes, ledger_parties

SALT_BYTES = 16
SIGNED_ANEW = 10  # seconds after which a checkpoint of a ledger that did not grow tells a new time
_LONGEST_NAME = 300
CHUNK = 1000  # entries read at once
_NAME = "ledger/entries/"
_INDEX = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)

_LAST = sa.select(sa.func.coalesce(sa.func.max(ledger_entries.c.position), -1))
_SIZE = Statement(_LAST)
_ENTRY = Statement(
    sa.insert(ledger_entries).values(position=_LAST.scalar_subquery() + 1).returning(ledger_entries.c.position),
    *("leaf", "salt", "entry", "event", "resource", "created"),
)
_PARTIES = Rows(ledger_parties, "position", "party")
_NODES = Rows(ledger_nodes, "level", "position", "hash")


class Entry(Struct, frozen=True, kw_only=True):
    """One leaf. `entry` (canonical JSON) and `salt` are None, `resource` empty once it was erased;
    `created` is epoch seconds."""

    index: int
    entry: bytes | None
    salt: bytes | None
    leaf_hash: bytes
    event: str
    resource: str
    created: int

    @property
    def name(self) -> str:
        """Resource name: ledger/entries/{index}."""
        return f"{_NAME}{self.index}"

    @property
    def etag(self) -> str:
        """Which entry this is, and whether it was erased."""
        return f"{self.leaf_hash.hex()[:32]}{'-erased' if self.entry is None else ''}"


class Inclusion(Struct, frozen=True):
    """Audit path of leaf `index` in the tree of `tree_size` leaves, leaf level first."""

    index: int
    tree_size: int
    path: tuple[bytes, ...]


# --- writing


def append(
    tx: Tx, hall: Hall, *, event: str, resource: str, actor: str, parties: Sequence[str], detail: Mapping[str, Any]
) -> int:
    """Add an entry in the caller's transaction; returns its index.

    `event` is `noun.verb` in the past (`request.approved`), `actor` the principal's name, `parties` the
    ids of those it concerns: they will see it. `detail` is JSON, and must hold no secret, no cell value
    and nothing about a person that could be left out.
    """
    entry = {"event": event, "resource": resource, "actor": actor, "parties": parties, "detail": detail}
    return _write(tx, entropy=hall.entropy, now=hall.clock(), entry=entry)


def found(tx: Tx, *, entropy: Entropy, now: int, party: str, keys: Sequence[str]) -> int:
    """The entry of a party that is there from the founding of the exchange, with its keys' ids."""
    name = f"parties/{party}"
    entry = {
        "event": "party.founded",
        "resource": name,
        "actor": name,
        "parties": [party],
        "detail": {"keys": list(keys)},
    }
    return _write(tx, entropy=entropy, now=now, entry=entry)


def restored(tx: Tx, *, entropy: Entropy, now: int) -> int:
    """The entry of a restored backup: whoever saw a later tree will find it missing, and here is why."""
    entry = {"event": "ledger.restored", "resource": "ledger", "actor": "operator", "parties": [], "detail": {}}
    return _write(tx, entropy=entropy, now=now, entry=entry)


def refused(
    hall: Hall,
    principal: Principal,
    action: str,
    resource: str,
    detail: Mapping[str, Any],
    *,
    parties: Sequence[str] = (),
) -> int:
    """Record a refusal, in a transaction of its own: what it refuses changed nothing.

    `detail` says why (`exchange.decisions`); `parties` are concerned besides the caller's own.
    """
    with hall.store.transaction() as tx:
        return append(
            tx,
            hall,
            event=f"{action}.refused",
            resource=resource,
            actor=principal.name,
            parties=(principal.party, *parties),
            detail=detail,
        )


def _write(tx: Tx, *, entropy: Entropy, now: int, entry: Mapping[str, Any]) -> int:
    salt, concerned = entropy(SALT_BYTES), sorted(set(entry["parties"]))
    resource = printable(entry["resource"][:_LONGEST_NAME])  # a refused call may have named anything at all
    raw = canonical({**entry, "resource": resource, "parties": concerned, "at": rfc3339(now)})
    leaf = merkle.leaf_hash(salt, raw)
    row = {"leaf": leaf, "salt": salt, "entry": raw, "event": entry["event"], "resource": resource, "created": now}
    ((position,),) = tx.session.rows(_ENTRY, row)
    tx.session.add(_PARTIES, [(position, party) for party in concerned])
    left = _hashes(tx, merkle.left_of(position))
    tx.session.add(_NODES, merkle.append(lambda *node: left[node], position, leaf))
    return int(position)


# --- the tree


def size(tx: Tx) -> int:
    """How many entries there are."""
    ((last,),) = tx.session.rows(_SIZE, {})
    return int(last) + 1


def reader(tx: Tx) -> merkle.NodeReader:
    """The tree's nodes, as `contracts.merkle` asks for them. It raises LEDGER_INVALID for a missing one."""
    return lambda *node: _hashes(tx, [node])[node]


def _hashes(tx: Tx, nodes: Sequence[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
    """The stored hashes of these nodes, asked for at once. Raises LEDGER_INVALID when one is missing."""
    if not nodes:
        return {}
    wanted = {f"{what}_{at}": value for at, node in enumerate(nodes) for what, value in zip("lp", node, strict=True)}
    found = {(level, index): bytes(value) for level, index, value in tx.session.rows(_nodes_of(len(nodes)), wanted)}
    for level, index in nodes:
        if (level, index) not in found:
            raise corrupt(f"node {level}/{index} of its tree is missing")
    return found


@cache
def _nodes_of(count: int) -> Statement:
    node = ledger_nodes.c
    each = (
        sa.and_(node.level == sa.bindparam(f"l_{at}"), node.position == sa.bindparam(f"p_{at}")) for at in range(count)
    )
    return Statement(sa.select(node.level, node.position, node.hash).where(sa.or_(*each)))


def corrupt(why: str) -> SluicegateError:
    """What is raised where the stored ledger does not fit itself."""
    return SluicegateError(Reason.LEDGER_INVALID, f"the stored ledger is damaged: {why}")


# --- checkpoints


def checkpoint(hall: Hall) -> Envelope:
    """The newest checkpoint, signed: size, root and time of the tree as it is now.

    One is kept for each size that was asked for, and given again while the ledger has not grown; past
    `SIGNED_ANEW` with the time as it is then, for who sees an old time must take the ledger for withheld.
    """
    with hall.store.read() as tx:
        known = _checkpoint(tx, size(tx))
    if known is None:
        with hall.store.transaction() as tx:
            known = _checkpoint(tx, size(tx)) or _first_checkpoint(tx, hall)
    now, head = hall.clock(), trust.read(merkle.Checkpoint, known)
    if now - epoch(head.time) <= SIGNED_ANEW:
        return known
    # Not kept: it says nothing new of the tree, and must be had from a disk that is full.
    return sign(Kind.CHECKPOINT, replace(head, time=rfc3339(now)), hall.checkpoint_key)


def _first_checkpoint(tx: Tx, hall: Hall) -> Envelope:
    """The checkpoint of a size that nobody asked for before."""
    total, now = size(tx), hall.clock()
    root = merkle.root(reader(tx), total).hex()
    origin = f"sluicegate:{hall.checkpoint_key.kid}"
    head = merkle.Checkpoint(origin=origin, tree_size=total, root=root, time=rfc3339(now))
    signed = sign(Kind.CHECKPOINT, head, hall.checkpoint_key)
    tx.connection.execute(sa.insert(checkpoints).values(tree_size=total, created=now, envelope=signed.to_bytes()))
    return signed


def _checkpoint(tx: Tx, tree_size: int) -> Envelope | None:
    wanted = sa.select(checkpoints.c.envelope).where(checkpoints.c.tree_size == tree_size)
    raw = tx.connection.execute(wanted).scalar_one_or_none()
    return None if raw is None else Envelope.from_bytes(bytes(raw))


def countersign(hall: Hall, principal: Principal, call: Call | None, document: Envelope) -> Envelope:
    """Keep a gateway's signature under a checkpoint of ours that it saw grow; returns the checkpoint
    with all its signatures. Role: gateway. Signing again, or the ninth signature, changes nothing.
    One that we signed anew, later, over the same tree takes the place of the kept one.

    Raises ROLE_MISSING, NOT_FOUND (no such checkpoint of ours), KEY_UNTRUSTED, SIGNATURE_INVALID.
    """
    if "gateway" not in principal.roles:
        raise SluicegateError(Reason.ROLE_MISSING, "only a gateway countersigns checkpoints")
    head = trust.read(merkle.Checkpoint, document, Reason.INVALID_ARGUMENT)
    if not 0 <= head.tree_size <= merkle.MAX_SIZE:  # a database has no such number
        raise SluicegateError(Reason.INVALID_ARGUMENT, "a checkpoint cannot be of that size")
    name = f"ledger/checkpoints/{head.tree_size}"
    with hall.store.transaction() as tx:
        known = _checkpoint(tx, head.tree_size)
        if known is not None and known.payload != document.payload and _signed_anew(hall, known, document):
            known = sign(Kind.CHECKPOINT, head, hall.checkpoint_key)
        if known is None or known.payload != document.payload:
            raise SluicegateError(Reason.NOT_FOUND, "that is no checkpoint of this ledger: ask for the newest one")
        if tx.replay(call) is not None:
            return known
        added = tuple(token for token in document.signatures if token not in known.signatures)
        if added:
            papers.signer(tx, hall, Kind.CHECKPOINT, Envelope(document.payload, added), principal, Use.GATEWAY)
        if added and len(known.signatures) < MAX_SIGNATURES:
            known = Envelope(known.payload, (*known.signatures, *added))
            changed = sa.update(checkpoints).where(checkpoints.c.tree_size == head.tree_size)
            tx.connection.execute(changed.values(envelope=known.to_bytes()))
        tx.remember(call, name)
        return known


def _signed_anew(hall: Hall, known: Envelope, offered: Envelope) -> bool:
    """Whether we signed what is offered ourselves, over the same tree at a later time."""
    old, new = trust.read(merkle.Checkpoint, known), trust.read(merkle.Checkpoint, offered)
    if replace(old, time=new.time) != new or epoch(new.time) <= epoch(old.time):
        return False
    return set(sign(Kind.CHECKPOINT, new, hall.checkpoint_key).signatures) <= set(offered.signatures)


# --- reading


def _sees_all(principal: Principal) -> bool:
    return principal.kind in (PartyKind.COORDINATION, PartyKind.SUPERVISION) and "auditor" in principal.roles


def _visible(hall: Hall, principal: Principal) -> list[sa.ColumnElement[bool]]:
    """Condition for the entries that the caller may read, which the policy must allow too. Raises
    POLICY_REFUSED, on record, and POLICY_UNAVAILABLE."""
    everything = _sees_all(principal)
    subject = inputs.Subject(principal.party, principal.kind, principal.subject, principal.roles)
    asked = inputs.ledger_read(subject, ("*",) if everything else (principal.party,), now=hall.clock())
    decision = hall.policy.decide(Action.LEDGER_READ, asked)
    if not decision.allow:
        refused(hall, principal, "ledger.read", "ledger/entries", decisions.entry(decision))
        raise decision.refusal()
    return [] if everything else [_concerns(principal.party)]


def entries(
    hall: Hall, principal: Principal, *, resource: str = "", page_size: int = 0, page_token: str = ""
) -> Page[Entry]:
    """The entries that the caller may see, newest first; only those of one resource when it is named."""
    paging.checked_size(page_size)
    conditions = _visible(hall, principal)
    if resource:
        conditions.append(ledger_entries.c.resource == printable(resource[:_LONGEST_NAME]))
    with hall.store.read() as tx:

        def fetch(after: str | None, limit: int) -> Sequence[Entry]:
            older = [] if after is None else [ledger_entries.c.position < int(after)]
            return select(tx, *conditions, *older, limit=limit)

        return paging.paged(
            hall,
            tx,
            principal,
            fetch,
            lambda entry: str(entry.index),
            verb="ledger.entries",
            arguments={"resource": resource},
            page_size=page_size,
            page_token=page_token,
        )


def entry(hall: Hall, principal: Principal, name: str) -> Entry:
    """One entry that the caller may see. Raises NOT_FOUND."""
    index, visible = index_of(name), _visible(hall, principal)
    with hall.store.read() as tx:
        found = select(tx, ledger_entries.c.position == index, *visible, limit=1)
    if not found:
        raise missing(name)
    return found[0]


def index_of(name: str) -> int:
    """The position in `ledger/entries/{index}`. Raises NOT_FOUND for any other name."""
    digits = name.removeprefix(_NAME)
    if not name.startswith(_NAME) or not _INDEX.fullmatch(digits) or int(digits) >= merkle.MAX_SIZE:
        raise missing(name)
    return int(digits)


def at(tx: Tx, index: int) -> Entry:
    """The entry at a position, whoever asks. Raises NOT_FOUND."""
    found = select(tx, ledger_entries.c.position == index, limit=1)
    if not found:
        raise missing(f"{_NAME}{index}")
    return found[0]


def inclusion(hall: Hall, principal: Principal, index: int, tree_size: int) -> Inclusion:
    """Proof that an entry is in the tree of that size. Raises NOT_FOUND for an entry that the caller
    may not see, INVALID_ARGUMENT for a size that the ledger has not, or that lacks the entry."""
    name, visible = f"{_NAME}{index}", _visible(hall, principal)
    with hall.store.read() as tx:
        if not 0 <= index < merkle.MAX_SIZE or not select(tx, ledger_entries.c.position == index, *visible, limit=1):
            raise missing(name)
        _check_size(tx, tree_size)
        return Inclusion(index, tree_size, tuple(merkle.inclusion(reader(tx), index, tree_size)))


def consistency(hall: Hall, first: int, second: int) -> tuple[bytes, ...]:
    """Proof that the tree of size `second` extends the one of size `first`: for anyone, it tells
    nothing but hashes. Raises INVALID_ARGUMENT for sizes that the ledger has not had."""
    with hall.store.read() as tx:
        _check_size(tx, second)
        return tuple(merkle.consistency(reader(tx), first, second))


def _check_size(tx: Tx, tree_size: int) -> None:
    total = size(tx)
    if not 0 <= tree_size <= total:
        raise SluicegateError(
            Reason.INVALID_ARGUMENT, f"the ledger has {total} entries; asked about a tree of {tree_size}"
        )


def _concerns(party: str) -> sa.ColumnElement[bool]:
    return sa.exists().where(ledger_parties.c.position == ledger_entries.c.position, ledger_parties.c.party == party)


def concerned(tx: Tx, index: int) -> tuple[str, ...]:
    """The parties that an entry concerns: they see it, erased or not."""
    wanted = sa.select(ledger_parties.c.party).where(ledger_parties.c.position == index)
    return tuple(tx.connection.execute(wanted).scalars())


def select(tx: Tx, *conditions: sa.ColumnElement[bool], limit: int = CHUNK) -> list[Entry]:
    """Up to `limit` entries of which these hold, newest first."""
    statement = sa.select(ledger_entries).where(*conditions).order_by(ledger_entries.c.position.desc()).limit(limit)
    return [
        Entry(
            index=row.position,
            entry=row.entry,
            salt=row.salt,
            leaf_hash=bytes(row.leaf),
            event=row.event,
            resource=row.resource,
            created=row.created,
        )
        for row in tx.connection.execute(statement)
    ]

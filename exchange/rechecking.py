"""Whether the stored ledger is what was appended: entries, tree and signed checkpoints, checked against each other.

For a start, a restored backup, an inspection; `Store.check` does it while the exchange serves. Everything here raises
LEDGER_INVALID at the first thing that does not fit.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import sqlalchemy as sa

from contracts import merkle, trust
from contracts.envelope import Envelope, Kind, PublicKey, claimed_kid, verify
from contracts.errors import Reason, SluicegateError
from exchange import ledger
from exchange.store import Store, Tx
from exchange.tables import checkpoints, ledger_entries, ledger_nodes


def recheck(tx: Tx, start: int = 0) -> int:
    """Recompute the tree from the entries, from `start` on; returns its size.

    Nothing says that the entries before `start` are what they were, but the tree is built on from the
    nodes that its root at `start` is made of.
    """
    total = ledger.size(tx)
    _recompute(tx, start, total)
    _extends_checkpoints(tx, start, total)
    return total


def since(tx: Tx, key: PublicKey) -> int:
    """Check what came since the newest checkpoint that `key` signed, on which it must build; all of it
    when there is none. As many entries as were appended since."""
    newest = sa.select(checkpoints.c.envelope).order_by(checkpoints.c.tree_size.desc()).limit(1)
    raw = tx.connection.execute(newest).scalar_one_or_none()
    if raw is None:
        return recheck(tx)
    envelope = Envelope.from_bytes(bytes(raw))
    ours = tuple(token for token in envelope.signatures if claimed_kid(token) == key.kid)
    try:
        verify(Kind.CHECKPOINT, Envelope(envelope.payload, ours), [key])
    except SluicegateError as error:
        raise ledger.corrupt("its newest checkpoint is not signed by its own key") from error
    return recheck(tx, trust.read(merkle.Checkpoint, envelope, Reason.LEDGER_INVALID).tree_size)


def beside(store: Store) -> Iterator[float]:
    """Check all of it, a piece at a time, while others read and write; gives how many seconds each piece
    took."""
    done = 0
    while True:
        began = time.monotonic()
        with store.read() as tx:
            total = ledger.size(tx)
            if done == total:
                _extends_checkpoints(tx, 0, total)
                return
            _recompute(tx, done, min(done + ledger.CHUNK, total))
        done = min(done + ledger.CHUNK, total)
        yield time.monotonic() - began


def _recompute(tx: Tx, start: int, total: int) -> None:
    node = ledger.reader(tx)
    # Of each level, the last node: all that appending ever reads.
    left = {level: node(level, (start >> level) - 1) for level in range(start.bit_length()) if start >> level & 1}
    for first in range(start, total, ledger.CHUNK):
        end, made = min(first + ledger.CHUNK, total), {}
        for entry in _unbroken(tx, first, end):
            for level, index, value in merkle.append(lambda level, _: left[level], entry.index, entry.leaf_hash):
                left[level] = made[level, index] = value
        if made != _stored_nodes(tx, first, end):
            raise ledger.corrupt(f"its tree over entries {first} to {end - 1} is not the tree of its entries")


def _extends_checkpoints(tx: Tx, start: int, total: int) -> None:
    """Demand the roots that were signed, of trees from size `start` on."""
    kept = sa.select(checkpoints.c.tree_size, checkpoints.c.envelope).where(checkpoints.c.tree_size >= start)
    for row in tx.connection.execute(kept):
        signed = trust.read(merkle.Checkpoint, Envelope.from_bytes(bytes(row.envelope)), Reason.LEDGER_INVALID)
        if signed.tree_size > total or signed.root_bytes != merkle.root(ledger.reader(tx), signed.tree_size):
            raise ledger.corrupt(f"it does not extend its own checkpoint of size {row.tree_size}")


def _unbroken(tx: Tx, start: int, end: int) -> Iterator[ledger.Entry]:
    """The entries from `start` to before `end`, each of them checked."""
    found = ledger.select(tx, ledger_entries.c.position.between(start, end - 1))[::-1]
    for expected in range(start, end):
        entry = found[expected - start] if expected - start < len(found) else None
        if entry is None or entry.index != expected:
            raise ledger.corrupt(f"entry {expected} is missing")
        if entry.entry is not None and merkle.leaf_hash(entry.salt or b"", entry.entry) != entry.leaf_hash:
            raise ledger.corrupt(f"entry {expected} is not what was appended")
        yield entry


def _stored_nodes(tx: Tx, start: int, end: int) -> dict[tuple[int, int], bytes]:
    """The nodes that entries from `start` to before `end` completed."""
    node, found = ledger_nodes.c, {}
    for level in range(end.bit_length()):
        chosen = sa.select(node.position, node.hash).where(
            node.level == level, node.position >= start >> level, node.position < end >> level
        )
        found.update({(level, row.position): bytes(row.hash) for row in tx.connection.execute(chosen)})
    return found

"""The ledger's tree: RFC 6962 hashes, proofs, signed checkpoints; all of it verifiable offline.

    leaf = SHA-256(0x00 || salt || entry)        node = SHA-256(0x01 || left || right)

The salt lets an entry be erased without its hash giving it away; the tree stays. Whoever keeps the
tree stores the hash of every *complete* subtree, as (level, index): level 0 are the leaves, the node
(level, index) covers leaves [index << level, (index + 1) << level). From those, appending, roots and
proofs read O(log n) nodes each; nothing is ever rewritten.

A `NodeReader` gives a stored node back. Source: RFC 6962, section 2.1 (the same as RFC 9162, 2.1).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

from contracts.envelope import Envelope, Kind, PublicKey, claimed_kid, verify
from contracts.errors import Reason, SluicegateError
from contracts.trust import TrustFile, _Document, read

HASH_BYTES = 32
MAX_SIZE = 1 << 53  # the largest tree whose size survives canonical JSON

# (level, index) -> hash of that complete subtree.
NodeReader = Callable[[int, int], bytes]
# (level, index, hash): one complete subtree to store.
Node = tuple[int, int, bytes]

EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(salt: bytes, entry: bytes) -> bytes:
    """Hash of one leaf: RFC 6962's leaf hash of `salt || entry`. With an empty salt, the RFC's own."""
    return hashlib.sha256(b"\x00" + salt + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def left_of(size: int) -> list[tuple[int, int]]:
    """The stored nodes, as (level, index), that appending to a tree of that size reads."""
    level, nodes = 0, []
    while size & 1:
        nodes.append((level, size - 1))
        level, size = level + 1, size >> 1
    return nodes


def append(reader: NodeReader, size: int, leaf: bytes) -> list[Node]:
    """The nodes to store when `leaf` becomes number `size` of a tree of that size.

    The leaf itself first, then every subtree that it completes, lowest first.
    """
    if not 0 <= size < MAX_SIZE:
        raise SluicegateError(
            Reason.INVALID_ARGUMENT, f"a tree has 0 to {MAX_SIZE} leaves; asked to append to one of {size}"
        )
    nodes: list[Node] = [(0, size, leaf)]
    current = leaf
    for level, index in left_of(size):
        current = node_hash(reader(level, index), current)
        nodes.append((level + 1, index >> 1, current))
    return nodes


def root(reader: NodeReader, size: int) -> bytes:
    """Root of the tree of the first `size` leaves; of no leaf, SHA-256 of nothing."""
    _known_size(size)
    return _subtree(reader, 0, size) if size else EMPTY_ROOT


def inclusion(reader: NodeReader, index: int, size: int) -> list[bytes]:
    """Audit path of leaf `index` in the tree of `size` leaves, leaf level first (RFC 6962, 2.1.1).

    Raises INVALID_ARGUMENT when there is no such leaf.
    """
    _known_size(size)
    if not 0 <= index < size:
        raise SluicegateError(
            Reason.INVALID_ARGUMENT, f"a tree of {size} leaves has no leaf {index}; leaves are counted from 0"
        )
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_subtree(reader, middle, end))
            end = middle
        else:
            path.append(_subtree(reader, start, middle))
            start = middle
    return path[::-1]


def consistency(reader: NodeReader, first: int, second: int) -> list[bytes]:
    """Proof that the tree of `second` leaves extends the one of `first` (RFC 6962, 2.1.2).

    Empty when the sizes are equal or the first tree is empty. Raises INVALID_ARGUMENT when
    first > second.
    """
    _known_size(second)
    if not 0 <= first <= second:
        raise SluicegateError(Reason.INVALID_ARGUMENT, f"a tree of {second} leaves cannot extend one of {first}")
    if first in (0, second):
        return []
    path: list[bytes] = []
    start, end = 0, second
    while first != end:
        middle = start + _split(end - start)
        if first <= middle:
            path.append(_subtree(reader, middle, end))
            end = middle
        else:
            path.append(_subtree(reader, start, middle))
            start = middle
    # Only when the walk ended at the left edge is the last subtree the old root itself, which the
    # verifier has.
    return ([_subtree(reader, start, end)] if start else []) + path[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Check that the leaf hash is leaf `index` of the tree of `size` leaves with this root.

    Raises LEDGER_INVALID otherwise: also for a path too long or too short, or a hash of wrong length.
    """
    _hashes([leaf, root, *path])
    if not 0 <= index < size <= MAX_SIZE:
        raise SluicegateError(Reason.LEDGER_INVALID, f"a tree of {size} leaves has no leaf {index}")
    node, last, current = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            raise SluicegateError(Reason.LEDGER_INVALID, "the inclusion proof is longer than the tree is high")
        if node & 1 or node == last:
            current = node_hash(sibling, current)
            while not node & 1 and node:  # on the right edge: levels without a right sibling are skipped
                node, last = node >> 1, last >> 1
        else:
            current = node_hash(current, sibling)
        node, last = node >> 1, last >> 1
    if last != 0:
        raise SluicegateError(Reason.LEDGER_INVALID, "the inclusion proof is shorter than the tree is high")
    if current != root:
        raise SluicegateError(
            Reason.LEDGER_INVALID,
            f"the entry is not leaf {index} of the ledger of size {size}: the proof leads to another root",
        )


def verify_consistency(first: int, second: int, first_root: bytes, second_root: bytes, path: Sequence[bytes]) -> None:
    """Check that the tree of `second` leaves extends the tree of `first` leaves.

    Raises LEDGER_INVALID otherwise: a rewound ledger (second < first), a forked one, a proof that
    is too long or too short.
    """
    _hashes([first_root, second_root, *path])
    if not 0 <= first <= second <= MAX_SIZE:
        raise SluicegateError(
            Reason.LEDGER_INVALID, f"the ledger was rewound: it had {first} entries and now shows {second}"
        )
    if first == 0:
        _no_path(path)
        if first_root != EMPTY_ROOT:
            raise SluicegateError(
                Reason.LEDGER_INVALID, "a ledger without entries has one possible root, and this is another"
            )
        return
    if first == second:
        _no_path(path)
        if first_root != second_root:
            raise SluicegateError(Reason.LEDGER_INVALID, f"the ledger was forked: two different roots of size {first}")
        return
    _walk_consistency(first, second, first_root, second_root, list(path))


def _walk_consistency(first: int, second: int, first_root: bytes, second_root: bytes, path: list[bytes]) -> None:
    """The loop of RFC 9162, 2.1.4.2: rebuild the old and the new root from one path."""
    if first & (first - 1) == 0:  # a complete tree: the old root is itself the first node
        path.insert(0, first_root)
    if not path:
        raise SluicegateError(Reason.LEDGER_INVALID, "the consistency proof is too short")
    node, last = first - 1, second - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise SluicegateError(Reason.LEDGER_INVALID, "the consistency proof is too long")
        if node & 1 or node == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        node, last = node >> 1, last >> 1
    if last != 0:
        raise SluicegateError(Reason.LEDGER_INVALID, "the consistency proof is too short")
    if old != first_root or new != second_root:
        raise SluicegateError(
            Reason.LEDGER_INVALID,
            f"the ledger of size {second} does not extend the one of size {first}: it was forked or rewritten",
        )


class Checkpoint(_Document, frozen=True):
    """Kind CHECKPOINT, signed by the exchange's checkpoint key: at `time` the ledger had `tree_size`
    entries and this root (64 hex digits). Gateways that watched it grow add their signatures.

    `origin` names the ledger, so that checkpoints of two exchanges are never compared."""

    origin: str
    tree_size: int
    root: str
    time: str

    @property
    def root_bytes(self) -> bytes:
        """The root as 32 bytes. Raises LEDGER_INVALID when it is not 64 lower-case hex digits."""
        return unhex(self.root, "the checkpoint's root")


def verify_checkpoint(envelope: Envelope, trust: TrustFile, witnesses: Iterable[PublicKey] = ()) -> Checkpoint:
    """The checkpoint in an envelope, verified.

    1. The checkpoint key of the trust file signed it.
    2. So did no key but it and the given witnesses. Signatures of other keys prove nothing and are
       set aside: a verifier need not know every gateway.
    3. Size and root are well formed.

    Raises SIGNATURE_INVALID, KEY_UNTRUSTED or LEDGER_INVALID.
    """
    known = [trust.checkpoint_key, *witnesses]
    kids = {key.kid for key in known}
    counted = tuple(token for token in envelope.signatures if claimed_kid(token) in kids)
    if not counted:
        raise SluicegateError(
            Reason.KEY_UNTRUSTED, "the checkpoint is not signed by the checkpoint key of the trust file"
        )
    verified = verify(Kind.CHECKPOINT, Envelope(envelope.payload, counted), known)
    if trust.checkpoint_key.kid not in verified.signers:
        raise SluicegateError(
            Reason.KEY_UNTRUSTED,
            "the checkpoint is countersigned, but not signed by the checkpoint key of the trust file",
        )
    checkpoint = read(Checkpoint, envelope, Reason.LEDGER_INVALID)
    if not 0 <= checkpoint.tree_size <= MAX_SIZE:
        raise SluicegateError(Reason.LEDGER_INVALID, f"a checkpoint cannot be of size {checkpoint.tree_size}")
    if checkpoint.tree_size == 0 and checkpoint.root_bytes != EMPTY_ROOT:
        raise SluicegateError(
            Reason.LEDGER_INVALID, "a checkpoint of an empty ledger has one possible root, and this is another"
        )
    checkpoint.root_bytes  # noqa: B018 - raises when malformed
    return checkpoint


def _split(count: int) -> int:
    """The largest power of two below `count` (count > 1): where RFC 6962 divides a tree."""
    return 1 << ((count - 1).bit_length() - 1)


def _subtree(reader: NodeReader, start: int, end: int) -> bytes:
    """Root over leaves [start, end). `start` is a multiple of the first part's size, as it always is
    along RFC 6962's divisions, so every complete part is a stored node."""
    count = end - start
    if count & (count - 1) == 0:
        level = count.bit_length() - 1
        return reader(level, start >> level)
    middle = start + _split(count)
    return node_hash(_subtree(reader, start, middle), _subtree(reader, middle, end))


def _known_size(size: int) -> None:
    if not 0 <= size <= MAX_SIZE:
        raise SluicegateError(Reason.INVALID_ARGUMENT, f"a tree has 0 to {MAX_SIZE} leaves; asked for {size}")


def _hashes(hashes: Iterable[bytes]) -> None:
    if any(len(item) != HASH_BYTES for item in hashes):
        raise SluicegateError(
            Reason.LEDGER_INVALID, f"every hash of the ledger has {HASH_BYTES} bytes; one here has not"
        )


def _no_path(path: Sequence[bytes]) -> None:
    if path:
        raise SluicegateError(Reason.LEDGER_INVALID, "the consistency proof is too long: nothing needs proving here")


def unhex(text: str, what: str) -> bytes:
    """32 bytes from 64 lower-case hex digits. Raises LEDGER_INVALID naming `what`."""
    if len(text) != 2 * HASH_BYTES or not set(text) <= set("0123456789abcdef"):
        raise SluicegateError(Reason.LEDGER_INVALID, f"{what} is not a hash: expected 64 lower-case hex digits")
    return bytes.fromhex(text)

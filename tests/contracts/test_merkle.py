"""The tree against the published vectors of RFC 6962 and certificate-transparency, and against a
naive reading of the RFC's definition."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts import merkle
from contracts.envelope import Envelope, Kind
from contracts.errors import Reason, SluicegateError
from tests.papers import NOW, Cast, Tree, checkpoint, key

# The reference leaves and roots that certificate-transparency publishes with its test tree.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = {
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    4: "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    5: "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    6: "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}
# (leaf, size): path. Leaves are counted from 0 here; the publication counts from 1.
INCLUSION = {
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
CONSISTENCY = {
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
    (4, 8): ["6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (3, 7): [
        "0298d122906dcfc10892cb53a73992fc5b9f493ea4c9badb27b791b4127a7fe7",
        "07506a85fd9dd2f120eb694f86011e5bb4662e5c415a62917033d4a9624487e7",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "837dbb152e9b079010717e84e865da4ebc0fa198a806d59d31bf15accef22d0e",
    ],
}


def naive_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, 2.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def naive_path(m: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of RFC 6962, 2.1.1, word for word."""
    if len(leaves) == 1:
        return []
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m < k:
        return [*naive_path(m, leaves[:k]), naive_root(leaves[k:])]
    return [*naive_path(m - k, leaves[k:]), naive_root(leaves[:k])]


def naive_subproof(m: int, leaves: list[bytes], whole: bool) -> list[bytes]:
    """SUBPROOF of RFC 6962, 2.1.2, word for word; PROOF(m, D) is SUBPROOF(m, D, true)."""
    if m == len(leaves):
        return [] if whole else [naive_root(leaves)]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m <= k:
        return [*naive_subproof(m, leaves[:k], whole), naive_root(leaves[k:])]
    return [*naive_subproof(m - k, leaves[k:], False), naive_root(leaves[:k])]


def numbered(size: int) -> list[bytes]:
    return [b"entry %d" % number for number in range(size)]


def refused(reason: Reason, call, *args) -> str:
    with pytest.raises(SluicegateError) as caught:
        call(*args)
    assert caught.value.reason is reason
    return caught.value.message


@pytest.mark.parametrize("size", ROOTS)
def test_published_roots(size):
    tree = Tree(LEAVES)
    assert merkle.root(tree.read, size).hex() == ROOTS[size]


@pytest.mark.parametrize(("index", "size"), INCLUSION)
def test_published_inclusion_proofs(index, size):
    path = [bytes.fromhex(item) for item in INCLUSION[index, size]]
    assert merkle.inclusion(Tree(LEAVES).read, index, size) == path
    leaf = merkle.leaf_hash(b"", LEAVES[index])
    merkle.verify_inclusion(leaf, index, size, path, bytes.fromhex(ROOTS[size]))


@pytest.mark.parametrize(("first", "second"), CONSISTENCY)
def test_published_consistency_proofs(first, second):
    path = [bytes.fromhex(item) for item in CONSISTENCY[first, second]]
    assert merkle.consistency(Tree(LEAVES).read, first, second) == path
    merkle.verify_consistency(first, second, bytes.fromhex(ROOTS[first]), bytes.fromhex(ROOTS[second]), path)


def test_salt_and_entry_are_hashed_as_one_rfc_6962_leaf():
    assert merkle.leaf_hash(b"salt", b"entry") == hashlib.sha256(b"\x00saltentry").digest()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 130), st.data())
def test_proofs_are_those_of_the_rfc_and_verify(size, data):
    leaves = numbered(size)
    tree = Tree(leaves)
    root = merkle.root(tree.read, size)
    assert root == naive_root(leaves)
    first = data.draw(st.integers(0, size))
    path = merkle.consistency(tree.read, first, size)
    if first:
        assert path == naive_subproof(first, leaves, True)
    merkle.verify_consistency(first, size, naive_root(leaves[:first]), root, path)
    if size:
        index = data.draw(st.integers(0, size - 1))
        audit = merkle.inclusion(tree.read, index, size)
        assert audit == naive_path(index, leaves)
        merkle.verify_inclusion(merkle.leaf_hash(b"", leaves[index]), index, size, audit, root)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.data())
def test_a_changed_inclusion_proof_is_refused(size, data):
    tree = Tree(numbered(size))
    index = data.draw(st.integers(0, size - 1))
    leaf, root = merkle.leaf_hash(b"", b"entry %d" % index), tree.root()
    path = merkle.inclusion(tree.read, index, size)
    other = data.draw(st.integers(0, size - 1).filter(lambda number: number != index)) if size > 1 else size
    changed: list[tuple] = [
        (leaf, other, size, path, root),
        (merkle.leaf_hash(b"", b"forged"), index, size, path, root),
        (leaf, index, size, path, bytes(32)),
        (leaf, index, size, [*path, bytes(32)], root),
        (leaf, index, size, [leaf, *path], root),
        (leaf, index, size, [item[:-1] for item in path] or [b""], root),
    ]
    if path:
        position = data.draw(st.integers(0, len(path) - 1))
        flipped = bytes([path[position][0] ^ 1]) + path[position][1:]
        changed += [
            (leaf, index, size, path[:-1], root),
            (leaf, index, size, path[1:], root),
            (leaf, index, size, [*path[:position], flipped, *path[position + 1 :]], root),
        ]
    for case in changed:
        refused(Reason.LEDGER_INVALID, merkle.verify_inclusion, *case)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 70), st.data())
def test_a_changed_consistency_proof_is_refused(size, data):
    tree = Tree(numbered(size))
    first = data.draw(st.integers(1, size - 1))
    old, new = tree.root(first), tree.root()
    path = merkle.consistency(tree.read, first, size)
    position = data.draw(st.integers(0, len(path) - 1))
    flipped = bytes([path[position][0] ^ 1]) + path[position][1:]
    for case in (
        (first, size, old, bytes(32), path),
        (first, size, bytes(32), new, path),
        (first, size, old, new, path[:-1]),
        (first, size, old, new, path[1:]),
        (first, size, old, new, [*path, bytes(32)]),
        (first, size, old, new, [*path[:position], flipped, *path[position + 1 :]]),
        (size, first, new, old, path),
        (size, size, new, old, []),
        (size, size, new, new, path),
        (0, size, bytes(32), new, []),
        (0, size, merkle.EMPTY_ROOT, new, path),
    ):
        refused(Reason.LEDGER_INVALID, merkle.verify_consistency, *case)


def test_a_forked_ledger_has_no_consistency_proof():
    honest, forked = Tree(numbered(9)), Tree([*numbered(4), b"another past", *numbered(9)[5:]])
    for path in (honest, forked):
        proof = merkle.consistency(path.read, 5, 9)
        refused(Reason.LEDGER_INVALID, merkle.verify_consistency, 5, 9, honest.root(5), forked.root(9), proof)


def test_a_rewound_ledger_is_named():
    tree = Tree(numbered(9))
    message = refused(Reason.LEDGER_INVALID, merkle.verify_consistency, 9, 5, tree.root(), tree.root(5), [])
    assert "rewound: it had 9 entries and now shows 5" in message


def test_what_appending_reads_is_known_before():
    read: list[tuple[int, int]] = []
    for size in [*range(70), 2**20 - 1, 2**20, 2**40 - 2]:
        read.clear()
        merkle.append(lambda *node: read.append(node) or bytes(32), size, bytes(32))
        assert merkle.left_of(size) == read


def test_logarithmic_reads():
    """Append, root and proofs of a tree of a million leaves read tens of nodes, not thousands."""
    read: list[tuple[int, int]] = []

    def reader(level: int, index: int) -> bytes:
        assert (index + 1) << level <= size, "only complete subtrees are stored"
        read.append((level, index))
        return hashlib.sha256(b"%d %d" % (level, index)).digest()

    size = 1_000_003
    for call in (
        lambda: merkle.append(reader, size, bytes(32)),
        lambda: merkle.root(reader, size),
        lambda: merkle.inclusion(reader, 700_000, size),
        lambda: merkle.consistency(reader, 700_000, size),
    ):
        read.clear()
        call()
        assert len(read) <= 40


@pytest.mark.parametrize(
    "call",
    [
        lambda tree: merkle.inclusion(tree.read, 3, 3),
        lambda tree: merkle.inclusion(tree.read, -1, 3),
        lambda tree: merkle.consistency(tree.read, 4, 3),
        lambda tree: merkle.consistency(tree.read, -1, 3),
        lambda tree: merkle.root(tree.read, -1),
        lambda tree: merkle.append(tree.read, -1, bytes(32)),
        lambda tree: merkle.root(tree.read, merkle.MAX_SIZE + 1),
    ],
)
def test_impossible_questions_are_refused(call):
    refused(Reason.INVALID_ARGUMENT, call, Tree(numbered(3)))


def test_checkpoint_verifies_alone_and_countersigned():
    trust, tree = Cast().trust, Tree(numbered(3))
    alone = checkpoint(tree, NOW)
    head = merkle.verify_checkpoint(alone, trust)
    assert (head.tree_size, head.root_bytes) == (3, tree.root())
    both = checkpoint(tree, NOW, "checkpoint", "health-bureau-1")
    assert merkle.verify_checkpoint(both, trust) == head  # by somebody who knows no gateway
    assert merkle.verify_checkpoint(both, trust, [key("health-bureau-1").public]) == head


def test_checkpoint_needs_the_exchanges_own_signature():
    trust, tree = Cast().trust, Tree(numbered(3))
    refused(Reason.KEY_UNTRUSTED, merkle.verify_checkpoint, checkpoint(tree, NOW, "health-bureau-1"), trust)
    witnessed = checkpoint(tree, NOW, "health-bureau-1")
    refused(Reason.KEY_UNTRUSTED, merkle.verify_checkpoint, witnessed, trust, [key("health-bureau-1").public])
    refused(Reason.KEY_UNTRUSTED, merkle.verify_checkpoint, checkpoint(tree, NOW, "grant"), trust)
    good = checkpoint(tree, NOW)
    changed = Envelope({**good.payload, "treeSize": 4}, good.signatures)
    refused(Reason.SIGNATURE_INVALID, merkle.verify_checkpoint, changed, trust)
    refused(Reason.KEY_UNTRUSTED, merkle.verify_checkpoint, Envelope(good.payload, ("nonsense",)), trust)


@pytest.mark.parametrize(
    "changed",
    [
        {"root": "00"},
        {"root": "A" * 64},
        {"treeSize": -1},
        {"treeSize": 0},
        {"treeSize": "3"},
        {"extra": 1},
        {"origin": None},
    ],
)
def test_malformed_checkpoints_are_refused_although_signed(changed):
    payload = {**checkpoint(Tree(numbered(3)), NOW).payload, **changed}
    signed = Cast.sign(Kind.CHECKPOINT, payload, "checkpoint")
    refused(Reason.LEDGER_INVALID, merkle.verify_checkpoint, signed, Cast().trust)

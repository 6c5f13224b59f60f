"""The order in which rows leave: random to everyone who does not hold the agreement's secret.

Rows are dealt into buckets while they are made, and shuffled within each part later; both by a
keystream (AES-256-CTR) under a key of this one release. Nothing of it depends on what a row says, so
two releases, or two recipients, have orders that say nothing about each other or about the source.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

from connectors.keys import Secret, hkdf_expand, hkdf_extract
from contracts.canonical import canonical

# Buckets are the finest grain of parts: more than parts, few enough to be told by one byte.
BUCKETS = 256


class ReleaseKey(Secret):
    """Everything random of one release, derived from the agreement's order seed and the release's id."""

    __slots__ = ()

    def __init__(self, order_seed: bytes, release_id: str) -> None:
        super().__init__(hkdf_extract(order_seed, release_id.encode()))

    def secret(self, *use: str | int) -> bytes:
        """32 bytes for one use."""
        return hkdf_expand(self._key, canonical(list(use)), 32)

    def number(self, *use: str | int) -> int:
        """64 bits for one use."""
        return int.from_bytes(self.secret(*use)[:8], "little")

    def stream(self, *use: str | int) -> Keystream:
        """A keystream for one use."""
        return Keystream(self.secret(*use))


class Keystream:
    """Random bytes under a key. Used by one thread."""

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        self._cipher: CipherContext = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    def column(self, rows: int, dtype: pa.DataType) -> pa.Array:
        """So many random whole numbers of an unsigned type."""
        raw = self._cipher.update(bytes(rows * dtype.bit_width // 8))
        return pa.Array.from_buffers(dtype, rows, [None, pa.py_buffer(raw)])


def deal(stream: Keystream, rows: int) -> tuple[pa.Array, list[int]]:
    """Deal rows into buckets: the rows' indexes grouped by bucket, and where each bucket begins (one
    more than there are buckets)."""
    buckets = stream.column(rows, pa.uint8())
    indexes = pc.array_sort_indices(buckets)
    counts = [0] * BUCKETS
    counted = pc.value_counts(buckets)
    for bucket, count in zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True):
        counts[bucket] = count
    return indexes, list(_running(counts))


def shuffled(stream: Keystream, rows: int) -> pl.Series:
    """The indexes 0..rows-1, each order equally likely, but for one chance in rows^3 / 2^64 or less that two
    of them stand as they came.

    Each index is the low end of a random number, so that sorting the numbers alone brings it along: half
    the work of sorting by a key.
    """
    drawn = cast(pl.Series, pl.from_arrow(stream.column(rows, pa.uint64())))
    room = 1 << max(1, rows).bit_length()
    return (drawn - drawn % room + pl.int_range(rows, dtype=pl.UInt64, eager=True)).sort(multithreaded=False) % room


def _running(counts: list[int]) -> Iterator[int]:
    total = 0
    yield total
    for count in counts:
        total += count
        yield total

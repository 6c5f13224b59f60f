"""The spool: a release's own folder (0700), the files in it (0600), and rows on their way through.

Rows are written once as they come from the masks, grouped by bucket within each batch, and read back
bucket by bucket. What is small never touches the disk. Nothing here outlives the release.
"""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pyarrow as pa

from connectors.packing import Packer, joined
from contracts.errors import Reason, SluicegateError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_RESIDENT = 128 << 20  # bytes of the mapped spool that may stay resident before they are given back
_ALIGN = 64


@contextmanager
def room(name: str) -> Iterator[None]:
    """Say SPOOL_FULL when the disk is; and nothing of paths in either case."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise SluicegateError(
                Reason.SPOOL_FULL, f"there is no room in the spool for release {name}", metadata={"release": name}
            ) from None
        raise SluicegateError(
            Reason.CONFIG_INVALID,
            f"the spool of release {name} cannot be used: {errno.errorcode.get(error.errno or 0, 'I/O error')}",
            metadata={"release": name},
        ) from None


def prepare(folder: Path) -> None:
    """Make a release's own folder, 0700; an existing one must be private and empty.

    Raises CONFIG_UNSAFE, STATE_WRONG or, where it cannot be made, CONFIG_INVALID or SPOOL_FULL."""
    with room(folder.name):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o077 or found.st_uid != os.getuid():
            raise SluicegateError(
                Reason.CONFIG_UNSAFE, f"the spool folder {folder.name} is open to others; run chmod 700 on it"
            )
        if any(folder.iterdir()):
            raise SluicegateError(Reason.STATE_WRONG, f"the spool folder {folder.name} holds another release")


def clean(spool: Path) -> int:
    """Remove every release that an earlier run left under a spool; how many there were. Call at start,
    before anything is made, on a folder that holds spools only."""
    left = [entry for entry in spool.iterdir() if entry.is_dir() and not entry.is_symlink()] if spool.is_dir() else []
    for folder in left:
        shutil.rmtree(folder, ignore_errors=True)
    return len(left)


def create(path: Path) -> int:
    """A descriptor of a new file, 0600 from its first moment."""
    return os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def write(path: Path, content: bytes) -> None:
    """A new private file with that content."""
    with os.fdopen(create(path), "wb") as file:
        file.write(content)


class Rows:
    """The rows of a release between their masks and their parts.

    `add` takes one batch after another, from one thread; `seal` ends that. Then any thread reads: some
    columns of whole batches, or ranges of buckets. Up to `memory_limit` bytes stay in memory, beyond
    that all goes to one file that is mapped, not read. `close` removes it.
    """

    def __init__(self, path: Path, *, memory_limit: int) -> None:
        self._path, self._limit = path, memory_limit
        self._packer = Packer()
        self._held: list[pa.RecordBatch] = []
        self._bounds: list[Sequence[int]] = []
        self._places: list[_Place] = []
        self._handle: int | None = None
        self._end = 0
        self._map: mmap.mmap | None = None
        self._lock = threading.Lock()
        self._read = 0
        self.size = 0
        self.count = 0

    @property
    def batch_count(self) -> int:
        """How many batches came."""
        return len(self._bounds)

    def add(self, batch: pa.RecordBatch, order: pa.Array, bounds: Sequence[int]) -> None:
        """Take in a batch, its rows put into `order`; `bounds` is where each bucket begins then."""
        kept = self._packer.packed(batch).take(order)
        self._bounds.append(bounds)
        self.size += kept.nbytes
        self.count += kept.num_rows
        self._held.append(kept)
        if self._handle is None and self.size > self._limit:
            self._handle = create(self._path)
        if self._handle is not None:
            for waiting in self._held:
                self._write(self._handle, waiting)
            self._held = []

    def seal(self) -> None:
        """No more rows come."""
        if self._handle is None:
            return
        self._map = mmap.mmap(self._handle, self._end, prot=mmap.PROT_READ)
        os.close(self._handle)
        self._handle = None
        self._path.unlink()  # the mapping holds it: a crash leaves nothing
        whole = pa.py_buffer(self._map)
        self._held = [place.batch(whole) for place in self._places]

    def batches(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Some columns of every batch, in the order they came."""
        for batch in self._held:
            yield pl.DataFrame(pl.from_arrow(batch.select(columns)))
            self._give_back(batch.num_rows * 8 * len(columns))

    def buckets(self, first: int, last: int, columns: Sequence[str]) -> pa.Table:
        """The rows of buckets first..last-1, still packed, in one piece."""
        taken = [
            batch.slice(bounds[first], bounds[last] - bounds[first])
            for batch, bounds in zip(self._held, self._bounds, strict=True)
        ]
        whole = pa.Table.from_arrays([joined([batch[name] for batch in taken]) for name in columns], names=columns)
        self._give_back(whole.nbytes)
        return whole

    def positions(self, first: int, last: int) -> list[tuple[int, int, int]]:
        """Where the rows of those buckets lie: (batch, from, to)."""
        return [(index, bounds[first], bounds[last]) for index, bounds in enumerate(self._bounds)]

    def sizes(self) -> list[int]:
        """Rows in each bucket."""
        buckets = len(self._bounds[0]) - 1 if self._bounds else 0
        return [sum(bounds[b + 1] - bounds[b] for bounds in self._bounds) for b in range(buckets)]

    def close(self) -> None:
        """Let go of the rows, wherever they are."""
        self._held, self._bounds, self._places, self._map = [], [], [], None
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
        self._path.unlink(missing_ok=True)

    def _write(self, handle: int, batch: pa.RecordBatch) -> None:
        columns = []
        for values in batch.columns:
            plain = values.indices if pa.types.is_dictionary(values.type) else values
            buffers = [self._append(handle, buffer) if buffer is not None else None for buffer in plain.buffers()]
            dictionary = values.dictionary if plain is not values else None
            columns.append((plain.type, buffers, plain.null_count, plain.offset, dictionary))
        self._places.append(_Place(batch.schema.names, batch.num_rows, columns))

    def _append(self, handle: int, buffer: pa.Buffer) -> tuple[int, int]:
        start, rest = self._end, memoryview(buffer)
        while rest:
            rest = rest[os.write(handle, rest) :]
        padding = -len(buffer) % _ALIGN
        while padding:
            padding -= os.write(handle, bytes(padding))
        self._end = start + len(buffer) + (-len(buffer) % _ALIGN)
        return start, len(buffer)

    def _give_back(self, read: int) -> None:
        """Mapped pages count as this process's memory until they are given back; they stay in the cache."""
        with self._lock:
            self._read += read
            if self._map is not None and self._read >= _RESIDENT:
                self._read = 0
                self._map.madvise(mmap.MADV_DONTNEED)


_Column = tuple[pa.DataType, list[tuple[int, int] | None], int, int, pa.Array | None]


class _Place:
    """Where a batch's buffers lie in the file. Dictionaries are few and small: they stay in memory."""

    __slots__ = ("_columns", "_names", "_rows")

    def __init__(self, names: list[str], rows: int, columns: list[_Column]) -> None:
        self._names, self._rows, self._columns = names, rows, columns

    def batch(self, whole: pa.Buffer) -> pa.RecordBatch:
        """The batch, over the mapped file."""
        arrays = []
        for dtype, places, nulls, offset, dictionary in self._columns:
            buffers = [whole.slice(*place) if place is not None else None for place in places]
            values = pa.Array.from_buffers(dtype, self._rows, buffers, nulls, offset)
            arrays.append(values if dictionary is None else pa.DictionaryArray.from_arrays(values, dictionary))
        return pa.RecordBatch.from_arrays(arrays, names=self._names)

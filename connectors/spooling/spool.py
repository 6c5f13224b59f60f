"""The spool: a release's own folder (0700), the files in it (0600), and rows on their way through.

Rows are written once as they come from the masks, grouped by bucket within each batch, and read back
bucket by bucket. What is small never touches the disk. Nothing here outlives the release.

The file is read, not mapped: of a mapped file the kernel brings in sixteen pages for each one that is
asked for, and rows of a bucket lie scattered.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from connectors.spooling.packing import Alike, Folded, Packer
from contracts.errors import Reason, SluicegateError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


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
    that all goes to one file. `close` lets go of both.
    """

    def __init__(
        self, path: Path, *, memory_limit: int, beside: Sequence[str] = (), alike: Alike | None = None
    ) -> None:
        """`beside` are columns that have no part in `size`, by which parts are cut; batches are `alike.folded`."""
        self._path, self._limit, self._beside = path, memory_limit, (*beside, Alike.CODE)
        self._packer, self._alike = Packer(), alike
        self._classes = pa.record_batch({})
        self._held: list[pa.RecordBatch | _Written] = []
        self._narrowed: dict[tuple[str, ...], _Narrowed] = {}
        self._bounds: list[Sequence[int]] = []
        self._handle: int | None = None
        self._memory = 0
        self.size = 0  # bytes of the values as they came, without what Arrow adds
        self.count = 0

    @property
    def batch_count(self) -> int:
        """How many batches came."""
        return len(self._bounds)

    def folded(self, batch: pl.DataFrame) -> Folded:
        """A batch as it is to be added: what rows of one class have alike stands in the classes alone."""
        return Folded(batch, None) if self._alike is None else self._alike.folded(batch)

    def add(self, batch: pa.RecordBatch, order: pa.Array, bounds: Sequence[int]) -> None:
        """Take in a batch, its rows put into `order`; `bounds` is where each bucket begins then."""
        kept = self._packer.packed(batch).take(order)
        self._bounds.append(bounds)
        self.size += sum(
            _length(values)
            for name, values in zip(batch.schema.names, batch.columns, strict=True)
            if name not in self._beside
        )
        if self._alike is not None and Alike.CODE in batch.schema.names:
            self.size += self._alike.size(batch.column(Alike.CODE), self._beside)
        self.count += kept.num_rows
        self._memory += kept.nbytes
        if self._handle is None and self._memory > self._limit:
            self._handle = create(self._path)
            for index, waiting in enumerate(self._held):  # one by one: what is written is let go at once
                self._held[index] = _Written.to(self._handle, waiting)
        self._held.append(kept if self._handle is None else _Written.to(self._handle, kept))

    def seal(self) -> None:
        """No more rows come."""
        if self._alike is not None:
            self._classes = self._alike.table
        if self._handle is not None:
            self._path.unlink()  # the open file holds it: a crash leaves nothing

    def batches(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Some columns of every batch, in the order they came, as they came."""
        for batch in self._narrow(columns).batches:
            with room(self._path.parent.name):
                taken = batch.slice(0, batch.num_rows)
            plain = [self.plain(taken, name) for name in columns]
            yield pl.DataFrame(pl.from_arrow(pa.RecordBatch.from_arrays(plain, names=list(columns))))

    def buckets(self, first: int, last: int, columns: Sequence[str]) -> pa.RecordBatch:
        """The rows of buckets first..last-1 in one piece, still packed: `plain` tells what is in the columns."""
        narrow = self._narrow(columns)
        runs = [
            batch.slice(bounds[first], bounds[last] - bounds[first])
            for batch, bounds in zip(narrow.batches, self._bounds, strict=True)
        ]
        filled = [run for run in runs if run.num_rows] or runs[:1]
        if narrow.alike:
            return pa.concat_batches(filled)
        same = all(run.schema.names == filled[0].schema.names for run in filled)
        names = filled[0].schema.names if same else columns
        return pa.record_batch([self._joined(filled, name) for name in names], names=list(names))

    def _narrow(self, columns: Sequence[str]) -> _Narrowed:
        """Every batch with some columns alone, or with the code that stands in for them."""
        wanted = tuple(columns)
        if wanted not in self._narrowed:  # looked up by name once, not for every run of rows
            batches = [batch.select(_held(batch.schema.names, wanted)) for batch in self._held]
            self._narrowed[wanted] = _Narrowed(batches, len({batch.schema for batch in batches}) == 1)
        return self._narrowed[wanted]

    def _joined(self, runs: Sequence[pa.RecordBatch], name: str) -> pa.Array:
        """One column of them, still packed if all of them are packed alike."""
        alike = len({run.schema.field(name).type if name in run.schema.names else None for run in runs}) == 1
        return pa.concat_arrays([run.column(name) if alike else self.plain(run, name) for run in runs])

    def plain(self, rows: pa.RecordBatch, name: str, kind: pa.DataType | None = None) -> pa.Array:
        """A column of some rows of `buckets` as it came, or brought to a type of its kind."""
        if name in rows.schema.names:
            return self._packer.unpacked(name, rows.column(name), kind)
        values = self._classes.column(name)
        return values.cast(kind or values.type).take(rows.column(Alike.CODE))

    def repeated(self, columns: Sequence[str]) -> dict[str, Repeated]:
        """Those of the columns that all batches hold as codes, and as the same ones."""
        schemas, found = {batch.schema for batch in self._held}, {}
        for name in columns:
            kinds = {schema.field(name).type if name in schema.names else None for schema in schemas}
            if kinds == {None}:
                found[name] = Repeated(Alike.CODE, self._classes.column(name))
            elif None not in kinds and all(self._packer.coded(name, kind) for kind in kinds):
                found[name] = Repeated(name, self._packer.said(name))
        return found

    def positions(self, first: int, last: int) -> list[tuple[int, int, int]]:
        """Where the rows of those buckets lie: (batch, from, to)."""
        return [(index, bounds[first], bounds[last]) for index, bounds in enumerate(self._bounds)]

    def sizes(self) -> list[int]:
        """Rows in each bucket."""
        buckets = len(self._bounds[0]) - 1 if self._bounds else 0
        return [sum(bounds[b + 1] - bounds[b] for bounds in self._bounds) for b in range(buckets)]

    def close(self) -> None:
        """Let go of the rows, wherever they are."""
        self._held, self._narrowed, self._bounds = [], {}, []
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
        self._path.unlink(missing_ok=True)


def _held(names: Sequence[str], columns: Sequence[str]) -> list[str]:
    """Those of the columns that a batch of these names has, and the code of what it has not."""
    held = [name for name in columns if name in names]
    return held if len(held) == len(columns) else [*held, Alike.CODE]


def _length(values: pa.Array) -> int:
    """Bytes of the values alone, without offsets and marks of nulls."""
    if pa.types.is_large_string(values.type) or pa.types.is_large_binary(values.type):
        bounds = pa.Array.from_buffers(pa.int64(), len(values) + 1, [None, values.buffers()[1]], offset=values.offset)
        return int(bounds[len(values)].as_py() - bounds[0].as_py())
    return values.nbytes if values.type.num_fields else len(values) * int(values.type.bit_width) // 8


class Repeated(NamedTuple):
    """Of a column that is held as codes: the column of `buckets` that holds them, and what each stands for."""

    codes: str
    values: pa.Array


class _Narrowed(NamedTuple):
    """Some columns of every batch, and whether all batches hold them alike."""

    batches: list[pa.RecordBatch | _Written]
    alike: bool


class _Written:
    """A batch that lies in the file, column after column; to be narrowed and read as one in memory is."""

    __slots__ = ("_columns", "num_rows", "schema")

    def __init__(self, rows: int, schema: pa.Schema, columns: Sequence[_Column]) -> None:
        self.num_rows, self.schema, self._columns = rows, schema, columns

    @classmethod
    def to(cls, handle: int, batch: pa.RecordBatch) -> _Written:
        """Write a batch to the end of the file."""
        return cls(batch.num_rows, batch.schema, [_Column(handle, values) for values in batch.columns])

    def select(self, names: Sequence[str]) -> _Written:
        """The same rows of some columns."""
        places = [self.schema.get_field_index(name) for name in names]
        schema = pa.schema([self.schema.field(place) for place in places])
        return _Written(self.num_rows, schema, [self._columns[place] for place in places])

    def slice(self, begin: int, rows: int) -> pa.RecordBatch:
        """So many rows, read."""
        taken = [column.read(begin, begin + rows) for column in self._columns]
        return pa.RecordBatch.from_arrays(taken, schema=self.schema)


class _Column:
    """Where the buffers of one column lie in the file."""

    __slots__ = ("_aligned", "_elements", "_handle", "_offsets", "_places", "_type", "_width")

    def __init__(self, handle: int, plain: pa.Array) -> None:
        if plain.offset:  # never after a gathering; positions below count from the buffers' beginning
            plain = pa.concat_arrays([plain, plain.slice(0, 0)])
        self._handle, self._type = handle, plain.type
        listed = pa.types.is_large_list(plain.type)
        self._offsets = listed or pa.types.is_large_string(plain.type) or pa.types.is_large_binary(plain.type)
        self._width = 64 if self._offsets else plain.type.bit_width
        # Bits are addressed by whole bytes.
        self._aligned = plain.null_count > 0 or self._width < 8
        buffers = plain.buffers()[: 2 if listed else None]
        if not plain.null_count:
            buffers[0] = None
        self._places = [None if buffer is None else _appended(handle, buffer) for buffer in buffers]
        self._elements = _Column(handle, plain.values) if listed else None

    def read(self, begin: int, end: int) -> pa.Array:
        """Values begin..end-1."""
        before = begin % 8 if self._aligned else 0
        first = begin - before
        validity = self._bytes(0, first // 8, -(-end // 8))
        if not self._offsets:
            buffers = [validity, self._bytes(1, first * self._width // 8, -(-end * self._width // 8))]
        else:
            bounds = pa.Array.from_buffers(pa.int64(), end - first + 1, [None, self._bytes(1, first * 8, end * 8 + 8)])
            start, stop = bounds[0].as_py(), bounds[end - first].as_py()
            buffers = [validity, pc.subtract(bounds, start).buffers()[1]]
            if self._elements is not None:
                inside = [self._elements.read(start, stop)]
                return pa.Array.from_buffers(self._type, end - begin, buffers, offset=before, children=inside)
            buffers.append(self._bytes(2, start, stop))
        return pa.Array.from_buffers(self._type, end - begin, buffers, offset=before)

    def _bytes(self, buffer: int, begin: int, end: int) -> pa.Buffer | None:
        place = self._places[buffer]
        if place is None:
            return None
        found = os.pread(self._handle, end - begin, place + begin)
        if len(found) != end - begin:  # offsets are about to be believed
            raise OSError(errno.EIO, "the spool is shorter than what was written")
        return pa.py_buffer(found)


def _appended(handle: int, buffer: pa.Buffer) -> int:
    """Write a buffer to the end of the file; where it begins."""
    start, rest = os.lseek(handle, 0, os.SEEK_END), memoryview(buffer)
    while rest:
        rest = rest[os.write(handle, rest) :]
    return start

"""The two passes of a release: rows from the source through the masks into the spool, and from the
spool, shuffled, into parts. `release.make` says when; nothing here decides what may leave."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import polars as pl
import pyarrow as pa

from connectors import dictionaries
from connectors.dictionaries import Dictionary
from connectors.digest import ContentDigest, arrow_type
from connectors.sources.base import reading
from connectors.spooling import order, packing
from connectors.spooling.order import ReleaseKey
from connectors.spooling.packing import Packer, arrow, with_columns
from connectors.spooling.spool import Rows, create, room
from contracts.errors import Reason, SluicegateError
from contracts.plan import Plan

BATCH_ROWS = 131_072  # from the engine; small enough to stay in cache while it is dealt
WIRE_ROWS = 65_536  # in a batch of a part
_AHEAD = 4  # batches that wait to be dealt
WORKERS = min(4, os.cpu_count() or 1)
MEMORY_LIMIT = 320 << 20  # bytes of masked rows held in memory before they are spooled to disk
PART_BYTES = 32 << 20  # of a part, about
MOST_PARTS = 200
_LITTLE = 64  # a dictionary is at most such a fraction of what it is sent with
EXACT_ROWS = 2_000_000  # up to so many rows, classes are counted to the end


@dataclass(frozen=True, slots=True)
class PartFile:
    """One part of a release: an Arrow IPC file of the spool, its rows and their digest."""

    path: Path
    rows: int
    digest: str


def wire_schema(plan: Plan) -> pa.Schema:
    """The outgoing columns in Arrow's types, as any Arrow client reads them."""
    return pa.schema([(field.name, arrow_type(str(field.output))) for field in plan.fields])


Look = Callable[[pl.DataFrame], None]  # at every batch of masked rows, before it goes anywhere
# The same; and at what no batch before had, as `packing.Folded` and `packing.Packer.first` say.
Inspect = Callable[[pl.DataFrame, Mapping[str, pl.Series] | None], None]
Change = Callable[[pl.DataFrame], pl.DataFrame]  # of every batch, on its way to the spool


def deal(
    frame: pl.LazyFrame,
    rows: Rows,
    key: ReleaseKey,
    inspect: Inspect,
    *,
    source: str,
    watch: Look | None = None,
    unkept: Sequence[str] = (),
    change: Change = pl.DataFrame.clone,
) -> None:
    """Collect a masked frame batch by batch into the spool, each batch inspected, changed and dealt into buckets. The
    columns `unkept` are there to be watched alone."""
    stream = key.stream("buckets")

    def looked(batch: pl.DataFrame) -> pl.DataFrame:
        folded = rows.folded(batch)
        inspect(batch, folded.first)
        if watch is not None:
            watch(batch)
        return with_columns(folded.batch, (), without=unkept)

    def changed(batch: pl.DataFrame) -> pa.RecordBatch:
        return arrow(change(batch))

    def keep(batch: pa.RecordBatch) -> None:
        rows.add(batch, *order.deal(stream, batch.num_rows))

    _each(frame, looked, changed, keep, source=source)
    rows.seal()


def _each(frame: pl.LazyFrame, *steps: Callable[[Any], Any], source: str) -> None:
    """Take every batch, in order, from step to step, each on a thread of its own: one for all would be slower than
    the engine, which stands still then, as few batches wait."""
    threads = [ThreadPoolExecutor(1) for _ in steps]
    waiting: deque[Future[Any]] = deque()
    try:
        for batch in batches(frame, source=source):
            taken = threads[0].submit(steps[0], batch)
            for thread, step in zip(threads[1:], steps[1:], strict=True):
                taken = thread.submit(_after, taken, step)
            waiting.append(taken)
            if len(waiting) > _AHEAD:
                waiting.popleft().result()
        while waiting:
            waiting.popleft().result()
    finally:
        for thread in threads:
            thread.shutdown(cancel_futures=True)


def _after(before: Future[Any], step: Callable[[Any], Any]) -> Any:
    return step(before.result())


def batches(frame: pl.LazyFrame, *, source: str) -> Iterator[pl.DataFrame]:
    """The frame's rows in their order, streamed in bounded memory. Raises what `sources` raise; dropping
    the iterator stops the engine."""
    with reading(source):
        streamed = iter(frame.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True))
    while True:
        with reading(source):
            batch = next(streamed, None)
        if batch is None:
            return
        if batch.height:
            yield batch


def shares(rows: Rows, part_bytes: int) -> list[tuple[int, int]]:
    """Which buckets make which part, for parts of about that many bytes: (first, last + 1) each."""
    most = max(1, part_bytes * rows.count // max(1, rows.size))
    return _ranges(rows.sizes(), 0, most)


def _ranges(sizes: Sequence[int], first: int, most: int) -> list[tuple[int, int]]:
    """Buckets in a row, `first` and on, cut into ranges of at most so many rows, but of one bucket at least."""
    found, begin, held = [], first, 0
    for bucket, size in enumerate(sizes, first):
        if held and held + size > most:
            found.append((begin, bucket))
            begin, held = bucket, 0
        held += size
    return [*found, (begin, first + len(sizes))]


class Cutter:
    """Cuts a spool into parts: rows shuffled, without those that may not leave, digested, written.

    A row's bucket is random already, so a part is shuffled by shuffling a few buckets after a few others:
    every order stays equally likely, and what is shuffled at once fits the processor's cache. Parts are
    cut side by side; the memory is that of a few batches.
    """

    def __init__(
        self,
        rows: Rows,
        alive: Sequence[pl.Series | None],
        schema: pa.Schema,
        digest: ContentDigest,
        key: ReleaseKey,
        folder: Path,
    ) -> None:
        """`alive`: per batch of the spool, which rows may leave; None for all."""
        self._rows, self._alive, self._schema = rows, alive, schema
        self._digest, self._key, self._folder = digest, key, folder
        self._sizes = rows.sizes()
        self._codes, self._repeated = {}, {}
        for name, (codes, values) in rows.repeated(schema.names).items():
            self._codes[name], self._repeated[name] = codes, dictionaries.of(values.cast(schema.field(name).type))

    def cut(self, part_bytes: int) -> list[PartFile]:
        """All parts that have rows."""
        wanted = [(first, last) for first, last in shares(self._rows, part_bytes) if self.leaving(first, last)]
        with ThreadPoolExecutor(WORKERS) as workers:
            cutting = [workers.submit(self._part, index, *share) for index, share in enumerate(wanted)]
            try:
                return [part.result() for part in cutting]
            finally:
                for part in cutting:
                    part.cancel()

    def leaving(self, first: int, last: int) -> int:
        """How many rows of these buckets leave."""
        return sum(
            to - begin if (mask := self._alive[index]) is None else int(mask.slice(begin, to - begin).sum())
            for index, begin, to in self._rows.positions(first, last)
        )

    def shuffled(self, first: int, last: int, said: Mapping[str, Dictionary] = MappingProxyType({})) -> pa.RecordBatch:
        """The rows of these buckets that leave, in their final order; columns of which what their part says is known
        already as dictionaries."""
        held = self._rows.buckets(first, last, self._schema.names)
        indexes = order.shuffled(self._key.stream("shuffle", first, last), held.num_rows)
        if (mask := self._mask(first, last)) is not None:
            indexes = indexes.filter(mask.gather(indexes))
        mixed = held.take(indexes.to_arrow())
        columns = [
            said[field.name].column(mixed.column(self._codes[field.name]))
            if field.name in said
            else self._rows.plain(mixed, field.name, field.type)
            for field in self._schema
        ]
        return pa.RecordBatch.from_arrays(columns, names=self._schema.names)

    def _said(self, first: int, last: int, batches: int) -> dict[str, Dictionary]:
        """What the leaving rows of a part say, of columns of which that is little."""
        if not self._repeated:
            return {}
        held, mask = self._rows.buckets(first, last, list(self._repeated)), self._mask(first, last)
        rows = held if mask is None else held.filter(mask.to_arrow())
        met = {name: packing.met(codes) for name, codes in zip(rows.schema.names, rows.columns, strict=True)}
        of = {name: (whole, met[self._codes[name]]) for name, whole in self._repeated.items()}
        return _little(of, self._rows.size // self._rows.count * sum(self._sizes[first:last]) // batches)

    def _mask(self, first: int, last: int) -> pl.Series | None:
        places = self._rows.positions(first, last)
        if all(self._alive[index] is None for index, _, _ in places):
            return None
        pieces = [
            pl.repeat(True, to - begin, eager=True)
            if (mask := self._alive[index]) is None
            else mask.slice(begin, to - begin)
            for index, begin, to in places
        ]
        return pl.concat(pieces, rechunk=True)

    def _part(self, index: int, first: int, last: int) -> PartFile:
        self._digest.open_part(index)
        stretches = _ranges(self._sizes[first:last], first, WIRE_ROWS)
        said = self._said(first, last, len(stretches))

        def batches() -> Iterator[pa.RecordBatch]:
            for stretch in stretches:
                batch = self.shuffled(*stretch, said)
                self._digest.update(index, batch)
                yield batch

        return _written(self._folder, index, self._schema, self._digest, said, batches())


class Streamer:
    """Writes rows into parts as they come, in the source's order: for data about no person. The part at hand is held
    packed, until it is known what its rows say."""

    def __init__(
        self, schema: pa.Schema, digest: ContentDigest, inspect: Inspect, folder: Path, part_bytes: int
    ) -> None:
        self._schema, self._digest, self._inspect = schema, digest, inspect
        self._folder, self._part_bytes = folder, part_bytes
        self._part = self._bytes = 0  # that batches are hashed for, and how much of it is there
        self._packer = Packer()
        self._held: list[pa.RecordBatch] = []  # of the part that is written next
        self._size = 0  # in bytes, as it is without being packed
        self._parts: list[PartFile] = []

    def run(self, frame: pl.LazyFrame, *, source: str) -> list[PartFile]:
        """Stream the frame into parts."""
        _each(frame, self._looked, self._hashed, self._keep, source=source)
        self._end_part()
        return self._parts

    def _looked(self, batch: pl.DataFrame) -> tuple[pa.RecordBatch, pa.RecordBatch]:
        whole = arrow(batch)
        packed = self._packer.packed(whole)
        self._inspect(batch, self._packer.first(packed))
        return whole, packed

    def _hashed(self, looked: tuple[pa.RecordBatch, pa.RecordBatch]) -> tuple[int, int, pa.RecordBatch]:
        whole, part = looked[0].cast(self._schema), self._part
        self._digest.update(part, whole)
        self._bytes += whole.nbytes
        if self._bytes >= self._part_bytes:
            self._part, self._bytes = part + 1, 0
        return part, whole.nbytes, looked[1]

    def _keep(self, hashed: tuple[int, int, pa.RecordBatch]) -> None:
        part, size, packed = hashed
        if part > len(self._parts):
            self._end_part()
        self._held.append(packed)
        self._size += size

    def _end_part(self) -> None:
        if not self._held:
            return
        said, index = self._said(), len(self._parts)
        batches = (self._packed(batch, said) for batch in self._held)
        self._parts.append(_written(self._folder, index, self._schema, self._digest, said, batches))
        self._held, self._size = [], 0

    def _said(self) -> dict[str, Dictionary]:
        """What the rows of the part say, of columns of which that is little."""
        of = {}
        for field in self._schema:
            columns = [batch.column(field.name) for batch in self._held]
            if all(self._packer.coded(field.name, column.type) for column in columns):
                whole = dictionaries.of(self._packer.said(field.name).cast(field.type))
                of[field.name] = (whole, pa.concat_arrays([packing.met(column) for column in columns]))
        batches = sum(-(-batch.num_rows // WIRE_ROWS) for batch in self._held)
        return _little(of, self._size // batches)

    def _packed(self, batch: pa.RecordBatch, said: Mapping[str, Dictionary]) -> pa.RecordBatch:
        columns = [
            said[field.name].column(column)
            if field.name in said
            else self._packer.unpacked(field.name, column, field.type)
            for field, column in zip(self._schema, batch.columns, strict=True)
        ]
        return pa.RecordBatch.from_arrays(columns, names=self._schema.names)


def _little(of: Mapping[str, tuple[Dictionary, pa.Array]], size: int) -> dict[str, Dictionary]:
    """The dictionaries of some columns, each among its codes, as far as they are little beside the bytes of a batch:
    each batch brings them along."""
    found = {name: whole.among(codes, most=size // _LITTLE) for name, (whole, codes) in of.items()}
    return {name: said for name, said in found.items() if said is not None}


def _written(
    folder: Path,
    index: int,
    schema: pa.Schema,
    digest: ContentDigest,
    said: Mapping[str, Dictionary],
    batches: Iterable[pa.RecordBatch],
) -> PartFile:
    """Write a part, columns of `said` as dictionaries. All of it is hashed once the batches are taken."""
    path = folder / part_name(index)
    kinds = [(field.name, said[field.name].type if field.name in said else field.type) for field in schema]
    with room(folder.name), _file(path) as file, pa.ipc.new_file(file, pa.schema(kinds)) as writer:
        for batch in batches:
            writer.write_table(pa.Table.from_batches([batch]), max_chunksize=WIRE_ROWS)
    found = digest.part(index)
    return PartFile(path, found.rows, found.digest)


def _file(path: Path) -> pa.OSFile:
    """A new file of the spool to write to."""
    os.close(create(path))
    # Appending, not overwriting: a file that was cut to nothing is flushed by ext4 as soon as it is closed.
    return pa.OSFile(str(path), "ab")


def part_name(index: int) -> str:
    """The file name of a part."""
    return f"part-{index:05d}.arrow"


def check_schema(frame: pl.LazyFrame, schema: pa.Schema, *, source: str) -> None:
    """The masks produce what the plan says. Raises INTERNAL for another type: nothing is sent then."""
    with reading(source):
        made = frame.select(schema.names).collect_schema()
    found = pl.DataFrame(schema=made).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    for field in schema:
        made_as = _NARROW.get(found.field(field.name).type, found.field(field.name).type)
        if made_as != field.type:
            raise SluicegateError(
                Reason.INTERNAL, f"the mask of {field.name} makes {made_as}, the plan says {field.type}"
            )


# Parts are small, so that 32-bit offsets do; more readers know them than the wide ones.
_NARROW = {
    pa.large_string(): pa.string(),
    pa.large_binary(): pa.binary(),
    pa.large_list(pa.large_string()): pa.list_(pa.string()),
}


def check_some(rows: int, source: str) -> None:
    """A release has rows: that nobody is in scope would itself be a fact about few."""
    if not rows:
        raise SluicegateError(
            Reason.DATA_INVALID, f"the source {source} has no row in scope, so there is nothing to release"
        )

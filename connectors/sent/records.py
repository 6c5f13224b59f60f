"""What a recipient was sent, as a gateway remembers it: which releases, and files of keyed digests.

One folder per recipient, dataset and definition of rows, named by the release that wrote it last, 0700. In it
two Arrow files (0600) for rows, and two for each pseudonym that is not the person's own. `NAME.arrow` has 20 bytes
for each distinct entry: its key, its person, its group. `NAME.groups.arrow` has the groups, which are few: a class,
and one bit for each release that had the entries. What no release within its retention had is left out when the
next one is written.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
from msgspec import Struct

from connectors.sent.digests import CLASS, ENTITY, KEY
from connectors.spooling import spool
from contracts.errors import Reason, SluicegateError
from contracts.instants import rfc3339

GROUP, LABEL = "#sent.group", "#sent.label"
ROWS = "rows"
WORD = 64  # releases told by one column of bits
MOST_RELEASES = 8 * WORD  # remembered at once, of one definition
MOST_DEFINITIONS = 16  # of one recipient and dataset
MOST_ENTRIES = 100_000_000  # of one definition: 2 GB, compared in seconds
ENTRY = {KEY: pl.UInt64, ENTITY: pl.UInt64, GROUP: pl.UInt32}


class Sent(Struct, frozen=True, kw_only=True):
    """One release: made at an instant, kept by its recipient until another (epoch seconds); its bit, its k, its
    agreement's digest; how many rows it had, and the sum of their digests (0: not counted). `serial` counts the
    releases to that recipient, of whichever definition (0: before they were counted)."""

    release: str
    made: int
    until: int
    bit: int
    k: int
    agreement: str
    rows: int = 0
    total: int = 0
    serial: int = 0


class SentRecord(Struct, frozen=True, kw_only=True):
    """All releases of one definition of rows that a recipient may still have. `release` names the folder, `fields`
    what each quasi-identifier is made of, `units` the pseudonyms that joined rows and have files of their own,
    `entity` the field that told persons apart ("": not kept then)."""

    definition: str
    probe: str
    release: str
    sent: tuple[Sent, ...]
    fields: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    entity: str = ""

    @property
    def until(self) -> int:
        """When the last of them is to be gone."""
        return max((one.until for one in self.sent), default=0)


def words(record: SentRecord | None) -> int:
    """How many columns of bits a record's files have."""
    return 1 + max((one.bit for one in record.sent), default=0) // WORD if record else 1


def bits(count: int, sent: Iterable[Sent]) -> list[int]:
    """The bits of some releases, column by column."""
    mine = list(sent)
    return [sum(1 << one.bit % WORD for one in mine if one.bit // WORD == word) for word in range(count)]


def free_bit(sent: tuple[Sent, ...]) -> int:
    """A bit for one release more. Raises REFRESH_PENDING when none is free."""
    taken = {one.bit for one in sent}
    if len(taken) >= MOST_RELEASES:
        raise full(f"{MOST_RELEASES} earlier releases are compared with at most", sent)
    return next(bit for bit in range(MOST_RELEASES) if bit not in taken)


def full(why: str, sent: Iterable[Sent]) -> SluicegateError:
    """REFRESH_PENDING until the first of these releases is to be gone."""
    until = rfc3339(min(one.until for one in sent))
    message = f"{why}; another release is made after {until}"
    return SluicegateError(Reason.REFRESH_PENDING, message, metadata={"until": until})


def file(record: SentRecord, name: str) -> str:
    """The file of a pseudonym, or of `ROWS`."""
    return name if name == ROWS else str(record.units.index(name))


def names(count: int) -> list[str]:
    """The columns of bits."""
    return [f"#sent.bits.{word}" for word in range(count)]


@dataclass(frozen=True, slots=True)
class Kept:
    """What one file of a record holds of some releases. `groups`: `CLASS`, the bits of those alone, and a column for
    each of the record's fields, if it has any; a group's number is its place. `numbers`: from the file's numbers to
    those, null for what they had not."""

    folder: Path
    name: str
    record: SentRecord
    groups: pl.DataFrame
    numbers: pl.Series
    height: int

    @property
    def bits(self) -> list[str]:
        """The columns of bits."""
        return names(words(self.record))

    def among(self, frame: pl.DataFrame, groups: pl.Series) -> pl.DataFrame:
        """The entries of some groups."""
        marks = pl.repeat(False, self.groups.height, eager=True).scatter(groups, True)
        return frame.filter(marks.gather(frame[GROUP]))

    def persons(self, entries: pl.DataFrame) -> pl.DataFrame:
        """`ENTITY` and `CLASS` of entries, once each, and `LABEL`: of the class and the releases in which the person
        had it, in whichever rows."""
        marked = entries.select(ENTITY, *(self.groups[name].gather(entries[GROUP]).alias(name) for name in self._label))
        each = marked.group_by(ENTITY, CLASS).agg(pl.col(self.bits).bitwise_or())
        return each.select(ENTITY, CLASS, pl.struct(self._label).hash(1).alias(LABEL))

    @property
    def _label(self) -> list[str]:
        return [CLASS, *self.bits]

    def entries(self, only: pl.Series | None = None) -> pl.DataFrame:
        """`KEY`, `ENTITY` and `GROUP` of each entry; `only`: of groups that are marked there, one mark a group."""
        wanted = self.numbers if only is None else self.numbers.set(~only.gather(self.numbers).fill_null(False), None)
        with _whole(self.folder, self.record):
            frames = [
                batch.select(KEY, ENTITY, wanted.gather(batch[GROUP]).alias(GROUP)).drop_nulls(GROUP)
                for batch in _read(self.folder, self.record, self.name)
            ]
            return pl.concat([pl.DataFrame(schema=ENTRY), *frames])


def kept(folder: Path, name: str, record: SentRecord, sent: tuple[Sent, ...]) -> Kept:
    """What a file holds of some releases. Raises STATE_WRONG when it is not there or is no such file: without it no
    release is made, as it could not be compared."""
    columns = names(words(record))
    masks = bits(len(columns), sent)
    only = [pl.col(column) & pl.lit(mask, dtype=pl.UInt64) for column, mask in zip(columns, masks, strict=True)]
    by = [CLASS, *columns]
    with _whole(folder, record):
        height = sum(batch.height for batch in _read(folder, record, name))
        fields = [str(index) for index, _ in enumerate(record.fields)] if name == ROWS else []
        blank = pl.DataFrame(schema=dict.fromkeys((*by, *fields), pl.UInt64))
        found = pl.concat([blank, *_read(folder, record, f"{name}.groups")]).with_columns(only).with_row_index("#was")
        had = found.filter(pl.any_horizontal(pl.col(columns) != 0))
    groups = had.drop("#was").unique(by, keep="any", maintain_order=True)
    new = had.join(groups.select(by).with_row_index(GROUP), on=by, how="left", maintain_order="left")
    numbers = pl.repeat(None, found.height, dtype=pl.UInt32, eager=True).scatter(new["#was"], new[GROUP])
    return Kept(folder, name, record, groups, numbers, height)


class Groups:
    """The groups of a file in the making, numbered as their entries come; one release more has some of them."""

    def __init__(self, record: SentRecord, mine: Sent) -> None:
        self._columns = names(words(record))
        self._masks = [pl.lit(mask, dtype=pl.UInt64) for mask in bits(len(self._columns), (mine,))]
        self._count = 0
        self.tables: list[pl.DataFrame] = []

    def split(self, here: pl.DataFrame, gone: pl.DataFrame, old: Kept | None) -> Iterator[pl.DataFrame]:
        """Entries that earlier releases had: those that the new one has too, and those that it has not."""
        if old is None:
            return
        for entries, marked in ((here, True), (gone, False)):
            groups = entries[GROUP].unique()
            table = self._padded(old.groups)[groups]
            numbers = pl.repeat(0, old.groups.height, dtype=pl.UInt32, eager=True)
            numbers = numbers.scatter(groups, self._numbers(self._marked(table) if marked else table))
            yield entries.with_columns(numbers.gather(entries[GROUP]).alias(GROUP))

    def new(self, came: pl.DataFrame, fields: pl.DataFrame | None = None) -> Iterator[pl.DataFrame]:
        """Entries that the new one alone has, each with its `CLASS`; `fields`: more columns of each class."""
        table = came.select(CLASS).unique()
        if fields is not None:
            table = table.join(fields, on=CLASS)
        numbered = table.select(CLASS, self._numbers(self._marked(self._padded(table))).alias(GROUP))
        of = came.select(CLASS).join(numbered, on=CLASS, how="left", maintain_order="left")
        yield came.with_columns(of[GROUP])

    def copied(self, old: Kept, copied: Sent) -> pl.DataFrame:
        """The groups as they were, where those of an earlier release are those of the new one."""
        masks = zip(old.bits, bits(len(old.bits), (copied,)), strict=True)
        had = [pl.col(column) & pl.lit(mask, dtype=pl.UInt64) != 0 for column, mask in masks]
        return self._marked(self._padded(old.groups), pl.any_horizontal(had))

    def _padded(self, table: pl.DataFrame) -> pl.DataFrame:
        zero = pl.lit(0, dtype=pl.UInt64)
        missing = [zero.alias(column) for column in self._columns if column not in table.columns]
        return table.with_columns(missing).select(CLASS, *self._columns, pl.exclude(CLASS, *self._columns))

    def _marked(self, table: pl.DataFrame, where: pl.Expr | None = None) -> pl.DataFrame:
        each = [
            (pl.col(column) | mask if where is None else pl.when(where).then(pl.col(column) | mask).otherwise(column))
            for column, mask in zip(self._columns, self._masks, strict=True)
        ]
        return table.with_columns(each)

    def _numbers(self, table: pl.DataFrame) -> pl.Series:
        """The next numbers, for these groups."""
        self.tables.append(table)
        first, self._count = self._count, self._count + table.height
        return pl.int_range(first, self._count, dtype=pl.UInt32, eager=True)


def write(folder: Path, name: str, entries: Iterator[pl.DataFrame], groups: Groups) -> int:
    """Write entries, then their groups; how many entries there are."""
    count = 0

    def counted() -> Iterator[pl.DataFrame]:
        nonlocal count
        for frame in entries:
            count += frame.height
            yield frame.select(*ENTRY)

    _write(folder / f"{name}.arrow", counted(), ENTRY)
    _write(folder / f"{name}.groups.arrow", iter(groups.tables), groups.tables[0].schema)
    return count


def again(made: Path, old: Kept, groups: pl.DataFrame) -> None:
    """The same entries once more, with other bits of their groups."""
    source, target = old.folder / old.record.release / f"{old.name}.arrow", made / f"{old.name}.arrow"
    with _whole(old.folder, old.record):
        try:
            os.link(source, target)
        except OSError:  # some file systems know no such thing
            with os.fdopen(spool.create(target), "wb") as file, source.open("rb") as from_old:
                shutil.copyfileobj(from_old, file)
                os.fsync(file.fileno())
    # What releases had that are to be gone keeps its number, without a bit.
    places = old.numbers.fill_null(groups.height)
    blank = groups.clear(1).fill_null(0)
    _write(made / f"{old.name}.groups.arrow", iter((pl.concat([groups, blank])[places],)), groups.schema)


def put(made: Path, folder: Path, name: str) -> None:
    """Move a folder of files to its place beside the others, and sync both."""
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        raise SluicegateError(Reason.CONFIG_UNSAFE, f"the folder {folder} is open to others; run chmod 700 on it")
    _sync(made)
    made.replace(folder / name)
    _sync(folder)


def _read(folder: Path, record: SentRecord, name: str) -> Iterator[pl.DataFrame]:
    with pa.memory_map(str(folder / record.release / f"{name}.arrow"), "r") as file, pa.ipc.open_file(file) as held:
        for index in range(held.num_record_batches):
            yield pl.DataFrame(pl.from_arrow(held.get_batch(index)))


@contextmanager
def _whole(folder: Path, record: SentRecord) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException, pl.exceptions.PolarsError):
        raise SluicegateError(
            Reason.STATE_WRONG,
            f"what was sent before with {record.release} is not in {folder.name}, or is damaged; restore it from the "
            "backup of the gateway's state",
        ) from None


def _write(path: Path, frames: Iterator[pl.DataFrame], schema: Mapping[str, Any]) -> None:
    """Write a new file, 0600, and sync it."""
    arrow = pl.DataFrame(schema=dict(schema)).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    with os.fdopen(spool.create(path), "wb") as file:
        with pa.ipc.new_file(file, arrow) as writer:
            for frame in frames:
                writer.write_table(frame.to_arrow(compat_level=pl.CompatLevel.oldest()), max_chunksize=1 << 20)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # some file systems know no such thing
            os.fsync(handle)
    finally:
        os.close(handle)

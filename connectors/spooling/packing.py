"""How columns are kept in the spool: the narrowest way that is cheap to make and to undo.

A release passes through memory once in whole, and fresh memory costs more than what is done with it. So values
of eight bytes and more, of which a column has few (districts, prefixes, rounded amounts, what is left of phone
numbers), become codes of two; texts of one length (pseudonyms) become fixed-size values over the same bytes,
for gathering strings costs four times what gathering those does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, cast

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

_LONGEST = 256  # bytes of a fixed-size value
_FEW = 16  # codes pay when values repeat so often
_MOST = 8192  # values of a column that is coded; they are looked up batch by batch
_CODE = pa.uint16()
_CODABLE = frozenset({pa.large_string(), pa.int64(), pa.uint64()})


class Codes:
    """Codes of the values of one column, of which there are few: their places among those met so far, so that a code
    means the same in every batch. `values` are in the order in which they came."""

    def __init__(self) -> None:
        self.values: pa.Array = pa.nulls(0)
        self._many = False

    def of(self, batch: pa.Array) -> pa.Array | None:
        """The codes of a batch, null for null; None from the batch on with which there are too many values."""
        if self._many or not len(batch):
            return None
        known = self.values
        if not len(known):
            known = batch.unique().drop_null()
            if len(known) * _FEW > len(batch):
                self._many = True
                return None
        codes = pc.index_in(batch, value_set=known)
        if codes.null_count > batch.null_count:
            known = pa.concat_arrays([known, batch.filter(codes.is_null()).unique().drop_null()])
            codes = pc.index_in(batch, value_set=known)
        if len(known) > _MOST:
            self._many = True
            return None
        self.values = known
        return codes


def met(codes: pa.Array) -> pa.Array:
    """The different codes among many. They are few and small, so that none needs to be looked up."""
    last = pc.inverse_permutation(codes.view(pa.int16()), max_index=_MOST - 1, output_type=pa.int32())
    return pc.indices_nonzero(last.is_valid())


class Few:
    """What is computed of few different rows, computed once for each."""

    def __init__(self) -> None:
        self._codes = Codes()
        self.table = pl.DataFrame()  # what was computed, by code

    def codes(
        self, hashes: pl.Series, batch: pl.DataFrame, computed: Callable[[pl.DataFrame], pl.DataFrame]
    ) -> pa.Array | None:
        """The code of each row of the batch, told from others by its hash; None where there are too many."""
        arrow = hashes.to_arrow()
        codes = self._codes.of(arrow)
        if codes is None:
            return None
        met = self.table.height
        if new := len(self._codes.values) - met:
            fresh = pc.indices_nonzero(pc.greater_equal(codes, met))  # few, but in the first batch
            first = pc.index_in(pa.array(range(met, met + new), codes.type), value_set=codes.take(fresh))
            found = computed(batch[cast(pl.Series, pl.from_arrow(fresh.take(first)))])
            self.table = pl.concat([self.table, found], rechunk=True) if met else found
        return codes

    def of(
        self, hashes: pl.Series, batch: pl.DataFrame, computed: Callable[[pl.DataFrame], pl.DataFrame]
    ) -> pl.DataFrame | None:
        """What is computed of each row of the batch; None where there are too many different ones."""
        codes = self.codes(hashes, batch, computed)
        return None if codes is None else self.table[cast(pl.Series, pl.from_arrow(codes))]


class Folded(NamedTuple):
    """A batch, and what is alike in those of its classes that no batch before had, column by column; None where they
    are not told apart."""

    batch: pl.DataFrame
    first: Mapping[str, pl.Series] | None


class Alike:
    """Columns that rows of one class have alike. `label` names the column of the classes' hashes: rows with the same
    one have the same values in `columns`, and in what `more` computes of them."""

    CODE = "#alike"  # the column that stands in for all of them

    def __init__(
        self, label: str, columns: Sequence[str], more: Callable[[pl.DataFrame], Iterable[pl.Series]] = lambda _: ()
    ) -> None:
        self._label, self._columns, self._more = label, tuple(columns), more
        self._classes = Few()
        self._sizes = pl.Series([], dtype=pl.Int64)  # bytes of each class, as far as they were asked for

    def folded(self, batch: pl.DataFrame) -> Folded:
        """The batch with a code of its class in place of what is alike in it; as it is, from the batch on with which
        there are too many classes."""
        # Of floats, equal ones may differ in their bits.
        columns = [self._label, *(name for name in self._columns if not _inexact(batch.schema[name]))]
        first = pl.DataFrame(schema={name: batch.schema[name] for name in columns})

        def computed(rows: pl.DataFrame) -> pl.DataFrame:
            nonlocal first
            first = rows.select(columns)
            return pl.DataFrame([*first.iter_columns(), *self._more(rows)])

        codes = self._classes.codes(batch.get_column(self._label), batch, computed)
        if codes is None:
            return Folded(batch, None)
        code = cast(pl.Series, pl.from_arrow(codes.cast(_CODE))).alias(self.CODE)
        return Folded(with_columns(batch, [code], without=columns), first.to_dict())

    def of(self, batch: pl.DataFrame, column: str) -> pl.Series | None:
        """A column of what is alike, for each row of a folded batch; None for one that is not folded."""
        if self.CODE not in batch.columns:
            return None
        return self._classes.table.get_column(column).gather(batch.get_column(self.CODE))

    @property
    def table(self) -> pa.RecordBatch:
        """What is alike, by code. For when no more batches come."""
        return arrow(self._classes.table)

    def size(self, codes: pa.Array, without: Collection[str]) -> int:
        """Bytes of the values that these codes stand for, some columns left out: always the same."""
        table = self._classes.table
        if len(self._sizes) < table.height:
            widths = [_width(name, kind) for name, kind in table.schema.items() if name not in without]
            self._sizes = table.select(pl.sum_horizontal(pl.repeat(0, pl.len()), *widths)).to_series()
        return int(self._sizes.gather(cast(pl.Series, pl.from_arrow(codes))).sum())


class Packer:
    """Packs the batches of one release, on one thread; on any, unpacks what came of them."""

    def __init__(self) -> None:
        self._types: dict[str, pa.DataType] = {}
        self._codes: dict[str, Codes] = {}
        self._told: dict[str, int] = {}

    def packed(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The same batch, packed."""
        names = batch.schema.names
        columns = [self._column(name, values) for name, values in zip(names, batch.columns, strict=True)]
        return pa.RecordBatch.from_arrays(columns, names=names)

    def unpacked(self, name: str, values: pa.Array, kind: pa.DataType | None = None) -> pa.Array:
        """Values of a column as they came, or brought to a type of their kind."""
        kind = kind or self._types[name]
        if self.coded(name, values.type):
            return self.said(name).cast(kind).take(values)
        return _texts(values).cast(kind)

    def coded(self, name: str, kind: pa.DataType) -> bool:
        """Whether a packed column of that type holds codes."""
        return bool(kind == _CODE != self._types[name])

    def said(self, name: str) -> pa.Array:
        """What each code of a column stands for."""
        return self._codes[name].values

    def first(self, packed: pa.RecordBatch) -> dict[str, pl.Series]:
        """Of the columns that the latest batch holds as codes, the values that no batch before had."""
        found = {}
        for name, kind in zip(packed.schema.names, packed.schema.types, strict=True):
            if self.coded(name, kind):
                values = self.said(name)
                found[name] = cast(pl.Series, pl.from_arrow(values.slice(self._told.get(name, 0))))
                self._told[name] = len(values)
        return found

    def _column(self, name: str, values: pa.Array) -> pa.Array:
        self._types[name] = values.type
        if not len(values) or not _codable(values.type):
            return values
        if (codes := self._codes.setdefault(name, Codes()).of(values)) is not None:
            return codes.cast(_CODE)
        if pa.types.is_large_string(values.type) and not values.null_count:
            return _fixed(values)
        return values


def with_columns(batch: pl.DataFrame, new: Sequence[pl.Series], *, without: Collection[str] = ()) -> pl.DataFrame:
    """The batch with some columns more and some less; a query on it would cost more than what is done to it."""
    return pl.DataFrame([*(column for column in batch.iter_columns() if column.name not in without), *new])


def arrow(batch: pl.DataFrame) -> pa.RecordBatch:
    """In Arrow's oldest layout, in one piece: newer ones ship whole original strings behind slices."""
    table = batch.to_arrow(compat_level=pl.CompatLevel.oldest())
    columns = [column.chunk(0) if column.num_chunks == 1 else column.combine_chunks() for column in table.columns]
    return pa.RecordBatch.from_arrays(columns, schema=table.schema)


def _width(name: str, kind: pl.DataType) -> pl.Expr:
    if kind == pl.String:
        return pl.col(name).str.len_bytes().fill_null(0).cast(pl.Int64)
    return pl.lit(pl.Series([], dtype=kind).to_arrow().type.bit_width // 8, dtype=pl.Int64)


def _inexact(kind: pl.DataType) -> bool:
    return kind.is_float() or kind.is_nested() or kind == pl.Binary


def _codable(kind: pa.DataType) -> bool:
    """Texts, and whole numbers and instants of eight bytes. Of floats, equal ones may differ in their bits."""
    return kind in _CODABLE or bool(pa.types.is_timestamp(kind))


def _fixed(values: pa.Array) -> pa.Array:
    """Texts of one length as fixed-size values over the same bytes; as they are when lengths differ."""
    lengths = pc.min_max(pc.binary_length(values)).as_py()
    width = lengths["min"]
    if width != lengths["max"] or not 0 < width <= _LONGEST:
        return values
    offsets, data = values.buffers()[1:3]
    start = pa.Array.from_buffers(pa.int64(), 1, [None, offsets], offset=values.offset)[0].as_py()
    return pa.Array.from_buffers(pa.binary(width), len(values), [None, data.slice(start)])


def _texts(values: pa.Array) -> pa.Array:
    """Fixed-size values as texts again: the bytes stay where they are, only offsets are made."""
    if not pa.types.is_fixed_size_binary(values.type) or pa.types.is_decimal(values.type):
        return values
    rows, width = len(values), values.type.byte_width
    start = values.offset * width
    if start + (rows + 1) * width >= 2**31:
        return values.cast(pa.large_binary()).cast(pa.large_string())
    offsets = pl.int_range(start, start + rows * width + 1, width, dtype=pl.Int32, eager=True).to_arrow()
    return pa.Array.from_buffers(pa.string(), rows, [None, offsets.buffers()[1], values.buffers()[1]])

"""How columns are kept in the spool: the narrowest way that is cheap to make and to undo.

A release passes through memory once in whole, and fresh memory costs more than what is done with it. So values
of eight bytes and more, of which a column has few (districts, prefixes, rounded amounts, what is left of phone
numbers), become codes of two; texts of one length (pseudonyms) become fixed-size values over the same bytes,
for gathering strings costs four times what gathering those does.
"""

from __future__ import annotations

from collections.abc import Sequence

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


class Packer:
    """Packs the batches of one release, and unpacks what came of them. For one thread, until all are packed."""

    def __init__(self) -> None:
        self._types: dict[str, pa.DataType] = {}
        self._codes: dict[str, Codes] = {}

    def packed(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The same batch, packed."""
        names = batch.schema.names
        columns = [self._column(name, values) for name, values in zip(names, batch.columns, strict=True)]
        return pa.RecordBatch.from_arrays(columns, names=names)

    def unpacked(self, name: str, values: pa.Array, kind: pa.DataType | None = None) -> pa.Array:
        """Values of a column as they came, or brought to a type of their kind."""
        kind = kind or self._types[name]
        if values.type == _CODE != self._types[name]:
            return self._codes[name].values.cast(kind).take(values)
        return _texts(values).cast(kind)

    def joined(self, name: str, pieces: Sequence[pa.Array]) -> pa.Array:
        """Pieces of one column as one array: still packed, if all of them are packed alike."""
        if len({piece.type for piece in pieces}) > 1:
            pieces = [self.unpacked(name, piece) for piece in pieces]
        return pa.concat_arrays(pieces)

    def _column(self, name: str, values: pa.Array) -> pa.Array:
        self._types[name] = values.type
        if not len(values) or not _codable(values.type):
            return values
        if (codes := self._codes.setdefault(name, Codes()).of(values)) is not None:
            return codes.cast(_CODE)
        if pa.types.is_large_string(values.type) and not values.null_count:
            return _fixed(values)
        return values


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

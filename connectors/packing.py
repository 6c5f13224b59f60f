"""How text columns are kept in the spool: the narrowest way that is cheap to make and to undo.

Gathering strings costs four times what gathering fixed-size values does. Pseudonyms and partly masked
phone numbers have one length; districts and address prefixes have few values. So, batch by batch:
texts of one length become fixed-size values over the same bytes, texts of few values a dictionary.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

_LONGEST = 256  # bytes of a fixed-size value
_FEW = 16  # a dictionary pays when values repeat so often


class Packer:
    """Packs batches of one schema. Remembers which columns are not worth a dictionary."""

    def __init__(self) -> None:
        self._many: set[str] = set()

    def packed(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The same batch, its text columns packed."""
        columns = [
            self._column(name, values) if pa.types.is_large_string(values.type) else values
            for name, values in zip(batch.schema.names, batch.columns, strict=True)
        ]
        return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)

    def _column(self, name: str, values: pa.Array) -> pa.Array:
        if not len(values):
            return values
        if not values.null_count and (fixed := _fixed(values)) is not None:
            return fixed
        if name in self._many:
            return values
        coded = values.dictionary_encode()
        if len(coded.dictionary) * _FEW > len(values):
            self._many.add(name)
            return values
        return coded


def _fixed(values: pa.Array) -> pa.Array | None:
    """Texts of one length as fixed-size values over the same bytes; None when lengths differ."""
    lengths = pc.min_max(pc.binary_length(values)).as_py()
    width = lengths["min"]
    if width != lengths["max"] or not 0 < width <= _LONGEST:
        return None
    offsets, data = values.buffers()[1:3]
    start = pa.Array.from_buffers(pa.int64(), 1, [None, offsets], offset=values.offset)[0].as_py()
    return pa.Array.from_buffers(pa.binary(width), len(values), [None, data.slice(start)])


def joined(pieces: Sequence[pa.Array]) -> pa.Array:
    """Pieces of one column as one array, packed if all of them are packed alike."""
    filled = [piece for piece in pieces if len(piece)] or list(pieces[:1])
    if len({piece.type for piece in filled}) > 1:
        filled = [unpacked(piece) for piece in filled]
        if len({piece.type for piece in filled}) > 1:
            filled = [piece.cast(pa.large_string()) for piece in filled]
    elif pa.types.is_dictionary(filled[0].type):
        filled = pa.chunked_array(filled).unify_dictionaries().chunks
    return pa.concat_arrays(filled)


def unpacked(values: pa.Array) -> pa.Array:
    """Texts as texts again. Of fixed-size values the bytes stay where they are; only offsets are made."""
    if pa.types.is_dictionary(values.type):
        return values.dictionary_decode()
    if not pa.types.is_fixed_size_binary(values.type) or pa.types.is_decimal(values.type):
        return values
    rows, width = len(values), values.type.byte_width
    start = values.offset * width
    if start + (rows + 1) * width >= 2**31:
        return values.cast(pa.large_binary()).cast(pa.large_string())
    offsets = pl.int_range(start, start + rows * width + 1, width, dtype=pl.Int32, eager=True).to_arrow()
    return pa.Array.from_buffers(pa.string(), rows, [None, offsets.buffers()[1], values.buffers()[1]])

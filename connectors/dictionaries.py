"""Columns of which few values leave, on their way: each value once, and for each row its place among them.

    whole = of(values)                            at the gate, of a column that is spooled as codes: places in `values`
    dictionary = whole.among(codes, most=64_000)  of the rows of one part; their column is `dictionary.column(codes)`
    batch = written_out(batch)                    wherever values themselves are wanted

A dictionary that leaves holds what the rows of its part say, sorted, and no more: neither what rows say that stay
behind, nor in which order the source told it. Clients that send the header `ACCEPT` get columns like that, all others
values.
"""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from contracts.errors import Reason, SluicegateError

ACCEPT = ("sluicegate-accept", "dictionaries")
MOST = 2**31 - 1  # bytes of a batch, as a message of a stream has at the most
_TEXTS = frozenset({pa.string(), pa.large_string(), pa.binary(), pa.large_binary()})


class Dictionary(NamedTuple):
    """Values, sorted and each of them once, and for each code the place of what it stands for; null where that is null
    or not among them."""

    values: pa.Array
    places: pa.Array

    def among(self, codes: pa.Array, *, most: int) -> Dictionary | None:
        """The dictionary of rows with these codes; None if it would have no value or more than `most` bytes. Each code
        is enough once."""
        places = self.places.take(codes)
        met = places.drop_null().unique()
        if not len(met):
            return None
        found = self
        if len(met) < len(self.values):
            met = met.take(pc.array_sort_indices(met))
            found = _dictionary(self.values.take(met), self.places, met, nulls=places.null_count > 0)
        return found if found.values.nbytes <= most else None

    def column(self, codes: pa.Array) -> pa.Array:
        """Rows of these codes, each of which is among those that the dictionary was made for; null for null."""
        return pa.DictionaryArray.from_arrays(self.places.take(codes), self.values, safe=False)

    @property
    def type(self) -> pa.DataType:
        """Of the column."""
        return pa.dictionary(self.places.type, self.values.type)


def of(values: pa.Array) -> Dictionary:
    """The dictionary of all values, of which some may be the same; codes are their places."""
    said = values.unique().drop_null()
    said = said.take(pc.array_sort_indices(said))
    return _dictionary(said, values, said, nulls=values.null_count > 0)


def _dictionary(values: pa.Array, each: pa.Array, among: pa.Array, *, nulls: bool) -> Dictionary:
    """Of these values, and for each code its place in `among`. Without `nulls` each code that comes has one: marks of
    which have would treble the time in which rows are looked up."""
    narrow = pa.uint8() if len(values) <= 2**8 else pa.uint16()  # as wide as codes are
    places = pc.index_in(each, value_set=among).cast(narrow)
    return Dictionary(
        values, places if nulls else pa.Array.from_buffers(narrow, len(each), [None, places.buffers()[1]])
    )


def written_out(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with values in place of dictionaries. One that came from elsewhere must be well-formed.

    Raises DATA_INVALID for a dictionary of what no column holds, and where dictionaries stand for more than `MOST`
    bytes: few could stand for very many."""
    packed = [column for column in batch.columns if pa.types.is_dictionary(column.type)]
    if not packed:
        return batch
    for column in packed:
        kind = column.type.value_type
        if not (kind in _TEXTS or pa.types.is_primitive(kind) or pa.types.is_decimal(kind)):
            raise SluicegateError(Reason.DATA_INVALID, f"a batch has a dictionary of {kind}; do not trust who sent it")
    if sum(map(_at_most, packed)) > MOST and sum(map(_stands_for, packed)) > MOST:
        raise SluicegateError(
            Reason.DATA_INVALID, f"a batch stands for more than {MOST} bytes; do not trust who sent it"
        )
    columns = [
        column.dictionary_decode() if pa.types.is_dictionary(column.type) else column for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _at_most(column: pa.DictionaryArray) -> int:
    """As many bytes as its values have at the most; soon found."""
    kind = column.type.value_type
    longest = pc.max(pc.binary_length(column.dictionary)).as_py() or 0 if kind in _TEXTS else kind.bit_width // 8
    return len(column) * int(longest)


def _stands_for(column: pa.DictionaryArray) -> int:
    """The bytes of its values."""
    if column.type.value_type not in _TEXTS:
        return _at_most(column)
    lengths = pc.binary_length(column.dictionary).take(column.indices)
    return int(pc.sum(lengths.cast(pa.int64())).as_py() or 0)

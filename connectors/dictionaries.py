"""Columns of which few values leave, on their way: each value once, and for each row its place among them.

    dictionary = of(codes, values, kind, most=64_000)      at the gate, over the codes that a column is spooled as
    array = dictionary.column(codes)
    batch = written_out(batch)                             wherever values themselves are wanted

A dictionary holds what the rows of its part say, sorted, and no more: neither what rows say that stay behind, nor in
which order the source told it. Clients that send the header `ACCEPT` get columns like that, everybody else values.
"""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from contracts.errors import Reason, SluicegateError

ACCEPT = ("sluicegate-accept", "dictionaries")
_MOST = 2**31 - 1  # bytes that a column of texts holds in one batch
_TEXTS = frozenset({pa.string(), pa.large_string(), pa.binary(), pa.large_binary()})


class Dictionary(NamedTuple):
    """The values of a column in a part, and for each code its place among them; null where a code stands for none."""

    values: pa.Array
    places: pa.Array

    @property
    def type(self) -> pa.DataType:
        """Of the column."""
        return pa.dictionary(self.places.type, self.values.type)

    def column(self, codes: pa.Array) -> pa.Array:
        """Rows of these codes, each of which was among those that the dictionary was made of; null for null."""
        return pa.DictionaryArray.from_arrays(self.places.take(codes), self.values)


def of(codes: pa.Array, values: pa.Array, *, most: int) -> Dictionary | None:
    """The dictionary of rows with these codes, which are places among `values`; None if it would have more than `most`
    bytes or no value. `codes` may repeat."""
    said = values.take(codes.unique().drop_null()).unique().drop_null()
    if not len(said) or said.nbytes > most:
        return None
    said = said.take(pc.array_sort_indices(said))
    narrow = next(kind for kind in (pa.uint8(), pa.uint16(), pa.uint32()) if len(said) <= 2**kind.bit_width)
    return Dictionary(said, pc.index_in(values, value_set=said).cast(narrow))


def written_out(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with values in place of dictionaries. One that came from elsewhere must be well-formed.

    Raises DATA_INVALID for a dictionary of what no column holds, and for a column that would not fit in a batch: few
    bytes could stand for very many."""
    if not any(pa.types.is_dictionary(kind) for kind in batch.schema.types):
        return batch
    columns = [_values(column) if pa.types.is_dictionary(column.type) else column for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _values(column: pa.DictionaryArray) -> pa.Array:
    kind = column.type.value_type
    texts = kind in _TEXTS
    if not texts and not pa.types.is_primitive(kind) and not pa.types.is_decimal(kind):
        raise SluicegateError(Reason.DATA_INVALID, f"a batch has a dictionary of {kind}; do not trust who sent it")
    if texts and _written(column) > _MOST:
        raise SluicegateError(
            Reason.DATA_INVALID, f"a column of a batch stands for more than {_MOST} bytes; do not trust who sent it"
        )
    return column.dictionary_decode()


def _written(column: pa.DictionaryArray) -> int:
    """Bytes of all texts of a column; fewer than that many if it is clear at once that they are few enough."""
    lengths = pc.binary_length(column.dictionary)
    longest = pc.max(lengths).as_py() or 0
    if longest * len(column) <= _MOST:
        return 0
    return pc.sum(lengths.take(column.indices).cast(pa.int64())).as_py() or 0

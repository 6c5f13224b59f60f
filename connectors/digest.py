"""The content digest, version 1: over logical values, so that re-encoding does not matter.

A release has parts; each part has columns. Per part and column three streams are hashed apart:

    validity   one byte a row, 1 for a value and 0 for null
    lengths    strings and binary only: the value's length in bytes as uint32, little-endian, 0 for null
    data       fixed width, little-endian, nulls as zeros; strings and binary: the bytes, one after another

Of a list, `lengths` are numbers of elements, 0 for null; in place of hex(data) stands the digest of the elements of
all rows, one after another, as a column of texts: H(RFC 8785 [hex(validity), hex(lengths), hex(data)]).

Fixed widths: boolean 1 byte; integers and floats their own; date int32 days since 1970-01-01; timestamp
int64 in its unit; time int64 (s and ms: int32) in its unit; decimal int128 unscaled. NaN is always the
quiet NaN with an empty payload; -0.0 and 0.0 differ.

    column digest  = H(RFC 8785 [name, type, hex(validity), hex(lengths) or null, hex(data)])
    part digest    = H(RFC 8785 [rows, [column digests]])
    content digest = H(RFC 8785 {"parts": [{"digest", "rows"}...], "schema": [[name, type]...]})

H is `sha-256` or `blake3`; digests are written `sha256:<hex>` or `blake3:<hex>`, types as
`contracts.dtypes` spells them. How a part is cut into batches, how strings are stored and what lies
under nulls has no influence.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Protocol

import blake3
import pyarrow as pa
import pyarrow.compute as pc

from connectors.dictionaries import written_out
from connectors.writers import read_csv
from contracts.canonical import canonical
from contracts.dtypes import DType
from contracts.errors import Reason, SluicegateError
from contracts.receipt import PartDigest

Hash = Literal["sha-256", "blake3"]

_ONES = b"\x01" * 65_536
_FILE_ROWS = 65_536


class Hasher(Protocol):
    """What both hash functions offer. Large updates release the interpreter lock."""

    def update(self, data: Any, /) -> Any:
        """Take more bytes in."""
        ...

    def digest(self) -> bytes:
        """The hash of all bytes so far."""
        ...


_HASHES: Mapping[str, tuple[str, Callable[[], Hasher]]] = {
    "sha-256": ("sha256", hashlib.sha256),
    "blake3": ("blake3", blake3.blake3),
}


class ContentDigest:
    """The digest of a release, fed batch by batch.

        digest = ContentDigest({"sex": STRING}, "blake3")
        digest.update(0, batch); digest.update(0, batch); digest.update(1, batch)
        digest.part(0), digest.finish()

    Batches of one part come in order; parts in any order, and each from a thread of its own if wanted.
    A part without rows needs `update` with an empty batch, or `open_part`.
    """

    def __init__(self, schema: Mapping[str, DType] | Sequence[tuple[str, str]], hash: Hash) -> None:
        """`schema`: name -> type, or (name, spelled type) pairs as a receipt has them, in order.

        Raises INVALID_ARGUMENT for an unknown hash or a type that is not in the format."""
        pairs = schema.items() if isinstance(schema, Mapping) else schema
        self._schema = [(name, str(dtype)) for name, dtype in pairs]
        if hash not in _HASHES:
            raise SluicegateError(Reason.INVALID_ARGUMENT, f"unknown hash {str(hash)[:32]!r}; known: sha-256, blake3")
        self._label, self._new = _HASHES[hash]
        self._forms = [_form(name, spelling) for name, spelling in self._schema]
        self._parts: dict[int, _Part] = {}

    def open_part(self, index: int) -> None:
        """Begin a part that may turn out to have no rows."""
        if index not in self._parts:
            self._parts[index] = _Part([_Column(form, self._new) for form in self._forms])

    def update(self, index: int, batch: pa.RecordBatch | pa.Table) -> None:
        """Take in the next rows of part `index`. Raises DIGEST_MISMATCH when the columns are not those
        of the schema, by name, order and type, and DATA_INVALID for dictionaries that cannot be written out."""
        if batch.schema.names != [name for name, _ in self._schema]:
            raise SluicegateError(Reason.DIGEST_MISMATCH, "the data has other columns than the receipt says")
        self.open_part(index)
        part = self._parts[index]
        for piece in batch.to_batches() if isinstance(batch, pa.Table) else (batch,):
            for column, values in zip(part.columns, written_out(piece).columns, strict=True):
                column.update(values)
        part.rows += batch.num_rows

    def part(self, index: int) -> PartDigest:
        """Rows and digest of a part, all of whose rows were given."""
        part = self._parts[index]
        columns = [self._write(column.summary()) for column in part.columns]
        return PartDigest(rows=part.rows, digest=self._write([part.rows, columns]))

    def finish(self) -> str:
        """The content digest. Raises DIGEST_MISMATCH when a part between others was never given."""
        if sorted(self._parts) != list(range(len(self._parts))):
            raise SluicegateError(Reason.DIGEST_MISMATCH, "parts of the release are missing")
        return self.over([self.part(index) for index in range(len(self._parts))])

    def over(self, parts: Iterable[PartDigest]) -> str:
        """The content digest of parts whose digests are known already."""
        listed = [{"digest": part.digest, "rows": part.rows} for part in parts]
        return self._write({"schema": [list(pair) for pair in self._schema], "parts": listed})

    def _write(self, value: object) -> str:
        hasher = self._new()
        hasher.update(canonical(value))
        return f"{self._label}:{hasher.digest().hex()}"


def of_file(path: Path, schema: Sequence[tuple[str, str]], parts: Sequence[PartDigest], hash: Hash) -> str:
    """Recompute the content digest of a pulled Parquet, Arrow or CSV file. `schema`, `parts` (their row
    counts) and `hash` are those of the receipt; a file holds the parts one after another. A CSV has no
    types of its own: it is read by those of the receipt.

    Raises DIGEST_MISMATCH when the file has other columns or another number of rows, DATA_INVALID when
    it cannot be read.
    """
    digest = ContentDigest(schema, hash)
    sizes = [part.rows for part in parts]
    for index in range(len(sizes)):
        digest.open_part(index)
    index, room = _next_part(sizes, -1)
    try:
        for whole in _batches_of(path, schema):
            demand_sound(whole)
            batch = whole
            while batch.num_rows:
                if index == len(sizes):
                    raise SluicegateError(Reason.DIGEST_MISMATCH, f"{path.name} has more rows than the receipt says")
                taken = min(room, batch.num_rows)
                digest.update(index, batch.slice(0, taken))
                batch, room = batch.slice(taken), room - taken
                if not room:
                    index, room = _next_part(sizes, index)
    except (pa.ArrowException, OSError, ValueError) as error:
        del error  # it may quote values
        raise SluicegateError(
            Reason.DATA_INVALID, f"{path.name} cannot be read as Parquet, Arrow, or CSV of the receipt's types"
        ) from None
    if index != len(sizes):
        raise SluicegateError(Reason.DIGEST_MISMATCH, f"{path.name} has fewer rows than the receipt says")
    return digest.finish()


def demand_sound(batch: pa.RecordBatch) -> None:
    """Refuse a stranger's batch that is not well-formed Arrow data: types, offsets and lengths in it decide
    what memory is read, and no reader looks at them. Raises DATA_INVALID."""
    try:
        if batch.num_rows < 0:  # passes for valid, and breaks whoever counts with it
            raise pa.ArrowInvalid("fewer rows than none")
        for values in batch.columns:
            _demand_type(values.type)
        batch.validate(full=True)
    except pa.ArrowException as error:
        del error  # it may quote values
        raise SluicegateError(
            Reason.DATA_INVALID, "a batch is not well-formed Arrow data; do not trust who sent it"
        ) from None


_DIGITS = {32: 9, 64: 18, 128: 38, 256: 76}  # that a decimal of so many bits has at the most


def _demand_type(dtype: pa.DataType) -> None:
    """Refuse a decimal of more places than digits go: it passes for valid, and a cast of it looks its power
    of ten up beyond the end of a table. Raises ArrowInvalid."""
    if pa.types.is_decimal(dtype) and abs(dtype.scale) > _DIGITS[dtype.bit_width]:
        raise pa.ArrowInvalid("a decimal with too many places")
    for index in range(dtype.num_fields):
        _demand_type(dtype.field(index).type)
    if pa.types.is_dictionary(dtype):
        _demand_type(dtype.value_type)


def _next_part(sizes: Sequence[int], index: int) -> tuple[int, int]:
    """The next part with rows, and how many: (len(sizes), 0) after the last."""
    index += 1
    while index < len(sizes) and not sizes[index]:
        index += 1
    return index, sizes[index] if index < len(sizes) else 0


def _batches_of(path: Path, schema: Sequence[tuple[str, str]]) -> Iterator[pa.RecordBatch]:
    import pyarrow.parquet as pq

    with path.open("rb") as file:
        magic = file.read(6)
    if magic[:4] == b"PAR1":
        with pq.ParquetFile(path) as parquet:
            yield from parquet.iter_batches(batch_size=_FILE_ROWS)
    elif magic == b"ARROW1":
        with pa.OSFile(str(path), "rb") as raw, pa.ipc.open_file(raw) as reader:
            for index in range(reader.num_record_batches):
                yield reader.get_batch(index)
    else:
        yield from read_csv(path, pa.schema([(name, arrow_type(spelling)) for name, spelling in schema]))


# --- one column -------------------------------------------------------------------------------


class _Form:
    """How one column's values become bytes: the Arrow type they are brought to, and its width."""

    __slots__ = ("arrow", "name", "spelling", "variable", "width")

    def __init__(self, name: str, spelling: str, arrow: pa.DataType, width: int) -> None:
        self.name, self.spelling, self.arrow, self.width = name, spelling, arrow, width
        self.variable = width == 0


_ARROW: Mapping[str, pa.DataType] = {
    "string": pa.string(),
    "list(string)": pa.list_(pa.string()),
    "binary": pa.binary(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "time(s)": pa.time32("s"),
    "time(ms)": pa.time32("ms"),
    "time(us)": pa.time64("us"),
    "time(ns)": pa.time64("ns"),
    **{f"int{bits}": getattr(pa, f"int{bits}")() for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": getattr(pa, f"uint{bits}")() for bits in (8, 16, 32, 64)},
}
_TIMESTAMP = re.compile(r"timestamp\((s|ms|us|ns)(?:,(.+))?\)")
_DECIMAL = re.compile(r"decimal\((\d{1,2}),(\d{1,2})\)")


def arrow_type(spelling: str) -> pa.DataType:
    """The Arrow type of a column type. Raises INVALID_ARGUMENT for one that cannot be sent."""
    if found := _ARROW.get(spelling):
        return found
    if match := _TIMESTAMP.fullmatch(spelling):
        return pa.timestamp(match[1], match[2])
    if (match := _DECIMAL.fullmatch(spelling)) and 1 <= int(match[1]) <= 38:
        return pa.decimal128(int(match[1]), int(match[2]))
    raise SluicegateError(Reason.INVALID_ARGUMENT, f"there is no column type {spelling[:64]!r}")


def _form(name: str, spelling: str) -> _Form:
    arrow = arrow_type(spelling)
    if spelling in ("string", "binary", "list(string)"):
        return _Form(name, spelling, arrow, 0)
    return _Form(name, spelling, arrow, 1 if spelling == "boolean" else arrow.bit_width // 8)


class _Part:
    """Columns and rows of a part so far."""

    __slots__ = ("columns", "rows")

    def __init__(self, columns: list[_Column]) -> None:
        self.columns, self.rows = columns, 0


class _Column:
    """The three streams of one column of one part."""

    __slots__ = ("_data", "_elements", "_form", "_lengths", "_new", "_validity")

    def __init__(self, form: _Form, new: Callable[[], Hasher]) -> None:
        self._form, self._new = form, new
        self._validity, self._lengths, self._data = new(), new(), new()
        self._elements = _Column(_form(form.name, "string"), new) if form.spelling == "list(string)" else None

    def update(self, values: pa.Array) -> None:
        """Take in a run of values."""
        rows = len(values)
        if not rows:
            return
        values = _brought_to(values, self._form)
        if values.null_count:
            self._validity.update(_bytes(values.is_valid()))
        else:
            for start in range(0, rows, len(_ONES)):
                self._validity.update(memoryview(_ONES)[: min(len(_ONES), rows - start)])
        if self._elements is not None:
            self._lengths.update(_buffer(pc.list_value_length(values).fill_null(0), 4))
            self._elements.update(values.flatten())  # without what lies under null lists
        elif self._form.variable:
            self._variable(values)
        else:
            self._data.update(_fixed(values, self._form))

    def _variable(self, values: pa.Array) -> None:
        if values.null_count:  # also takes away whatever lies under the nulls
            values = values.fill_null("" if self._form.spelling == "string" else b"")
        offsets, data = values.buffers()[1:3]
        self._lengths.update(_buffer(pc.binary_length(values), 4))
        bounds = pa.Array.from_buffers(pa.int32(), len(values) + 1, [None, offsets], offset=values.offset)
        first, last = bounds[0].as_py(), bounds[len(values)].as_py()
        if last > first:
            self._data.update(data.slice(first, last - first))

    def summary(self) -> list[str | None]:
        """What the column digest is over."""
        lengths = self._lengths.digest().hex() if self._form.variable else None
        data = self._data
        if self._elements is not None:
            data = self._new()
            data.update(canonical(self._elements.summary()[2:]))
        return [
            self._form.name,
            self._form.spelling,
            self._validity.digest().hex(),
            lengths,
            data.digest().hex(),
        ]


def _brought_to(values: pa.Array, form: _Form) -> pa.Array:
    """The same logical values in the form's Arrow type: offsets narrowed or widened."""
    if values.type == form.arrow:
        return values
    try:
        return values.cast(form.arrow, safe=True)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise SluicegateError(
            Reason.DIGEST_MISMATCH, f"column {form.name} is {values.type}, not {form.spelling} as the receipt says"
        ) from None


def _fixed(values: pa.Array, form: _Form) -> object:
    """The values' bytes, nulls as zeros."""
    if form.spelling == "boolean":
        return _bytes(values.fill_null(False) if values.null_count else values)
    if form.spelling in ("float32", "float64"):
        values = _quiet(values)
    if values.null_count:
        integers = {1: pa.int8(), 2: pa.int16(), 4: pa.int32(), 8: pa.int64()}.get(form.width)
        if integers is None:
            values = values.fill_null(pa.scalar(Decimal(0), form.arrow))
        else:
            plain = pa.Array.from_buffers(integers, len(values), values.buffers(), offset=values.offset)
            values = plain.fill_null(pa.scalar(0, integers))
    return _buffer(values, form.width)


def _quiet(values: pa.Array) -> pa.Array:
    """NaN has many bit patterns and one meaning."""
    nans = pc.is_nan(values)
    if not pc.any(nans).as_py():
        return values
    return pc.if_else(nans, pa.scalar(float("nan"), values.type), values)


def _bytes(flags: pa.Array) -> object:
    """One byte a flag."""
    return _buffer(flags.cast(pa.uint8()), 1)


def _buffer(values: pa.Array, width: int) -> pa.Buffer:
    """The stretch of the data buffer that these values lie in."""
    return values.buffers()[1].slice(values.offset * width, len(values) * width)

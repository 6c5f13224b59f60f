"""Record batches into one file: Parquet, CSV or Arrow IPC. Nothing is written that is not in the batches."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import pyarrow as pa
import pyarrow.compute as pc

Format = Literal["parquet", "csv", "arrow"]
Compression = Literal["zstd", "snappy", "none"]
FORMATS: tuple[Format, ...] = ("parquet", "csv", "arrow")
ENDINGS: Mapping[str, Format] = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
}

# Rows and bytes of a Parquet row group: large enough to scan well, small enough for memory.
GROUP_ROWS, GROUP_BYTES = 1 << 20, 128 << 20
# Of a CSV that is read back; a row has to fit into it.
BLOCK_BYTES = 16 << 20
# What a spreadsheet takes for the beginning of a formula.
FORMULA = r"^[=+\-@\t\r]"


class Writer(Protocol):
    """Writes batches in the order they come; the file is whole after `close`."""

    def write(self, batch: pa.RecordBatch) -> None:
        """One more batch."""
        ...

    def close(self) -> None:
        """Finish the file."""
        ...


def bare(schema: pa.Schema) -> pa.Schema:
    """The schema without metadata, of itself or of its fields."""
    return pa.schema([field.remove_metadata() for field in schema])


def create(path: Path) -> Any:
    """A new file, 0600, open for writing. Replaces what an earlier attempt left there."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    return os.fdopen(handle, "wb", buffering=1 << 20)


def sync(file: Any) -> None:
    """Put what was written on the disk."""
    file.flush()
    os.fsync(file.fileno())


def writer(
    file: Any, schema: pa.Schema, format: Format, *, csv_safe: bool = False, compression: Compression = "zstd"
) -> Writer:
    """The writer of a format onto an open binary file."""
    match format:
        case "parquet":
            return ParquetWriter(file, schema, compression)
        case "csv":
            return CsvWriter(file, schema, safe=csv_safe)
        case "arrow":
            return ArrowWriter(file, schema)


class ArrowWriter:
    """Arrow IPC file, uncompressed: a memory-mapped reader copies nothing."""

    def __init__(self, file: Any, schema: pa.Schema) -> None:
        self._writer = pa.ipc.new_file(file, schema)

    def write(self, batch: pa.RecordBatch) -> None:
        """One more batch."""
        self._writer.write_batch(batch)

    def close(self) -> None:
        """Write the footer."""
        self._writer.close()


class ParquetWriter:
    """Parquet with row groups of up to a million rows or 128 MiB."""

    def __init__(self, file: Any, schema: pa.Schema, compression: Compression) -> None:
        import pyarrow.parquet as pq

        self._schema = schema
        self._writer = pq.ParquetWriter(file, schema, compression=compression)
        self._waiting: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """One more batch, written once a row group is full."""
        self._waiting.append(batch)
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        if self._rows >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        """Write the last row group and the footer."""
        try:
            self._flush()
            self._writer.close()
        finally:
            self._writer.is_open = False  # else it tries again, loudly, when it is collected

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_batches(self._waiting, self._schema), row_group_size=GROUP_ROWS)
        self._waiting, self._rows, self._bytes = [], 0, 0


def read_csv(path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """What `CsvWriter` wrote, in the types that it had: every value comes back as it was, unless cells were
    defused. The columns are those of the file, in its order; whether they are the right ones is not
    looked at. Raises ArrowInvalid for a cell that is not of its type."""
    import pyarrow.csv as csv

    kinds = {field.name: pa.string() if _is_spelt(field.type) else field.type for field in schema}
    with csv.open_csv(
        path,
        read_options=csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False),
        # In a file of one column, an empty line is a row.
        parse_options=csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        convert_options=csv.ConvertOptions(
            column_types=kinds, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
        ),
    ) as reader:
        for batch in reader:
            columns = [
                _read(column, schema.field(name).type) if name in kinds else column
                for name, column in zip(batch.schema.names, batch.columns, strict=True)
            ]
            yield pa.RecordBatch.from_arrays(columns, batch.schema.names)


NO_LIST = [0]  # of no cell


def listed(cell: str) -> list[Any]:
    """The texts of a JSON array of texts and nulls; `NO_LIST` for anything else."""
    try:
        found = json.loads(cell)
    except (ValueError, RecursionError):
        return NO_LIST
    texts = isinstance(found, list) and all(value is None or isinstance(value, str) for value in found)
    return found if texts else NO_LIST


def _demand_list(cell: str) -> list[Any]:
    if (found := listed(cell)) is NO_LIST:
        raise pa.ArrowInvalid("a cell is no list of texts")
    return found


def _read(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """What cells say that are written out in CSV."""
    if not _is_spelt(kind):
        return column
    read: Callable[[str], Any] = _demand_list if _is_list(kind) else bytes.fromhex
    plain = kind if _is_list(kind) else pa.binary()
    return pa.array([None if cell is None else read(cell) for cell in column.to_pylist()], plain)


def _spelt(value: bytes | list[str | None]) -> str:
    return value.hex() if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _is_spelt(kind: pa.DataType) -> bool:
    """Whether CSV has no cells for such values, and they are written out as text."""
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind)) or _is_list(kind)


class CsvWriter:
    """CSV as RFC 4180 with a header, UTF-8; text is quoted, so that null (nothing) and the empty text
    (`""`) stay apart. Binary columns become lower-case hex, lists JSON arrays, which no spreadsheet runs.
    `formulas` counts the cells that a spreadsheet would run and that stayed as they are, `defused` the cells and
    column names that did not."""

    def __init__(self, file: Any, schema: pa.Schema, *, safe: bool) -> None:
        import pyarrow.csv as csv

        self._safe = safe
        self.formulas, shown = 0, self._shown(schema)
        self.defused = sum(name != schema.names[index] for index, name in enumerate(shown.names))
        self._writer = csv.CSVWriter(file, shown)

    def _shown(self, schema: pa.Schema) -> pa.Schema:
        names = [f"'{name}" if self._safe and name[:1] in "=+-@\t\r" and name else name for name in schema.names]
        types = [pa.string() if _is_spelt(kind) else kind for kind in schema.types]
        return pa.schema(list(zip(names, types, strict=True)))

    def write(self, batch: pa.RecordBatch) -> None:
        """One more batch."""
        columns = [self._cells(column) for column in batch.columns]
        self._writer.write_batch(pa.record_batch(columns, schema=self._shown(batch.schema)))

    def close(self) -> None:
        """Flush."""
        self._writer.close()

    def _cells(self, column: pa.Array) -> pa.Array:
        if _is_spelt(column.type):
            return pa.array([None if cell is None else _spelt(cell) for cell in column.to_pylist()], pa.string())
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            runs = pc.sum(pc.match_substring_regex(column, FORMULA)).as_py() or 0
            if self._safe:
                self.defused += runs
                return defused(column)
            self.formulas += runs
        return column


def defused(column: pa.Array) -> pa.Array:
    """Text cells that a spreadsheet would run, with an apostrophe before them; the rest as they are."""
    runs = pc.match_substring_regex(column, FORMULA)
    marked = pc.binary_join_element_wise(pa.scalar("'", column.type), column, pa.scalar("", column.type))
    return pc.if_else(runs, marked, column)

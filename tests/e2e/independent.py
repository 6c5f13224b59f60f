"""What the tests compute for themselves, from the written formats and with other engines than ours."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import blake3
import pyarrow as pa
import pyarrow.parquet as pq

ZSTD = b"\x28\xb5\x2f\xfd"


# --- the content digest, version 1, value by value -------------------------------------------


def content_digest(table: pa.Table, rows: Sequence[int], hash: str) -> str:
    """The content digest of rows that came in parts of so many rows: text, whole numbers and floats."""
    new = {"blake3": blake3.blake3, "sha-256": hashlib.sha256}[hash]
    types = {"string": "string", "large_string": "string", "int64": "int64", "double": "float64"}
    schema = [[field.name, types[str(field.type)]] for field in table.schema]

    def written(value: object) -> str:
        # RFC 8785, as far as texts and small whole numbers go; keys are put in order here.
        raw = json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=True).encode()
        return f"{hash.replace('-', '')}:{new(raw).hexdigest()}"

    parts, start = [], 0
    for count in rows:
        part = table.slice(start, count)
        columns = [written([name, kind, *_streams(new, kind, part[name].to_pylist())]) for name, kind in schema]
        parts.append({"digest": written([count, columns]), "rows": count})
        start += count
    assert start == table.num_rows
    return written({"parts": parts, "schema": schema})


def _streams(new: Any, kind: str, values: list[Any]) -> list[str | None]:
    """Validity, lengths and data of a column, each hashed apart."""
    validity, lengths, data = new(), new(), new()
    for value in values:
        validity.update(b"\0" if value is None else b"\1")
        if kind == "string":
            raw = b"" if value is None else value.encode()
            lengths.update(struct.pack("<I", len(raw)))
            data.update(raw)
        else:
            data.update(struct.pack("<q" if kind == "int64" else "<d", 0 if value is None else value))
    return [validity.hexdigest(), lengths.hexdigest() if kind == "string" else None, data.hexdigest()]


# --- every byte of what was received ---------------------------------------------------------


def pages(path: Path) -> bytes:
    """All pages of a Parquet file as they stand in it, decompressed, and the file itself (its footer
    holds statistics)."""
    raw, found = path.read_bytes(), []
    metadata = pq.ParquetFile(path).metadata
    for group in range(metadata.num_row_groups):
        for index in range(metadata.num_columns):
            column = metadata.row_group(group).column(index)
            at = column.dictionary_page_offset or column.data_page_offset
            end = at + column.total_compressed_size
            while at < end:
                _, size, compressed = _header(raw, at)
                at = raw.index(ZSTD, at)
                found.append(pa.decompress(raw[at : at + compressed], size, codec="zstd", asbytes=True))
                at += compressed
    assert found
    return raw + b"".join(found)


def _header(raw: bytes, at: int) -> list[int]:
    """The first three fields of a page header (thrift, compact): type, size, compressed size."""
    numbers = []
    for _ in range(3):
        assert raw[at] == 0x15, "field by field, each a 32-bit number"
        at, value, shift = at + 1, 0, 0
        while True:
            value |= (raw[at] & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if not raw[at - 1] & 0x80:
                break
        numbers.append((value >> 1) ^ -(value & 1))
    return numbers


def found_in(blob: bytes, values: Iterable[str]) -> set[str]:
    """Those of the values that stand anywhere in the bytes."""
    groups: dict[int, set[bytes]] = {}
    for value in values:
        raw = value.encode()
        groups.setdefault(len(raw), set()).add(raw)
    hits: set[bytes] = set()
    for length, wanted in groups.items():
        if len(wanted) < 50:
            hits |= {raw for raw in wanted if raw in blob}
        else:
            hits |= wanted.intersection(blob[at : at + length] for at in range(len(blob) - length + 1))
    return {hit.decode() for hit in hits}


def hidden(batches: Iterable[pa.RecordBatch]) -> Iterator[str]:
    """Whatever stands in the buffers of a batch but in no cell: under nulls, between or behind values."""
    for batch in batches:
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            assert column.offset == 0, f"{name} is a window into something larger"
            if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
                used = sum(len(value.encode()) for value in column.to_pylist() if value is not None)
                raw = bytes(column.buffers()[2] or b"")
                if raw[used:].strip(b"\0"):
                    yield f"{name}: {len(raw) - used} bytes in no cell"
                continue
            assert pa.types.is_int64(column.type) or pa.types.is_float64(column.type), f"{name} is {column.type}"
            raw = bytes(column.buffers()[1] or b"")
            for row, value in enumerate(column.to_pylist()):
                if value is None and raw[8 * row : 8 * row + 8].strip(b"\0"):
                    yield f"{name}: a value under a null"
            if raw[8 * len(column) :].strip(b"\0"):
                yield f"{name}: values behind the last row"


def tellable(raw: Iterable[str], lawful: Iterable[str]) -> set[str]:
    """The raw values that would give themselves away: of four characters at least, not to be read in
    what may lawfully be there, and no bare digits, which pseudonyms are full of (numbers are compared
    slot by slot)."""
    text = "\n".join(lawful)
    return {value for value in raw if len(value) > 3 and not value.isdigit() and value not in text}

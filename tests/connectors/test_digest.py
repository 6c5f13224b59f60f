"""The content digest: against a plain one, value by value, and across encodings."""

from __future__ import annotations

import datetime as dt
import hashlib
import math
import struct
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rfc8785
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.digest import ContentDigest, Hash, arrow_type, demand_sound, of_file
from connectors.writers import writer
from contracts.dtypes import BOOLEAN, DATE, FLOAT64, INT32, INT64, LIST, STRING, UINT64, DType, timestamp
from contracts.errors import Reason, SluicegateError
from contracts.receipt import PartDigest

EPOCH = dt.date(1970, 1, 1)
SCHEMA = {
    "text": STRING,
    "flag": BOOLEAN,
    "small": INT32,
    "large": UINT64,
    "real": FLOAT64,
    "day": DATE,
    "moment": timestamp("us", "Etc/UTC"),
    "price": DType("decimal", precision=20, scale=2),
    "bytes": DType("binary"),
    "codes": LIST,
}


def _plain_bytes(dtype: DType, value: Any) -> bytes:
    match str(dtype):
        case "string":
            return b"" if value is None else value.encode()
        case "binary":
            return b"" if value is None else value
        case "boolean":
            return bytes([bool(value)])
        case "int32":
            return struct.pack("<i", value or 0)
        case "int64":
            return struct.pack("<q", value or 0)
        case "uint64":
            return struct.pack("<Q", value or 0)
        case "float64":
            return (
                bytes.fromhex("000000000000f87f")
                if value is not None and math.isnan(value)
                else struct.pack("<d", value or (0.0 if value is None else value))
            )
        case "date":
            return struct.pack("<i", 0 if value is None else (value - EPOCH).days)
        case "timestamp(us,Etc/UTC)":
            since = None if value is None else value - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
            return struct.pack("<q", 0 if since is None else since // dt.timedelta(microseconds=1))
        case "decimal(20,2)":
            return int((value or Decimal(0)).scaleb(2)).to_bytes(16, "little", signed=True)
    raise AssertionError(dtype)


def _plain(schema: dict[str, DType], parts: list[dict[str, list[Any]]], name: Hash) -> str:
    """The definition, written down value by value."""
    label, new = ("sha256", hashlib.sha256) if name == "sha-256" else ("blake3", blake3)

    def over(value: Any) -> str:
        return f"{label}:{new(rfc8785.dumps(value)).hexdigest()}"

    def streams(dtype: DType, values: list[Any]) -> list[str | None]:
        validity = new(b"".join(b"\0" if value is None else b"\1" for value in values)).hexdigest()
        each = [_plain_bytes(dtype, value) for value in values]
        lengths = new(b"".join(struct.pack("<I", len(one)) for one in each)).hexdigest()
        spelled = lengths if dtype.kind in ("string", "binary") else None
        return [validity, spelled, new(b"".join(each)).hexdigest()]

    listed = []
    for part in parts:
        columns = []
        for column, dtype in schema.items():
            values = part[column]
            validity = new(b"".join(b"\0" if value is None else b"\1" for value in values)).hexdigest()
            if dtype == LIST:
                elements = [text for value in values if value is not None for text in value]
                lengths = new(b"".join(struct.pack("<I", len(value or ())) for value in values)).hexdigest()
                held = new(rfc8785.dumps(streams(STRING, elements))).hexdigest()
                columns.append(over([column, str(dtype), validity, lengths, held]))
                continue
            columns.append(over([column, str(dtype), *streams(dtype, values)]))
        rows = len(next(iter(part.values())))
        listed.append({"rows": rows, "digest": over([rows, columns])})
    return over({"schema": [[column, str(dtype)] for column, dtype in schema.items()], "parts": listed})


def _table(part: dict[str, list[Any]]) -> pa.Table:
    return pa.table({name: pa.array(part[name], arrow_type(str(dtype))) for name, dtype in SCHEMA.items()})


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "text": st.text(max_size=12),
    "flag": st.booleans(),
    "small": st.integers(-(2**31), 2**31 - 1),
    "large": st.integers(0, 2**64 - 1),
    "real": st.floats(),
    "day": st.dates(),
    "moment": st.datetimes(
        min_value=dt.datetime(1700, 1, 1), max_value=dt.datetime(2200, 1, 1), timezones=st.just(dt.UTC)
    ),
    "price": st.decimals(-(10**17), 10**17, places=2),
    "bytes": st.binary(max_size=12),
    "codes": st.lists(st.none() | st.text(max_size=5), max_size=4),
}
ROWS = st.lists(st.tuples(*(st.none() | value for value in VALUES.values())), max_size=25)
PARTS = st.lists(ROWS.map(lambda rows: {name: [row[i] for row in rows] for i, name in enumerate(VALUES)}), max_size=3)


@settings(max_examples=60, deadline=None)
@given(parts=PARTS, name=st.sampled_from(["sha-256", "blake3"]), step=st.integers(1, 9))
def test_it_is_what_the_definition_says_however_it_is_batched(
    parts: list[dict[str, list[Any]]], name: Hash, step: int
) -> None:
    digest = ContentDigest(SCHEMA, name)
    for index, part in enumerate(parts):
        digest.open_part(index)
        table = _table(part)
        for start in range(0, table.num_rows, step):
            digest.update(index, table.slice(start, step))
    assert digest.finish() == _plain(SCHEMA, parts, name) == digest.finish()


@settings(max_examples=40, deadline=None)
@given(rows=ROWS.filter(len), step=st.integers(1, 9))
def test_it_survives_polars_dictionaries_views_and_wide_offsets(rows: list[tuple[Any, ...]], step: int) -> None:
    part = {name: [row[i] for row in rows] for i, name in enumerate(VALUES)}
    table = _table(part)
    expected = _plain(SCHEMA, [part], "blake3")
    frame = pl.DataFrame(pl.from_arrow(table))
    wide = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    views = table.set_column(0, "text", table["text"].cast(pa.string_view()))
    coded = table.set_column(0, "text", table["text"].dictionary_encode())
    for other in (wide, views, coded):
        digest = ContentDigest(SCHEMA, "blake3")
        for batch in other.to_batches(max_chunksize=step):
            digest.update(0, batch)
        assert digest.finish() == expected


@pytest.mark.parametrize("name", ["sha-256", "blake3"])
@pytest.mark.parametrize("kind", ["parquet", "arrow", "csv"])
@pytest.mark.parametrize("sizes", [[7], [3, 4], [3, 0, 4], [0, 7, 0], [1] * 7])
def test_a_file_is_recomputed_part_by_part(tmp_path: Path, name: Hash, kind: str, sizes: list[int]) -> None:
    part = {
        "text": ["a", "", None, "日本", "x" * 300, "e", "f"],
        "flag": [True, None, False, True, True, None, False],
        "small": [1, None, -3, 4, 5, 6, 7],
        "large": [2**64 - 1, None, 0, 1, 2, 3, 4],
        "real": [math.nan, -0.0, None, math.inf, 1.5, 2.5, -1.0],
        "day": [EPOCH, None, dt.date(1969, 1, 1), EPOCH, EPOCH, EPOCH, EPOCH],
        "moment": [dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC), None]
        + [dt.datetime(1960, 1, 1, tzinfo=dt.UTC)] * 5,
        "price": [Decimal("1.25"), None, Decimal("-3.50"), Decimal(0), Decimal(1), Decimal(2), Decimal(3)],
        "bytes": [b"\0", b"", None, b"abc", b"d", b"e", b"f"],
        "codes": [["a", None], [], None, [""], ["日本", "b"], [None], ["c"]],
    }
    parts, start = [], 0
    for size in sizes:
        parts.append({column: values[start : start + size] for column, values in part.items()})
        start += size
    path = tmp_path / f"pulled.{kind}"
    table = _table(part)
    if kind == "parquet":
        pq.write_table(table, path, row_group_size=2)
    elif kind == "csv":
        with path.open("wb") as file:
            lines = writer(file, table.schema, "csv")
            for batch in table.to_batches(max_chunksize=2):
                lines.write(batch)
            lines.close()
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as stream:
            stream.write_table(table, max_chunksize=2)
    spelled = [(column, str(dtype)) for column, dtype in SCHEMA.items()]
    counts = [PartDigest(rows=size, digest="") for size in sizes]
    assert of_file(path, spelled, counts, name) == _plain(SCHEMA, parts, name)
    for wrong in ([*sizes[:-1], sizes[-1] + 1], [*sizes, 1]):
        with pytest.raises(SluicegateError) as caught:
            of_file(path, spelled, [PartDigest(rows=size, digest="") for size in wrong], name)
        assert caught.value.reason is Reason.DIGEST_MISMATCH


def test_every_single_change_changes_it() -> None:
    base = {"a": ["x", None, "yz"], "b": [1, 2, None]}
    schema = {"a": STRING, "b": INT64}

    def of(part: dict[str, list[Any]], schema: dict[str, DType] = schema, cut: int | None = None) -> str:
        digest = ContentDigest(schema, "sha-256")
        table = pa.table({name: pa.array(values, arrow_type(str(schema[name]))) for name, values in part.items()})
        digest.update(0, table.slice(0, cut))
        if cut is not None:
            digest.update(1, table.slice(cut))
        return digest.finish()

    variants = [
        {"a": ["x", "", "yz"], "b": [1, 2, None]},
        {"a": ["xy", None, "z"], "b": [1, 2, None]},
        {"a": ["x", None, "yz"], "b": [1, 2, 0]},
        {"a": ["x", None, "yz"], "b": [1, None, 2]},
        {"a": [None, "x", "yz"], "b": [1, 2, None]},
        {"a": ["x", None], "b": [1, 2]},
    ]
    found = [of(base), of(base, cut=1), of(base, cut=2), of(base, {"a": STRING, "b": INT32}), *map(of, variants)]
    assert len(set(found)) == len(found)


def test_what_lies_under_nulls_has_no_influence() -> None:
    dirty = pa.Array.from_buffers(
        pa.string(), 3, [pa.py_buffer(b"\x05"), pa.py_buffer(struct.pack("<4i", 0, 1, 7, 8)), pa.py_buffer(b"asecretb")]
    )
    numbers = pa.Array.from_buffers(pa.int64(), 3, [pa.py_buffer(b"\x05"), pa.py_buffer(struct.pack("<3q", 1, 99, 2))])
    clean = [pa.array(["a", None, "b"]), pa.array([1, None, 2])]
    found = []
    for columns in ([dirty, numbers], clean):
        digest = ContentDigest({"a": STRING, "b": INT64}, "sha-256")
        digest.update(0, pa.table(columns, names=["a", "b"]))
        found.append(digest.finish())
    assert found[0] == found[1]


def test_known_parts_give_the_same_digest_as_their_rows() -> None:
    digest = ContentDigest({"a": INT64}, "sha-256")
    digest.update(1, pa.table({"a": [3]}))
    digest.update(0, pa.table({"a": [1, 2]}))
    assert digest.over([digest.part(0), digest.part(1)]) == digest.finish()


def test_refusals() -> None:
    digest = ContentDigest({"a": INT64}, "sha-256")
    for table in (pa.table({"b": [1]}), pa.table({"a": [1], "b": [1]}), pa.table({"a": ["x"]})):
        with pytest.raises(SluicegateError) as caught:
            digest.update(0, table)
        assert caught.value.reason is Reason.DIGEST_MISMATCH
        assert "'x'" not in str(caught.value)
    digest.update(1, pa.table({"a": [1]}))
    gap = ContentDigest({"a": INT64}, "sha-256")
    gap.open_part(1)
    with pytest.raises(SluicegateError) as caught:
        gap.finish()
    assert caught.value.reason is Reason.DIGEST_MISMATCH
    with pytest.raises(SluicegateError) as caught:
        ContentDigest({"a": INT64}, "md5")  # type: ignore[arg-type]
    assert caught.value.reason is Reason.INVALID_ARGUMENT
    with pytest.raises(SluicegateError) as caught:
        ContentDigest({"a": DType("other", name="list")}, "sha-256")
    assert caught.value.reason is Reason.INVALID_ARGUMENT


@pytest.mark.parametrize("content", [b"PAR1 and then nothing", b"ARROW1\0\0broken", b"a,b\n1,2\n", b""])
def test_files_that_cannot_be_hashed_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(SluicegateError) as caught:
        of_file(path, [("a", "int64")], [PartDigest(rows=1, digest="")], "blake3")
    assert caught.value.reason is (Reason.DIGEST_MISMATCH if content.startswith(b"a,b") else Reason.DATA_INVALID)


def test_a_small_file_that_stands_for_very_much_is_refused(tmp_path: Path) -> None:
    said = pa.array(["x" * 2**20], pa.large_string())
    once = pa.DictionaryArray.from_arrays(pa.array([0] * 2048, pa.int16()), said)
    path = tmp_path / "pulled.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, pa.schema([("a", once.type)])) as file:
        file.write_table(pa.table({"a": once}))
    with pytest.raises(SluicegateError) as caught:
        of_file(path, [("a", "string")], [PartDigest(rows=2048, digest="")], "blake3")
    assert caught.value.reason is Reason.DATA_INVALID
    assert "stands for more than" in str(caught.value), "before so much memory is taken"


ONE_COLUMN = {
    "string": ["", None, 'say "a, b"', "two\r\nlines\n", " blanks ", "null", "NA", "007", None],
    "int64": [None, 1, None],
    "float64": [0.1, 5e-324, math.inf, None, math.nan, -0.0],
    "timestamp(us,Europe/Berlin)": [
        dt.datetime(2025, 10, 26, hour, 30, tzinfo=dt.UTC)
        for hour in (0, 1)  # the same hour twice, there
    ],
    "timestamp(ns)": [dt.datetime(1677, 9, 22), None],
    "time(us)": [dt.time(1, 2, 3, 4), None],
    "decimal(38,2)": [Decimal("-" + "9" * 36 + ".99"), None],
    "binary": [b"", None, bytes(range(256))],
    "list(string)": [[], None, [None], [""], ["a", 'say "b", c', "two\nlines", "=1+1", "王"], ["null"]],
}


@pytest.mark.parametrize("spelling", ONE_COLUMN)
def test_a_csv_comes_back_as_it_was(tmp_path: Path, spelling: str) -> None:
    column = pa.array(ONE_COLUMN[spelling], arrow_type(spelling))
    batch, path = pa.record_batch([column], names=["a"]), tmp_path / "x.csv"
    with path.open("wb") as file:
        lines = writer(file, batch.schema, "csv")
        lines.write(batch)
        lines.close()
    digest = ContentDigest([("a", spelling)], "blake3")
    digest.update(0, batch)
    rows = [PartDigest(rows=len(column), digest="")]
    assert of_file(path, [("a", spelling)], rows, "blake3") == digest.finish()


def test_a_changed_csv_is_noticed(tmp_path: Path) -> None:
    path, schema, rows = tmp_path / "x.csv", [("code", "string"), ("n", "int64")], [PartDigest(rows=2, digest="")]
    path.write_text('"code","n"\n"007",1\n,2\n')
    good = of_file(path, schema, rows, "blake3")
    for old, new in (('"007"', '"7"'), (",2", '"",2'), (",1", ",3")):
        path.write_text('"code","n"\n"007",1\n,2\n'.replace(old, new))
        assert of_file(path, schema, rows, "blake3") != good
    for content, reason in (
        ('"code","n"\n"007",x\n,2\n', Reason.DATA_INVALID),
        ('"n","code"\n1,"007"\n2,\n', Reason.DIGEST_MISMATCH),
        ('"code","n"\n"007",1\n', Reason.DIGEST_MISMATCH),
        ('"code","n"\n"007",1\n,2\n,2\n', Reason.DIGEST_MISMATCH),
    ):
        path.write_text(content)
        with pytest.raises(SluicegateError) as caught:
            of_file(path, schema, rows, "blake3")
        assert caught.value.reason is reason, content
        assert "007" not in str(caught.value)


@pytest.mark.parametrize(
    "dtype",
    [
        pa.decimal128(9, 157_848_127),
        pa.decimal128(9, -39),
        pa.decimal32(5, 10),
        pa.dictionary(pa.int8(), pa.decimal128(9, 39)),
        pa.list_(pa.decimal256(9, 77)),
    ],
    ids=str,
)
def test_a_decimal_with_more_places_than_digits_go_is_refused(dtype: pa.DataType) -> None:
    batch = pa.RecordBatch.from_arrays([pa.nulls(2, dtype)], names=["price"])
    with pytest.raises(SluicegateError) as caught:
        demand_sound(batch)
    assert caught.value.reason is Reason.DATA_INVALID


def test_a_batch_of_fewer_rows_than_none_is_refused() -> None:
    """Arrow calls it valid where there are no columns, and whoever counts what is still awaited is led astray."""
    honest = pa.RecordBatch.from_struct_array(pa.array([{}] * 4_800, pa.struct([])))
    raw = honest.serialize().to_pybytes()
    rows = struct.pack("<q", 4_800)
    assert raw.count(rows) == 1
    lied = pa.ipc.read_record_batch(pa.py_buffer(raw.replace(rows, struct.pack("<q", -1))), honest.schema)
    lied.validate(full=True)
    with pytest.raises(SluicegateError) as caught:
        demand_sound(lied)
    assert caught.value.reason is Reason.DATA_INVALID
    demand_sound(honest)

"""The spool gives back what it was given, from memory and from disk alike."""

from __future__ import annotations

import itertools
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.spooling import order, packing
from connectors.spooling.order import ReleaseKey
from connectors.spooling.packing import Alike, arrow
from connectors.spooling.spool import Rows
from contracts.errors import Reason, SluicegateError

COLUMNS: dict[str, tuple[pa.DataType, st.SearchStrategy[object]]] = {
    "text": (pa.large_string(), st.text(st.characters(exclude_categories=["Cs"]), max_size=12)),
    "alike": (pa.large_string(), st.sampled_from(["138********", "139********"])),
    "few": (pa.large_string(), st.sampled_from(["east", "the west", ""])),
    "bytes": (pa.large_binary(), st.binary(max_size=9)),
    "flag": (pa.bool_(), st.booleans()),
    "small": (pa.int8(), st.integers(-128, 127)),
    "large": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "repeated": (pa.int64(), st.sampled_from([-1000, 0, 2**40])),
    "float": (pa.float64(), st.floats(allow_nan=False)),
    "day": (pa.date32(), st.dates(date(1900, 1, 1), date(2100, 1, 1))),
    "moment": (pa.timestamp("us"), st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1))),
    "span": (pa.time64("us"), st.times()),
    "codes": (
        pa.large_list(pa.large_string()),
        st.lists(st.none() | st.text("ab王", max_size=3), max_size=4),
    ),
    "sum": (pa.decimal128(12, 2), st.integers(-(10**9), 10**9).map(lambda cents: Decimal(cents).scaleb(-2))),
}
NAMES = list(COLUMNS)
MEASURED = ["large", "few", "repeated", "flag"]


@st.composite
def tables(draw: st.DrawFn) -> pa.RecordBatch:
    rows = draw(st.integers(1, 40))
    nulls = draw(st.booleans())
    arrays = []
    for kind, values in COLUMNS.values():
        cell = st.none() | values if nulls else values
        arrays.append(pa.array(draw(st.lists(cell, min_size=rows, max_size=rows)), kind))
    return pa.RecordBatch.from_arrays(arrays, names=NAMES)


def spooled(path: Path, batches: list[pa.RecordBatch], limit: int) -> Rows:
    rows = Rows(path, memory_limit=limit)
    stream = ReleaseKey(b"s" * 32, "rel").stream("buckets")
    for batch in batches:
        rows.add(batch, *order.deal(stream, batch.num_rows))
    rows.seal()
    return rows


def plain(rows: Rows, first: int, last: int) -> pa.RecordBatch:
    held = rows.buckets(first, last, NAMES)
    kinds = {name: kind for name, (kind, _) in COLUMNS.items()}
    return pa.record_batch({name: rows.plain(held, name, kinds[name]) for name in NAMES})


@settings(deadline=None, max_examples=60)
@given(batches=st.lists(tables(), min_size=1, max_size=4), data=st.data())
def test_memory_and_disk_give_the_same_rows(
    tmp_path_factory: pytest.TempPathFactory, batches: list[pa.RecordBatch], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    half = sum(batch.nbytes for batch in batches) // 2
    held, written, late = (spooled(folder / f"rows-{limit}", batches, limit) for limit in (2**30, 0, half))
    first, last = sorted(data.draw(st.tuples(st.integers(0, order.BUCKETS), st.integers(0, order.BUCKETS))))
    assert [path.name for path in folder.iterdir()] == []  # a crash leaves nothing
    expected = plain(held, first, last)
    for other in (written, late):
        assert plain(other, first, last).equals(expected)
        assert other.positions(first, last) == held.positions(first, last)
        for mine, theirs in zip(held.batches(MEASURED), other.batches(MEASURED), strict=True):
            assert mine.equals(theirs)
    whole = plain(held, 0, order.BUCKETS).to_pylist()
    assert sorted(map(repr, whole)) == sorted(repr(row) for batch in batches for row in batch.to_pylist())
    for rows in (held, written, late):
        rows.close()


def test_few_values_are_kept_as_codes_and_many_as_they_are(tmp_path: Path) -> None:
    """New values in later batches get new codes; where they become too many, what was coded stays readable."""
    kind = pa.large_string()
    batches = [["a", None] * 32, ["b", "a"] * 32, [str(n) for n in range(9000)], ["b", "a"] * 32]
    for limit in (2**30, 0):
        rows = Rows(tmp_path / f"rows-{limit}", memory_limit=limit)
        for batch in batches:
            values = pa.array(batch, kind)
            rows.add(pa.record_batch({"n": values}), pa.array(range(len(batch)), pa.uint64()), [0, len(batch)])
        rows.seal()
        assert [frame["n"].to_list() for frame in rows.batches(["n"])] == batches
        held = rows.buckets(0, 1, ["n"])
        whole = rows.plain(held, "n", pa.string())
        assert whole.type == pa.string()
        assert whole.to_pylist() == [value for batch in batches for value in batch]
        rows.close()


def test_codes_take_two_bytes_a_value(tmp_path: Path) -> None:
    rows = Rows(tmp_path / "rows", memory_limit=2**30)
    values = {"text": pa.array(["138********", "139********"] * 64, pa.large_string()), "n": pa.array([7, None] * 64)}
    for _ in range(2):
        rows.add(pa.record_batch(values), pa.array(range(128), pa.uint64()), [0, 128])
    held = rows.buckets(0, 1, ["text", "n"])
    assert held.schema.types == [pa.uint16(), pa.uint16()]
    assert rows.size == 2 * 128 * (11 + 8)
    rows.close()


CLASSES = pl.DataFrame(
    {
        "class": pl.Series([2**64 - 1, 7, 0, 2**40], dtype=pl.UInt64),
        "town": ["east", None, "", "王家镇"],
        "share": [0.5, None, -0.0, 1.5],
        "day": [date(2025, 1, 1), None, date(1900, 1, 1), date(2100, 1, 1)],
        "sealed": pl.Series([1, 2, 3, 4], dtype=pl.UInt64),
    }
)


@settings(deadline=None, max_examples=60)
@given(
    met=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=30), min_size=1, max_size=4),
    most=st.integers(1, 4),
    limit=st.sampled_from([2**30, 0]),
)
def test_what_is_alike_in_a_class_is_kept_once(
    tmp_path_factory: pytest.TempPathFactory, met: list[list[int]], most: int, limit: int
) -> None:
    """And comes back row by row, also where the classes become too many midway; each class is told once."""
    batches = [CLASSES[classes].with_columns(row=pl.int_range(len(classes))) for classes in met]
    rows = Rows(
        tmp_path_factory.mktemp("spool") / "rows",
        memory_limit=limit,
        beside=["sealed"],
        alike=Alike("class", ["town", "share", "day", "sealed"]),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "_FEW", 0)
        patch.setattr(packing, "_MOST", most)
        first = list[pl.DataFrame]()
        for batch in batches:
            folded = rows.folded(batch)
            first += [] if folded.first is None else [pl.DataFrame(folded.first)]
            rows.add(arrow(folded.batch), pa.array(range(batch.height), pa.uint64()), [0, batch.height])
    rows.seal()
    columns = list(reversed(batches[0].columns))
    for batch, found in zip(batches, rows.batches(columns), strict=True):
        assert found.equals(batch.select(columns))
    held = rows.buckets(0, 1, columns)
    whole = pl.DataFrame({name: pl.Series(rows.plain(held, name)) for name in columns})
    assert whole.equals(pl.concat(batches).select(columns))
    once = len({*itertools.chain(*met)}) <= most
    assert (Alike.CODE in held.schema.names) == once
    told = pl.concat(first)["class"].to_list() if first else []
    assert len(told) == len(set(told))
    assert (len(first) == len(batches)) == once
    assert not once or set(told) == set(pl.concat(batches)["class"])
    assert ("town" in held.schema.names) == (not once)
    assert "share" in held.schema.names  # equal floats may differ in their bits
    texts = pl.concat(batches)["town"].str.len_bytes().sum()
    assert rows.size == texts + whole.height * (8 + 8 + 4 + 8)
    rows.close()


def test_a_file_that_lost_its_end_is_not_believed(tmp_path: Path) -> None:
    batch = pa.RecordBatch.from_arrays([pa.array(range(5000), pa.int64())], names=["n"])
    rows = Rows(tmp_path / "rows", memory_limit=0)
    rows.add(batch, *order.deal(ReleaseKey(b"s" * 32, "rel").stream("buckets"), batch.num_rows))
    with (tmp_path / "rows").open("r+b") as file:
        file.truncate(1000)
    rows.seal()
    with pytest.raises(SluicegateError) as caught:
        list(rows.batches(["n"]))
    assert caught.value.reason is Reason.CONFIG_INVALID
    rows.close()


@given(rows=st.integers(0, 5000))
def test_a_shuffle_has_every_index_once(rows: int) -> None:
    indexes = order.shuffled(ReleaseKey(b"s" * 32, "rel").stream("shuffle", rows), rows)
    assert indexes.dtype == pl.UInt64
    assert indexes.sort().to_list() == list(range(rows))


def test_a_shuffle_puts_any_row_anywhere() -> None:
    """Of 4,000 shuffles of five, each of the 120 orders comes about as often: chi-squared with 119 degrees
    of freedom stays below 190 but once in 30,000; keys are fixed, so that it is one draw for good."""
    seen: dict[tuple[int, ...], int] = {}
    for number in range(4000):
        found = tuple(order.shuffled(ReleaseKey(b"s" * 32, "rel").stream("shuffle", number), 5).to_list())
        seen[found] = seen.get(found, 0) + 1
    expected = 4000 / 120
    assert len(seen) == 120
    assert sum((count - expected) ** 2 / expected for count in seen.values()) < 190

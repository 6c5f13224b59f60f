"""Dictionaries on the way: what they hold, and what a stranger's may not do."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import dictionaries
from connectors.dictionaries import written_out
from connectors.digest import demand_sound
from contracts.errors import Reason, SluicegateError

KINDS: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.string(): st.text("ab王", max_size=3),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.bool_(): st.booleans(),
    pa.date32(): st.dates(dt.date(1900, 1, 1), dt.date(2100, 1, 1)),
    pa.timestamp("us", "Asia/Shanghai"): st.integers(-(2**40), 2**40),
    pa.decimal128(12, 2): st.integers(-(10**9), 10**9).map(lambda cents: Decimal(cents).scaleb(-2)),
}


@settings(deadline=None)
@given(data=st.data())
def test_a_dictionary_says_what_its_rows_say_and_no_more(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(list(KINDS)))
    values = pa.array(data.draw(st.lists(st.none() | KINDS[kind], min_size=1, max_size=9)), kind)
    codes = pa.array(data.draw(st.lists(st.none() | st.integers(0, len(values) - 1), max_size=40)), pa.uint16())
    expected = values.take(codes)
    made = dictionaries.of(values).among(codes, most=2**20)
    if made is None:
        assert expected.null_count == len(expected)
        return
    column = made.column(codes)
    batch = pa.record_batch({"column": column})
    demand_sound(batch)
    assert column.type == made.type
    assert written_out(batch).column("column").equals(expected)
    said = made.values.to_pylist()
    assert sorted(set(expected.drop_null().to_pylist())) == said
    # What lies under a null tells nothing either.
    places = pa.Array.from_buffers(made.places.type, len(column), [None, column.indices.buffers()[1]])
    assert set(places.filter(column.is_null()).to_pylist()) <= {0}


@pytest.mark.parametrize(("values", "width"), [(256, pa.uint8()), (257, pa.uint16()), (8192, pa.uint16())])
def test_places_are_as_narrow_as_can_be(values: int, width: pa.DataType) -> None:
    said = pa.array(range(values), pa.int64())
    codes = pa.array(range(values), pa.uint16())
    made = dictionaries.of(said).among(codes, most=2**20)
    assert made is not None
    assert made.places.type == width
    assert made.column(codes).dictionary_decode().equals(said)


def test_what_is_much_is_no_dictionary() -> None:
    said = pa.array(["a long text of the department's", "b"])
    assert dictionaries.of(said).among(pa.array([0, 0, 1], pa.uint16()), most=8) is None
    assert dictionaries.of(said).among(pa.array([1, 1], pa.uint16()), most=9) is not None


def test_what_has_no_dictionary_is_as_it_was() -> None:
    batch = pa.record_batch({"a": [1, 2]})
    assert written_out(batch) is batch


def _refused(*columns: pa.Array) -> SluicegateError:
    batch = pa.RecordBatch.from_arrays(list(columns), names=[str(index) for index, _ in enumerate(columns)])
    demand_sound(batch)
    with pytest.raises(SluicegateError) as caught:
        written_out(batch)
    assert caught.value.reason is Reason.DATA_INVALID
    return caught.value


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()], ids=str)
def test_few_bytes_that_stand_for_too_many_are_refused(kind: pa.DataType) -> None:
    """One text of a mebibyte, two thousand times; all but one of them short, it is a column as any other."""
    said = pa.array([b"x" * 2**20, b"y"], pa.binary()).cast(kind)
    error = _refused(pa.DictionaryArray.from_arrays(pa.array([0] * 2048, pa.int16()), said))
    assert "xx" not in str(error)
    half = pa.DictionaryArray.from_arrays(pa.array([0] * 1024, pa.int16()), said)
    _refused(half, half)
    some = pa.DictionaryArray.from_arrays(pa.array([0] + [1] * 4095, pa.int16()), said)
    found = written_out(pa.RecordBatch.from_arrays([some], names=["text"])).column("text")
    assert pc.sum(pc.binary_length(found)).as_py() == 2**20 + 4095


@pytest.mark.parametrize(
    "said",
    [pa.array([["a"]]), pa.array([{"a": 1}]), pa.array(["a"]).dictionary_encode(), pa.array(["a"], pa.string_view())],
    ids=lambda said: str(said.type),
)
def test_dictionaries_of_what_no_column_holds_are_refused(said: pa.Array) -> None:
    _refused(pa.DictionaryArray.from_arrays(pa.array([0, 0], pa.int8()), said))


def _texts(offsets: list[int]) -> pa.Array:
    """Two texts, of which the first is none."""
    bounds = pa.array(offsets, pa.int32()).buffers()[1]
    return pa.Array.from_buffers(pa.string(), 2, [None, bounds, pa.py_buffer(b"\xff\xfeab")])


@pytest.mark.parametrize(
    ("places", "said"),
    [([0, 7], pa.array(["a"])), ([1, 1], _texts([0, 2, 4])), ([1, 1], _texts([2, 1 << 20, 4]))],
    ids=["a place beyond it", "no text", "a text beyond its bytes"],
)
def test_a_dictionary_that_is_not_well_formed_is_refused(places: list[int], said: pa.Array) -> None:
    column = pa.DictionaryArray.from_arrays(pa.array(places, pa.int8()), said, safe=False)
    with pytest.raises(SluicegateError) as caught:
        demand_sound(pa.RecordBatch.from_arrays([column], names=["text"]))
    assert caught.value.reason is Reason.DATA_INVALID

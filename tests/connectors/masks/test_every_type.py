"""Every technique on every type that it takes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.masks.masking import polars_type
from connectors.sources.base import dtype_of
from contracts import dtypes as d
from contracts import techniques
from contracts.errors import SluicegateError
from contracts.techniques import parse
from tests.connectors.masks.trying import FLOATS, NUMERIC, PAIRS, TYPES, Words, column, mask, quick, values_of


def test_a_column_type_and_its_polars_type_stand_for_each_other() -> None:
    assert [dtype_of(polars_type(dtype)) for dtype in TYPES] == TYPES
    with pytest.raises(SluicegateError):
        polars_type(d.DType("other", name="list"))


def test_the_pairs_cover_every_technique_and_every_type() -> None:
    assert {str(words["mask"]) for words, _ in PAIRS} == {name for name in techniques.ALL if name != "drop"}
    assert {str(dtype) for _, dtype in PAIRS} == {str(dtype) for dtype in TYPES}


@pytest.mark.parametrize(("words", "dtype"), PAIRS, ids=str)
@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_the_type_is_the_promised_one_nulls_stay_null_and_nothing_else_becomes_null(
    words: Words, dtype: d.DType, data: st.DataObject
) -> None:
    values = data.draw(st.lists(st.none() | values_of(dtype), max_size=8))
    result = mask(values, words, dtype)
    technique = parse(words)
    some = [value for value in values if value is not None and (words["mask"] == "shuffle" or value == value)]
    lonely = words["mask"] in ("shuffle", "microaggregate") and len(some) < 2  # fewer than it asks for
    skips = lonely or (words.get("unit") == "hour" and dtype.zone is None)  # a wall clock that the zone's clock skipped
    assert result.dtype == polars_type(technique.produces(dtype))
    assert len(result) == len(values)
    for before, after in zip(values, result.to_list(), strict=True):
        if before is None or words["mask"] == "null":
            assert after is None
        elif not (isinstance(before, str) and words["mask"] in ("hmac", "aes_siv")) and not skips:
            assert after is not None


@pytest.mark.parametrize(("words", "dtype"), PAIRS, ids=str)
def test_an_empty_frame_keeps_its_types(words: Words, dtype: d.DType) -> None:
    assert mask([], words, dtype).dtype == polars_type(parse(words).produces(dtype))


@pytest.mark.parametrize(
    ("words", "dtype"),
    [pair for pair in PAIRS if parse(pair[0]).order_preserving and pair[1].kind not in ("float", "list")],
    ids=str,
)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_order_is_kept_where_it_is_promised(words: Words, dtype: d.DType, data: st.DataObject) -> None:
    values = data.draw(st.lists(values_of(dtype), min_size=2, max_size=8))
    ordered = column(values, dtype).sort()
    assert mask(ordered, words, dtype).is_sorted()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(
    "words", [*NUMERIC, {"mask": "round", "base": 0.1}, {"mask": "geo_round", "decimals": 2}], ids=str
)
@quick
@given(data=st.data())
def test_order_of_floats_is_kept(words: Words, dtype: d.DType, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.floats(-1e6, 1e6, width=64 if dtype.bits == 64 else 32), min_size=2, max_size=8))
    assert mask(sorted(values), words, dtype).is_sorted()


@pytest.mark.parametrize(
    "words",
    [
        {"mask": "geo_round", "decimals": 2},
        {"mask": "round", "base": 0.1},
        {"mask": "bucket", "size": 0.1},
    ],
    ids=str,
)
def test_equal_floats_leave_equal_wherever_they_lie(words: Words) -> None:
    """Also at the edge of what the engine takes at once: otherwise a class would be split in two."""
    chance = random.Random(11)
    for _ in range(60):
        value = chance.uniform(-1e6, 1e6)
        alone = mask([value], words, d.FLOAT64)[0]
        for before in range(4):
            values = [chance.uniform(-1e6, 1e6) for _ in range(before)] + [value, value]
            assert mask(values, words, d.FLOAT64).to_list()[-2:] == [alone, alone]

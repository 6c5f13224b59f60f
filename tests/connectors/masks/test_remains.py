"""What may never be found in what leaves."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.masks import values as mask_values
from connectors.masks.masking import masked, normalised
from contracts import dtypes as d
from contracts.errors import Reason, SluicegateError
from contracts.techniques import parse
from tests.connectors.masks.trying import PAIRS, Keys, Words, column, ends, mask, plan_of, quick


def wire(frame: pl.DataFrame) -> bytes:
    """Every byte that goes over the wire: the Arrow buffers as IPC writes them. (In memory a slice
    still points into its neighbours' buffer; writing it copies its own part only.)"""
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue())


IDENTIFIERS = st.lists(st.text("0123456789XÉ王", min_size=9, max_size=18), min_size=1, max_size=20)
IRREVERSIBLE = [
    {"mask": "null"},
    {"mask": "constant", "value": "withheld"},
    {"mask": "partial", "keep_first": 3, "keep_last": 2},
    {"mask": "hmac", "domain": "person"},
    {"mask": "random_id"},
    {"mask": "hierarchy", "table": {"x": ["y"]}},
    {"mask": "prefix", "length": 4},
    {"mask": "rare", "min_count": 1000},
    {"mask": "regex", "pattern": "[0-9]+", "replacement": ""},
    {"mask": "regex", "pattern": "^(.*)(.)(.*)$", "replacement": "${3}${2}${1}"},
    {"mask": "regex", "pattern": "^(.)(.*?)([0-9])?$", "replacement": "${1}-${3}", "min_masked": 1},
    {"mask": "ip_prefix"},
    {"mask": "aes_siv", "domain": "person", "legal_basis": "dpv:LegalObligation"},
    {"mask": "ff1", "domain": "card", "legal_basis": "dpv:LegalObligation", "unsafe_format_preserving": True},
]


@pytest.mark.parametrize("words", IRREVERSIBLE, ids=str)
@quick
@given(identifiers=IDENTIFIERS)
def test_no_identifier_survives_in_any_buffer(words: Words, identifiers: list[str]) -> None:
    result = mask([*identifiers, None], words, d.STRING)
    assert not set(identifiers) & set(result.to_list())
    found = wire(result.to_frame())
    assert not [value for value in identifiers if value.encode() in found]


@quick
@given(
    values=st.lists(st.text(max_size=20), max_size=10),
    first=st.integers(0, 5),
    last=st.integers(0, 5),
    least=st.integers(1, 6),
)
def test_partial_hides_enough_of_every_value_and_never_passes_a_short_one(
    values: list[str], first: int, last: int, least: int
) -> None:
    words: Words = {"mask": "partial", "keep_first": first, "keep_last": last, "min_masked": least}
    for before, after in zip(values, mask(list(values), words, d.STRING).to_list(), strict=True):
        if len(before) < first + last + least:
            assert after == "*" * (first + last + least) != before
        else:
            middle = "*" * (len(before) - first - last)
            assert after == before[:first] + middle + before[len(before) - last :]
            assert len(middle) >= least


@quick
@given(values=st.lists(st.text("ab1@é王", max_size=20), max_size=10), least=st.integers(1, 6))
def test_a_pattern_takes_enough_of_every_value_or_the_value_goes_whole(values: list[str], least: int) -> None:
    words: Words = {"mask": "regex", "pattern": "(a)|b+|王", "replacement": "<${1}>", "min_masked": least}
    for before, after in zip(values, mask(list(values), words, d.STRING).to_list(), strict=True):
        lost = before.count("b") + before.count("王")
        expected = re.sub("(a)|b+|王", lambda found: f"<{found[1] or ''}>", before)
        assert after == (expected if lost >= least else "other")


def test_a_pattern_that_brings_everything_back_hides_nothing_so_the_value_goes_whole() -> None:
    words = {"mask": "regex", "pattern": "^(.{4})(.*)$", "replacement": "${2}${1}", "min_masked": 1}
    assert mask(["13800138000", "x", None], words, d.STRING).to_list() == ["other", "other", None]
    domain = {"mask": "regex", "pattern": "^[^@]+", "replacement": "***"}
    assert mask(["first.last@example.org", "me@example.org", "nobody"], domain, d.STRING).to_list() == [
        "***@example.org", "other", "***",
    ]  # fmt: skip
    assert mask(["王小明 a", "ab"], {"mask": "regex", "pattern": "\\p{Han}+", "replacement": "", "min_masked": 2},
                d.STRING).to_list() == [" a", "other"]  # fmt: skip


def test_a_pattern_that_only_the_engine_refuses_is_refused_before_any_row() -> None:
    for pattern in ("(?:[a-z]{500}){1000}", "\\p{Nowhere}+"):
        with pytest.raises(SluicegateError) as caught:
            mask(["secret"], {"mask": "regex", "pattern": pattern, "replacement": ""}, d.STRING)
        assert caught.value.reason is Reason.PLAN_REFUSED
        assert "the pattern of v cannot be carried out" in str(caught.value)


def test_partial_of_a_very_long_value_hides_its_end_too() -> None:
    (result,) = mask(["a" * 5000 + "secret"], {"mask": "partial", "keep_first": 1}, d.STRING).to_list()
    assert result.startswith("a**")
    assert set(result[1:]) == {"*"}


ARROW = {
    d.STRING: pa.array(["SECRET-VALUE-1", "SECRET-VALUE-2"], pa.large_string()),
    d.BINARY: pa.array([b"SECRET-VALUE-1", b"SECRET-VALUE-2"], pa.large_binary()),
    d.INT64: pa.array([0x5345435245542D31, 0x5345435245542D32], pa.int64()),
    d.UINT64: pa.array([0x5345435245542D31, 0x5345435245542D32], pa.uint64()),
    d.FLOAT64: pa.array([1.23456789012345e301, 9.87654321098765e302], pa.float64()),
    d.DType("decimal", precision=38, scale=2): pa.array(
        [Decimal("12345678901234567.89"), Decimal("1.00")], pa.decimal128(38, 2)
    ),
    d.timestamp("us"): pa.array([1234567890123456, 1234567890123457], pa.timestamp("us")),
    d.timestamp("us", "Etc/UTC"): pa.array([1234567890123456, 1234567890123457], pa.timestamp("us", "Etc/UTC")),
}


@pytest.mark.parametrize(
    ("words", "dtype"), [pair for pair in PAIRS if pair[1] in ARROW and pair[0]["mask"] != "random_id"], ids=str
)
def test_nothing_is_left_under_nulls(words: Words, dtype: d.DType) -> None:
    """An Arrow source may mark a value null and leave it in place; so does `when(...).then(None)`."""
    whole = ARROW[dtype]
    hidden = pl.Series("v", pa.Array.from_buffers(whole.type, 2, [pa.py_buffer(b"\x02"), *whole.buffers()[1:]]))
    secret = bytes(whole.buffers()[-1])[: 8 if dtype.numeric or dtype.temporal else 14]
    assert secret in wire(hidden.to_frame())
    result = mask(hidden, words, dtype)
    assert result[0] is None
    assert secret not in wire(result.to_frame())


RAW: dict[str, list[object]] = {
    "float": [1.5e30, -2.25, float("nan"), float("inf")],
    "decimal": [Decimal("123"), Decimal("-77")],
    "timestamp": [dt.datetime(1931, 5, 6, 7, 8, 9), dt.datetime(2024, 2, 29, 23, 59, 59)],
    "date": [dt.date(1, 1, 1), dt.date(1931, 5, 6), dt.date(9999, 12, 31)],
    "string": ["SECRET-VALUE-OF-A-PERSON", "SECRET"],
    "binary": [b"SECRET-VALUE-OF-A-PERSON", b"SECRET"],
    "boolean": [True],
    "time": [dt.time(7, 8, 9)],
}
ONE_BY_ONE = ("keep", "constant", "bucket", "clip", "round", "geo_round", "truncate", "date_part", "prefix")


def slots(values: pl.Series) -> pl.Series:
    """What stands in the buffers of a column, under nulls too."""
    arrow = values.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    bare = pa.Array.from_buffers(arrow.type, len(arrow), [None, *arrow.buffers()[1:]], offset=arrow.offset)
    return pl.Series(values.name, bare)


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
@pytest.mark.parametrize(
    ("words", "dtype"), [pair for pair in PAIRS if pair[0]["mask"] in ONE_BY_ONE and pair[1].kind != "list"], ids=str
)
def test_under_the_nulls_of_every_type_stands_what_says_nothing(words: Words, dtype: d.DType, engine: Any) -> None:
    """In batches where some are null, none, or all, and where what was there is the end of its type."""
    size = 240_000  # more than the engine takes at once
    whole = column(RAW[dtype.kind] if dtype.kind != "integer" else [*ends(dtype), 61], dtype)
    whole = whole.gather(pl.int_range(size, eager=True) % len(whole))
    row = pl.int_range(size, eager=True)
    shown = ((row % 3 != 0) | (row < size // 3)) & (row < size // 2)
    arrow = whole.to_arrow(compat_level=pl.CompatLevel.oldest())
    bits = shown.to_arrow().buffers()[1]
    hidden = pl.Series("v", pa.Array.from_buffers(arrow.type, size, [bits, *arrow.buffers()[1:]])).cast(whole.dtype)
    assert slots(hidden).equals(slots(whole)), "the raw values are there"
    result = masked(hidden.to_frame().lazy(), plan_of(("v", words, dtype)), Keys()).collect(engine=engine)["v"]
    assert result.is_null().equals(~shown)
    blank = {"string": "", "binary": b"", "boolean": False}.get(parse(words).produces(dtype).kind, 0)
    assert slots(result).filter(~shown).to_physical().unique().to_list() == [blank]


def test_a_slice_of_a_string_does_not_ship_the_rest() -> None:
    result = mask(["secret-identifier-of-a-person"] * 3, {"mask": "prefix", "length": 2}, d.STRING)
    assert b"identifier" not in wire(result.to_frame())


@pytest.mark.parametrize("kind", [pl.Categorical(), pl.Enum(["seen", "never-seen"])])
@pytest.mark.parametrize(
    "words", [{"mask": "keep"}, {"mask": "prefix", "length": 20}, {"mask": "rare", "min_count": 2}]
)
def test_categories_become_text_and_those_not_sent_stay(kind: pl.DataType, words: Words) -> None:
    source = pl.Series("v", ["seen", "seen", "never-seen", None], dtype=kind).head(2)
    result = mask(source, words, d.STRING)
    assert result.dtype == pl.String
    assert b"never-seen" not in wire(result.to_frame())


def test_what_is_not_planned_is_not_sent_and_what_stands_beside_is_computed_from_the_source() -> None:
    frame = pl.DataFrame({"a": ["x1234567", None], "b": [1, 2], "c": ["raw", "raw"]}).lazy()
    plan = plan_of(("b", {"mask": "keep"}, d.INT64), ("a", {"mask": "prefix", "length": 1}, d.STRING))
    assert masked(frame, plan, Keys()).collect().columns == ["b", "a"]
    beside = masked(frame, plan, Keys(), beside=[normalised(pl.col("a")).alias("_entity")]).collect()
    assert beside.columns == ["b", "a", "_entity"]
    assert beside["_entity"].to_list() == ["X1234567", None]
    with pytest.raises(ValueError, match="names of their own"):
        masked(frame, plan, Keys(), beside=[pl.col("c").alias("a")])
    with pytest.raises(ValueError, match="names of their own"):
        masked(
            frame, msgspec.structs.replace(plan, entity="a"), Keys(), beside=[pl.col("c").alias("who")], person="who"
        )


@pytest.mark.parametrize(
    ("words", "dtype"),
    [
        ({"mask": "hmac", "domain": "p"}, d.STRING),
        ({"mask": "hmac", "domain": "p", "normalise": "exact"}, d.STRING),
        ({"mask": "hmac", "domain": "p"}, d.LIST),
        ({"mask": "prefix", "length": 2}, d.STRING),
    ],
    ids=str,
)
def test_a_person_normalised_beside_the_masks_changes_none_of_them(words: dict[str, Any], dtype: d.DType) -> None:
    values: list[Any] = [" ab ", "AB", "ａｂ", "", None, "x"]
    listed = dtype == d.LIST
    frame = pl.DataFrame({"id": [[value] for value in values] if listed else values, "other": values}).lazy()
    plan = plan_of(("id", words, dtype), ("other", {"mask": "hmac", "domain": "p"}, d.STRING))
    plan = msgspec.structs.replace(plan, entity="other" if listed else "id")
    found = masked(frame, plan, Keys(), person="who").collect()
    assert found.drop("who").equals(masked(frame, plan, Keys()).collect())
    assert found["who"].to_list() == ["AB", "AB", "AB", None, None, "X"]


def test_a_column_of_nulls_needs_no_source_column() -> None:
    plan = plan_of(("gone", {"mask": "null"}, d.INT32), ("a", {"mask": "keep"}, d.INT64))
    result = masked(pl.DataFrame({"a": [1, 2]}).lazy(), plan, Keys()).collect()
    assert result.to_dict(as_series=False) == {"gone": [None, None], "a": [1, 2]}
    assert result.schema["gone"] == pl.Int32


def test_a_mask_is_made_once_though_its_nulls_are_looked_at_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    digests = mask_values._digests
    monkeypatch.setattr(mask_values, "_digests", lambda some, key: (made.append(len(some)), digests(some, key))[1])
    frame = pl.DataFrame({"v": [f"person {number}" for number in range(1000)] + [None]})
    plan = plan_of(("v", {"mask": "hmac", "domain": "p"}, d.STRING))
    for engine in ("in-memory", "streaming"):
        made.clear()
        masked(frame.lazy(), plan, Keys()).collect(engine=engine)
        assert sum(made) == frame.height

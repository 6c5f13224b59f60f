"""Masking: what each technique makes of a column, and what may never be found in what leaves."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import ipaddress
import math
import random
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import takewhile
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import msgspec
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.masks import known_answers, masking
from connectors.masks import values as mask_values
from connectors.masks.ff1 import Ff1Cipher
from connectors.masks.masking import masked, normalised, polars_type
from connectors.masks.reversible import turned_back
from connectors.sources.base import dtype_of
from contracts import dtypes as d
from contracts import techniques
from contracts.errors import Reason, SluicegateError
from contracts.plan import Plan
from contracts.techniques import parse
from tests.connectors import plans

quick = settings(max_examples=40, deadline=None)


Words = Mapping[str, object]  # a technique as a contract writes it


class Keys:
    """Keys by domain, from one agreement's secret, and lots, from its recipient's."""

    def __init__(self, secret: str = "one agreement", release: str = "rel-a", recipient: str = "one recipient") -> None:
        self.secret, self.release, self.recipient = secret, release, recipient

    def key(self, domain: str) -> str:
        return hashlib.sha256(f"{self.secret}/{domain}".encode()).hexdigest()

    def draw(self, field: str) -> str:
        return self.key(f"{self.release}/{field}")

    def lot(self, *use: str) -> str:
        return hashlib.sha256("/".join((self.recipient, *use)).encode()).hexdigest()


def plan_of(*fields: tuple[str, Words, d.DType], entity: str | None = None) -> Plan:
    for _, words, source in fields:
        assert parse(words).resolved(source).accepts(source), parse(words).resolved(source).problems(source)
    sent = {name: (dict(words), source) for name, words, source in fields}
    return plans.thing_plan(sent, entity=entity, read=tuple(sent))


def column(values: Sequence[object], dtype: d.DType) -> pl.Series:
    """A source column. Moments of a zone are given in UTC: not every wall clock is a moment."""
    if dtype.zone is None:
        return pl.Series("v", values, dtype=polars_type(dtype))
    return pl.Series("v", values, dtype=pl.Datetime(dtype.unit, "UTC")).dt.convert_time_zone(dtype.zone)  # type: ignore[arg-type]


def mask(values: Sequence[object] | pl.Series, words: Words, dtype: d.DType, keys: Keys | None = None) -> pl.Series:
    """The column after masking, by both engines, which must agree."""
    series = values.alias("v") if isinstance(values, pl.Series) else column(values, dtype)
    lazy = masked(series.to_frame().lazy(), plan_of(("v", words, dtype)), keys or Keys())
    result = lazy.collect()["v"]
    assert result.equals(lazy.collect(engine="streaming")["v"], null_equal=True)
    return result


# --- every technique on every type ------------------------------------------------------------

INTEGERS = [d.INT8, d.INT16, d.INT32, d.INT64, d.UINT8, d.UINT16, d.UINT32, d.UINT64]
FLOATS = [d.FLOAT32, d.FLOAT64]
DECIMALS = [d.DType("decimal", precision=p, scale=s) for p, s in ((10, 2), (38, 6), (5, 0))]
STAMPS = [d.timestamp(unit, zone) for unit in ("ms", "us", "ns") for zone in (None, "Etc/UTC", "Asia/Shanghai")]
TYPES = [
    *INTEGERS,
    *FLOATS,
    *DECIMALS,
    *STAMPS,
    d.DATE,
    d.STRING,
    d.BOOLEAN,
    d.BINARY,
    d.DType("time", unit="ns"),
    d.LIST,
]
NUMERIC: list[Words] = [
    {"mask": "bucket", "size": 10},
    {"mask": "bucket", "breaks": [0, 18, 65]},
    {"mask": "clip", "lower": 3, "upper": 90},
]
MASKS: list[Words] = [
    {"mask": "keep"},
    {"mask": "null"},
    {"mask": "constant", "value": "x"},
    {"mask": "constant", "value": 7},
    {"mask": "constant", "value": 1.5},
    {"mask": "constant", "value": False},
    {"mask": "partial", "keep_first": 3},
    {"mask": "hmac", "domain": "person"},
    {"mask": "hmac", "domain": "person", "normalise": "exact"},
    {"mask": "random_id"},
    *NUMERIC,
    {"mask": "bucket", "size": "20y"},
    {"mask": "bucket", "size": "2w"},
    {"mask": "bucket", "breaks": ["1990-01-01", "2000-01-01"]},
    {"mask": "clip", "upper": "2001-01-01"},
    {"mask": "round", "base": 100},
    {"mask": "truncate", "unit": "quarter", "zone": "Asia/Shanghai"},
    {"mask": "truncate", "unit": "hour", "zone": "Asia/Shanghai"},
    {"mask": "date_part", "part": "year", "zone": "Asia/Shanghai"},
    {"mask": "date_part", "part": "weekday", "zone": "Asia/Shanghai"},
    {"mask": "prefix", "length": 2},
    {"mask": "hierarchy", "table": {"17": ["teens"], "abc": ["letters"]}},
    {"mask": "geo_round", "decimals": 1},
    {"mask": "rare", "min_count": 2},
    {"mask": "redact", "dictionaries": {"letters": ["abc"]}},
    {"mask": "regex", "pattern": "^(.).*?[0-9]", "replacement": "${1}#"},
    {"mask": "ip_prefix"},
    {"mask": "geohash", "precision": 5, "longitude": "v"},
    {"mask": "shift_date", "days": 30, "entity": "v"},
    {"mask": "noise", "distribution": "laplace", "scale": 3},
    {"mask": "noise", "distribution": "normal", "scale": 50, "base": 10},
    {"mask": "shuffle", "least": 2},
    {"mask": "microaggregate", "k": 2},
    {"mask": "aes_siv", "domain": "person", "legal_basis": "dpv:LegalObligation"},
    {"mask": "ff1", "domain": "card", "legal_basis": "dpv:LegalObligation", "unsafe_format_preserving": True},
]

_MOMENTS = st.datetimes(dt.datetime(1910, 1, 1), dt.datetime(2200, 1, 1))


def values_of(dtype: d.DType) -> st.SearchStrategy[object]:
    match dtype.kind:
        case "integer":
            low, high = ends(dtype)
            return st.integers(low, high)
        case "float":
            return st.floats(width=64 if dtype.bits == 64 else 32)
        case "decimal":
            limit = Decimal(10) ** min(dtype.precision - dtype.scale, 20) - 1
            return st.decimals(-limit, limit, places=dtype.scale, allow_nan=False)
        case "timestamp":
            return _MOMENTS if dtype.zone is None else _MOMENTS.map(lambda moment: moment.replace(tzinfo=dt.UTC))
        case "list":
            return st.lists(st.none() | values_of(d.STRING), max_size=4)
    return {
        "date": st.dates(dt.date(1, 1, 1), dt.date(9999, 12, 31)),
        "string": st.text(max_size=12) | st.sampled_from(["17", "abc", "", "　"]),
        "boolean": st.booleans(),
        "binary": st.binary(max_size=8),
        "time": st.times(),
    }[dtype.kind]


def ends(dtype: d.DType) -> tuple[int, int]:
    return (-(2 ** (dtype.bits - 1)), 2 ** (dtype.bits - 1) - 1) if dtype.signed else (0, 2**dtype.bits - 1)


PAIRS = [(words, dtype) for words in MASKS for dtype in TYPES if parse(words).accepts(dtype)]


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


# --- what may not survive ---------------------------------------------------------------------


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


# --- pseudonyms -------------------------------------------------------------------------------


@quick
# The four separators are space to Python's strip, and none to Unicode.
@given(
    values=st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\x1c\x1d\x1e\x1f"), max_size=12), max_size=12
    )
)
def test_a_pseudonym_is_the_truncated_hmac_of_the_normalised_value(values: list[str]) -> None:
    result = mask(list(values), {"mask": "hmac", "domain": "person"}, d.STRING).to_list()
    key = Keys().key("person").encode()
    for before, after in zip(values, result, strict=True):
        plain = unicodedata.normalize("NFKC", before.strip()).strip().upper()
        expected = hmac.new(key, plain.encode(), hashlib.sha256).hexdigest()[:32] if plain else None
        # Python and the engine may know different versions of Unicode; ASCII leaves no doubt.
        assert after == expected or not before.isascii()


@quick
@given(values=st.sets(st.text("abcdefgh0123456789", min_size=1, max_size=12), min_size=1, max_size=20))
def test_same_key_same_pseudonym_other_key_or_domain_none_in_common(values: set[str]) -> None:
    column = sorted(values)
    person = {"mask": "hmac", "domain": "person"}
    one = mask(list(column), person, d.STRING).to_list()
    again = mask(list(column), person, d.STRING, Keys()).to_list()
    other = mask(list(column), person, d.STRING, Keys("another agreement")).to_list()
    domain = mask(list(column), {"mask": "hmac", "domain": "household"}, d.STRING).to_list()
    assert one == again
    assert len(set(one)) == len(column)
    assert not set(one) & set(other)
    assert not set(one) & set(domain)


def test_spellings_of_one_identifier_join_and_an_empty_one_is_null() -> None:
    spellings = ["abc", " ABC ", "ＡＢＣ", "Abc\t", "　abc"]
    assert len(set(mask(list(spellings), {"mask": "hmac", "domain": "p"}, d.STRING))) == 1
    assert mask(["", "  ", "　", None], {"mask": "hmac", "domain": "p"}, d.STRING).null_count() == 4
    exact = mask([*spellings, ""], {"mask": "hmac", "domain": "p", "normalise": "exact"}, d.STRING)
    assert exact.n_unique() == len(spellings) + 1
    assert exact.null_count() == 1


def test_whole_numbers_and_dates_have_the_pseudonym_of_their_text() -> None:
    words = {"mask": "hmac", "domain": "p"}
    assert mask([7, 10], words, d.UINT8).equals(mask(["7", "10"], words, d.STRING))
    assert mask([dt.date(2026, 1, 5)], words, d.DATE).equals(mask(["2026-01-05"], words, d.STRING))


def period_plan(zone: str | None, time: d.DType) -> Plan:
    period = {"field": "t", "unit": "week", **({"zone": zone} if zone else {})}
    return plan_of(("v", {"mask": "hmac", "domain": "p", "period": period}, d.STRING))


@pytest.mark.parametrize(
    ("zone", "time", "moments"),
    [
        (None, d.DATE, [dt.date(2026, 1, 5), dt.date(2026, 1, 11), dt.date(2026, 1, 12)]),
        (
            "Asia/Shanghai",
            d.timestamp("us"),
            [dt.datetime(2026, 1, 5), dt.datetime(2026, 1, 11, 23, 59), dt.datetime(2026, 1, 12)],
        ),
        (
            "Asia/Shanghai",
            d.timestamp("ms", "Etc/UTC"),
            [
                dt.datetime(2026, 1, 4, 16, tzinfo=dt.UTC),
                dt.datetime(2026, 1, 11, 15, 59, tzinfo=dt.UTC),
                dt.datetime(2026, 1, 11, 16, tzinfo=dt.UTC),
            ],
        ),
    ],
)
def test_a_period_joins_within_its_unit_only(zone: str | None, time: d.DType, moments: list[object]) -> None:
    frame = pl.DataFrame({"v": ["a"] * 4 + ["b"], "t": pl.Series([*moments, None, None], dtype=polars_type(time))})
    monday, sunday, next_monday, undated, other = masked(frame.lazy(), period_plan(zone, time), Keys()).collect()["v"]
    assert monday == sunday
    assert len({monday, next_monday, undated, other, mask(["a"], {"mask": "hmac", "domain": "p"}, d.STRING)[0]}) == 5


def test_random_ids_differ_even_where_one_value_fills_the_column() -> None:
    plan = plan_of(("v", {"mask": "random_id"}, d.STRING))
    frame = pl.LazyFrame({"n": range(4000)}).select(pl.lit("same").alias("v"), "n")
    for engine in ("in-memory", "streaming"):
        assert masked(frame, plan, Keys()).collect(engine=engine)["v"].n_unique() == 4000


def test_random_numbers_are_of_one_row_one_field_and_one_release() -> None:
    plan = plan_of(("v", {"mask": "random_id"}, d.STRING))
    frame = pl.DataFrame({"v": ["same"] * 500 + [None]}).lazy()
    first, again, second = (
        masked(frame, plan, Keys(release=name)).collect()["v"].to_list() for name in ("rel-a", "rel-a", "rel-b")
    )
    assert first == again
    assert first[-1] is second[-1] is None
    assert len({*first[:-1], *second[:-1]}) == 1000
    two = plan_of(("v", {"mask": "random_id"}, d.STRING), ("w", {"mask": "random_id"}, d.STRING))
    both = masked(frame.with_columns(w="v"), two, Keys()).collect()
    assert not set(both["v"].drop_nulls()) & set(both["w"].drop_nulls())
    assert all(len(value) == 32 and set(value) <= set("0123456789abcdef") for value in first[:-1])


def test_a_key_of_another_form_is_refused_without_being_shown() -> None:
    class Weak:
        def key(self, domain: str) -> str:
            return "hunter2"

        draw = key

    with pytest.raises(SluicegateError) as caught:
        masked(pl.DataFrame({"v": ["a"]}).lazy(), plan_of(("v", {"mask": "hmac", "domain": "p"}, d.STRING)), Weak())
    assert caught.value.reason is Reason.CONFIG_UNSAFE
    assert "hunter2" not in str(caught.value)


def test_the_self_test_passes_here_and_refuses_a_hash_that_is_not_hmac(monkeypatch: pytest.MonkeyPatch) -> None:
    masking.self_test()
    plain = type(pl.col("x").chash).sha2_256  # type: ignore[attr-defined]
    monkeypatch.setattr(type(pl.col("x").chash), "hmac_sha256", lambda self, *, key: plain(self))  # type: ignore[attr-defined]
    with pytest.raises(SluicegateError) as caught:
        masking.self_test()
    assert caught.value.reason is Reason.CONFIG_UNSAFE


class Unsealed:
    """A cipher that is none."""

    def __init__(self, key: bytes) -> None:
        pass

    def encrypt(self, data: bytes, beside: object) -> bytes:
        return data


@pytest.mark.parametrize(
    ("name", "wrong", "says"),
    [
        ("hkdf_extract", lambda salt, material: bytes(32), "RFC 5869"),
        ("AESSIV", Unsealed, "RFC 5297"),
        ("Ff1Cipher", lambda key, radix: Ff1Cipher(key[::-1], radix), "SP 800-38G"),
        ("RFC_4231", (*known_answers.RFC_4231[:-1], (b"k", b"d", "0" * 64)), "RFC 4231"),
        ("RFC_4231", known_answers.RFC_4231[1:], "RFC 4231"),  # fewer vectors are no test
    ],
)
def test_nothing_is_served_when_any_keyed_function_gives_another_answer(
    name: str, wrong: object, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_answers, name, wrong)
    with pytest.raises(SluicegateError, match=says) as caught:
        masking.self_test()
    assert caught.value.reason is Reason.CONFIG_UNSAFE


# --- encryption -------------------------------------------------------------------------------

BASIS = {"legal_basis": "dpv:LegalObligation"}
SIV: Words = {"mask": "aes_siv", "domain": "person", **BASIS}


def ff1_of(radix: int = 10, domain: str = "card") -> Words:
    return {"mask": "ff1", "domain": domain, "radix": radix, "unsafe_format_preserving": True, **BASIS}


def back(words: Words, value: str, keys: Keys | None = None) -> str:
    technique = parse(words)
    assert isinstance(technique, techniques.AesSiv | techniques.Ff1)
    return turned_back(technique, value, keys or Keys())


@quick
@given(values=st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=10))
def test_what_is_sealed_joins_and_can_be_turned_back_by_its_own_key_alone(values: list[str]) -> None:
    sealed = mask(list(values), SIV, d.STRING).to_list()
    assert [back(SIV, text) for text in sealed] == values
    assert len(set(sealed)) == len(set(values))
    other = mask(list(values), SIV, d.STRING, Keys("another agreement")).to_list()
    domain = mask(list(values), {**SIV, "domain": "household"}, d.STRING).to_list()
    assert not set(sealed) & set(other)
    assert not set(sealed) & set(domain)
    for wrong in (other[0], domain[0], sealed[0][:-2] + f"{int(sealed[0][-2:], 16) ^ 1:02x}", "", "zz", values[0]):
        with pytest.raises(SluicegateError) as caught:
            back(SIV, wrong)
        assert caught.value.reason is Reason.DATA_INVALID
        assert values[0] not in str(caught.value) or len(values[0]) < 3


def test_numbers_and_dates_are_sealed_as_their_text_and_an_empty_text_is_null() -> None:
    assert back(SIV, mask([7], SIV, d.UINT8)[0]) == "7"
    assert back(SIV, mask([dt.date(2026, 1, 5)], SIV, d.DATE)[0]) == "2026-01-05"
    assert mask(["", None], SIV, d.STRING).to_list() == [None, None]


@quick
@given(
    data=st.data(),
    radix=st.sampled_from([2, 10, 16, 36]),
)
def test_format_preserving_encryption_keeps_length_and_digits_and_can_be_turned_back(
    data: st.DataObject, radix: int
) -> None:
    digits, words = "0123456789abcdefghijklmnopqrstuvwxyz"[:radix], ff1_of(radix)
    technique = parse(words)
    assert isinstance(technique, techniques.Ff1)
    least, most = technique.shortest, max(length for length in range(120) if Ff1Cipher(bytes(16), radix).takes(length))
    assert radix ** (least - 1) < 10**6 <= radix**least
    texts = st.integers(least, most).flatmap(lambda length: st.text(digits, min_size=length, max_size=length))
    values = data.draw(st.lists(texts, min_size=1, max_size=6, unique=True))
    result = mask(list(values), words, d.STRING).to_list()
    assert [len(after) for after in result] == [len(before) for before in values]
    assert set("".join(result)) <= set(digits)
    assert [back(words, after) for after in result] == values
    assert len(set(result)) == len(values)
    assert result != mask(list(values), words, d.STRING, Keys("another agreement")).to_list()


def test_what_the_cipher_does_not_take_never_passes() -> None:
    refused = ["", "12345", "138 0013", "１２３４５６７", "123456a", "1" * 33, "+123456", "1_234_567", "-1234567"]
    assert mask([*refused, None], ff1_of(), d.STRING).to_list() == ["other"] * len(refused) + [None]
    assert mask([-1234567, 12345], ff1_of(), d.INT64).to_list() == ["other", "other"]
    for wrong in ("12345", "123456a", "1" * 33, "1_234_567"):
        with pytest.raises(SluicegateError, match="no ff1 value"):
            back(ff1_of(), wrong)
    with pytest.raises(SluicegateError, match="no ff1 value"):
        back(ff1_of(36), "other")  # five digits of that radix, and no value's


def test_format_preserving_encryption_is_one_to_one_on_its_least_domain() -> None:
    every = [f"{number:06}" for number in range(10**6)]
    cipher = Ff1Cipher(b"k" * 32, 10)
    assert len(set(cipher.encrypt(every))) == 10**6


@pytest.mark.parametrize("vector", range(9))
def test_samples_of_the_cipher_are_turned_back_too(vector: int) -> None:
    size, radix, tweak, plain, enciphered = known_answers.FF1[vector]
    cipher = Ff1Cipher(bytes.fromhex(known_answers.FF1_KEY)[:size], radix)
    assert cipher.encrypt([plain, plain], bytes.fromhex(tweak)) == [enciphered] * 2
    assert cipher.decrypt([enciphered], bytes.fromhex(tweak)) == [plain]


@pytest.mark.parametrize("words", [SIV, ff1_of()], ids=str)
def test_a_cipher_says_nothing_of_its_key(words: Words) -> None:
    assert "6b6b" not in repr(Ff1Cipher(b"k" * 32, 10)) + str(vars(type(Ff1Cipher(b"k" * 32, 10))))

    class Weak:
        def key(self, domain: str) -> str:
            return "hunter2"

        draw = key

    with pytest.raises(SluicegateError) as caught:
        masked(pl.DataFrame({"v": ["a"]}).lazy(), plan_of(("v", words, d.STRING)), Weak())
    assert caught.value.reason is Reason.CONFIG_UNSAFE
    assert "hunter2" not in str(caught.value)


# --- classes, against the definition ----------------------------------------------------------


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@quick
@given(data=st.data())
def test_buckets_and_rounding_of_whole_numbers(dtype: d.DType, data: st.DataObject) -> None:
    low, high = ends(dtype)
    edge = st.sampled_from([low, low + 1, high, high - 1])
    values = data.draw(st.lists(st.integers(low, high) | edge, min_size=1, max_size=8))
    size, origin = data.draw(st.integers(2, 10**15)), data.draw(st.integers(-(10**9), 10**9))
    result = mask(list(values), {"mask": "bucket", "size": size, "origin": origin}, dtype).to_list()
    assert result == [max(low, value - (value - origin) % size) for value in values]
    rounded = mask(list(values), {"mask": "round", "base": size}, dtype).to_list()
    assert rounded == [min(high, max(low, (2 * value + size) // (2 * size) * size)) for value in values]


@quick
@given(
    values=st.lists(st.decimals(-(10**6), 10**6, places=2), min_size=1, max_size=8),
    step=st.sampled_from([0.05, 0.3, 1, 12.5, 1000]),
)
def test_buckets_and_rounding_of_decimals_are_exact(values: list[Decimal], step: float) -> None:
    dtype, size = d.DType("decimal", precision=10, scale=2), Decimal(str(step))
    result = mask(list(values), {"mask": "bucket", "size": step}, dtype).to_list()
    assert result == [(value / size).to_integral_value("ROUND_FLOOR") * size for value in values]
    rounded = mask(list(values), {"mask": "round", "base": step}, dtype).to_list()
    assert rounded == [((2 * value + size) / (2 * size)).to_integral_value("ROUND_FLOOR") * size for value in values]


def test_floats_are_coarsened_and_what_is_no_number_stays_so() -> None:
    values = [-7.5, 0.0, 14.999, 15.0, float("inf"), None]
    assert mask(list(values), {"mask": "bucket", "size": 10, "origin": 5}, d.FLOAT64).to_list() == [
        -15,
        -5,
        5,
        15,
        float("inf"),
        None,
    ]
    assert mask([1.25, -1.25, 1.2], {"mask": "round", "base": 0.5}, d.FLOAT64).to_list() == [1.5, -1.0, 1.0]
    assert mask([31.23499, -0.005], {"mask": "geo_round", "decimals": 2}, d.FLOAT64).to_list() == [31.23, 0.0]
    assert mask([float("nan")], {"mask": "round", "base": 0.5}, d.FLOAT64).is_nan().all()


@quick
@given(values=st.lists(st.dates(dt.date(1, 1, 1), dt.date(9999, 12, 31)), min_size=1, max_size=8))
def test_buckets_of_dates(values: list[dt.date]) -> None:
    def years(value: dt.date, size: int, origin: int) -> dt.date | None:
        year = value.year - (value.year - origin) % size
        return dt.date(year, 1, 1) if year >= 1 else None

    cases: list[tuple[Words, Sequence[dt.date | None]]] = [
        ({"size": "20y"}, [years(value, 20, 1900) for value in values]),
        ({"size": "10y", "origin": "1985-01-01"}, [years(value, 10, 1985) for value in values]),
        ({"size": "1q"}, [value.replace(month=(value.month - 1) // 3 * 3 + 1, day=1) for value in values]),
        ({"size": "1w"}, [value - dt.timedelta(days=value.weekday()) for value in values]),
    ]
    for words, expected in cases:
        result = mask(list(values), {"mask": "bucket", **words}, d.DATE)
        # Python knows no year before 1; the engine does.
        assert [
            found if want else None for found, want in zip(result.dt.strftime("%Y-%m-%d"), expected, strict=True)
        ] == [want.strftime("%Y-%m-%d").rjust(10, "0") if want else None for want in expected]


def test_breaks_and_clipping() -> None:
    ages = [-5, 0, 17, 18, 64, 65, 120, None]
    assert mask(list(ages), {"mask": "bucket", "breaks": [0, 18, 65]}, d.INT16).to_list() == [
        0,
        0,
        0,
        18,
        18,
        65,
        65,
        None,
    ]
    assert mask(list(ages), {"mask": "clip", "lower": 0, "upper": 90}, d.INT16).to_list() == [
        0,
        0,
        17,
        18,
        64,
        65,
        90,
        None,
    ]
    assert mask([1.5, 99.5, None], {"mask": "clip", "upper": 90}, d.FLOAT64).to_list() == [1.5, 90.0, None]
    born = [dt.date(1911, 3, 4), dt.date(1980, 1, 1), None]
    assert mask(list(born), {"mask": "clip", "lower": "1935-01-01"}, d.DATE).to_list() == [
        dt.date(1935, 1, 1),
        born[1],
        None,
    ]
    many = {"mask": "bucket", "breaks": list(range(100))}
    assert mask([55, 1000, -1], many, d.INT64).to_list() == [55, 99, 0]


ZONES = ["Asia/Shanghai", "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Kolkata", "Etc/UTC"]


@pytest.mark.parametrize("zone", ZONES)
@quick
@given(
    moments=st.lists(
        st.datetimes(dt.datetime(1971, 1, 1), dt.datetime(2037, 1, 1), timezones=st.just(dt.UTC)),
        min_size=1,
        max_size=8,
    )
)
def test_truncation_is_by_the_wall_clock_of_the_zone(zone: str, moments: list[dt.datetime]) -> None:
    local = [moment.astimezone(ZoneInfo(zone)) for moment in moments]
    starts = {
        "day": [moment.date() for moment in local],
        "week": [moment.date() - dt.timedelta(days=moment.weekday()) for moment in local],
        "month": [moment.date().replace(day=1) for moment in local],
        "quarter": [moment.date().replace(month=(moment.month - 1) // 3 * 3 + 1, day=1) for moment in local],
        "year": [moment.date().replace(month=1, day=1) for moment in local],
    }
    for unit, expected in starts.items():
        assert (
            mask(
                list(moments), {"mask": "truncate", "unit": unit, "zone": zone}, d.timestamp("us", "Etc/UTC")
            ).to_list()
            == expected
        )
        naive = [moment.replace(tzinfo=None) for moment in local]
        assert mask(naive, {"mask": "truncate", "unit": unit, "zone": zone}, d.timestamp("us")).to_list() == expected
    for unit in ("hour", "minute"):
        found = mask(list(moments), {"mask": "truncate", "unit": unit, "zone": zone}, d.timestamp("us", "Etc/UTC"))
        assert found.dtype == pl.Datetime("us", zone)
        assert instants(found) == [clock_start(moment, unit, ZoneInfo(zone)) for moment in moments]


def instants(found: pl.Series) -> list[dt.datetime | None]:
    """As universal time: Python takes no two times of different zones for the same where a clock shows one twice."""
    return found.dt.convert_time_zone("UTC").to_list()


def clock_start(moment: dt.datetime, unit: str, zone: ZoneInfo) -> dt.datetime:
    """The start of the hour or minute, gone back to minute by minute: when the clock last showed it, or else since
    when the clock is as it is."""
    tidy = {"second": 0, "microsecond": 0}
    now = moment.astimezone(zone)
    wanted = now.replace(**tidy, minute=0 if unit == "hour" else now.minute, tzinfo=None)
    before = [moment.replace(**tidy) - dt.timedelta(minutes=back) for back in range(180)]
    showing = [each for each in before if each.astimezone(zone).replace(tzinfo=None) == wanted]
    alike = takewhile(lambda each: each.astimezone(zone).utcoffset() == now.utcoffset(), before)
    return showing[0] if showing else list(alike)[-1]


# Moments at which a clock was changed: by an hour, by less, in the middle of an hour.
CHANGES = {
    "Europe/Berlin": ("2024-03-31T01:00", "2024-10-27T01:00"),
    "Australia/Lord_Howe": ("2024-04-06T15:00", "2024-10-05T15:30"),
    "America/St_Johns": ("2010-03-14T03:31", "2010-11-07T02:31"),
    "America/Caracas": ("2007-12-09T07:00", "2016-05-01T07:00"),
    "Asia/Kathmandu": ("1985-12-31T18:30",),
}


@pytest.mark.parametrize(("zone", "change"), [(zone, at) for zone, times in CHANGES.items() for at in times])
@quick
@given(microseconds=st.lists(st.integers(-8_000_000_000, 8_000_000_000), min_size=1, max_size=8))
def test_hours_in_which_the_clock_is_changed(zone: str, change: str, microseconds: list[int]) -> None:
    at = dt.datetime.fromisoformat(f"{change}+00:00")
    assert len({(at - dt.timedelta(seconds=ago)).astimezone(ZoneInfo(zone)).utcoffset() for ago in (0, 1)}) == 2
    moments = [at + dt.timedelta(microseconds=each) for each in microseconds]
    for unit in ("hour", "minute"):
        for kept in ("ms", "us", "ns"):
            field = d.timestamp(kept, "Etc/UTC")
            found = mask(list(moments), {"mask": "truncate", "unit": unit, "zone": zone}, field)
            assert instants(found) == [clock_start(moment, unit, ZoneInfo(zone)) for moment in moments]


@quick
@given(
    zone=st.sampled_from(sorted(available_timezones() - {"Factory", "localtime"})),
    moment=st.datetimes(dt.datetime(1840, 1, 1), dt.datetime(2160, 1, 1), timezones=st.just(dt.UTC)),
)
def test_hours_of_every_zone_and_time_are_by_the_engine_s_clock(zone: str, moment: dt.datetime) -> None:
    (start,) = instants(
        mask([moment], {"mask": "truncate", "unit": "hour", "zone": zone}, d.timestamp("us", "Etc/UTC"))
    )
    assert start is not None
    assert start <= moment
    before = start - dt.timedelta(microseconds=1)
    shown = pl.Series([moment, start, before]).dt.convert_time_zone(zone).dt.replace_time_zone(None)
    hour = shown.dt.truncate("1h")
    # The clock shows the start of the moment's hour; or shows this hour since, and another one before, by a change.
    assert hour[0] == hour[1]
    assert shown[1] == hour[1] or hour[2] != hour[1] or shown[1] - shown[2] != moment.resolution


@pytest.mark.parametrize(
    ("zone", "shown", "start"),
    [
        ("Australia/Lord_Howe", "2024-04-07T01:45", "2024-04-07T01:00+11:00"),  # of the two times 01:45 the first
        ("Australia/Lord_Howe", "2024-10-06T02:45", "2024-10-06T02:30+11:00"),  # 02:00 was skipped
        ("Australia/Lord_Howe", "2024-10-06T02:15", None),  # no clock showed that
        ("America/St_Johns", "2010-03-14T01:20", "2010-03-14T01:01-02:30"),
        ("Europe/Berlin", "2024-10-27T02:30", "2024-10-27T02:00+02:00"),
        ("Europe/Berlin", "2024-03-31T02:30", None),
    ],
)
def test_hours_of_a_wall_clock_that_is_changed(zone: str, shown: str, start: str | None) -> None:
    truncate = {"mask": "truncate", "unit": "hour", "zone": zone}
    found = mask([dt.datetime.fromisoformat(shown), None], truncate, d.timestamp("us"))
    assert instants(found) == [None if start is None else dt.datetime.fromisoformat(start), None]


@quick
@given(
    days=st.lists(st.none() | st.dates(dt.date(1, 1, 1), dt.date(9999, 12, 31)), max_size=12),
    near=st.lists(st.none() | st.dates(dt.date(2023, 12, 25), dt.date(2024, 3, 5)), max_size=200),
)
def test_dates_are_the_calendars_whether_few_days_or_many_lie_between(
    days: list[dt.date | None], near: list[dt.date | None]
) -> None:
    parts = {"year": "%Y", "month": "%m", "day": "%d", "week": "%V", "weekday": "%u"}
    for values in (days, near):
        for part, form in parts.items():
            wanted = [None if day is None else int(day.strftime(form)) for day in values]
            assert mask(values, {"mask": "date_part", "part": part}, d.DATE).to_list() == wanted
        quarters = [day and dt.date(day.year, (day.month - 1) // 3 * 3 + 1, 1) for day in values]
        assert mask(values, {"mask": "truncate", "unit": "quarter"}, d.DATE).to_list() == quarters
        halves = [day and dt.date(day.year, 1 if day.month < 7 else 7, 1) for day in values]
        assert mask(values, {"mask": "bucket", "size": "6mo"}, d.DATE).to_list() == halves


def test_a_moment_beyond_every_date_is_refused_and_not_taken_for_another() -> None:
    beyond = pl.Series("v", [2**62], dtype=pl.Int64).cast(pl.Datetime("ms"))
    for words in ({"mask": "truncate", "unit": "month"}, {"mask": "date_part", "part": "year"}):
        with pytest.raises(pl.exceptions.InvalidOperationError):
            mask(beyond, {**words, "zone": "Etc/UTC"}, d.timestamp("ms"))


@quick
@given(values=st.lists(st.floats(-360, 360), min_size=1, max_size=40), decimals=st.integers(0, 4))
def test_a_coordinate_is_the_float_that_is_written_so(values: list[float], decimals: int) -> None:
    for value in mask(values, {"mask": "geo_round", "decimals": decimals}, d.FLOAT64).to_list():
        assert value == float(f"{value:.{decimals}f}")


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_a_coordinate_that_is_the_same_in_every_row_leaves_as_it_does_alone(engine: Any) -> None:
    """The engine keeps such a column as one value, and divides by one value otherwise than by many."""
    chance = random.Random(5)
    plan = plan_of(("v", {"mask": "geo_round", "decimals": 1}, d.FLOAT64))
    for value in [*(chance.uniform(-180, 180) for _ in range(200)), float("inf"), float("-inf")]:
        alone = mask([value], {"mask": "geo_round", "decimals": 1}, d.FLOAT64)[0]
        assert math.isinf(value) or alone == float(f"{alone:.1f}")
        for frame in (
            pl.LazyFrame({"n": range(5)}).select(pl.lit(value).alias("v"), "n"),
            pl.LazyFrame({"v": [value] * 5}),
            pl.LazyFrame({"v": [value, None] * 3}),
        ):
            assert set(masked(frame, plan, Keys()).collect(engine=engine)["v"].drop_nulls()) == {alone}


def test_a_day_whose_midnight_does_not_exist_is_still_a_day() -> None:
    """In Sao Paulo the clock went from 0:00 to 1:00 on 4 November 2018."""
    skipped = dt.datetime(2018, 11, 4, 0, 30)
    words = {"mask": "truncate", "unit": "day", "zone": "America/Sao_Paulo"}
    assert mask([skipped], words, d.timestamp("us")).to_list() == [dt.date(2018, 11, 4)]
    assert mask([dt.datetime(2018, 11, 4, 3, 30, tzinfo=dt.UTC)], words, d.timestamp("us", "Etc/UTC")).to_list() == [
        dt.date(2018, 11, 4)
    ]
    assert mask([skipped], {**words, "unit": "hour"}, d.timestamp("us")).to_list() == [None]


def test_date_parts_follow_the_zone() -> None:
    moment = [dt.datetime(2025, 12, 31, 17, 5, tzinfo=dt.UTC)]  # the first hour of 2026 in Shanghai
    parts = {"year": 2026, "quarter": 1, "month": 1, "week": 1, "day": 1, "weekday": 4, "hour": 1}
    for part, expected in parts.items():
        words = {"mask": "date_part", "part": part, "zone": "Asia/Shanghai"}
        assert mask(list(moment), words, d.timestamp("us", "Etc/UTC")).to_list() == [expected]


def test_a_zone_that_only_the_contract_knows_is_refused_before_any_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contracts.technique._zones", frozenset)  # a machine without a zone database
    words = {"mask": "truncate", "unit": "day", "zone": "Mars/Olympus"}
    with pytest.raises(SluicegateError) as caught:
        mask([dt.datetime(2026, 1, 1)], words, d.timestamp("us"))
    assert caught.value.reason is Reason.PLAN_REFUSED


def test_hierarchies_answer_for_unknown_values_too() -> None:
    table = {"J10": ["influenza", "respiratory"], "J11": ["influenza", "respiratory"]}
    words = {"mask": "hierarchy", "table": table, "level": 2, "other": "rest"}
    assert mask(["J10", "A00", None, ""], words, d.STRING).to_list() == ["respiratory", "rest", None, "rest"]
    assert mask([7, 8], {"mask": "hierarchy", "table": {"7": ["odd"]}}, d.INT32).to_list() == ["odd", "other"]


# --- places -----------------------------------------------------------------------------------


@quick
@given(
    addresses=st.lists(st.ip_addresses() | st.ip_addresses(network="10.0.0.0/8"), min_size=1, max_size=8),
    v4=st.integers(8, 28),
    v6=st.integers(16, 56),
)
def test_the_network_of_an_address_is_that_of_the_standard_library(
    addresses: list[ipaddress.IPv4Address | ipaddress.IPv6Address], v4: int, v6: int
) -> None:
    def network(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return str(ipaddress.ip_network((address, v4 if address.version == 4 else v6), strict=False))

    words: Words = {"mask": "ip_prefix", "v4": v4, "v6": v6}
    assert mask([str(address) for address in addresses], words, d.STRING).to_list() == [*map(network, addresses)]


def test_what_is_no_address_never_passes() -> None:
    spelled = {
        " 203.0.113.77\t": "203.0.113.0/24", "::ffff:203.0.113.77": "203.0.113.0/24",
        "2001:DB8:0:1::5": "2001:db8::/48", "fe80::1%eth0": "fe80::/48",
    }  # fmt: skip
    others = ["", "203.0.113", "203.0.113.256", "203.0.113.07", "203.0.113.7/24", "203.0.113.7:80", "3405803853", ":",
              "1.2.3.4.5", "2001:db8::g", "王", "[::1]"]  # fmt: skip
    result = mask([*spelled, *others, None], {"mask": "ip_prefix"}, d.STRING).to_list()
    assert result == [*spelled.values(), *["other"] * len(others), None]


def cells(places: list[tuple[float | None, float | None]], precision: int, dtype: d.DType = d.FLOAT64) -> list[str]:
    words = {"mask": "geohash", "precision": precision, "longitude": "lon"}
    plan = plan_of(("lat", words, dtype))
    kind = polars_type(dtype)
    columns = {"lat": [lat for lat, _ in places], "lon": [lon for _, lon in places]}
    frame = pl.DataFrame(columns, schema={"lat": pl.Float64, "lon": pl.Float64}).cast(kind)
    return masked(frame.lazy(), plan, Keys()).collect(engine="streaming")["lat"].to_list()


def by_definition(lat: float, lon: float, precision: int) -> str:
    """Halve the earth, longitude first; of five bits make a letter."""
    bits, spans = [], [[-180.0, 180.0], [-90.0, 90.0]]
    for index in range(5 * precision):
        span, value = spans[index % 2], (lon, lat)[index % 2]
        middle = (span[0] + span[1]) / 2
        bits.append(value >= middle)
        span[0 if value >= middle else 1] = middle
    letters = "0123456789bcdefghjkmnpqrstuvwxyz"
    return "".join(
        letters[sum(bit << 4 - at for at, bit in enumerate(bits[first : first + 5]))]
        for first in range(0, len(bits), 5)
    )


def test_known_cells_of_the_earth() -> None:
    known = {(42.605, -5.603): "ezs42", (57.64911, 10.40744): "u4pruydqqvj"[:8], (-25.382708, -49.265506): "6gkzwgjz"}
    for place, cell in known.items():
        assert cells([place], len(cell)) == [cell]
    assert cells([(31.23, 121.47)], 5, d.DType("decimal", precision=8, scale=4)) == [by_definition(31.23, 121.47, 5)]


@quick
@given(
    places=st.lists(st.tuples(st.floats(-90, 90), st.floats(-180, 180)), min_size=1, max_size=6),
    precision=st.integers(1, 8),
)
def test_cells_are_those_of_the_definition(places: list[tuple[float, float]], precision: int) -> None:
    # Within a rounding error of a cell's border either side is right: such places are moved to its middle.
    width = 360 / 2 ** ((5 * precision + 1) // 2)
    height = 180 / 2 ** (5 * precision // 2)
    middles = [
        (((lat + 90) // height + 0.5) * height - 90, ((lon + 180) // width + 0.5) * width - 180) for lat, lon in places
    ]
    inside = [(lat, lon) for lat, lon in middles if lat < 90 and lon < 180]  # not beyond the last cell's border
    assert cells(list(inside), precision) == [by_definition(*place, precision) for place in inside]


def test_the_ends_of_the_earth_and_what_lies_beyond() -> None:
    assert cells([(90, 180), (-90, -180), (90, -180)], 3) == ["zzz", "000", "bpb"]
    beyond = [(90.1, 0.0), (0.0, -180.1), (float("nan"), 0.0), (0.0, float("inf"))]
    assert cells([*beyond, (None, 1.0), (1.0, None)], 3) == ["other"] * 4 + [None] * 2


# --- chance -----------------------------------------------------------------------------------

DAY = dt.timedelta(days=1)
SHIFT = {"mask": "shift_date", "days": 20, "entity": "person"}


def shifted(frame: pl.DataFrame, dtype: d.DType, keys: Keys | None = None, fields: str = "v") -> pl.DataFrame:
    plan = plan_of(*((name, SHIFT, dtype) for name in fields))
    return masked(frame.lazy(), plan, keys or Keys()).collect(engine="streaming")


@pytest.mark.parametrize("dtype", [d.DATE, *STAMPS], ids=str)
@quick
@given(
    rows=st.lists(
        st.tuples(st.sampled_from(["anna", "bo", "王"]), st.dates(dt.date(1950, 1, 1), dt.date(2200, 1, 1))),
        min_size=1, max_size=8,
    )
)  # fmt: skip
def test_intervals_are_kept_within_a_person(dtype: d.DType, rows: list[tuple[str, dt.date]]) -> None:
    days = [day if dtype == d.DATE else dt.datetime(day.year, day.month, day.day, 8, 30) for _, day in rows]
    frame = pl.DataFrame({"person": [person for person, _ in rows], "v": column(days, dtype), "w": column(days, dtype)})
    result = shifted(frame, dtype, fields="vw")
    moved: dict[str, set[dt.timedelta]] = {}
    for name in "vw":
        for (person, _), before, after in zip(rows, frame[name].to_list(), result[name].to_list(), strict=True):
            moved.setdefault(person, set()).add(after.astimezone(dt.UTC) - before.astimezone(dt.UTC)
                                                if dtype.zone else after - before)  # fmt: skip
    for by in moved.values():
        assert len(by) == 1
        assert min(by) % DAY == dt.timedelta(0)
        assert 1 <= abs(min(by) / DAY) <= 20


def test_every_number_of_days_is_drawn_and_another_recipient_or_limit_draws_others() -> None:
    people = [f"person {number}" for number in range(2000)]
    frame = pl.DataFrame({"person": people, "v": [dt.date(2026, 1, 1)] * 2000})
    first, again, other = (
        [(day - dt.date(2026, 1, 1)) / DAY for day in shifted(frame, d.DATE, keys)["v"].to_list()]
        for keys in (Keys("another agreement"), Keys(release="another"), Keys(recipient="another"))
    )
    assert first == again, "one shift in every release"
    assert set(first) == {*range(-20, 21)} - {0}
    assert max(Counter(first).values()) < 100  # 50 each
    assert sum(a == b for a, b in zip(first, other, strict=True)) < 120
    spellings = pl.DataFrame({"person": ["bo", " BO "], "v": [dt.date(2026, 1, 1)] * 2})
    assert shifted(spellings, d.DATE)["v"].n_unique() == 1


def test_a_date_without_a_person_is_null_and_none_leaves_the_calendar() -> None:
    ends = [dt.date(1, 1, 1), dt.date(9999, 12, 31), dt.date(2026, 1, 1), None]
    frame = pl.DataFrame({"person": ["a", "a", None, "a"], "v": ends})
    first, last, unknown, none = shifted(frame, d.DATE)["v"].to_list()
    assert abs(first - dt.date(1, 1, 21)) <= 20 * DAY
    assert abs(last - dt.date(9999, 12, 11)) <= 20 * DAY
    assert unknown is none is None
    edges = pl.Series("v", [-(2**63) + 1, 2**63 - 1]).cast(pl.Datetime("ns"))
    assert shifted(pl.DataFrame({"person": ["a", "b"], "v": edges}), d.timestamp("ns"))["v"].null_count() == 0


def noisy(values: Sequence[object], dtype: d.DType, words: Words, keys: Keys | None = None) -> list[Any]:
    """The values with noise, each of a person of its own."""
    frame = pl.DataFrame({"v": column(values, dtype), "person": [f"p{number}" for number in range(len(values))]})
    plan = plan_of(("v", {"mask": "noise", **words}, dtype), entity="person")
    return masked(frame.lazy(), plan, keys or Keys()).collect(engine="streaming")["v"].to_list()


@pytest.mark.parametrize(
    ("distribution", "deviation", "within"),
    [("laplace", 2**0.5, 0.632), ("normal", 1, 0.683), ("uniform", 3**-0.5, 1.0)],
)
def test_noise_is_of_its_distribution(distribution: str, deviation: float, within: float) -> None:
    """Its mean, its standard deviation, and the share that lies within one scale, over 40,000 draws."""
    found = noisy([0.0] * 40_000, d.FLOAT64, {"distribution": distribution, "scale": 7})
    drawn = pl.Series(found) / 7
    assert abs(float(drawn.mean())) < 0.03  # type: ignore[arg-type]
    assert abs(float(drawn.std()) - deviation) < 0.03  # type: ignore[arg-type]
    assert abs(float((drawn.abs() <= 1).mean()) - within) < 0.015  # type: ignore[arg-type]
    assert drawn.n_unique() == 40_000


def test_noise_of_a_person_is_the_same_in_every_release_and_averaging_gains_nothing() -> None:
    words = {"distribution": "normal", "scale": 100}
    first = noisy([1000] * 50, d.INT32, words)
    assert first == noisy([1000] * 50, d.INT32, words, Keys(release="another"))
    assert first == noisy([1000] * 50, d.INT32, words, Keys("another agreement"))
    assert first != noisy([1000] * 50, d.INT32, words, Keys(recipient="another"))
    assert len(set(first)) > 30
    plan = plan_of(("v", {"mask": "noise", **words}, d.INT32))
    frame = pl.DataFrame({"v": column([1000] * 50, d.INT32)}).lazy()
    of_rows = [masked(frame, plan, Keys(release=name)).collect()["v"].to_list() for name in ("a", "a", "b")]
    assert of_rows[0] == of_rows[1] != of_rows[2]


def test_two_masks_of_noise_on_one_value_cannot_be_solved_for_it() -> None:
    """Of one draw, the value plus once and plus three times of it would be two equations with two unknowns."""
    values = [float(number) for number in range(2_000)]
    one, three = (
        noisy(values, d.FLOAT64, {"distribution": "laplace", "scale": scale}, Keys(f"for purpose {scale}"))
        for scale in (1, 3)
    )
    solved = (pl.Series(one) * 3 - pl.Series(three)) / 2
    assert float((solved - pl.Series(values)).abs().median()) > 1  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@quick
@given(data=st.data())
def test_noise_on_whole_numbers_stays_in_the_type_and_is_exact(dtype: d.DType, data: st.DataObject) -> None:
    low, high = ends(dtype)
    values = data.draw(st.lists(st.integers(low, high) | st.sampled_from([low, high]), min_size=1, max_size=8))
    scale = data.draw(st.integers(1, 10**15))
    for before, after in zip(
        values, noisy(list(values), dtype, {"distribution": "uniform", "scale": scale}), strict=True
    ):
        assert low <= after <= high
        assert abs(after - before) <= scale


@quick
@given(values=st.lists(st.decimals(-(10**6), 10**6, places=2), min_size=1, max_size=8))
def test_noise_with_a_base_is_a_function_of_the_rounded_value(values: list[Decimal]) -> None:
    dtype = d.DType("decimal", precision=10, scale=2)
    result = noisy(list(values), dtype, {"distribution": "laplace", "scale": 5, "base": 0.25})
    assert all(found % Decimal("0.25") == 0 for found in result)
    plain = noisy([int(value) for value in values], d.INT64, {"distribution": "laplace", "scale": 50, "base": 10})
    assert all(found % 10 == 0 for found in plain)


def test_noise_leaves_what_is_no_number_and_nulls() -> None:
    words = {"distribution": "laplace", "scale": 1}
    nothing, endless, none = noisy([float("nan"), float("inf"), None], d.FLOAT64, words)
    assert nothing != nothing
    assert endless == float("inf")
    assert none is None


def streamed(frame: pl.DataFrame, plan: Plan, size: int = 1000) -> pl.DataFrame:
    """As a release collects it: batch by batch."""
    batches = masked(frame.lazy(), plan, Keys()).collect_batches(chunk_size=size, maintain_order=True)
    return pl.concat(batches)


@quick
@given(
    rows=st.lists(st.tuples(st.none() | st.integers(0, 5), st.none() | st.sampled_from("xy")), max_size=30),
    least=st.integers(2, 6),
)
def test_a_shuffle_keeps_the_values_of_each_group_and_the_places_of_nulls(
    rows: list[tuple[int | None, str | None]], least: int
) -> None:
    frame = pl.DataFrame({"v": [v for v, _ in rows], "g": [g for _, g in rows]}, schema={"v": pl.Int64, "g": pl.String})
    plan = plan_of(("v", {"mask": "shuffle", "within": "g", "least": least}, d.INT64))
    result = masked(frame.lazy(), plan, Keys()).collect()["v"].to_list()
    for group in ("x", "y", None):
        before = [v for v, g in rows if g == group]
        after = [v for v, (_, g) in zip(result, rows, strict=True) if g == group]
        alike = Counter(before) == Counter(after) and [v is None for v in before] == [v is None for v in after]
        assert alike if len(before) - before.count(None) >= least else not any(v is not None for v in after)


def test_a_shuffle_is_over_the_whole_release_and_another_in_each() -> None:
    size = 20_000
    frame = pl.DataFrame({"v": range(size)})
    plan = plan_of(("v", {"mask": "shuffle"}, d.INT64))
    dealt = streamed(frame, plan)["v"]
    assert sorted(dealt) == [*range(size)]
    assert sum(value < size // 2 for value in dealt.head(size // 2)) == pytest.approx(size / 4, rel=0.05)
    assert sum(value == at for at, value in enumerate(dealt)) < 10  # one is what chance leaves in place
    other = masked(frame.lazy(), plan, Keys(release="another")).collect()["v"]
    assert sum(a == b for a, b in zip(dealt, other, strict=True)) < 10


def test_few_persons_are_not_shuffled_among_themselves() -> None:
    frame = pl.DataFrame({"v": range(20), "person": ["a"] * 10 + ["b"] * 10})
    for least, nulls in ((2, 0), (3, 20)):
        plan = plan_of(("v", {"mask": "shuffle", "least": least}, d.INT64), entity="person")
        assert masked(frame.lazy(), plan, Keys()).collect()["v"].null_count() == nulls


NUMBERS_AND_TIMES = [*INTEGERS, *FLOATS, *DECIMALS, d.DATE, d.timestamp("us"), d.timestamp("ns", "Asia/Shanghai")]


@pytest.mark.parametrize("dtype", NUMBERS_AND_TIMES, ids=str)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_mean_is_shared_by_enough_and_lies_among_its_own(dtype: d.DType, data: st.DataObject) -> None:
    of_type = st.floats(-1e6, 1e6, width=32) if dtype.kind == "float" else values_of(dtype)
    some = data.draw(st.lists(of_type, min_size=1, max_size=6))
    values = data.draw(st.lists(st.sampled_from(some) | of_type | st.none(), max_size=24))
    people = data.draw(st.lists(st.sampled_from("abcdefgh"), min_size=len(values), max_size=len(values)))
    k = data.draw(st.integers(2, 5))
    frame = pl.DataFrame({"v": column(values, dtype), "person": pl.Series(people, dtype=pl.String)})
    plan = plan_of(("v", {"mask": "microaggregate", "k": k}, dtype), entity="person")
    result = masked(frame.lazy(), plan, Keys()).collect(engine="streaming")
    both = result.rename({"v": "after"}).with_columns(frame).drop_nulls("v")
    assert result["v"].is_null().equals(frame["v"].is_null()) or both["person"].n_unique() < k
    if both["person"].n_unique() < k:
        assert both["after"].null_count() == both.height
        return
    assert both.group_by("v").agg(pl.col("after").n_unique())["after"].eq(1).all(), "equal values stay equal"
    groups = both.group_by("after").agg(pl.col("person").n_unique(), low=pl.col("v").min(), high=pl.col("v").max())
    assert groups["person"].min() >= k  # type: ignore[operator]
    assert (groups["after"].is_between(groups["low"], groups["high"])).all()
    assert both.sort("v")["after"].is_sorted()


def _plain_means(values: list[int | None], people: list[str] | None, k: int) -> list[int | None]:
    """The groups of the docstring, value by value."""
    rows = [(value, row if people is None else people[row]) for row, value in enumerate(values) if value is not None]
    seen: set[object] = set()
    reached: list[tuple[int, int]] = []  # of every level: its value, and how many entities appeared up to it
    for level in sorted({value for value, _ in rows}):
        seen |= {who for value, who in rows if value == level}
        reached.append((level, len(seen)))
    if len(seen) < k:
        return [None] * len(values)
    number, before, groups = 0, 0, defaultdict(list)
    for cut in sorted({(count - 1) // k for _, count in reached}):
        most = max(count for _, count in reached if (count - 1) // k == cut)
        number += most - before >= k
        groups[max(1, number)] += [level for level, count in reached if (count - 1) // k == cut]
        before = most
    mean = {}
    for levels in groups.values():
        of = [value for value, _ in rows if value in levels]
        mean |= dict.fromkeys(levels, math.floor(sum(of) / len(of) + 0.5))
    return [None if value is None else mean[value] for value in values]


@quick
@given(
    rows=st.lists(st.tuples(st.none() | st.integers(-30, 30), st.sampled_from("abcdefgh")), max_size=40),
    k=st.integers(2, 6),
    named=st.booleans(),
)
def test_means_are_those_of_the_definition(rows: list[tuple[int | None, str]], k: int, named: bool) -> None:
    values, people = [value for value, _ in rows], [who for _, who in rows]
    frame = pl.DataFrame({"v": pl.Series(values, dtype=pl.Int64), "person": pl.Series(people, dtype=pl.String)})
    plan = plan_of(("v", {"mask": "microaggregate", "k": k}, d.INT64), entity="person" if named else None)
    found = masked(frame.lazy(), plan, Keys()).collect()["v"].to_list()
    assert found == _plain_means(values, people if named else None, k)


def test_known_means() -> None:
    words = {"mask": "microaggregate", "k": 3}
    assert mask([1, 2, 3, 10, 20, 30, 31], words, d.INT32).to_list() == [2, 2, 2, 23, 23, 23, 23]
    assert mask([1, 7, 7, 7, 7, 8, 9], words, d.INT64).to_list() == [7] * 7  # nobody is left alone at either end
    assert mask([0.5, float("nan"), 1.5, None, 4.0], words, d.FLOAT64).to_list()[::2] == [2.0, 2.0, 2.0]
    assert (
        mask([Decimal("0.01"), Decimal("0.02"), Decimal("0.04")], words, DECIMALS[0]).to_list() == [Decimal("0.02")] * 3
    )
    assert mask([2**63 - 1] * 3, words, d.INT64).to_list() == [2**63 - 1] * 3
    assert mask([5, 6], words, d.INT8).to_list() == [None, None]


def test_means_are_over_the_whole_release() -> None:
    frame = pl.DataFrame({"v": [number % 100 for number in range(20_000)]})
    plan = plan_of(("v", {"mask": "microaggregate", "k": 15_000}, d.INT64))
    assert streamed(frame, plan)["v"].n_unique() == 1


@quick
@given(values=st.lists(st.none() | st.sampled_from("abcde"), max_size=20), least=st.integers(2, 6))
def test_rare_counts_rows_of_the_whole_release(values: list[str | None], least: int) -> None:
    counts = Counter(values)
    result = mask(list(values), {"mask": "rare", "min_count": least}, d.STRING).to_list()
    assert result == [None if value is None else value if counts[value] >= least else "other" for value in values]


def test_rare_counts_persons_where_there_are_any() -> None:
    frame = pl.DataFrame({"v": ["a"] * 4 + ["b"] * 2, "person": ["1", "1 ", "1", "1", "1", "2"]}).lazy()
    plan = plan_of(("v", {"mask": "rare", "min_count": 2}, d.STRING), entity="person")
    assert masked(frame, plan, Keys()).collect()["v"].to_list() == ["other"] * 4 + ["b"] * 2


@quick
@given(st.text())
def test_normalising_twice_changes_nothing(value: str) -> None:
    once = pl.DataFrame({"v": [value]}).select(normalised(pl.col("v")))
    assert once.select(normalised(pl.col("v"))).equals(once) or not value.isascii()

"""Columns masked as a release masks them, and the types and values to try."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from decimal import Decimal

import polars as pl
from hypothesis import settings
from hypothesis import strategies as st

from connectors.masks.masking import masked, polars_type
from connectors.masks.reversible import turned_back
from contracts import dtypes as d
from contracts import techniques
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


def back(words: Words, value: str, keys: Keys | None = None) -> str:
    technique = parse(words)
    assert isinstance(technique, techniques.AesSiv | techniques.Ff1)
    return turned_back(technique, value, keys or Keys())

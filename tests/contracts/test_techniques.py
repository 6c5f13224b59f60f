"""Techniques: their words, their parameters, what they accept, what they promise."""

from __future__ import annotations

import doctest

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import dtypes as d
from contracts import (
    technique,
    technique_classes,
    technique_hide,
    technique_numbers,
    technique_places,
    technique_random,
    technique_redact,
    technique_regex,
    technique_reversible,
    techniques,
)
from contracts.canonical import canonical
from contracts.errors import Reason, SluicegateError
from contracts.techniques import ALL, AnyTechnique, Family, parse

WORDS = "keep drop null constant partial hmac random_id bucket clip round truncate date_part prefix"
WORDS += " hierarchy geo_round rare regex ip_prefix geohash shift_date noise"
WORDS += " shuffle microaggregate aes_siv ff1 redact"
# One of each, by its words in a contract.
SAMPLES: dict[str, dict[str, object]] = {
    "keep": {"justification": "published by law"},
    "drop": {},
    "null": {},
    "constant": {"value": "withheld"},
    "partial": {"keep_first": 3, "keep_last": 2, "mask_char": "•", "min_masked": 5},
    "hmac": {"domain": "person", "period": {"field": "visit_ts", "unit": "week"}},
    "random_id": {},
    "bucket": {"size": "20y", "origin": "1900-01-01"},
    "clip": {"lower": 0, "upper": 90},
    "round": {"base": 0.5},
    "truncate": {"unit": "week", "zone": "Asia/Shanghai"},
    "date_part": {"part": "weekday"},
    "prefix": {"length": 3},
    "hierarchy": {"table": {"J10": ["flu", "respiratory"]}, "level": 2},
    "geo_round": {"decimals": 2},
    "rare": {"min_count": 20},
    "redact": {"detectors": ["phone", "email"], "dictionaries": {"ward": ["East Wing"]}},
    "regex": {"pattern": "^([^@])[^@]*@", "replacement": "${1}***@", "min_masked": 2, "other": "hidden"},
    "ip_prefix": {"v4": 16, "v6": 32, "other": "elsewhere"},
    "geohash": {"precision": 5, "longitude": "lon"},
    "shift_date": {"days": 30, "entity": "person"},
    "noise": {"distribution": "laplace", "scale": 2.5, "base": 0.5},
    "shuffle": {"within": "district", "least": 5},
    "microaggregate": {"k": 5},
    "aes_siv": {"domain": "person", "legal_basis": "dpv:LegalObligation"},
    "ff1": {"domain": "card", "radix": 16, "legal_basis": "dpv:LegalObligation", "unsafe_format_preserving": True},
}


MODULES = [technique, technique_hide, technique_numbers, technique_classes, technique_regex, technique_places]
MODULES += [technique_random, technique_redact, technique_reversible, techniques]


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_the_docstrings_hold(module: object) -> None:
    failed, tried = doctest.testmod(module)  # type: ignore[arg-type]
    assert failed == 0
    assert tried > 0 or module is technique


def test_every_technique_of_the_standard_is_there_and_has_an_example() -> None:
    assert set(ALL) == set(WORDS.split()) == set(SAMPLES)
    for name, cls in ALL.items():
        words = " ".join((cls.__doc__ or "").split())
        for part in ("Precondition", "Output", "Residual risk", "Source: ", ">>>"):
            assert part.lower() in words.lower(), f"{name} does not say its {part}"


@pytest.mark.parametrize("name", SAMPLES)
def test_reading_then_writing_gives_the_same_technique_and_has_a_canonical_form(name: str) -> None:
    mask = parse({"mask": name, **SAMPLES[name]})
    written = msgspec.to_builtins(mask)
    assert mask.id == written["mask"] == name
    assert canonical(written)
    assert parse(written) == mask
    assert msgspec.convert(written, AnyTechnique) == mask


def wrong(value: object) -> dict[str, str]:
    with pytest.raises(SluicegateError) as caught:
        parse(value)
    assert caught.value.reason is Reason.CONTRACT_INVALID
    assert caught.value.violations
    return {found.path: f"{found.message} {found.hint}" for found in caught.value.violations}


@pytest.mark.parametrize(
    ("value", "path", "says"),
    [
        ({"mask": "partal"}, "mask", "did you mean 'partial'?"),
        ({"mask": "zzz"}, "mask", "allowed: "),
        ({}, "mask", "written {mask:"),
        ("keep", "mask", "written {mask:"),
        ({"mask": None}, "mask", "written {mask:"),
        ({"mask": "partial", "keep_frist": 3}, "keep_frist", "did you mean 'keep_first'"),
        ({"mask": "drop", "size": 1}, "size", "has no parameter"),
        ({"mask": "partial", "keep_last": -1}, "keep_last", "from 0 to 32"),
        ({"mask": "partial", "keep_last": True}, "keep_last", "found true"),
        ({"mask": "partial", "min_masked": 0}, "min_masked", "from 1 to 64"),
        ({"mask": "partial", "mask_char": "x"}, "mask_char", "neither letter nor digit"),
        ({"mask": "partial", "mask_char": "**"}, "mask_char", "one printable character"),
        ({"mask": "partial", "mask_char": " "}, "mask_char", "neither letter nor digit"),
        ({"mask": "prefix"}, "length", "needs `length`"),
        ({"mask": "prefix", "length": "3"}, "length", "whole number"),
        ({"mask": "truncate", "unit": "weak"}, "unit", "did you mean 'week'"),
        ({"mask": "truncate", "unit": "week", "zone": "Europe/Berln"}, "zone", "Europe/Berlin"),
        ({"mask": "truncate", "unit": "week", "zone": "../etc/passwd"}, "zone", "IANA"),
        ({"mask": "date_part", "part": "minute"}, "part", "weekday"),
        ({"mask": "bucket"}, "size", "exactly one of"),
        ({"mask": "bucket", "size": 10, "breaks": [1, 2]}, "size", "exactly one of"),
        ({"mask": "bucket", "size": 0}, "size", "a positive number"),
        ({"mask": "bucket", "size": "20x"}, "size", "like 20y"),
        ({"mask": "bucket", "size": "0y"}, "size", "like 20y"),
        ({"mask": "bucket", "size": 10, "origin": "1900-01-01"}, "origin", "a number"),
        ({"mask": "bucket", "size": "1mo", "origin": "1900-01-02"}, "origin", "first day of a month"),
        ({"mask": "bucket", "size": "1mo", "origin": 5}, "origin", "a date"),
        ({"mask": "bucket", "breaks": [1]}, "breaks", "2 to 100"),
        ({"mask": "bucket", "breaks": [2, 2]}, "breaks", "larger than the one before"),
        ({"mask": "bucket", "breaks": ["2020-01-01", 3]}, "breaks", "larger than the one before"),
        ({"mask": "bucket", "breaks": ["2020-01-01", "2019-01-01"]}, "breaks", "larger than the one before"),
        ({"mask": "bucket", "breaks": [1, 2], "origin": 1}, "origin", "goes with `size`"),
        ({"mask": "clip"}, "lower", "at least one"),
        ({"mask": "clip", "lower": 3, "upper": 2}, "lower", "not be above"),
        ({"mask": "clip", "lower": 3, "upper": "2020-01-01"}, "lower", "both"),
        ({"mask": "round", "base": -1}, "base", "a positive number"),
        ({"mask": "hmac", "domain": "Person"}, "domain", "lower-case"),
        ({"mask": "hmac", "domain": "a", "bits": 64}, "bits", "128"),
        ({"mask": "hmac", "domain": "a", "period": {"field": "t", "unit": "minute"}}, "period", "day, week"),
        ({"mask": "hierarchy", "table": {"a": ["b"]}, "level": 2}, "table", "no ancestor at level 2"),
        ({"mask": "hierarchy", "table": {}}, "table", "1 to 10000"),
        ({"mask": "geo_round", "decimals": 5}, "decimals", "0 to 4"),
        ({"mask": "rare", "min_count": 1}, "min_count", "from 2"),
        ({"mask": "regex", "pattern": "x", "replacement": "y" * 65}, "replacement", "at most 64"),
        ({"mask": "regex", "pattern": "", "replacement": ""}, "pattern", "1 to 200"),
        ({"mask": "regex", "pattern": "x" * 201, "replacement": ""}, "pattern", "1 to 200"),
        ({"mask": "regex", "pattern": "x*", "replacement": ""}, "pattern", "empty text"),
        ({"mask": "regex", "pattern": "a(", "replacement": ""}, "pattern", "no regular expression"),
        ({"mask": "regex", "pattern": "(?=x)x", "replacement": ""}, "pattern", "look-around"),
        ({"mask": "regex", "pattern": "(?<!x)x", "replacement": ""}, "pattern", "look-around"),
        ({"mask": "regex", "pattern": "(x)\\1", "replacement": ""}, "pattern", "back-references"),
        ({"mask": "regex", "pattern": "(?P<a>x)(?P=a)", "replacement": ""}, "pattern", "look-around"),
        ({"mask": "regex", "pattern": "x++", "replacement": ""}, "pattern", "possessive"),
        ({"mask": "regex", "pattern": "[a[b]]", "replacement": ""}, "pattern", "classes within"),
        ({"mask": "regex", "pattern": "(x)", "replacement": "$1"}, "replacement", "allowed: ${1}"),
        ({"mask": "regex", "pattern": "x", "replacement": "${0}"}, "replacement", "no groups"),
        ({"mask": "ip_prefix", "v4": 29}, "v4", "from 8 to 28"),
        ({"mask": "ip_prefix", "v6": 64}, "v6", "from 16 to 56"),
        ({"mask": "geohash", "precision": 5}, "longitude", "needs `longitude`"),
        ({"mask": "geohash", "precision": 9, "longitude": "lon"}, "precision", "from 1 to 8"),
        ({"mask": "shift_date", "days": 30}, "entity", "needs `entity`"),
        ({"mask": "shift_date", "days": 0, "entity": "p"}, "days", "from 1 to 3650"),
        ({"mask": "noise", "scale": 2}, "distribution", "laplace, normal, uniform"),
        ({"mask": "noise", "distribution": "gauss", "scale": 2}, "distribution", "laplace, normal, uniform"),
        ({"mask": "noise", "distribution": "normal", "scale": 0}, "scale", "a positive number"),
        ({"mask": "noise", "distribution": "normal", "scale": 2, "base": 3}, "base", "above `scale`"),
        ({"mask": "shuffle", "least": 1}, "least", "from 2"),
        ({"mask": "shuffle", "within": 3}, "within", "name of a field"),
        ({"mask": "microaggregate", "k": 1}, "k", "from 2 to 1000000"),
        ({"mask": "aes_siv", "domain": "a"}, "legal_basis", "needs `legal_basis`"),
        ({"mask": "aes_siv", "domain": "a", "legal_basis": "the law"}, "legal_basis", "dpv:LegalObligation"),
        (
            {"mask": "ff1", "domain": "a", "legal_basis": "dpv:LegalObligation"},
            "unsafe_format_preserving",
            "ff1 is off",
        ),
        ({"mask": "ff1", "domain": "a", "legal_basis": "dpv:X", "radix": 37}, "radix", "from 2 to 36"),
        ({"mask": "constant", "value": None}, "value", "finite number"),
        ({"mask": "keep", "justification": ""}, "justification", "3 to 500"),
    ],
)
def test_a_wrong_parameter_is_named_with_what_is_allowed(value: object, path: str, says: str) -> None:
    found = wrong(value)
    assert list(found) == [path]
    assert says in found[path]


def test_all_wrong_parameters_are_reported_at_once() -> None:
    assert wrong({"mask": "partial", "keep_first": -1, "keep_last": 99, "extra": 1}).keys() == {
        "keep_first",
        "keep_last",
        "extra",
    }


def attempt(value: object) -> SluicegateError | None:
    try:
        parse(value)
    except SluicegateError as error:
        return error
    return None


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8), st.lists, max_leaves=4)
)
def test_nothing_but_a_contract_error_comes_out_of_any_parameter(value: object) -> None:
    for name, words in SAMPLES.items():
        for parameter in words:
            error = attempt({"mask": name, **words, parameter: value})
            assert error is None or (error.reason is Reason.CONTRACT_INVALID and error.violations)


D2 = d.DType("decimal", precision=10, scale=2)
OTHER = d.DType("other", name="list")
NAIVE, AWARE = d.timestamp("us"), d.timestamp("ns", "Asia/Shanghai")

# mask, type, the type sent (None: refused).
MATRIX: list[tuple[dict[str, object], d.DType, d.DType | None]] = [
    ({"mask": "keep"}, d.BINARY, d.BINARY),
    ({"mask": "keep"}, OTHER, None),
    ({"mask": "null"}, AWARE, AWARE),
    ({"mask": "constant", "value": True}, d.STRING, d.BOOLEAN),
    ({"mask": "constant", "value": 1}, d.STRING, d.INT64),
    ({"mask": "constant", "value": 1.5}, d.STRING, d.FLOAT64),
    ({"mask": "partial"}, d.UINT64, d.STRING),
    ({"mask": "partial"}, d.FLOAT64, None),
    ({"mask": "partial"}, d.DType("integer", bits=128), None),
    ({"mask": "hmac", "domain": "a"}, d.DATE, d.STRING),
    ({"mask": "hmac", "domain": "a"}, d.FLOAT64, None),
    ({"mask": "random_id"}, d.FLOAT64, d.STRING),
    ({"mask": "bucket", "size": 10}, d.INT8, d.INT8),
    ({"mask": "bucket", "size": 1}, d.INT8, None),
    ({"mask": "bucket", "size": 0.5}, d.INT8, None),
    ({"mask": "bucket", "size": 10, "origin": 0.5}, d.INT8, None),
    ({"mask": "bucket", "size": 0.5}, d.FLOAT32, d.FLOAT32),
    ({"mask": "bucket", "size": 0.5}, D2, d.DType("decimal", precision=38, scale=2)),
    ({"mask": "bucket", "size": 0.01}, D2, None),
    ({"mask": "bucket", "size": 0.005}, D2, None),
    ({"mask": "bucket", "size": "20y"}, d.DATE, d.DATE),
    ({"mask": "bucket", "size": "1d"}, d.DATE, None),
    ({"mask": "bucket", "size": 10}, d.DATE, None),
    ({"mask": "bucket", "size": "20y"}, d.INT32, None),
    ({"mask": "bucket", "size": "20y"}, NAIVE, None),
    ({"mask": "bucket", "breaks": [0, 18, 65]}, d.UINT8, d.UINT8),
    ({"mask": "bucket", "breaks": [0, 18, 300]}, d.UINT8, None),
    ({"mask": "bucket", "breaks": [0, 18.5]}, d.UINT8, None),
    ({"mask": "bucket", "breaks": ["1990-01-01", "2000-01-01"]}, d.DATE, d.DATE),
    ({"mask": "clip", "upper": 90}, d.INT8, d.INT8),
    ({"mask": "clip", "upper": 200}, d.INT8, None),
    ({"mask": "clip", "lower": "1930-01-01"}, d.DATE, d.DATE),
    ({"mask": "clip", "lower": "1930-01-01"}, d.INT64, None),
    ({"mask": "clip", "upper": 10**9}, D2, None),
    ({"mask": "round", "base": 1000}, d.INT64, d.INT64),
    ({"mask": "round", "base": 1}, d.INT64, None),
    ({"mask": "round", "base": 1}, d.FLOAT64, d.FLOAT64),
    ({"mask": "round", "base": 1}, d.STRING, None),
    ({"mask": "truncate", "unit": "day"}, AWARE, d.DATE),
    ({"mask": "truncate", "unit": "hour"}, AWARE, AWARE),
    ({"mask": "truncate", "unit": "hour", "zone": "Etc/UTC"}, AWARE, d.timestamp("ns", "Etc/UTC")),
    ({"mask": "truncate", "unit": "day"}, NAIVE, None),
    ({"mask": "truncate", "unit": "day", "zone": "Etc/UTC"}, NAIVE, d.DATE),
    ({"mask": "truncate", "unit": "month"}, d.DATE, d.DATE),
    ({"mask": "truncate", "unit": "day"}, d.DATE, None),
    ({"mask": "date_part", "part": "year"}, d.DATE, d.INT32),
    ({"mask": "date_part", "part": "hour"}, d.DATE, None),
    ({"mask": "date_part", "part": "hour"}, NAIVE, None),
    ({"mask": "date_part", "part": "hour"}, AWARE, d.INT8),
    ({"mask": "prefix", "length": 3}, d.STRING, d.STRING),
    ({"mask": "prefix", "length": 3}, d.INT64, None),
    ({"mask": "hierarchy", "table": {"1": ["a"]}}, d.INT64, d.STRING),
    ({"mask": "geo_round", "decimals": 2}, d.FLOAT64, d.FLOAT64),
    ({"mask": "geo_round", "decimals": 2}, D2, None),
    ({"mask": "geo_round", "decimals": 1}, D2, d.DType("decimal", precision=38, scale=2)),
    ({"mask": "rare", "min_count": 3}, d.STRING, d.STRING),
    ({"mask": "rare", "min_count": 3}, d.BOOLEAN, None),
    ({"mask": "regex", "pattern": "\\p{Han}+$", "replacement": ""}, d.STRING, d.STRING),
    ({"mask": "regex", "pattern": "[0-9]", "replacement": "#"}, d.INT64, None),
    ({"mask": "ip_prefix"}, d.STRING, d.STRING),
    ({"mask": "ip_prefix"}, d.UINT32, None),
    ({"mask": "geohash", "precision": 5, "longitude": "lon"}, d.FLOAT32, d.STRING),
    ({"mask": "geohash", "precision": 5, "longitude": "lon"}, D2, d.STRING),
    ({"mask": "geohash", "precision": 5, "longitude": "lon"}, d.STRING, None),
    ({"mask": "shift_date", "days": 3, "entity": "p"}, d.DATE, d.DATE),
    ({"mask": "shift_date", "days": 3, "entity": "p"}, AWARE, AWARE),
    ({"mask": "shift_date", "days": 3, "entity": "p"}, d.DType("time", unit="ns"), None),
    ({"mask": "noise", "distribution": "uniform", "scale": 3}, d.UINT8, d.UINT8),
    ({"mask": "noise", "distribution": "uniform", "scale": 0.5}, d.UINT8, None),
    ({"mask": "noise", "distribution": "uniform", "scale": 0.5}, d.FLOAT32, d.FLOAT32),
    ({"mask": "noise", "distribution": "uniform", "scale": 3}, D2, d.DType("decimal", precision=38, scale=2)),
    ({"mask": "noise", "distribution": "uniform", "scale": 0.001}, D2, None),
    ({"mask": "noise", "distribution": "uniform", "scale": 10**15}, d.DType("decimal", precision=38, scale=30), None),
    ({"mask": "noise", "distribution": "uniform", "scale": 3, "base": 1}, d.UINT8, None),
    ({"mask": "noise", "distribution": "uniform", "scale": 3}, d.DATE, None),
    ({"mask": "shuffle"}, d.BINARY, d.BINARY),
    ({"mask": "aes_siv", "domain": "a", "legal_basis": "dpv:Contract"}, d.DATE, d.STRING),
    ({"mask": "aes_siv", "domain": "a", "legal_basis": "dpv:Contract"}, d.FLOAT64, None),
    ({"mask": "ff1", **SAMPLES["ff1"]}, d.UINT64, d.STRING),
    ({"mask": "ff1", **SAMPLES["ff1"]}, d.DATE, None),
    ({"mask": "shuffle"}, OTHER, None),
    ({"mask": "microaggregate", "k": 3}, D2, D2),
    ({"mask": "microaggregate", "k": 3}, AWARE, AWARE),
    ({"mask": "microaggregate", "k": 3}, d.STRING, None),
]


@pytest.mark.parametrize(("value", "dtype", "sent"), MATRIX, ids=str)
def test_a_type_is_accepted_and_another_produced_or_refused_with_a_reason(
    value: dict[str, object], dtype: d.DType, sent: d.DType | None
) -> None:
    mask = parse(value)
    assert mask.accepts(dtype) is (sent is not None)
    if sent is None:
        assert all(len(problem) > 10 for problem in mask.problems(dtype))
    else:
        assert mask.produces(dtype) == sent


def test_defaults_that_depend_on_the_type_are_written_out() -> None:
    assert parse({"mask": "bucket", "size": "20y"}).resolved(d.DATE) == parse(
        {"mask": "bucket", "size": "20y", "origin": "1900-01-01"}
    )
    assert parse({"mask": "bucket", "size": 5}).resolved(d.INT64) == parse({"mask": "bucket", "size": 5, "origin": 0})
    assert parse({"mask": "truncate", "unit": "day"}).resolved(AWARE) == parse(
        {"mask": "truncate", "unit": "day", "zone": "Asia/Shanghai"}
    )
    assert parse({"mask": "keep"}).resolved(AWARE) == parse({"mask": "keep"})


def test_promises_are_consistent() -> None:
    for cls in ALL.values():
        assert 0 <= cls.strength <= 5
        assert (cls.strength == 0) == (cls.family is Family.NONE)
        # What can be had back says why: keep by its justification, encryption by its legal basis. A text
        # of which parts are redacted passes as what it is.
        named = {field.name for field in msgspec.structs.fields(cls)}
        assert cls.reversible == (bool(named & {"justification", "legal_basis"}) or cls is techniques.Redact)
        assert cls.sent or cls.strength == 5
        assert not (cls.joinable and cls.remnant)
        # Whatever leaves nothing readable behind leaves no remnant, and the other way round.
        assert cls.remnant == (cls.strength <= 3)

"""Pseudonyms, random ids, and what else follows from a key."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import unicodedata

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.masks import known_answers, masking
from connectors.masks.ff1 import Ff1Cipher
from connectors.masks.masking import masked, normalised, polars_type
from contracts import dtypes as d
from contracts.errors import Reason, SluicegateError
from contracts.plan import Plan
from tests.connectors.masks.trying import Keys, mask, plan_of, quick


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


@quick
@given(st.text())
def test_normalising_twice_changes_nothing(value: str) -> None:
    once = pl.DataFrame({"v": [value]}).select(normalised(pl.col("v")))
    assert once.select(normalised(pl.col("v"))).equals(once) or not value.isascii()

"""Each attack on small tables whose answer is known, and on real records: what works must be seen to work."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.reidentification import Outcome, difference, guessing, linkage, tracks
from connectors.reidentification.linkage import WHO

FEBRL = ["given_name", "surname", "street_number", "address_1", "address_2", "suburb", "postcode", "state"]
FEBRL += ["date_of_birth", "soc_sec_id"]


def test_an_interval_is_wilsons() -> None:
    """The values of Newcombe, Statistics in Medicine 1998, table I, method 3."""
    for succeeded, tried, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        found = Outcome("x", tried, succeeded).interval
        assert found == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
    assert Outcome("x", 0, 0).interval == (0.0, 1.0)
    assert Outcome("x", 10, 10, baseline=0.3).gain == pytest.approx(0.7)


ROWS = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.integers(0, 2), st.none() | st.sampled_from("xy")), min_size=1, max_size=30
)


@given(released=ROWS, register=ROWS)
def test_linkage_is_the_sum_of_chances(
    released: list[tuple[str, int, str | None]], register: list[tuple[str, int, str | None]]
) -> None:
    def frame(rows: list[tuple[str, int, str | None]]) -> pl.DataFrame:
        return pl.DataFrame(rows, schema={WHO: pl.String, "a": pl.Int64, "b": pl.String}, orient="row")

    found = linkage.by_equality(frame(released), frame(register), ["a", "b"])
    known = {who: (a, b) for who, a, b in reversed(register)}
    people = {who for who, _, _ in released} & set(known)
    chances = 0.0
    for who in people:
        alike = [row[0] for row in released if row[1:] == known[who]]
        chances += alike.count(who) / len(alike) if alike else 0.0
    assert found.tried == len(people)
    assert found.succeeded == pytest.approx(chances)


@pytest.fixture(scope="module")
def febrl(corpora: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """5,000 records, and the same people again with errors; who is who stands in the record's id."""
    frames = []
    for name in ("dataset4a", "dataset4b"):
        read = pl.read_csv(corpora / "febrl" / f"{name}.csv", infer_schema=False)
        read = read.rename(str.strip).with_columns(pl.all().str.strip_chars().replace("", None))
        frames.append(read.with_columns(pl.col("rec_id").str.extract(r"rec-(\d+)-").alias(WHO)))
    return frames[0], frames[1]


def test_records_with_errors_are_linked_all_the_same(febrl: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    original, again = febrl
    assert original.height == again.height == 5_000
    exact = linkage.by_equality(again, original, FEBRL)
    assert exact.rate < 0.5, "most records have an error somewhere"
    found = linkage.by_likeness(again, original, FEBRL)
    assert found.tried == 5_000
    assert found.rate > 0.9
    # Without names and numbers, five-year bands and the state tell nobody apart.
    coarse = [
        frame.select(pl.col("date_of_birth").str.slice(0, 3), "state", WHO).with_columns(pl.lit(1).alias("one"))
        for frame in febrl
    ]
    assert linkage.by_likeness(coarse[1], coarse[0], ["date_of_birth", "state", "one"]).rate < 0.01


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "sha512"])
@pytest.mark.parametrize("length", [16, None])
def test_a_hash_without_a_key_is_undone_by_trying(algorithm: str, length: int | None) -> None:
    phones = pl.Series("phone", [f"138{number:08d}" for number in range(0, 100_000, 97)])
    hashed = pl.Series("phone", [hashlib.new(algorithm, phone.encode()).hexdigest()[:length] for phone in phones])
    assert guessing.by_enumeration(hashed, phones).rate == 1.0
    assert guessing.by_enumeration(phones, phones).rate == 1.0
    salted = pl.Series("phone", [hashlib.sha256(f"secret{phone}".encode()).hexdigest()[:length] for phone in phones])
    assert guessing.by_enumeration(salted, phones).rate == 0.0
    assert guessing.by_enumeration(pl.Series("phone", [None], dtype=pl.String), phones).tried == 0


def test_how_often_a_value_occurs_tells_what_it_is() -> None:
    truth = pl.Series("code", ["J10"] * 5 + ["K20"] * 3 + ["L30"] * 3 + ["M40"])
    shown = truth.replace_strict({"J10": "p1", "K20": "p2", "L30": "p3", "M40": "p4"})
    found = guessing.by_frequency(shown, truth)
    assert (found.tried, found.succeeded) == (4, 2), "five times and once: nobody else"
    assert found.baseline == 0.25


def test_a_class_tells_what_is_common_in_it() -> None:
    rows = pl.DataFrame(
        {"age": [20] * 4 + [30] * 4 + [40] * 2, "ill": ["a", "a", "a", "b", "b", "b", "c", "d", "d", "d"]}
    )
    inferred = guessing.by_class(rows, ["age"], "ill")
    assert (inferred.tried, inferred.succeeded, inferred.baseline) == (10, 7, 0.3)
    sure = guessing.by_homogeneity(rows, ["age"], "ill")
    assert (sure.tried, sure.succeeded) == (10, 2)


def test_a_few_places_tell_people_apart_and_a_crowd_does_not() -> None:
    """Of 400 people with ten rows each: places of 10,000, and places of two."""
    chance = random.Random(7)
    for places, least, most in ((10_000, 0.99, 1.0), (2, 0.0, 0.01)):
        rows = pl.DataFrame(
            [(f"p{person}", day, chance.randrange(places)) for person in range(400) for day in range(10)],
            schema=["unit", "day", "place"],
            orient="row",
        ).with_columns(day=pl.col("day") if places > 2 else pl.lit(0))
        found = tracks.by_points(rows, "unit", ["day", "place"], points=2, seed=3)
        assert least <= found.rate <= most
    assert tracks.by_points(rows, "unit", ["place"], points=5, seed=3).tried == 0


@given(
    first=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9)), max_size=25, unique=True),
    second=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9)), max_size=25, unique=True),
)
def test_what_came_or_went_in_small_groups_is_isolated(
    first: list[tuple[str, int]], second: list[tuple[str, int]]
) -> None:
    def frame(rows: list[tuple[str, int]]) -> pl.DataFrame:
        return pl.DataFrame([(value, str(who)) for value, who in rows], schema=["v", WHO], orient="row").cast(
            {"v": pl.String, WHO: pl.String}
        )

    found = difference.of_two(frame(first), frame(second), ["v"], k=3)
    tried = succeeded = 0
    for new, old in ((second, first), (first, second)):
        now, before = Counter(value for value, _ in new), Counter(value for value, _ in old)
        for value in now:
            moved = {who for v, who in new if v == value} - {who for v, who in old if v == value}
            if now[value] > before[value] and moved:
                tried += len(moved)
                succeeded += len(moved) if len(moved) < 3 else 0
    assert (found.tried, found.succeeded) == (tried, succeeded)

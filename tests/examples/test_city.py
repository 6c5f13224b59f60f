"""A small city: of the contract's shape, of valid numbers, the same for the same seed, within its bounds."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import polars as pl
import pytest
import yaml
from polars.testing import assert_frame_equal

from connectors import sources
from connectors.sources import SourceSettings
from contracts import lint, plan, standard
from examples import city

EXAMPLES = Path(__file__).parents[2] / "examples"
CONTRACT, FIGURES = EXAMPLES / "hospital-visits.odcs.yaml", EXAMPLES / "visit-statistics.odcs.yaml"
RESIDENTS, VISITS = 20_000, 40_000


@pytest.fixture(scope="module")
def visits() -> pl.DataFrame:
    return city.visits(RESIDENTS, VISITS, seed=7)


def valid_id(text: str) -> bool:
    """GB 11643: check digit by ISO 7064 mod 11-2, computed the other way round than the city does."""
    total = 0
    for digit in text[:17]:
        total = (total + int(digit)) * 2 % 11
    return "0123456789X"[(12 - total) % 11] == text[17]


def test_the_check_knows_right_from_wrong() -> None:
    """The number in the standard's own example, and one digit changed."""
    assert valid_id("11010519491231002X")
    assert not valid_id("11010519491231012X")


def test_columns_and_types_are_the_contracts(visits: pl.DataFrame) -> None:
    declared = yaml.safe_load(CONTRACT.read_text())["schema"][0]["properties"]
    assert visits.columns == [field["name"] for field in declared]
    types = {"string": pl.String, "date": pl.Date, "timestamp": pl.Datetime("us"), "integer": pl.Int64}
    assert dict(visits.schema) == {field["name"]: types[field["logicalType"]] for field in declared}
    for field in declared:
        if field.get("required"):
            assert visits[field["name"]].null_count() == 0
        if field.get("unique"):
            assert visits[field["name"]].is_unique().all()


def test_the_contract_of_aggregates_is_of_the_same_table(visits: pl.DataFrame, tmp_path: Path) -> None:
    visits.write_parquet(tmp_path / "visits.parquet")
    source = sources.open(SourceSettings(path=str(tmp_path / "visits.parquet"), format="parquet"))
    contract = lint.check(FIGURES.read_bytes()).contract
    made = plan.compile(plan.terms_for(contract, "hospital-figures"), contract, source.schema(), standard.load())
    assert made.aggregate is not None
    assert set(made.read) == {"citizen_id", "hospital_code", "cost_cents"}
    (mean,) = (measure for measure in made.aggregate.measures if measure.name == "mean_cost")
    assert visits["cost_cents"].quantile(0.95) < mean.upper, "most costs count whole"


def test_ids_are_valid_and_tell_their_birth_date_and_sex(visits: pl.DataFrame) -> None:
    people = visits.unique("citizen_id").select("citizen_id", "birth_date", "sex")
    assert people.height > RESIDENTS / 2
    for citizen, birth, sex in people.iter_rows():
        assert re.fullmatch(r"98\d{15}[\dX]", citizen)
        assert valid_id(citizen), citizen
        assert citizen[6:14] == birth.strftime("%Y%m%d")
        assert int(citizen[16]) % 2 == (sex == "M")


def test_one_person_is_always_the_same_person(visits: pl.DataFrame) -> None:
    facts = ["patient_name", "phone", "birth_date", "sex", "home_address", "home_postcode"]
    assert visits.select("citizen_id", *facts).unique().height == visits["citizen_id"].n_unique()
    assert visits["citizen_id"].n_unique() < VISITS  # and comes again


def test_residents_are_distinct() -> None:
    assert city.residents(RESIDENTS, 3)["citizen_id"].is_unique().all()


def test_values_look_as_they_should(visits: pl.DataFrame) -> None:
    def all_match(column: str, pattern: str) -> bool:
        return bool(visits[column].drop_nulls().str.contains(f"^(?:{pattern})$").all())

    assert all_match("patient_name", r"\p{Han}{2,4}")
    assert all_match("phone", r"1[3-9]\d{9}")
    assert all_match("home_postcode", r"98\d{4}")
    assert all_match("home_address", r"\p{Han}{2}区\p{Han}{2}[路街][1-9]\d{0,2}号[1-9]\d{2,3}室")
    districts = visits.select(pl.col("home_address").str.head(3), area=pl.col("home_postcode").str.head(4)).unique()
    assert districts.height == districts["area"].n_unique() == 12, "an address lies in the district of its postcode"
    streets = visits.select(pl.col("home_address").str.extract("区(.*[路街])"), "home_postcode").unique()
    assert streets.height == streets["home_postcode"].n_unique()
    assert visits.select("citizen_id", "home_address").unique()["home_address"].n_unique() > RESIDENTS / 2
    assert visits["home_address"].null_count() == 0
    assert all_match("hospital_code", r"H\d\d")
    assert all_match("diagnosis_icd10", r"[A-Z]\d\d(\.\d)?")
    assert all_match("sex", "[FM]")
    assert visits["hospital_code"].n_unique() == 14
    assert 0 < visits["phone"].null_count() < VISITS / 10
    assert visits["cost_cents"].min() > 0
    assert visits["cost_cents"].quantile(0.9) > 2 * visits["cost_cents"].median()


def test_time_is_whole_weeks_in_order(visits: pl.DataFrame) -> None:
    when = visits["visit_ts"]
    assert when.is_sorted()
    weeks = when.dt.truncate("1w").value_counts()
    assert weeks.height == round(VISITS / city.VISITS_A_WEEK)
    assert when.min() >= dt.datetime(2025, 1, 6)
    assert visits.select((pl.col("birth_date") < pl.col("visit_ts").dt.date()).all()).item()
    assert (when.dt.microsecond() % 1000 != 0).any()


def test_same_seed_same_city_other_seed_other_city(visits: pl.DataFrame) -> None:
    assert_frame_equal(city.visits(RESIDENTS, VISITS, seed=7), visits)
    other = city.visits(RESIDENTS, VISITS, seed=8)
    assert other.schema == visits.schema
    assert set(other["citizen_id"]) != set(visits["citizen_id"])
    assert not other["patient_name"].equals(visits["patient_name"])


def test_the_generator_is_splitmix64() -> None:
    """The first outputs of the published generator for seed 1234567, one step of its counter at a time."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    step, mask = 0x9E3779B97F4A7C15, 2**64 - 1
    stream = 0
    for byte in b"1/x":
        stream = (stream * 1_099_511_628_211 + byte) & mask
    # Our stream starts where seed + (n + 1) * step == n' * step + stream.
    shift = ((1234567 + step - stream) * pow(step, -1, 2**64)) & mask
    index = pl.Series([(shift + at) & mask for at in range(4)], dtype=pl.UInt64)
    assert pl.select(city.Draw(pl.lit(index), 1).bits("x")).to_series().to_list() == published


def test_transport_planning_meets_its_bounds(visits: pl.DataFrame) -> None:
    """k 20 of distinct people for every hospital, postcode area and day; nothing may be suppressed."""
    classes = visits.group_by("hospital_code", pl.col("home_postcode").str.head(2), pl.col("visit_ts").dt.date()).agg(
        pl.col("citizen_id").n_unique().alias("k")
    )
    assert classes["k"].min() >= 20


def test_outbreak_monitoring_meets_its_bounds_with_little_suppressed(visits: pl.DataFrame) -> None:
    """Within a week a person's tuple is one, so the composite class is the tuple's: k 10, l 2."""
    week = pl.col("visit_ts").dt.truncate("1w")
    masked = visits.select(
        "citizen_id",
        "sex",
        band=pl.col("birth_date").dt.year() // 20,
        area=pl.col("home_postcode").str.head(4),
        week=week,
        diagnosis=pl.col("diagnosis_icd10").str.head(3),
    )
    tuple_ = ["sex", "band", "area", "week"]
    assert masked.group_by("citizen_id", "week").agg(pl.struct(tuple_).n_unique().alias("n"))["n"].max() == 1
    classes = masked.group_by(tuple_).agg(
        pl.col("citizen_id").n_unique().alias("k"), pl.col("diagnosis").n_unique().alias("l"), pl.len().alias("rows")
    )
    suppressed = classes.filter((pl.col("k") < 10) | (pl.col("l") < 2))["rows"].sum() / VISITS
    assert 0 < suppressed <= 0.02


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], visits: pl.DataFrame) -> None:
    city.main(["--out", str(tmp_path / "a"), "--residents", str(RESIDENTS), "--visits", str(VISITS), "--seed", "7"])
    assert "40000 visits" in capsys.readouterr().out
    assert_frame_equal(pl.read_parquet(tmp_path / "a" / "visits.parquet"), visits)


@pytest.mark.parametrize("wrong", [["--visits", "0"], ["--residents", "0"], ["--residents", "99999999"]])
def test_command_refuses(tmp_path: Path, wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        city.main(["--out", str(tmp_path), *wrong])
    assert "a city" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_people() -> None:
    rows = 200_000
    made = city.people(rows, seed=1).collect()
    assert made.columns == ["phone", "age", "amount", "id", "address", "ts", "district"]
    assert list(made.dtypes) == [pl.String, pl.Int32, pl.Int64, pl.String, pl.String, pl.Datetime("us"), pl.String]
    assert made["id"].is_unique().all()
    assert all(valid_id(text) for text in made["id"].sample(500, seed=1))
    assert made["age"].min() >= 20
    assert made["age"].max() < 80
    assert made.null_count().sum_horizontal().item() == 0
    assert made.select(pl.col("address").str.starts_with(pl.col("district")).all()).item()
    classes = made.group_by(
        pl.col("phone").str.head(3), pl.col("age") // 10, "district", pl.col("ts").dt.quarter()
    ).len()
    assert classes.height == 20 * 6 * 12 * 4


def test_people_in_slices() -> None:
    whole = city.people(1000, seed=1).collect()
    assert_frame_equal(pl.concat([city.people(400, seed=1), city.people(600, seed=1, first=400)]).collect(), whole)

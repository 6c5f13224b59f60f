"""A city, made up: residents with names, numbers and addresses, and their visits to its 14 hospitals.

    python -m examples.city --out DIR [--residents N] [--visits N] [--seed S]

writes `DIR/visits.parquet`, with the columns that `examples/hospital-visits.odcs.yaml` declares.
Nothing in it is about anyone: people are drawn by a counter-based random generator (splitmix64)
computed in Polars expressions, so a million visits take seconds, and the same seed gives the same
rows on every machine. Region codes and postcodes begin with 98, which no place has.

The density is that of a city whatever the size: visits spread over as many whole weeks (at most 52)
as give about 19,000 a week, so that a tenth of the city behaves under the contract's bounds as the whole does.

`people` is another table, of one row a person, for benchmarks; it can be made in slices of any size.
"""

from __future__ import annotations

import argparse
import datetime as dt
import math
import time
from collections.abc import Sequence
from pathlib import Path

import polars as pl

FIRST_DAY = dt.date(2025, 1, 6)  # a Monday: weeks of the release are whole
BIRTHS_UNTIL = dt.date(2025, 1, 1)
VISITS_A_WEEK = 19_000
MAX_WEEKS = 52
REGION = 980_100
MAX_RESIDENTS = 20_000_000


def _shares(text: str) -> list[tuple[str, int]]:
    """Values and how often each occurs, as `value:share value:share`."""
    return [(value, int(share)) for value, share in (item.split(":") for item in text.split())]


HOSPITALS = [
    (f"H{number:02d}", weight) for number, weight in enumerate((13, 12, 10, 9, 8, 8, 7, 6, 6, 5, 5, 4, 4, 3), 1)
]
# Districts: name, share of the residents. Each has its own four digits of the postcode.
DISTRICTS = [
    ("江东", 14), ("临河", 13), ("北塘", 12), ("南岭", 11), ("西湾", 10), ("新港", 9), ("云台", 8), ("石桥", 7),
    ("高坪", 6), ("青浦", 5), ("海沧", 3), ("松山", 2),
]  # fmt: skip
STREETS = ["人民路", "解放路", "建设路", "中山路", "和平路", "文化街", "胜利街", "新华路",
    "长江路", "黄河路", "东风路", "花园街", "学府路", "滨江路", "迎宾路"]  # fmt: skip
# Ages in years: from, to (not included), share.
AGES = [(0, 5, 5), (5, 20, 15), (20, 40, 30), (40, 60, 28), (60, 80, 19), (80, 85, 2), (85, 100, 1)]
SURNAMES = _shares(
    "王:14 李:14 张:13 刘:10 陈:9 杨:6 黄:5 赵:5 吴:4 周:4 徐:3 孙:3 马:3 朱:2 胡:2 郭:2 何:2 "
    "林:2 高:2 罗:2 郑:2 梁:1 谢:1 宋:1 唐:1 许:1 邓:1 冯:1 韩:1 曹:1 曾:1 彭:1 欧阳:1 上官:1"
)
GIVEN = {
    "M": list("伟强磊军勇杰涛明超刚平辉鹏华飞鑫波斌宇浩凯健俊帆峰博文志建国成龙海山林东"),
    "F": list("芳娜敏静丽艳娟霞秀玲桂英华慧巧美红玉梅兰燕萍洁琳倩颖莹雪琴婷晶怡佳宁欣悦"),
}
MOBILES = [130, 131, 135, 136, 137, 138, 139, 150, 151, 152, 158, 159, 176, 177, 186, 187, 188, 189, 198, 199]
# Diagnoses (ICD-10) with their share, by season and age: what is common among whom.
DIAGNOSES = {
    ("winter", "child"): _shares("J06.9:24 J10.1:16 J20.9:12 J18.9:8 A08.4:8 H66.9:7 B01.9:5 L20.9:6 S52.5:6 R50.9:8"),
    ("summer", "child"): _shares("J06.9:15 A08.4:14 B08.4:12 H66.9:8 L20.9:9 S52.5:12 R50.9:12 T78.4:9 J45.9:9"),
    ("winter", "adult"): _shares(
        "J06.9:18 J10.1:12 M54.5:12 K29.7:10 I10:10 E11.9:7 N39.0:6 F41.9:5 L30.9:5 S93.4:5 O80:4 K80.2:3 E78.5:3"
    ),
    ("summer", "adult"): _shares(
        "J06.9:10 A08.4:10 M54.5:13 K29.7:11 I10:10 E11.9:7 N39.0:8 F41.9:5 L30.9:8 S93.4:8 O80:4 K80.2:3 E78.5:3"
    ),
    ("winter", "old"): _shares(
        "I10:20 J18.9:10 I25.1:12 E11.9:13 J44.1:11 M17.9:9 H25.9:6 I63.9:6 N40:5 J10.1:5 C34.9:3"
    ),
    ("summer", "old"): _shares(
        "I10:22 J18.9:6 I25.1:13 E11.9:15 J44.1:6 M17.9:12 H25.9:8 I63.9:6 N40:6 N39.0:4 C34.9:2"
    ),
}
# Visits by hour of the day in UTC; the city's clock is eight hours ahead.
HOURS = [9, 13, 14, 11, 5, 5, 9, 10, 8, 5, 3, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 2, 4, 7]
WEEKDAYS = [12, 11, 11, 11, 11, 8, 7]

_FIRST_BIRTH = dt.date(1900, 1, 1)
_CHECK = "10X98765432"
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


class Draw:
    """Independent random columns over an index, as expressions: draw `name` of row i is always the same."""

    def __init__(self, index: pl.Expr, seed: int) -> None:
        self._index, self._seed = index, seed

    def bits(self, name: str) -> pl.Expr:
        """64 random bits a row: splitmix64 of the index, on a stream of that name."""
        stream = 0
        for byte in f"{self._seed}/{name}".encode():
            stream = (stream * 1_099_511_628_211 + byte) % 2**64
        mixed = _u64(self._index) * _word(0x9E3779B97F4A7C15) + _word(stream)
        mixed = (mixed ^ (mixed // _word(1 << 30))) * _word(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed // _word(1 << 27))) * _word(0x94D049BB133111EB)
        return mixed ^ (mixed // _word(1 << 31))

    def below(self, name: str, limit: int) -> pl.Expr:
        """A whole number from 0 to below `limit`."""
        return (self.bits(name) % _word(limit)).cast(pl.Int64)

    def unit(self, name: str) -> pl.Expr:
        """A number from 0 to below 1."""
        return (self.bits(name) // _word(1 << 11)).cast(pl.Float64) / float(1 << 53)

    def normal(self, name: str) -> pl.Expr:
        """About normal, mean 0 and deviation 1: the sum of four even draws."""
        total = pl.sum_horizontal([self.unit(f"{name}{part}") for part in range(4)])
        return (total - 2.0) * math.sqrt(3.0)

    def one_of(self, name: str, values: Sequence[object]) -> pl.Expr:
        """One of the values, evenly."""
        return pl.lit(pl.Series(values)).gather(self.below(name, len(values)))

    def weighted(self, name: str, values: Sequence[tuple[object, int]]) -> pl.Expr:
        """One of the values, each as often as its weight says."""
        return self.one_of(name, _repeated(values))


def _word(value: int) -> pl.Expr:
    return pl.lit(value, dtype=pl.UInt64)


def _u64(index: pl.Expr) -> pl.Expr:
    return index.cast(pl.UInt64)


def _repeated(values: Sequence[tuple[object, int]]) -> list[object]:
    return [value for value, weight in values for _ in range(weight)]


def _index(first: int, rows: int) -> pl.LazyFrame:
    return pl.LazyFrame().select(pl.int_range(first, first + rows, dtype=pl.Int64).alias("i"))


def _identified(region: pl.Expr, birth: pl.Expr, serial: pl.Expr) -> pl.Expr:
    """An 18-digit citizen id: region, birth date, serial number, check digit (GB 11643, mod 11-2).

    `region` counts from `REGION`. Written down from tables: there are few regions, dates and serials.
    """
    days = (dt.date(2026, 1, 1) - _FIRST_BIRTH).days
    dates = [f"{_FIRST_BIRTH + dt.timedelta(days=day):%Y%m%d}" for day in range(days)]
    tables = [
        (region, [str(REGION + number) for number in range(100)], 0),
        ((birth - pl.lit(_FIRST_BIRTH)).dt.total_days(), dates, 6),
        (serial, [f"{number:03d}" for number in range(1000)], 14),
    ]
    texts = [pl.lit(pl.Series(texts)).gather(at) for at, texts, _ in tables]
    sums = [
        pl.lit(pl.Series([sum(int(digit) * _WEIGHTS[start + at] for at, digit in enumerate(text)) for text in texts]))
        for _, texts, start in tables
    ]
    total: pl.Expr = sum((table.gather(at) for table, (at, _, _) in zip(sums, tables, strict=True)), pl.lit(0))
    return pl.concat_str(*texts, pl.lit(pl.Series(list(_CHECK))).gather(total % 11))


def _mobile(draw: Draw) -> pl.Expr:
    return draw.one_of("mobile", MOBILES).cast(pl.String) + draw.below("line", 10**8).cast(pl.String).str.zfill(8)


def residents(count: int, seed: int) -> pl.DataFrame:
    """Who lives here, one row a person, none twice: citizen_id, patient_name, phone, birth_date, sex,
    home_address, home_postcode, and how often they see a doctor (`calls`, 1 to 12). Who has the same
    postcode lives in the same street.

    Raises ValueError for more people than a day's 499 serial numbers a sex and district suffice for.
    """
    if not 1 <= count <= MAX_RESIDENTS:
        raise ValueError(f"a city has 1 to {MAX_RESIDENTS} residents")
    draw = Draw(pl.col("i"), seed)
    drawn = _index(0, count).select(
        "i",
        district=draw.weighted("district", [(at, share) for at, (_, share) in enumerate(DISTRICTS)]),
        band=draw.weighted("age", [(at, share) for at, (_, _, share) in enumerate(AGES)]),
        sex=draw.weighted("sex", [("F", 51), ("M", 49)]),
        phone=pl.when(draw.below("listed", 100) < 97).then(_mobile(draw)),
        surname=draw.weighted("surname", SURNAMES),
        area=draw.below("area", 40),
    )
    years = pl.lit(pl.Series([low for low, _, _ in AGES])).gather(pl.col("band"))
    span = pl.lit(pl.Series([high - low for low, high, _ in AGES])).gather(pl.col("band"))
    days = ((years + span * draw.unit("day")) * 365.2425).cast(pl.Int64) + 1
    aged = drawn.with_columns(
        birth_date=pl.lit(BIRTHS_UNTIL) - pl.duration(days=days),
        patient_name=pl.col("surname") + _given(draw),
        home_address=_address(
            draw,
            pl.lit(pl.Series([f"{name}区" for name, _ in DISTRICTS])).gather(pl.col("district")),
            pl.lit(pl.Series(STREETS)).gather(pl.col("area") % len(STREETS)),
        ),
        home_postcode=(980_000 + pl.col("district") * 100 + 100 + pl.col("area")).cast(pl.String),
        calls=pl.max_horizontal(
            1, (3 + 2 * (pl.col("band") == 0) + 3 * (pl.col("band") >= 4) + 2 * draw.normal("calls")).cast(pl.Int64)
        ).clip(1, 12),
    )
    # Registrars number the births of a day: odd for boys, even for girls. The day's first 499 each.
    rank = pl.int_range(pl.len()).over("district", "birth_date", "sex")
    serial = 2 * rank + pl.when(pl.col("sex") == "M").then(1).otherwise(2)
    made = aged.with_columns(citizen_id=_identified(pl.col("district"), pl.col("birth_date"), serial))
    facts = ("patient_name", "phone", "birth_date", "sex", "home_address", "home_postcode", "calls")
    return made.select("citizen_id", *facts).collect()


def _address(draw: Draw, district: pl.Expr, street: pl.Expr) -> pl.Expr:
    """District, street, house and flat."""
    house, flat = draw.below("house", 300) + 1, draw.below("room", 900) + 101
    return pl.concat_str(district, street, house.cast(pl.String), pl.lit("号"), flat.cast(pl.String), pl.lit("室"))


def _given(draw: Draw) -> pl.Expr:
    """A given name of one character or two."""
    return pl.concat_str(
        pl.when(pl.col("sex") == "M").then(draw.one_of("he", GIVEN["M"])).otherwise(draw.one_of("she", GIVEN["F"])),
        pl.when(draw.below("short", 10) < 7)
        .then(
            pl.when(pl.col("sex") == "M")
            .then(draw.one_of("he2", GIVEN["M"]))
            .otherwise(draw.one_of("she2", GIVEN["F"]))
        )
        .otherwise(pl.lit("")),
    )


def visits(residents_count: int = 200_000, visits_count: int = 1_000_000, seed: int = 1) -> pl.DataFrame:
    """One row a visit, in order of time: the columns and types of the example contract.

    Raises ValueError without residents or visits, or for more residents than ids suffice for.
    """
    if visits_count < 1:
        raise ValueError("a city needs a visit at least")
    known = residents(residents_count, seed)
    # Everyone stands in the line as often as they see a doctor.
    line = known.select(pl.int_range(pl.len()).repeat_by("calls").alias("who")).explode("who").get_column("who")
    weeks = min(MAX_WEEKS, max(1, round(visits_count / VISITS_A_WEEK)))
    draw = Draw(pl.col("i"), seed + 1)
    when = (
        draw.below("week", weeks) * (7 * 86_400)
        + draw.weighted("weekday", list(enumerate(WEEKDAYS))) * 86_400
        + draw.weighted("hour", list(enumerate(HOURS))) * 3600
        + draw.below("second", 3600)
    ) * 1_000_000 + draw.below("microsecond", 1_000_000)
    drawn = _index(0, visits_count).select(
        "i",
        who=pl.lit(line).gather(draw.below("who", len(line))),
        visit_ts=pl.lit(FIRST_DAY).cast(pl.Datetime("us")) + pl.duration(microseconds=when),
        hospital_code=draw.weighted("hospital", HOSPITALS),
        cost=draw.normal("cost"),
    )
    met = drawn.join(
        known.lazy().with_row_index("who").with_columns(pl.col("who").cast(pl.Int64)),
        on="who",
        how="left",
        maintain_order="left",
    )
    diagnosed = met.with_columns(diagnosis_icd10=_diagnosis(draw)).sort("visit_ts", "i")
    return diagnosed.select(
        visit_id=pl.lit("V") + (pl.int_range(pl.len()) + 1).cast(pl.String).str.zfill(9),
        citizen_id="citizen_id",
        patient_name="patient_name",
        phone="phone",
        birth_date="birth_date",
        sex="sex",
        home_address="home_address",
        home_postcode="home_postcode",
        visit_ts="visit_ts",
        hospital_code="hospital_code",
        diagnosis_icd10="diagnosis_icd10",
        cost_cents=_cost(),
    ).collect()


def _diagnosis(draw: Draw) -> pl.Expr:
    """What is common in that season at that age."""
    pools = {key: _repeated(shares) for key, shares in DIAGNOSES.items()}
    winter = pl.col("visit_ts").dt.month().is_in([1, 2, 3, 11, 12])
    born = pl.col("birth_date").dt.year()
    drawn = {key: draw.one_of("diagnosis", pool) for key, pool in pools.items()}
    return (
        pl.when(born >= 2010)
        .then(pl.when(winter).then(drawn["winter", "child"]).otherwise(drawn["summer", "child"]))
        .when(born >= 1962)
        .then(pl.when(winter).then(drawn["winter", "adult"]).otherwise(drawn["summer", "adult"]))
        .otherwise(pl.when(winter).then(drawn["winter", "old"]).otherwise(drawn["summer", "old"]))
    )


def _cost() -> pl.Expr:
    """Log-normal around 180.00, four times that for what needs a bed or a surgeon."""
    grave = pl.col("diagnosis_icd10").str.head(1).is_in(["C", "O", "S"]) | (pl.col("diagnosis_icd10") == "I63.9")
    typical = pl.when(grave).then(72_000.0).otherwise(18_000.0)
    return (typical * (pl.col("cost") * 0.6).exp()).round().cast(pl.Int64)


def people(rows: int, *, seed: int = 1, first: int = 0) -> pl.LazyFrame:
    """One row a person, lazily: phone, age (25 to 79), amount (in cents), id, address, ts (naive, of one
    year), district. `first` starts at another row: slices put together are the whole."""
    draw = Draw(pl.col("i"), seed)
    drawn = _index(first, rows).with_columns(
        birth=pl.lit(dt.date(1946, 1, 1)) + pl.duration(days=pl.col("i") % 19_700),
        place=draw.weighted("district", [(at, 6 + share) for at, (_, share) in enumerate(DISTRICTS)]),
    )
    serial, region = pl.col("i") // 19_700 % 1000, pl.col("i") // 19_700_000
    district = pl.lit(pl.Series([f"{name}区" for name, _ in DISTRICTS])).gather(pl.col("place"))
    moment = draw.below("moment", 365 * 86_400) * 1_000_000 + draw.below("microsecond", 1_000_000)
    return drawn.select(
        phone=_mobile(draw),
        age=(2025 - pl.col("birth").dt.year()).cast(pl.Int32),
        amount=((draw.normal("amount") * 0.8).exp() * 50_000).round().cast(pl.Int64),
        id=_identified(region, pl.col("birth"), serial),
        address=_address(draw, district, draw.one_of("street", STREETS)),
        ts=pl.lit(dt.datetime(2025, 1, 1)).cast(pl.Datetime("us")) + pl.duration(microseconds=moment),
        district=district,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the city's visits to a folder."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.city", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write visits.parquet to")
    parser.add_argument("--residents", type=int, default=200_000)
    parser.add_argument("--visits", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        made = visits(given.residents, given.visits, given.seed)
    except ValueError as error:
        parser.error(str(error))
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / "visits.parquet"
    made.write_parquet(path)
    seconds = time.monotonic() - started
    size = path.stat().st_size / 1e6
    print(f"{path}: {made.height} visits of {given.residents} residents, {size:.1f} MB, {seconds:.1f} s")


if __name__ == "__main__":
    main()

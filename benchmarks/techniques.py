"""Every masking technique on its own: rows a second, and the same in DuckDB SQL and in pandas where they have it.

A ratio of 1.5 says that the other took one and a half times as long. Each engine has the rows in memory in its own
layout, DuckDB in a table of its own, and gives a column back in its own: DuckDB an Arrow one. They take turns, and
the best round of each counts. Where the same values can be had from SQL or pandas, `same` compares every row; where
only the kind of work is the same (chance, other groups), the table says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl

from benchmarks import machine, masks
from benchmarks.results import Aim, Result, Table
from connectors.masks.masking import masked
from contracts.dtypes import DATE, FLOAT64, INT64, STRING, DType, timestamp
from contracts.plan import Plan
from tests.connectors import plans


@dataclass(frozen=True)
class Scale:
    """Rows, and how often each is timed; the best counts."""

    rows: int = 5_000_000
    rounds: int = 5
    enciphered: int = 20  # so many times fewer rows for what is computed value by value


FULL, QUICK = Scale(), Scale(5_000, 1, 1)
BASIS: dict[str, Any] = {"domain": "person", "legal_basis": "dpv:LegalObligation"}


@dataclass(frozen=True)
class Case:
    """A technique on a column; the same in SQL over `t`, and in pandas; whether the values are the same too."""

    column: str
    dtype: DType
    words: dict[str, Any]
    sql: str = ""
    frame: Callable[[pd.DataFrame], Any] | None = None
    alike: bool = True
    slow: bool = False
    note: str = field(default="")

    @property
    def name(self) -> str:
        """As it stands in the table."""
        return str(self.words["mask"]) + (f" ({self.note})" if self.note else "")


def _hmac(text: str) -> str:
    """HMAC-SHA-256 of a text, 128 bits of it, in SQL, under the key of the domain `person`."""
    key = masks.secrets().key("person").encode()
    inner, outer = (bytes(byte ^ pad for byte in key).hex() for pad in (0x36, 0x5C))
    inside = f"unhex(sha256(from_hex('{inner}') || encode({text})))"
    return f"left(sha256(from_hex('{outer}') || {inside}), 32)"


def _number(text: str) -> str:
    """A keyed whole number of 52 bits, in SQL."""
    return f"('0x' || left({_hmac(text)}, 13))::BIGINT"


_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_V4 = "^" + "[.]".join([_OCTET] * 4) + "$"
_ROW = "(row_number() OVER ())::VARCHAR"
CASES = (
    Case("id", STRING, {"mask": "constant", "value": "x"}, "CASE WHEN id IS NOT NULL THEN 'x' END"),
    Case(
        "phone", STRING, {"mask": "partial", "keep_first": 3, "min_masked": 4},
        "CASE WHEN length(phone) >= 7 THEN left(phone, 3) || repeat('*', length(phone) - 3) ELSE '*******' END",
        lambda frame: frame["phone"].str.slice(0, 3) + frame["phone"].str.slice(3).str.replace(".", "*", regex=True),
    ),
    Case(
        "email", STRING, {"mask": "regex", "pattern": "^[^@]+", "replacement": "***", "min_masked": 4},
        # Counting what is lost is part of the mask: it never passes a value that loses too little.
        "CASE WHEN length(email) - length(regexp_replace(email, '^[^@]+', '', 'g')) >= 4 "
        "THEN regexp_replace(email, '^[^@]+', '***', 'g') WHEN email IS NOT NULL THEN 'other' END",
        lambda frame: frame["email"].str.replace("^[^@]+", "***", regex=True),
    ),
    Case("id", STRING, {"mask": "hmac", "domain": "person"}, _hmac("upper(trim(id))"), note="100 % distinct"),
    Case("town", STRING, {"mask": "hmac", "domain": "person"}, _hmac("upper(trim(town))"), note="100 values"),
    Case("house", STRING, {"mask": "hmac", "domain": "person"}, _hmac("upper(trim(house))"), note="1 % distinct"),
    Case("id", STRING, {"mask": "random_id"}, f"CASE WHEN id IS NOT NULL THEN {_hmac(_ROW)} END", alike=False),
    Case("age", INT64, {"mask": "bucket", "size": 10}, "age - age % 10", lambda frame: frame["age"] // 10 * 10),
    Case("age", INT64, {"mask": "clip", "upper": 80}, "least(age, 80)", lambda frame: frame["age"].clip(upper=80)),
    Case(
        "amount", INT64, {"mask": "round", "base": 1000}, "(amount + 500) // 1000 * 1000",
        lambda frame: (frame["amount"] + 500) // 1000 * 1000,
    ),
    Case(
        "ts", timestamp("us"), {"mask": "truncate", "unit": "quarter", "zone": "Etc/UTC"},
        "CAST(date_trunc('quarter', ts) AS DATE)",
        lambda frame: frame["ts"].dt.to_period("Q").dt.start_time,
    ),
    Case("day", DATE, {"mask": "date_part", "part": "month"}, "month(day)::TINYINT"),
    Case("id", STRING, {"mask": "prefix", "length": 4}, "left(id, 4)", lambda frame: frame["id"].str.slice(0, 4)),
    Case(
        "town", STRING, {"mask": "hierarchy", "table": {f"town-{n}": [f"land-{n // 10}"] for n in range(100)}},
        "'land-' || (split_part(town, '-', 2)::INT // 10)",
        lambda frame: frame["town"].map({f"town-{n}": f"land-{n // 10}" for n in range(100)}),
    ),
    Case("lat", FLOAT64, {"mask": "geo_round", "decimals": 2}, "floor(lat * 100 + 0.5) / 100",
         lambda frame: (frame["lat"] * 100 + 0.5).floordiv(1) / 100),
    Case("town", STRING, {"mask": "rare", "min_count": 20},
         "CASE WHEN count(*) OVER (PARTITION BY town) >= 20 THEN town ELSE 'other' END"),
    Case(
        "ip", STRING, {"mask": "ip_prefix"},
        # What is no address becomes `other`, never itself.
        f"CASE WHEN regexp_matches(trim(ip), '{_V4}') "
        "THEN regexp_extract(trim(ip), '^([0-9]+[.][0-9]+[.][0-9]+)[.]', 1) || '.0/24' "
        "WHEN ip IS NOT NULL THEN 'other' END",
        lambda frame: frame["ip"].str.replace(r"\.[0-9]+$", ".0/24", regex=True),
    ),
    Case("lat", FLOAT64, {"mask": "geohash", "precision": 6, "longitude": "lon"}),
    Case("day", DATE, {"mask": "shift_date", "days": 30, "entity": "id"},
         f"day + ({_number('upper(trim(id))')} % 60 - 30)::INT", alike=False),
    Case("amount", INT64, {"mask": "noise", "distribution": "laplace", "scale": 100},
         f"amount + round(ln(({_number(_ROW)} + 0.5) / 4503599627370496) * 100)::BIGINT", alike=False),
    Case("age", INT64, {"mask": "shuffle"},
         "b.age FROM (SELECT row_number() OVER () AS n FROM t) a JOIN "
         "(SELECT age, row_number() OVER () AS n FROM (SELECT age FROM (SELECT age, "
         + _number(_ROW) + " AS r FROM t) ORDER BY r)) b USING (n)", alike=False),
    Case("amount", INT64, {"mask": "microaggregate", "k": 5},
         "avg(amount) OVER (PARTITION BY g) FROM (SELECT amount, row_number() OVER (ORDER BY amount) // 5 AS g FROM t)",
         alike=False),
    Case("town", STRING, {"mask": "aes_siv", **BASIS}, note="100 values"),
    Case("id", STRING, {"mask": "aes_siv", **BASIS}, slow=True, note="100 % distinct"),
    Case("phone", STRING, {"mask": "ff1", "unsafe_format_preserving": True, **BASIS}, slow=True),
)  # fmt: skip


def run(folder: Path, *, quick: bool) -> Result:
    """The benchmark. Every column lies in memory; what is timed is the mask and nothing else."""
    del folder
    scale = QUICK if quick else FULL
    frame = data(scale.rows)
    table = Table(
        f"{scale.rows:,} values in memory, one technique at a time",
        (
            "technique",
            "million rows/s",
            "DuckDB / ours, processor",
            "DuckDB / ours, clock",
            "pandas / ours, clock",
            "the same values",
        ),
        note="The best of rounds taken in turn. Not the same values, but as much work: other keys (all in SQL are HMAC "
        "too), and groups that part equal values.",
    )
    figures: dict[str, Any] = {}
    same: dict[str, bool] = {}
    with duckdb.connect() as connection:
        for case in CASES:
            some = frame.head(scale.rows // scale.enciphered) if case.slow else frame
            figures[case.name] = found = measured(case, some, connection, scale.rounds, same)
            cells = (f"{ratio:.2f}" if (ratio := found[name]) else "" for name in ("duckdb", "duckdb_clock", "pandas"))
            shown = "yes" if case.name in same else "" if not case.sql else "no"
            table.rows.append((case.name, f"{found['rows_per_second'] / 1e6:.2f}", *cells, shown))
    slower = [name for name, found in figures.items() if 0 < found["duckdb"] < 1]
    few, many = (figures[f"hmac ({kind})"]["rows_per_second"] for kind in ("1 % distinct", "100 % distinct"))
    aims = [
        Aim("no technique takes more processor time than DuckDB's", "none", ", ".join(slower) or "none", not slower),
        Aim("hmac at 1 % distinct values", "twice as fast as at 100 %", f"{few / many:.1f} times", few >= 2 * many),
    ]
    checks = {f"{name}: the other engines compute the same values": held for name, held in same.items()}
    return Result("techniques", "Techniques", {"rows": scale.rows}, figures, [table], checks, aims)


def data(rows: int) -> pl.DataFrame:
    """Columns of the kinds that techniques are for; the same in every run."""
    number = pl.int_range(rows, eager=True)
    mixed = number * 2_654_435_761 % 4_294_967_296
    share = mixed.cast(pl.Float64) / 2**32
    octets = [(mixed // 256**place % 256).cast(pl.String) for place in range(3, -1, -1)]
    return pl.DataFrame(
        {
            "id": "id" + (mixed + 10**11).cast(pl.String),
            "phone": "13" + (mixed % 10**9 + 10**9).cast(pl.String).str.slice(1),
            "email": "person" + number.cast(pl.String) + "@example" + (number % 50).cast(pl.String) + ".org",
            "town": "town-" + (mixed % 100).cast(pl.String),
            "house": "house-" + (mixed % max(1, rows // 100)).cast(pl.String),
            "ip": octets[0] + "." + octets[1] + "." + octets[2] + "." + octets[3],
            "age": mixed % 100,
            "amount": mixed % 1_000_000,
            "lat": share * 180 - 90,
            "lon": share * 360 - 180,
            "day": (mixed % 20_000).cast(pl.Int32).cast(pl.Date),
            "ts": (mixed * 400_000).cast(pl.Datetime("us")),
        }
    )


def measured(
    case: Case, frame: pl.DataFrame, connection: duckdb.DuckDBPyConnection, rounds: int, same: dict[str, bool]
) -> dict[str, float]:
    """Rows a second by the clock, and the ratios to the others (0: they have no such thing)."""
    plan = plan_of(case)
    works: dict[str, Callable[[], Any]] = {
        "ours": lambda: masked(frame.lazy(), plan, masks.secrets().of_release("bench")).collect()
    }
    if case.sql:
        connection.register("held", frame.to_arrow())
        connection.execute("CREATE OR REPLACE TABLE t AS SELECT * FROM held")
        query = f"SELECT {case.sql}" + ("" if " FROM " in case.sql else " FROM t")
        works["duckdb"] = lambda: connection.sql(query).to_arrow_table()
    few = frame.head(max(1, frame.height // 10))
    if (by_pandas := case.frame) is not None:
        of_pandas = few.to_pandas()
        works["pandas"] = lambda: by_pandas(of_pandas)
    taken, results = machine.raced(works, rounds)
    ours, found = taken["ours"], dict.fromkeys(("duckdb", "duckdb_clock", "pandas"), 0.0)
    found["rows_per_second"] = frame.height / ours.clock
    if "duckdb" in taken:
        found["duckdb"] = taken["duckdb"].processor / ours.processor
        found["duckdb_clock"] = taken["duckdb"].clock / ours.clock
    if "pandas" in taken:
        found["pandas"] = taken["pandas"].clock * frame.height / few.height / ours.clock
    for name in {"duckdb", "pandas"} & results.keys() if case.alike else ():
        values = results[name]
        other = pl.DataFrame(pl.from_arrow(values)).to_series() if name == "duckdb" else pl.Series(values)
        mine = results["ours"][case.column].head(len(other))
        same[case.name] = same.get(case.name, True) and equal(mine, other)
    return found


def equal(ours: pl.Series, theirs: pl.Series) -> bool:
    """Whether both hold the same values, in the order of ours; DuckDB may change it, so they are sorted."""
    return ours.sort().equals(theirs.cast(ours.dtype).sort(), null_equal=True)


def plan_of(case: Case) -> Plan:
    """A plan of that one field, about no person."""
    return plans.thing_plan({case.column: (case.words, case.dtype)})

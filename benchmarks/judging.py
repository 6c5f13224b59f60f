"""The privacy check on its own: k, l and t of tables of growing size, and the same questions asked of DuckDB.

Ours reads hash columns batch by batch, as from a release's spool, and judges; the hashing is timed with it.
DuckDB is given the same table in memory and one SQL query. pyCANON is asked too where
`SLUICEGATE_PYCANON_PYTHON` names an interpreter that has it (it pins another numpy), up to a million rows.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from benchmarks import machine, masks
from benchmarks.results import Result, Table
from connectors.measures import privacy
from connectors.measures.privacy import Measure, Verdict
from connectors.spooling import making
from connectors.spooling.order import ReleaseKey
from contracts.dtypes import INT64, STRING
from contracts.plan import Plan
from tests.connectors import plans

KEY = ReleaseKey(b"s" * 32, "rel-bench")
QUASI = ("age", "district", "sex", "quarter")
PYCANON = """
import sys, time, pandas as pd
from pycanon import anonymity
frame = pd.read_parquet(sys.argv[1])
began = time.perf_counter()
anonymity.k_anonymity(frame, {quasi}); anonymity.l_diversity(frame, {quasi}, ["income"])
print(time.perf_counter() - began)
"""


@dataclass(frozen=True)
class Scale:
    """Rows of the tables, and how often each is judged; the median counts."""

    rows: tuple[int, ...] = (100_000, 1_000_000, 10_000_000)
    rounds: int = 3


FULL, QUICK = Scale(), Scale((200_000,), 1)


@dataclass(frozen=True)
class Question:
    """What is asked: l of the income, its t, whether a pseudonym joins the rows of three; and the SQL."""

    name: str
    sql: str
    l: int = 0  # noqa: E741 - the bound's own name
    t: float | None = None
    joined: bool = False


_CLASS = ", ".join(QUASI)
_COUNTED = f"SELECT count(DISTINCT id) AS n, count(DISTINCT income) AS l FROM t GROUP BY {_CLASS}"
_UNITS = f"SELECT person, list(DISTINCT ({_CLASS}) ORDER BY ({_CLASS})) AS tuples FROM t GROUP BY person"
_SPREAD = f"""
    WITH whole AS (SELECT income, count(*) / sum(count(*)) OVER () AS share FROM t GROUP BY income),
         classes AS (SELECT {_CLASS}, income, count(*) / sum(count(*)) OVER (PARTITION BY {_CLASS}) AS share
                     FROM t GROUP BY {_CLASS}, income),
         known AS (SELECT {_CLASS}, sum(greatest(c.share - w.share, 0)) AS far
                   FROM classes c JOIN whole w USING (income) GROUP BY {_CLASS})
    SELECT max(far) FROM known"""
QUESTIONS = (
    Question("k", f"SELECT min(n) FROM (SELECT count(DISTINCT id) AS n FROM t GROUP BY {_CLASS})"),
    Question("k and l", f"SELECT min(n), min(l) FROM ({_COUNTED})", l=2),
    Question("k, l and t", _SPREAD, l=2, t=0.99),
    Question(
        "k of what a pseudonym joins",
        f"SELECT min(n) FROM (SELECT count(*) AS n FROM ({_UNITS}) GROUP BY tuples)",
        joined=True,
    ),
)


def run(folder: Path, *, quick: bool) -> Result:
    """The benchmark. The tables lie in memory."""
    scale = QUICK if quick else FULL
    table = Table(
        "Is a release told apart too finely?",
        ("asked of", *(f"{rows:,} rows: s, DuckDB / ours" for rows in scale.rows)),
        note="Seconds to hash and judge. Counting stops at the bound beyond two million rows, as for a release.",
    )
    figures: dict[str, Any] = {question.name: {} for question in QUESTIONS}
    checks: dict[str, bool] = {}
    for rows in scale.rows:
        frame = people(rows)
        with duckdb.connect() as connection:
            connection.register("t", frame.to_arrow())
            for question in QUESTIONS:
                ours, verdict = machine.timed(lambda asked=question, of=frame: judged(asked, of), scale.rounds)  # type: ignore[misc]
                theirs, found = machine.timed(lambda sql=question.sql: connection.sql(sql).fetchall()[0], scale.rounds)  # type: ignore[misc]
                told = {"seconds": round(ours, 3), "duckdb_to_ours": round(theirs / ours, 2)}
                figures[question.name][str(rows)] = told
                checks[f"{question.name}, {rows:,} rows: DuckDB finds the same"] = _agree(question, verdict, found)
        if rows <= 1_000_000 and (seconds := _pycanon(frame, folder)) is not None:
            told = figures["k and l"][str(rows)]
            told["pycanon_to_ours"] = round(seconds / told["seconds"], 1)
    for name, found in figures.items():
        table.rows.append((name, *(f"{one['seconds']:.2f}, {one['duckdb_to_ours']:.1f}" for one in found.values())))
    return Result("judging", "The privacy check", {"rows": list(scale.rows)}, figures, [table], checks)


def people(rows: int) -> pl.DataFrame:
    """Three rows a person; 2,000 classes in all; ten incomes that have nothing to do with the classes."""
    number = pl.int_range(rows, eager=True)
    person = number // 3
    mixed = person * 2_654_435_761 % 4_294_967_296
    return pl.DataFrame(
        {
            "id": "p" + person.cast(pl.String),
            "person": "x" + person.cast(pl.String),
            "age": mixed % 10 * 10,
            "district": "d" + (mixed // 10 % 25).cast(pl.String),
            "sex": "s" + (mixed // 250 % 2).cast(pl.String),
            "quarter": (mixed // 500 + number) % 4,
            "income": mixed // 97 % 10 * 1000,
        }
    )


def judged(question: Question, frame: pl.DataFrame) -> Verdict:
    """Hashed and measured, batch by batch."""
    plan = _plan(question)
    places = privacy.layout(plan)
    lazy = privacy.with_hashes(frame.lazy(), plan, masks.secrets().of_release("bench"), places, KEY)
    batches = [batch.select(places.columns) for batch in making.batches(lazy, source="memory")]
    return Measure(
        batches=lambda: batches, places=places, k=2, l=plan.sensitive, exact=frame.height <= making.EXACT_ROWS
    ).run(most_suppressed=privacy.TO_THE_END)


def _plan(question: Question) -> Plan:
    named = {"age": INT64, "district": STRING, "sex": STRING, "quarter": INT64, "income": INT64}
    if question.joined:
        named["person"] = STRING
    return plans.plan(
        {name: ({"mask": "keep"}, dtype) for name, dtype in named.items()},
        quasi_identifiers=QUASI,
        sensitive={"income": question.l} if question.l else {},
        pseudonyms=("person",) if question.joined else (),
        t={} if question.t is None else {"income": question.t},
    )


def _agree(question: Question, verdict: Verdict, found: Any) -> bool:
    """Whether the lowest class is the same; beyond exact counting, whether both are at least the bound."""
    if question.t is not None:
        return abs(verdict.first_spread["income"].variational - found[0]) < 1e-6
    pairs = [(verdict.lowest_k, found[0])]
    if question.l:
        pairs.append((verdict.lowest_l["income"], found[1]))
    return all(ours == theirs or (not verdict.exact and 2 <= ours <= theirs) for ours, theirs in pairs)


def _pycanon(frame: pl.DataFrame, folder: Path) -> float | None:
    python = os.environ.get("SLUICEGATE_PYCANON_PYTHON")
    if not python:
        return None
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".parquet") as file:
        frame.write_parquet(file.name)
        words = [python, "-c", PYCANON.format(quasi=list(QUASI)), file.name]
        return float(subprocess.run(words, capture_output=True, text=True, check=True).stdout)

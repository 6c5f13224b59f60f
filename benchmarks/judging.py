"""The privacy check on its own: k, l and t of tables of growing size, and the same questions asked of DuckDB.

Ours reads hash columns batch by batch, as from a release's spool, and judges; the hashing is timed with it.
DuckDB is given the same rows in a table of its own in memory and one SQL query that tells the same figures; the
two take turns, and the best round of each counts. pyCANON is asked too where
`SLUICEGATE_PYCANON_PYTHON` names an interpreter that has it (it pins another numpy), up to a million rows.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import polars as pl

from benchmarks import data, machine, masks
from benchmarks.results import Aim, Result, Table
from connectors.measures import classing, privacy
from connectors.measures.privacy import Measure, Verdict
from connectors.releases import release
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
    """Rows of the tables, and how often each is judged; the best counts."""

    rows: tuple[int, ...] = (100_000, 1_000_000, 10_000_000)
    rounds: int = 3
    released: int = 2_000_000


FULL, QUICK = Scale(), Scale((200_000,), 1, 50_000)


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
# The same as one number each, of which whole classes are told as ours are.
_SINGLE = f"SELECT id, income, hash({_CLASS}) AS class FROM t"
_JOINED = f"SELECT id, income, class FROM t JOIN (SELECT person, hash(tuples) AS class FROM ({_UNITS})) USING (person)"


def _spread(classed: str) -> str:
    """Of the classes that have two persons and two incomes: shares of the whole and of each class, up to each value;
    then the two distances and the entropy of each class."""
    return f"""
    WITH classed AS MATERIALIZED ({classed}),
         counted AS (SELECT class, count(DISTINCT id) AS k, count(DISTINCT income) AS l, count(*) AS n
                     FROM classed GROUP BY class),
         classes AS (SELECT * FROM counted WHERE k >= 2 AND l >= 2),
         pairs AS (SELECT class, income, count(*) AS n FROM classed SEMI JOIN classes USING (class)
                   GROUP BY class, income),
         total AS (SELECT sum(n) AS n FROM pairs),
         whole AS (SELECT income, sum(n) / (SELECT n FROM total) AS share FROM pairs GROUP BY income),
         places AS (SELECT *, sum(share) OVER (ORDER BY income) AS reached, count(*) OVER () AS places FROM whole),
         shares AS (SELECT c.class, income, share, reached, places, coalesce(p.n, 0) / c.n AS mine,
                           sum(coalesce(p.n, 0) / c.n) OVER (PARTITION BY c.class ORDER BY income) AS held
                    FROM classes c CROSS JOIN places w LEFT JOIN pairs p USING (class, income)),
         known AS (SELECT sum(greatest(mine - share, 0)) AS variational,
                          sum(abs(held - reached)) / (any_value(places) - 1) AS ordered,
                          exp(-sum(CASE WHEN mine > 0 THEN mine * ln(mine) ELSE 0 END)) AS entropy
                   FROM shares GROUP BY class)
    SELECT (SELECT min(k) FROM counted), (SELECT min(l) FROM counted),
           max(variational), max(ordered), min(entropy) FROM known"""


QUESTIONS = (
    Question("k", f"SELECT min(n) FROM (SELECT count(DISTINCT id) AS n FROM t GROUP BY {_CLASS})"),
    Question("k and l", f"SELECT min(n), min(l) FROM ({_COUNTED})", l=2),
    Question("k, l and t", _spread(_SINGLE), l=2, t=0.99),
    Question(
        "k of what a pseudonym joins",
        f"SELECT min(n) FROM (SELECT count(*) AS n FROM ({_UNITS}) GROUP BY tuples)",
        joined=True,
    ),
    Question("k, l and t of what a pseudonym joins", _spread(_JOINED), l=2, t=0.99, joined=True),
)


def run(folder: Path, *, quick: bool) -> Result:
    """The benchmark. The tables lie in memory."""
    scale = QUICK if quick else FULL
    table = Table(
        "Is a release told apart too finely?",
        ("asked of", *(f"{rows:,} rows: s, processor s, DuckDB / ours" for rows in scale.rows)),
        note="Seconds to hash and judge by the clock and of processors, best of rounds; the ratio is of processor "
        "time. Counting stops at the bound beyond two million rows, as for a release.",
    )
    figures: dict[str, Any] = {question.name: {} for question in QUESTIONS}
    checks: dict[str, bool] = {}
    for rows in scale.rows:
        frame = people(rows)
        with duckdb.connect() as connection:
            connection.register("held", frame.to_arrow())
            connection.execute("CREATE TABLE t AS SELECT * FROM held")
            for question in QUESTIONS:
                taken, found = machine.raced(
                    {
                        "ours": lambda asked=question, of=frame: judged(asked, of),  # type: ignore[misc]
                        "duckdb": lambda sql=question.sql, on=connection: on.sql(sql).fetchall()[0],  # type: ignore[misc]
                    },
                    scale.rounds,
                )
                ours, theirs = taken["ours"], taken["duckdb"]
                figures[question.name][str(rows)] = {
                    "seconds": round(ours.clock, 3),
                    "processor_seconds": round(ours.processor, 3),
                    "duckdb_to_ours": round(theirs.processor / ours.processor, 2),
                    "duckdb_to_ours_clock": round(theirs.clock / ours.clock, 2),
                }
                held = _agree(question, found["ours"], found["duckdb"])
                checks[f"{question.name}, {rows:,} rows: DuckDB finds the same"] = held
        if rows <= 1_000_000 and (seconds := _pycanon(frame, folder)) is not None:
            told = figures["k and l"][str(rows)]
            told["pycanon_to_ours"] = round(seconds / told["seconds"], 1)
    for name, of_size in figures.items():
        cells = (
            f"{one['seconds']:.2f}, {one['processor_seconds']:.2f}, {one['duckdb_to_ours']:.1f}"
            for one in of_size.values()
        )
        table.rows.append((name, *cells))
    within, costs = _in_releases(folder, scale)
    most = {name: list(of_size.values())[-1]["seconds"] for name, of_size in figures.items()}
    figures["within a release"] = costs
    k_and_l, composite = (costs[name] - 1 for name in ("k and l", _COMPOSITE))
    aims = [
        *(
            Aim(f"{name}, {scale.rows[-1]:,} rows", "0.25 to 3.8 s", f"{most[name]:.2f} s", most[name] <= 3.8)
            for name in ("k, l and t", "k, l and t of what a pseudonym joins")
        ),
        Aim("k + l, of a release of R1 without bounds", "at most +20 %", f"{k_and_l:+.0%}", k_and_l <= 0.2),
        Aim("composite k, of the same", "at most +60 %", f"{composite:+.0%}", composite <= 0.6),
    ]
    setting: dict[str, object] = {"rows": list(scale.rows)}
    return Result("judging", "The privacy check", setting, figures, [table, within], checks, aims)


_BARE, _COMPOSITE = "no bound", "k of what a pseudonym joins"


def _in_releases(folder: Path, scale: Scale) -> tuple[Table, dict[str, float]]:
    """Processor seconds of making R1 without bounds, and with them: what judging adds where all the rest is on."""
    rows, path = scale.released, folder / "people.parquet"
    data.write_people(path, rows)
    source = masks.opened(path)
    whole = masks.compiled("people", source)
    single = msgspec.structs.replace(whole, pseudonyms=())  # as if the pseudonym joined nothing: to price it only
    plans = {
        _BARE: masks.without(whole, bounds=False),
        "k": single,
        "k and l": masks.without(single, least={"amount": 2}),
        _COMPOSITE: whole,
    }

    def made(plan: Plan) -> None:
        made = release.make(
            msgspec.structs.replace(plan, max_suppression=1.0),
            source,
            masks.secrets(),
            spool=folder / "making",
            release_id="rel-bench",
            clock=lambda: 1_770_000_000,
        )
        made.close()

    taken, _ = machine.raced({name: partial(made, plan) for name, plan in plans.items()}, scale.rounds)
    seconds = {name: found.processor for name, found in taken.items()}
    table = Table(
        f"Making a release of R1, {rows:,} rows: processor seconds",
        ("bounds", "processor s", "to the same without bounds"),
        note="In one process, everything on but transport, signatures and the memory of what was sent.",
    )
    added = {name: found / seconds[_BARE] for name, found in seconds.items()}
    for name, found in seconds.items():
        table.rows.append((name, f"{found:.2f}", f"{added[name] - 1:+.0%}"))
    return table, added


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
    places = classing.layout(plan)
    lazy = classing.with_hashes(frame.lazy(), plan, masks.secrets().of_release("bench"), places, KEY)
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
        told = verdict.first_spread["income"]
        figures = (told.variational, told.ordered or 0.0, told.entropy)
        if any(abs(ours - theirs) > 1e-6 for ours, theirs in zip(figures, found[2:], strict=True)):
            return False
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

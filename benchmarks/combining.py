"""What it costs to remember a release, and to compare the next one with it: processor seconds of making releases.

Every release is made as a gateway makes it, in this process, from one Parquet file: without a memory, as the first
that is remembered, and beside the first one from the same file, from one with 5 % more persons, and from one that 1 %
of the persons left besides. The median of some rounds counts; `resource.getrusage` counts all threads.
"""

from __future__ import annotations

import resource
import shutil
import statistics
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from benchmarks import data, judging, masks
from benchmarks.results import Aim, Result, Table
from connectors.releases import release
from connectors.sent.gains import Earlier
from connectors.sent.records import SentRecord
from contracts.dtypes import INT64, STRING
from contracts.plan import Plan
from tests.connectors import plans

DAY, NOW = 86_400, 1_770_000_000
KEY = "5c" * 32


@dataclass(frozen=True)
class Scale:
    """Rows of the first release, and how often everything is done."""

    rows: int = 1_000_000
    rounds: int = 5


FULL, QUICK = Scale(), Scale(100_000, 1)
CASES = ("without", "first", "same", "more", "moved")


def run(folder: Path, *, quick: bool) -> Result:
    """The benchmark."""
    scale = QUICK if quick else FULL
    table = Table(
        f"Releases that are compared, {scale.rows:,} rows: processor seconds",
        (
            "released",
            "not remembered",
            "first",
            "the same again",
            "5 % more persons",
            "1 % left besides",
            "bytes a row",
        ),
        note="In brackets what it adds to a release that is not remembered.",
    )
    figures: dict[str, Any] = {}
    checks: dict[str, bool] = {}
    for name, (plan, tables) in _cases(folder, scale.rows).items():
        found = [_round(folder, plan, tables) for _ in range(scale.rounds)]
        seconds = {case: statistics.median(one[case] for one in found) for case in CASES}
        added = {case: seconds[case] / seconds["without"] - 1 for case in CASES}
        kept = found[0]["bytes"] / scale.rows
        figures[name] = {"seconds": seconds, "rounds": found, "bytes_per_row": kept}
        cells = (f"{seconds[case]:.2f} (+{added[case]:.0%})" for case in CASES[1:])
        table.rows.append((name, f"{seconds['without']:.2f}", *cells, f"{kept:.0f}"))
        checks[f"{name}: the same rows leave again"] = all(one["same_rows"] for one in found)
    first = next(iter(figures.values()))["seconds"]
    aims = [
        Aim("remembering R1", "at most +30 %", *_met(first["first"] / first["without"] - 1, 0.3)),
        Aim("comparing R1 with one release", "at most +100 %", *_met(first["more"] / first["without"] - 1, 1.0)),
    ]
    return Result("combining", "Releases beside earlier ones", {"rows": scale.rows}, figures, [table], checks, aims)


def _met(found: float, most: float) -> tuple[str, bool]:
    return f"+{found:.0%}", found <= most


def _cases(folder: Path, rows: int) -> dict[str, tuple[Plan, dict[str, Path]]]:
    """R1 as it is, R1 without its pseudonym, and three visits a person with one."""
    people = folder / "people.parquet"
    data.write_people(people, rows + rows // 20)
    r1 = _tables(folder, "people", pl.read_parquet(people), rows, "id")
    visits = _tables(folder, "visits", judging.people(rows + rows // 20), rows, "person")
    whole = masks.compiled("people", masks.opened(people))
    return {
        "R1: seven columns, a pseudonym": (whole, r1),
        "R1 without the pseudonym": (_without_pseudonym(whole), r1),
        "three visits a person, a pseudonym": (_visits(), visits),
    }


def _without_pseudonym(plan: Plan) -> Plan:
    fields = tuple(field for field in plan.fields if field.name not in plan.pseudonyms)
    return msgspec.structs.replace(plan, fields=fields, pseudonyms=())


def _visits() -> Plan:
    named = {"age": INT64, "district": STRING, "sex": STRING, "quarter": INT64, "income": INT64}
    return plans.plan(
        {"person": ({"mask": "hmac", "domain": "person"}, STRING)}
        | {name: ({"mask": "keep"}, dtype) for name, dtype in named.items()},
        entity="person",
        quasi_identifiers=judging.QUASI,
        pseudonyms=("person",),
        k=10,
        on_violation="suppress",
        max_suppression=1.0,
    )


def _tables(folder: Path, name: str, table: pl.DataFrame, rows: int, person: str) -> dict[str, Path]:
    made = {
        "first": table.head(rows),
        "more": table,
        "moved": table.filter(pl.col(person).hash(1) % 100 != 0),
    }
    for case, frame in made.items():
        frame.write_parquet(folder / f"{name}-{case}.parquet", row_group_size=250_000)
    paths = {case: folder / f"{name}-{case}.parquet" for case in made}
    return paths | {"without": paths["first"], "same": paths["first"]}


def _round(folder: Path, plan: Plan, tables: dict[str, Path]) -> dict[str, Any]:
    """Processor seconds of every case. Those after the first are beside the first alone."""
    sent, found = folder / "sent", dict[str, Any]()
    sent.mkdir(mode=0o700)
    records: dict[str, SentRecord] = {}
    leaving = {}
    for day, case in enumerate(CASES):
        now, made = NOW + day * DAY, folder / "making"
        earlier = Earlier(sent, partial(dict, records), now, now + 90 * DAY, KEY)
        plan = msgspec.structs.replace(plan, max_suppression=1.0)
        began = _processor_seconds()
        one = release.make(
            plan,
            masks.opened(tables[case]),
            masks.secrets(),
            spool=made,
            release_id=f"rel-{case}",
            clock=lambda at=now: at,  # type: ignore[misc]
            earlier=None if case == "without" else earlier,
        )
        found[case] = _processor_seconds() - began
        leaving[case] = one.rows_out
        if case == "first" and one.sent is not None:
            (made / release.SENT).rename(sent / one.sent.release)
            records[one.sent.definition] = one.sent
            found["bytes"] = sum(file.stat().st_size for file in sent.rglob("*.arrow"))
        one.close()
    shutil.rmtree(sent)
    return found | {"same_rows": leaving["first"] == leaving.get("same"), "rows_out": leaving}


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime

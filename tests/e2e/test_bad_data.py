"""A department's data that cannot be shared as it is: each source ends in its own reason for the
consumer, without a cell, and in figures for the department, without a cell either."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from contracts.errors import TRAITS, Reason, SluicegateError
from tests.e2e.city import CONTRACTS, City
from tests.e2e.conftest import REGISTRY, Trouble, people

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("e2e-trouble")]

CANARY = "CANARY"
ROWS = 400


def marked(rows: int = ROWS) -> pl.DataFrame:
    """The register with a word in every text cell that must turn up nowhere else."""
    texts = [pl.col(name) + f"-{CANARY}" for name in ("person_id", "serial", "district")]
    return people(rows).with_columns(texts)


def parquet(change: Callable[[pl.DataFrame], pl.DataFrame]) -> Callable[[Path], Path]:
    """A source: the register, changed, as Parquet."""

    def write(folder: Path) -> Path:
        change(marked()).write_parquet(folder / "people.parquet")
        return folder / "people.parquet"

    return write


def raw(name: str, content: Callable[[bytes], bytes]) -> Callable[[Path], Path]:
    """A source: the bytes of a good file of that name, changed."""

    def write(folder: Path) -> Path:
        path = folder / name
        good = marked()
        {".csv": good.write_csv, ".ndjson": good.write_ndjson}.get(path.suffix, good.write_parquet)(path)
        path.write_bytes(content(path.read_bytes()))
        return path

    return write


def nowhere(folder: Path) -> Path:
    """A file that is not there."""
    return folder / "people.parquet"


def damaged(good: bytes) -> bytes:
    """A Parquet file whose footer is whole and whose pages are not."""
    middle = len(good) // 8
    return good[:middle] + bytes(byte ^ 0xFF for byte in good[middle : middle + 600]) + good[middle + 600 :]


def no_utf8(good: bytes) -> bytes:
    """A CSV with one cell in Latin-1, far behind its beginning."""
    at = good.rindex(b"north")
    return good[:at] + b"n\xf6rth" + good[at + 5 :]


def digits(good: bytes) -> bytes:
    """Codes that look like numbers, leading zeros and all: only the contract says that they are texts."""
    for number, name in enumerate((b"north", b"south", b"east", b"west"), 1):
        good = good.replace(name + f"-{CANARY}".encode(), b"01000%d" % number)
    return good.replace(b"PX", b"00").replace(b"serial-", b"00").replace(f"-{CANARY}".encode(), b"")


def loner(frame: pl.DataFrame) -> pl.DataFrame:
    """Three residents alone in their district, of k 5."""
    lonely = pl.when(pl.int_range(pl.len()) < 3).then(pl.lit(f"island-{CANARY}")).otherwise("district")
    return frame.with_columns(district=lonely)


def nothing_known(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.lit(None, dtype=kind).alias(name) for name, kind in frame.schema.items())


def nameless(frame: pl.DataFrame) -> pl.DataFrame:
    """One resident without an id."""
    return frame.with_columns(person_id=pl.when(pl.int_range(pl.len()) != 77).then("person_id"))


@dataclass(frozen=True)
class Bad:
    """A source, the reason it ends in, words that the department is told, and what the consumer may do."""

    source: Callable[[Path], Path]
    reason: Reason
    told: tuple[str, ...]
    figures: dict[str, str] = field(default_factory=dict)


BAD = {
    "missing file": Bad(nowhere, Reason.SOURCE_UNAVAILABLE, ("people.parquet", "no such file")),
    "empty file": Bad(raw("people.parquet", lambda _: b""), Reason.DATA_INVALID, ("people.parquet", "empty")),
    "empty CSV": Bad(raw("people.csv", lambda _: b""), Reason.DATA_INVALID, ("people.csv", "empty")),
    "no rows": Bad(parquet(pl.DataFrame.clear), Reason.DATA_INVALID, ("people.parquet", "no row")),
    "column missing": Bad(parquet(lambda f: f.drop("score")), Reason.PLAN_REFUSED, ("score",)),
    "entity column missing": Bad(parquet(lambda f: f.drop("person_id")), Reason.PLAN_REFUSED, ("person_id",)),
    "column of another type": Bad(
        parquet(lambda f: f.with_columns(pl.col("score").cast(pl.String))), Reason.PLAN_REFUSED, ("score", "string")
    ),
    "no cell has a value": Bad(
        parquet(nothing_known), Reason.DATA_INVALID, ("person_id", "null"), {"rows_without_entity": str(ROWS)}
    ),
    "null entity": Bad(
        parquet(nameless),
        Reason.DATA_INVALID,
        ("person_id", "null"),
        {"rows_without_entity": "1", "rows_in": str(ROWS)},
    ),
    "CSV that is not UTF-8": Bad(raw("people.csv", no_utf8), Reason.DATA_INVALID, ("people.csv",)),
    "CSV whose dates are no dates": Bad(
        raw("people.csv", lambda good: good.replace(b"-01-01\n", b"-01-00\n")),
        Reason.DATA_INVALID,
        ("people.csv", "since", f"of {ROWS} rows", "a date written 2026-01-31"),
    ),
    "damaged Parquet": Bad(raw("people.parquet", damaged), Reason.DATA_INVALID, ("people.parquet",)),
    "cut off Parquet": Bad(raw("people.parquet", lambda b: b[: len(b) // 2]), Reason.DATA_INVALID, ("people.parquet",)),
    "no Parquet at all": Bad(
        raw("people.parquet", lambda _: f"{CANARY}\n".encode() * 99), Reason.DATA_INVALID, ("people.parquet",)
    ),
    "too few in a class": Bad(
        parquet(loner),
        Reason.BOUNDS_NOT_MET,
        ("k_required", "share"),
        {"k_lowest": "3", "k_required": "5", "rows_in": str(ROWS), "rows_to_suppress": "3", "classes_failing": "1"},
    ),
}


@pytest.fixture(scope="module")
def agreement(trouble: Trouble) -> str:
    """An agreement under which nothing was pulled yet, so that every pull makes a release."""
    return trouble.city.agree("planner", "registry-office/people", "planning", approvers=["keeper"])


@pytest.fixture(autouse=True)
def bound(trouble: Trouble) -> Any:
    """The register is bound to its proper source again after each test."""
    yield
    trouble.city.source("people", trouble.people, gateway=REGISTRY)


def refused_transfer(city: City, agreement: str) -> str:
    """The newest transfer, once the gateway's report of it arrived."""
    newest = next(city.exchange("planner").transfers(agreement, 1)).name
    return city.settle("planner", newest, "REFUSED").name


@pytest.mark.parametrize("what", BAD)
def test_bad_data(trouble: Trouble, agreement: str, tmp_path: Path, what: str) -> None:
    city, bad = trouble.city, BAD[what]
    city.source("people", bad.source(tmp_path), gateway=REGISTRY)
    out = tmp_path / "pulled.parquet"
    with pytest.raises(SluicegateError) as caught:
        city.exchange("planner").pull(agreement, to=out)
    error = caught.value

    # The consumer: the reason, its fixed sentence, and nothing of the data.
    assert error.reason is bad.reason, error
    assert TRAITS[bad.reason].meaning in error.message
    transfer = refused_transfer(city, agreement)
    shown = city.exchange("planner").transfer(transfer).as_json()
    assert (shown["failure_reason"], shown["failure_detail"]) == (bad.reason, "")
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith("pulled")] == []

    # The department: what exactly, by column and figure.
    told = city.exchange("keeper").transfer(transfer).as_json()
    assert told["failure_reason"] == bad.reason
    detail = json.loads(told["failure_detail"])
    assert not [word for word in bad.told if word not in json.dumps(detail)], detail
    assert {name: detail.get(name) for name in bad.figures} == bad.figures

    # Nobody: a cell, the folder on the department's machine.
    everything = "\n".join((str(error), json.dumps(shown), json.dumps(told), city.log(REGISTRY), city.log("exchange")))
    for secret in (CANARY, "PX00", "n\ufffdrth", str(tmp_path)):
        assert secret not in everything


def test_the_department_reads_why_on_its_command_line(trouble: Trouble, agreement: str, tmp_path: Path) -> None:
    city = trouble.city
    city.source("people", parquet(loner)(tmp_path), gateway=REGISTRY)
    told = city.run("pull", agreement, "--out", tmp_path / "never.parquet", "--as", "planner", code=5)
    assert "BOUNDS_NOT_MET" in told.stderr
    assert "k_lowest" not in told.stderr + told.stdout
    transfer = refused_transfer(city, agreement)
    read = city.run("receipts", transfer, "--as", "keeper").stdout
    assert "why             BOUNDS_NOT_MET: the release does not meet its re-identification bounds\n" in read
    assert ", k lowest 3, k required 5, " in read
    assert "{" not in read, "lines, not JSON"
    assert "purpose         planning\n" in read, "known by the agreement: there is no receipt"
    city.source("people", parquet(lambda f: f.drop("score"))(tmp_path), gateway=REGISTRY)
    city.run("pull", agreement, "--out", tmp_path / "never.parquet", "--as", "planner", code=5)
    read = city.run("receipts", refused_transfer(city, agreement), "--as", "keeper").stdout
    assert re.search(r"\n  why +PLAN_REFUSED: .+\n  violations +\S*score: ", read)
    assert "k_lowest" not in city.run("receipts", transfer, "--as", "planner").stdout


GOOD: dict[str, Callable[[Path], Path]] = {
    "an extra column": parquet(lambda f: f.with_columns(secret=pl.lit(f"extra-{CANARY}"))),
    "columns in another order": parquet(lambda f: f.select(*reversed(f.columns))),
    "narrower numbers": parquet(lambda f: f.with_columns(pl.col("score").cast(pl.Int16))),
    "nulls wherever nobody is told apart": parquet(
        lambda f: f.with_columns(pl.lit(None, dtype=f.schema[name]).alias(name) for name in f.columns[1:])
    ),
    "CSV": raw("people.csv", lambda good: good),
    "CSV with a byte order mark": raw("people.csv", lambda good: b"\xef\xbb\xbf" + good),
    "CSV of nothing but digits": raw("people.csv", digits),
    "NDJSON of nothing but digits": raw("people.ndjson", digits),
}


@pytest.mark.parametrize("what", GOOD)
def test_odd_data_that_is_good_enough(trouble: Trouble, tmp_path: Path, what: str) -> None:
    city = trouble.city
    # A dataset of its own for each: within a refresh interval there is one release for a consumer.
    dataset = f"people-{list(GOOD).index(what)}"
    document = (CONTRACTS / "people.odcs.yaml").read_bytes().replace(b"name: people\n", f"name: {dataset}\n".encode())
    city.publish("keeper", document, GOOD[what](tmp_path), gateway=REGISTRY)
    agreement = city.agree("clerk", f"registry-office/{dataset}", "planning", approvers=["keeper"])
    pulled = city.exchange("clerk").pull(agreement)
    assert pulled.rows == ROWS
    assert pulled.frame().columns == ["person_id", "serial", "district", "score", "since"]
    assert "extra" not in pulled.frame().write_csv()
    if what.endswith("digits"):
        assert set(pulled.frame()["district"]) == {"010001", "010002", "010003", "010004"}
        assert dict(pulled.frame().schema) | {"since": pl.Date(), "score": pl.Int64()} == dict(pulled.frame().schema)
    if what.startswith("nulls"):
        assert pulled.frame().null_count().row(0) == (0, ROWS, ROWS, ROWS, ROWS)


def test_the_ledger_remembers_every_refusal(trouble: Trouble, agreement: str) -> None:
    events = [entry.event for entry in trouble.city.exchange("planner").entries()]
    assert events.count("transfer.refused") >= len(BAD)
    trouble.city.ledger_verifies("planner", "keeper")

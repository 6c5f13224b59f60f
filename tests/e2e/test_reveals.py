"""Single values opened, from the command line to the command line: what left is pulled, asked about by one person,
countersigned by another, opened by the department's gateway, and in the ledger for both sides."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from contracts.envelope import Envelope
from contracts.revealing import verify_revealed
from exchange.revealing import key_of
from tests.e2e.city import CONTRACTS, City, eventually
from tests.e2e.conftest import STATISTICS

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("e2e")]

DATASET = "statistics-office/cases"
WHY = "court order 17/26, to be told within a week"


@dataclass(frozen=True)
class Released:
    """An agreement, what was pulled under it, and the source that it was made of."""

    city: City
    agreement: str
    pulled: pl.DataFrame
    source: pl.DataFrame

    def ask(self, who: str, field: str, values: list[str], out: Path) -> None:
        """One person asks for values of a field."""
        told = [word for value in values for word in ("--value", value)]
        self.city.run("reveal", "ask", self.agreement, "--field", field, *told, "--reason", WHY, "-o", out, "--as", who)


@pytest.fixture(scope="module")
def released(city: City, tmp_path_factory: pytest.TempPathFactory) -> Released:
    folder = tmp_path_factory.mktemp("cases")
    document = (CONTRACTS / "cases.odcs.yaml").read_text()
    for theirs, ours in (("registry-office", "statistics-office"), ("registry.example", "statistics.example")):
        document = document.replace(theirs, ours)
    document = document.replace("keeper@", "steward@").replace("deputy@", "dpo@")
    numbers = range(2_000)
    source = pl.DataFrame(
        {
            "case_no": [f"CASE-{n * 7919 % 1_000_003:07d}" for n in numbers],
            "card_no": [f"{n * 104_729_104_729 % 999_999_999_989:012d}" for n in numbers],
            "file_no": [f"F{n:05d}" for n in numbers],
            "district": [("north", "south", "east", "west")[n % 4] for n in numbers],
        }
    )
    path = folder / "cases.parquet"
    source.write_parquet(path)
    city.publish("steward", document.encode(), path, gateway=STATISTICS)
    agreement = city.agree("analyst", DATASET, "follow-up", approvers=["steward"])
    city.run("pull", agreement, "--out", folder / "out.parquet", "--as", "analyst")
    return Released(city, agreement, pl.read_parquet(folder / "out.parquet"), source)


def test_values_are_opened_by_two_people_and_both_sides_see_it(released: Released, tmp_path: Path) -> None:
    """A case and a card of the same rows, each opened by itself, are found together in the department's own table;
    what the consumer has tells neither."""
    city, rows = released.city, released.pulled.head(3)
    cases, cards = tmp_path / "cases.json", tmp_path / "cards.json"
    assert not set(rows["case_no"]) & set(released.source["case_no"])
    assert not set(released.pulled["card_no"]) <= set(released.source["card_no"])

    released.ask("steward", "case_no", rows["case_no"].to_list(), cases)
    assert [path.stat().st_mode & 0o777 for path in (cases, key_of(cases))] == [0o600, 0o600]
    shown = city.run("reveal", "sign", cases, "--yes", "--as", "dpo").stdout
    assert all(word in shown for word in (WHY, "case_no", *rows["case_no"]))
    opened = city.ask("reveal", "open", cases, "--as", "steward")["values"]
    assert not key_of(cases).exists()

    # The other way round, and without asking the exchange where the gateway is.
    released.ask("dpo", "card_no", rows["card_no"].to_list(), cards)
    city.run("reveal", "sign", cards, "--yes", "--as", "steward")
    gateway = city.exchange("dpo").gateway(STATISTICS)
    ca = tmp_path / "ca.pem"
    ca.write_text(gateway.ca_certificate)
    there = ("--gateway", gateway.address.removeprefix("grpc+tls://"), "--ca", ca)
    lines = city.run("reveal", "open", cards, *there, "--as", "dpo").stdout.splitlines()
    opened |= dict(line.split("\t") for line in lines[-3:])

    raw = rows.with_columns(pl.col("case_no", "card_no").replace_strict(opened)).drop("file_no")
    assert raw.join(released.source, on=["case_no", "card_no", "district"]).height == 3

    for who in ("steward", "analyst", "auditor"):
        entries = [found.entry for found in city.exchange(who).entries(released.agreement)]
        told = [entry["detail"] for entry in entries if entry["event"] == "agreement.revealed"]
        assert [(each["field"], each["count"]) for each in reversed(told)] == [("case_no", 3), ("card_no", 3)]
        assert all(each["people"] == ["dpo@statistics.example", "steward@statistics.example"] for each in told)
        orders = {Envelope.from_bytes(path.read_bytes()).digest for path in (cases, cards)}
        assert {each["order"] for each in told} == orders
        assert not [word for word in (WHY, *opened, *opened.values()) if word in json.dumps(entries)]
        for each in told:
            statement = Envelope.from_bytes(json.dumps(each["statement"]).encode())
            verified = city.exchange("analyst").verified(released.agreement)
            assert verify_revealed(statement, verified, at=int(time.time())).order_digest == each["order"]
    city.ledger_verifies("steward", "analyst", "auditor")
    state = city.home.gateway(STATISTICS).parent / "state.db"

    def proved() -> bool:
        with contextlib.closing(sqlite3.connect(f"file:{state}?mode=ro", uri=True)) as db:
            return db.execute("SELECT count(*) FROM unproved").fetchone() == (0,)

    eventually(proved, "the gateway has a proof that both statements are in the ledger")

"""Differentially private aggregates through a real exchange, typed as a person types it: the example contract
published, requested, approved, pulled, verified, and refused once its budget is spent."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from contracts.envelope import Envelope
from examples import city as example
from tests.e2e.city import ROOT, City
from tests.e2e.conftest import HEALTH

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("e2e")]

CONTRACT = ROOT / "examples" / "visit-statistics.odcs.yaml"
RESIDENTS, VISITS = 5_000, 12_000
COLUMNS = ["hospital_code", "visits", "patients", "mean_cost"]


@dataclass(frozen=True)
class Statistics:
    """The city, the visits behind the gateway, and the folder that people work in."""

    city: City
    visits: pl.DataFrame
    folder: Path

    def publish(self, name: str, refresh: str) -> None:
        """The example's contract, by this city's people, under a name of its own."""
        text = CONTRACT.read_text()
        for theirs, ours in (
            ("steward@", "health-steward@"),
            ("dpo@", "health-dpo@"),
            ("name: visit-statistics\n", f"name: {name}\n"),
            ("3d6f0b7e-9a43-4f0d-8f0a-2c6a1f5f7b21", f"contract-of-{name}"),
            ("refresh: P30D", f"refresh: {refresh}"),
        ):
            assert theirs in text
            text = text.replace(theirs, ours)
        document = self.folder / f"{name}.odcs.yaml"
        document.write_text(text)
        self.city.run("source", "bind", name, self.folder / "visits.parquet", "--gateway", HEALTH)
        self.city.run("publish", document, "--gateway", HEALTH, "--as", "health-steward")

    def agree(self, name: str) -> str:
        """Request and approve: the agreement's name, as it is printed."""
        words = ("--purpose", "hospital-figures", "--reason", "beds", "--as", "planner")
        request = self.city.run("request", f"health-bureau/{name}", *words).stdout.split()[-1]
        return self.city.run("approve", request, "--yes", "--as", "health-steward").stdout.split()[-1]

    def pull(self, agreement: str, name: str) -> Path:
        """A pulled table."""
        out = self.folder / name
        self.city.run("pull", agreement, "--out", out, "--as", "planner")
        return out

    def receipt(self, out: Path) -> dict[str, Any]:
        """The signed receipt's payload, from the file beside what was pulled."""
        papers = json.loads(out.with_name(f"{out.name}.receipt.json").read_bytes())
        return Envelope.from_bytes(json.dumps(papers["receipt"]).encode()).payload

    def demand_figures(self, out: Path) -> None:
        """Nothing but figures, and those right but for noise of the scale 10, of which so much never happens."""
        table = pl.read_parquet(out)
        assert table.columns == COLUMNS
        persons = self.visits.unique(["citizen_id", "hospital_code"])
        there = persons.group_by("hospital_code").len("persons").join(table, on="hospital_code")
        assert there.height == table.height > 10
        assert (there["patients"] < there["persons"] + 300).all()
        counted = persons.group_by("citizen_id").len()["len"].clip(upper_bound=2).sum()  # of one person two groups
        assert abs(table["patients"].sum() - counted) < 600
        held = out.read_bytes() + out.with_name(f"{out.name}.receipt.json").read_bytes()
        assert not [person for person in self.visits["citizen_id"].unique() if person.encode() in held]


@pytest.fixture(scope="module")
def statistics(city: City, tmp_path_factory: pytest.TempPathFactory) -> Statistics:
    folder = tmp_path_factory.mktemp("statistics")
    visits = example.visits(RESIDENTS, VISITS, seed=7)
    visits.write_parquet(folder / "visits.parquet")
    return Statistics(city, visits, folder)


def test_figures_are_pulled_twice_for_the_price_of_once(statistics: Statistics) -> None:
    """Within the refresh interval it is the same table: noise is drawn once, and no second pull is paid for."""
    statistics.publish("visit-statistics", refresh="P30D")
    agreement = statistics.agree("visit-statistics")
    first, second = (statistics.pull(agreement, f"{name}.parquet") for name in ("first", "second"))
    statistics.demand_figures(first)
    assert pl.read_parquet(second).equals(pl.read_parquet(first))
    receipts = [statistics.receipt(out) for out in (first, second)]
    assert receipts[0]["release"] == receipts[1]["release"]
    assert receipts[0]["contentDigest"] == receipts[1]["contentDigest"]
    told = receipts[0]["aggregate"]
    assert (told["kind"], told["microEpsilon"], told["budgetMicroEpsilon"]) == ("dp-aggregate", 1_000_000, 2_000_000)
    # Whoever holds the trust file verifies both, and a figure that was changed does not pass.
    for out in (first, second):
        verified = statistics.city.run("verify", f"{out}.receipt.json", "--data", out, "--as", "planner").stdout
        assert "it stands: " in verified
        assert "differentially private" in verified
    changed = statistics.folder / "changed.parquet"
    pl.read_parquet(first).with_columns(pl.col("patients") + 1).write_parquet(changed)
    shown = statistics.city.run("verify", f"{first}.receipt.json", "--data", changed, "--as", "planner", code=8)
    assert "IT DOES NOT STAND" in shown.stdout + shown.stderr


def test_a_spent_budget_gives_no_further_figures(statistics: Statistics) -> None:
    """Two different tables are paid for; the third is refused to whichever agreement asks, and the ledger has it."""
    statistics.publish("daily-statistics", refresh="PT1S")
    agreement = statistics.agree("daily-statistics")
    first = statistics.pull(agreement, "monday.parquet")
    time.sleep(1.1)  # the refresh interval
    second = statistics.pull(agreement, "tuesday.parquet")
    assert not pl.read_parquet(second).equals(pl.read_parquet(first)), "noise is drawn anew"
    time.sleep(1.1)
    late = statistics.folder / "wednesday.parquet"
    words = ("--out", late, "--as", "planner")
    assert "BUDGET_SPENT" in statistics.city.run("pull", agreement, *words, code=5).stderr
    statistics.city.run("terminate", agreement, "--reason", "once more", "--yes", "--as", "planner")
    again = statistics.agree("daily-statistics")
    assert "BUDGET_SPENT" in statistics.city.run("pull", again, *words, code=5).stderr
    assert not late.exists()
    newest = next(statistics.city.exchange("planner").transfers(again, 1)).name
    assert statistics.city.settle("health-dpo", newest, "REFUSED").failure_reason == "BUDGET_SPENT"
    told = [found.entry for found in statistics.city.exchange("health-dpo").entries(newest)]
    assert [entry["detail"] for entry in told if entry["event"] == "transfer.refused"]
    for out in (first, second):
        statistics.demand_figures(out)
        statistics.city.run("verify", f"{out}.receipt.json", "--data", out, "--as", "planner")
    statistics.city.ledger_verifies("planner", "health-dpo", "auditor")

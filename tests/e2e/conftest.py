"""Two towns: one where all goes well, and one that is made to suffer."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from contracts.trust import PartyKind
from exchange.home import Founder
from tests.adult import COLUMNS
from tests.e2e.city import CONTRACTS, City, free_ports
from tests.e2e.proxy import Proxy

STATISTICS, HEALTH = "statistics-office-1", "health-bureau-1"

FOUNDERS = (
    Founder(
        "city-data-office",
        PartyKind.COORDINATION,
        {"admin@cdo.example": ("admin", "mediator"), "auditor@cdo.example": ("auditor",)},
    ),
    Founder(
        "statistics-office",
        PartyKind.DEPARTMENT,
        {"steward@statistics.example": ("steward",), "dpo@statistics.example": ("dpo", "admin")},
        gateway=STATISTICS,
    ),
    Founder(
        "health-bureau",
        PartyKind.DEPARTMENT,
        {"health-steward@health.example": ("steward",), "health-dpo@health.example": ("dpo", "admin")},
        gateway=HEALTH,
    ),
    Founder("harbour-analytics", PartyKind.COMPANY, {"analyst@harbour.example": ("requester", "admin")}),
    Founder("research-institute", PartyKind.DEPARTMENT, {"researcher@institute.example": ("requester", "admin")}),
    Founder("metro-lines", PartyKind.COMPANY, {"planner@metro.example": ("requester", "admin")}),
)


@pytest.fixture(scope="session")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[City]:
    """Exchange and two departments' gateways, running."""
    with City.founded(tmp_path_factory.mktemp("city") / "home", FOUNDERS, exchange={"heartbeat": 1}) as found:
        yield found


@pytest.fixture(scope="session")
def adult(corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Adult census extract as CSV with a header, unknowns empty, and a made-up id for each person."""
    path = tmp_path_factory.mktemp("adult") / "census.csv"
    with (corpora / "adult" / "adult.data").open(newline="") as raw, path.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(("person_id", *COLUMNS))
        rows = (row for row in csv.reader(raw, skipinitialspace=True) if row)
        for number, row in enumerate(rows):
            # Spread, so that no id is a prefix or the successor of another one's neighbour.
            scattered = number * 7_919 % 1_000_003
            writer.writerow((f"CZ{scattered:07d}X{number % 97:02d}", *("" if cell == "?" else cell for cell in row)))
    return path


@pytest.fixture(scope="session")
def trips(corpora: Path) -> Path:
    """The Chicago taxi trips, as they are."""
    return corpora / "chicago-taxi" / "taxi.csv"


# --- the town that is made to suffer ----------------------------------------------------------

REGISTRY, ARCHIVE = "registry-1", "archive-1"
PEOPLE = 120_000

SUFFERERS = (
    Founder("city-data-office", PartyKind.COORDINATION, {"auditor@cdo.example": ("auditor",)}),
    Founder("registry-office", PartyKind.DEPARTMENT, {"keeper@registry.example": ("steward", "admin")}, REGISTRY),
    Founder("archive-office", PartyKind.DEPARTMENT, {"archivist@archive.example": ("steward", "admin")}, ARCHIVE),
    Founder("harbour-analytics", PartyKind.COMPANY, {"analyst@harbour.example": ("requester", "admin")}),
    Founder("metro-lines", PartyKind.COMPANY, {"planner@metro.example": ("requester", "admin")}),
    Founder("bus-lines", PartyKind.COMPANY, {"clerk@bus.example": ("requester", "admin")}),
)


@dataclass
class Trouble:
    """A town with a register of people in parts of about a megabyte, behind a bad network; and another
    department, whose parts are large, and who soon loses patience with a reader that stalls."""

    city: City
    network: Proxy
    people: Path
    agreement: str  # the analyst's, with the registry
    large: str  # the analyst's, with the archive

    def demand_definite(self) -> None:
        """Nothing hangs between its first row and its receipt (a grant that nobody used expires by
        itself), the spool holds no release but the current one, and the ledger only grew."""
        states = self.city.states("analyst", self.agreement)
        assert "SERVING" not in states.values(), states
        assert len(self.city.releases(REGISTRY)) <= 1
        self.city.ledger_verifies("analyst", "keeper", "auditor")


def people(rows: int) -> pl.DataFrame:
    """The register, made up."""
    number = pl.int_range(rows, eager=True)
    return pl.DataFrame(
        {
            "person_id": pl.Series([f"PX{n * 7919 % 1_000_003:07d}" for n in range(rows)]),
            "serial": pl.Series([f"serial-{n}" for n in range(rows)]),
            "district": pl.Series(["north", "south", "east", "west"])[number % 4],
            "score": number * 31 % 1000,
            "since": (number % 9000).cast(pl.Int32).cast(pl.Date),
        }
    )


@pytest.fixture(scope="session")
def trouble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trouble]:
    """The town, running, with an agreement at each department."""
    folder = tmp_path_factory.mktemp("trouble")
    behind = free_ports(1)
    with City.founded(
        folder / "home",
        SUFFERERS,
        exchange={"heartbeat": 1, "refusals_per_minute": 10_000},
        gateways={
            REGISTRY: {"listen": f"127.0.0.1:{behind}", "part_bytes": 1 << 20, "max_silence": 8},
            ARCHIVE: {"stall_after": 2},
        },
    ) as city:
        registered = city.exchange("keeper").gateway(REGISTRY).address
        with Proxy(int(registered.rsplit(":", 1)[1]), behind) as network:
            document = (CONTRACTS / "people.odcs.yaml").read_bytes()
            small, large = folder / "people.parquet", folder / "large.parquet"
            people(PEOPLE).write_parquet(small)
            people(4 * PEOPLE).write_parquet(large)
            city.publish("keeper", document, small, gateway=REGISTRY)
            archived = document.replace(b"registry", b"archive").replace(b"keeper@", b"archivist@")
            city.publish("archivist", archived, large, gateway=ARCHIVE)
            yield Trouble(
                city,
                network,
                small,
                city.agree("analyst", "registry-office/people", "planning", approvers=["keeper"]),
                city.agree("analyst", "archive-office/people", "planning", approvers=["archivist"]),
            )

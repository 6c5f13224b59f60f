"""The city that is attacked: everybody's homes, real processes, one dataset with people in it.

Every file of this folder that needs it runs on one worker, so that it is founded once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from contracts.trust import PartyKind
from exchange.home import Founder
from tests.e2e.city import CONTRACTS, City
from tests.e2e.conftest import people

REGISTRY, ARCHIVE = "registry-1", "archive-1"
DATASET = "registry-office/people"
PEOPLE = 6_000

EVERYBODY = (
    Founder(
        "city-data-office",
        PartyKind.COORDINATION,
        {
            "admin@cdo.example": ("admin", "mediator"),
            "mediator@cdo.example": ("mediator",),
            "auditor@cdo.example": ("auditor",),
        },
    ),
    Founder(
        "registry-office",
        PartyKind.DEPARTMENT,
        {"keeper@registry.example": ("steward", "admin"), "deputy@registry.example": ("dpo",)},
        REGISTRY,
    ),
    Founder("archive-office", PartyKind.DEPARTMENT, {"archivist@archive.example": ("steward", "admin")}, ARCHIVE),
    Founder("harbour-analytics", PartyKind.COMPANY, {"analyst@harbour.example": ("requester", "admin")}),
    Founder("metro-lines", PartyKind.COMPANY, {"planner@metro.example": ("requester", "admin")}),
)


@dataclass
class Attacked:
    """The running city, the unmasked source behind the registry's gateway, and two consumers'
    agreements on it."""

    city: City
    people: Path
    analysts: str
    planners: str

    @property
    def source(self) -> pl.DataFrame:
        """What must not leave unmasked."""
        return pl.read_parquet(self.people)


@pytest.fixture(scope="session")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    """The city, running, with an agreement for each of the two companies."""
    folder = tmp_path_factory.mktemp("attacked")
    with City.founded(
        folder / "home",
        EVERYBODY,
        exchange={"heartbeat": 1, "refusals_per_minute": 10_000},
        gateways={REGISTRY: {"part_bytes": 64 << 10}},
    ) as city:
        source = folder / "people.parquet"
        people(PEOPLE).write_parquet(source)
        city.publish("keeper", (CONTRACTS / "people.odcs.yaml").read_bytes(), source, gateway=REGISTRY)
        analysts, planners = (
            city.agree(who, DATASET, "planning", approvers=["keeper"]) for who in ("analyst", "planner")
        )
        yield Attacked(city, source, analysts, planners)

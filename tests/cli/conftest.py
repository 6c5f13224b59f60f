"""A founded city for the commands, and one that runs: exchange and gateway as processes."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from exchange.client import Exchange
from exchange.config import DatasetSettings
from exchange.founding import Ports, bind, found
from exchange.home import EXAMPLE_CITY, Home
from exchange.processes import Town
from tests.cli.commands import CONTRACT, Commands

ROWS = 4_000


def free_ports(count: int) -> int:
    """The first of `count` loopback ports in a row that nobody listens on."""
    for _ in range(200):
        base = random.randrange(20_000, 32_000)
        with contextlib.ExitStack() as stack:
            try:
                for port in range(base, base + count):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return base
    raise RuntimeError("no free ports on loopback")


def visits(path: Path) -> Path:
    """Rows that fit the example contract and its bounds."""
    numbers = range(ROWS)
    pl.DataFrame(
        {
            "visit_id": [f"v{n}" for n in numbers],
            "citizen_id": [f"1101011990{n:08d}" for n in numbers],
            "patient_name": [f"name {n}" for n in numbers],
            "phone": [f"138{n:08d}" for n in numbers],
            "birth_date": [date(1950 + 20 * (n % 3), 3, 1) for n in numbers],
            "sex": ["F" if n % 2 else "M" for n in numbers],
            "home_address": [f"Long Street {n}" for n in numbers],
            "home_postcode": [f"10{n % 2}100" for n in numbers],
            "visit_ts": [datetime(2026, 1, 5) + timedelta(days=n % 2, hours=n % 24) for n in numbers],
            "hospital_code": [f"H{n % 2:02d}" for n in numbers],
            "diagnosis_icd10": [f"J{n % 7}0.{n % 9}" for n in numbers],
            "cost_cents": [n * 7 for n in numbers],
        }
    ).write_parquet(path)
    return path


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLUICEGATE_HOME", "SLUICEGATE_PROFILE", "SLUICEGATE_TRACE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Parquet file of hospital visits."""
    return visits(tmp_path_factory.mktemp("data") / "visits.parquet")


@pytest.fixture(scope="session")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The example city, not running; not to be changed."""
    home = Home(tmp_path_factory.mktemp("founded") / "home")
    found(home, EXAMPLE_CITY, now=int(time.time()) - 60, entropy=os.urandom)
    return home


@pytest.fixture
def still(founded: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Commands:
    """Commands in a fresh city that does not run."""
    shutil.copytree(founded.root, tmp_path / "home")
    return Commands(tmp_path / "home", capsys)


@dataclass(frozen=True)
class Running:
    """A city whose processes run, with the example contract published and one agreement made."""

    home: Home
    agreement: str
    request: str


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Iterator[Running]:
    """Exchange and gateway of one city, shared by all tests: they must not depend on each other."""
    home = Home(tmp_path_factory.mktemp("running") / "home")
    base = free_ports(2)
    ports = Ports(exchange=base, gateway=base + 1)
    found(home, EXAMPLE_CITY, now=int(time.time()) - 60, entropy=os.urandom, ports=ports)
    bind(home.gateway("health-bureau-1"), "hospital-visits", DatasetSettings(path=data, format="parquet"))
    with Town(home), contextlib.ExitStack() as stack:
        steward, planner = (stack.enter_context(Exchange(home.profile(name))) for name in ("steward", "planner"))
        steward.publish(CONTRACT.read_bytes(), gateway="health-bureau-1")
        asked = planner.request("health-bureau/hospital-visits", purpose="transport-planning", reason="night buses")
        agreement = steward.approve(asked.name).agreement
        planner.sign(agreement)
        yield Running(home, agreement, asked.name)


@pytest.fixture
def cli(running: Running, capsys: pytest.CaptureFixture[str]) -> Commands:
    """Commands in the running city."""
    return Commands(running.home.root, capsys)

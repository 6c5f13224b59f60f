"""The stage: a department with a gateway, companies that pull, the product's own processes between them."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import time
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import tomli_w

from contracts import odcs
from contracts.trust import PartyKind
from exchange.client import Exchange
from exchange.config import DatasetSettings
from exchange.founding import DATABASE, Ports, bind, found
from exchange.home import Founder, Home
from exchange.processes import Town

DEPARTMENT = "population-office"
GATEWAY = "population-office-1"
STEWARD, OFFICER = "steward", "dpo"


def profile(number: int) -> str:
    """The profile of the consumer of that number, from 1."""
    return f"planner-{number}"


def founders(consumers: int) -> list[Founder]:
    """One department, so many companies with one requester each."""
    people = {"steward@population.example": ("steward",), "dpo@population.example": ("dpo", "admin")}
    companies = [
        Founder(
            f"company-{number}",
            PartyKind.COMPANY,
            {f"{profile(number)}@company-{number}.example": ("requester", "admin")},
        )
        for number in range(1, consumers + 1)
    ]
    return [Founder(DEPARTMENT, PartyKind.DEPARTMENT, people, gateway=GATEWAY), *companies]


@contextlib.contextmanager
def city(
    folder: Path,
    *,
    consumers: int = 1,
    exchange: Mapping[str, object] | None = None,
    database: str | None = None,
    only: str | None = None,
) -> Iterator[Stage]:
    """Found a home in an empty folder, change settings of `exchange.toml`, start its processes (or `only`
    one of them), and end them in the end."""
    home, base = Home(folder), _free_ports(2)
    found(
        home,
        founders(consumers),
        now=int(time.time()) - 60,
        entropy=os.urandom,
        ports=Ports(exchange=base, gateway=base + 1),
        database=database or DATABASE,
    )
    if exchange:
        settings = tomllib.loads(home.exchange.read_text()) | dict(exchange)
        home.exchange.write_text(tomli_w.dumps(settings))
    with Town(home, only=only) as town:
        yield Stage(home, town)


class Stage:
    """A home whose processes run."""

    def __init__(self, home: Home, town: Town) -> None:
        self.home, self.town = home, town

    def pid(self, name: str) -> int:
        """The process of `exchange`, or of the gateway."""
        return self.town.processes[name].pid

    def publish(self, document: bytes, source: Path) -> str:
        """Bind a Parquet file to the contract's dataset and publish it; the dataset's short name."""
        dataset = odcs.load(document).contract.dataset
        bind(self.home.gateway(GATEWAY), dataset, DatasetSettings(path=source, format="parquet"))
        with Exchange(self.home.profile(STEWARD)) as steward:
            steward.publish(document, gateway=GATEWAY)
        return f"{DEPARTMENT}/{dataset}"

    def agree(self, consumer: str, dataset: str, purpose: str) -> str:
        """Request, approve by whom the contract names, sign; the agreement's name."""
        with Exchange(self.home.profile(consumer)) as company:
            asked = company.request(dataset, purpose=purpose, reason="benchmark")
            for approver in (STEWARD, OFFICER):
                if company.request_status(asked.name).agreement:
                    break
                with Exchange(self.home.profile(approver)) as approves:
                    approves.approve(asked.name)
            return company.ready(company.request_status(asked.name).agreement).name


def _free_ports(count: int) -> int:
    """The first of so many loopback ports in a row that nobody listens on, below the ephemeral ones."""
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

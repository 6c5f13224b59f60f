"""A city of real processes: exchange and gateways as children of the test, TLS on loopback.

    with City.founded(folder, founders) as city:
        city.publish("steward", contract, source)
        agreement = city.agree("analyst", "census-extract", "labour-market", approvers=["steward"])
        city.exchange("analyst").pull(agreement, to=path)      # the Python client, or
        city.run("pull", agreement, "--out", path, "--as", "analyst")   # the command line

Nothing in here stands in for a part of the product; it only starts it, and types for its users.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.flight as fl
import tomli_w

from contracts import odcs
from contracts.errors import Reason, SluicegateError
from exchange import views
from exchange.client import Exchange
from exchange.config import DatasetSettings
from exchange.evidence import watch_ledger
from exchange.founding import Ports, bind, found
from exchange.home import Founder, Home
from exchange.processes import Town
from exchange.trying import format_of

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = Path(__file__).resolve().parent / "contracts"


def free_ports(count: int) -> int:
    """The first of `count` loopback ports in a row that nobody listens on, below the ephemeral ones."""
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


def eventually(probe: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
    """The first true answer of `probe`, asked until the time is over."""
    end = time.monotonic() + seconds
    while not (found := probe()):
        assert time.monotonic() < end, f"after {seconds:g} s still not: {what}"
        time.sleep(0.1)
    return found


@dataclass
class City:
    """A founded home and its processes."""

    home: Home
    town: Town
    _open: dict[str, Exchange] = field(default_factory=dict)

    @classmethod
    @contextlib.contextmanager
    def founded(
        cls,
        root: Path,
        founders: Sequence[Founder],
        *,
        exchange: Mapping[str, object] = {},
        gateways: Mapping[str, Mapping[str, object]] = {},
    ) -> Iterator[City]:
        """Found a home on free ports, change settings of `exchange.toml` and of single `gateway.toml`s,
        start everything, and end it in the end."""
        home = Home(root)
        base = free_ports(1 + len(founders))
        ports = Ports(exchange=base, gateway=base + 1)
        found(home, founders, now=int(time.time()) - 60, entropy=os.urandom, ports=ports)
        change(home.exchange, exchange)
        for name, settings in gateways.items():
            change(home.gateway(name), settings)
        with Town(home) as town:
            city = cls(home, town)
            try:
                yield city
            finally:
                for connection in city._open.values():
                    connection.close()

    # --- acting

    def exchange(self, profile: str) -> Exchange:
        """The client of a profile; one connection each."""
        if profile not in self._open:
            self._open[profile] = Exchange(self.home.profile(profile))
        return self._open[profile]

    def run(
        self, *words: object, code: int = 0, prefix: Sequence[str] = (), root: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run `sluicegate WORDS` as a process and demand its exit code; `prefix` stands before it."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("SLUICEGATE_")}
        done = subprocess.run(
            [*prefix, sys.executable, "-m", "exchange.cli.main", *map(str, words)],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env=environment | {"SLUICEGATE_HOME": str(root or self.home.root), "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, f"exit code {done.returncode}, not {code}:\n{done.stdout}\n{done.stderr}"
        return done

    def ask(self, *words: object) -> Any:
        """What a command answers as JSON."""
        return json.loads(self.run(*words, "--output", "json").stdout)

    # --- the way to an agreement

    def source(self, dataset: str, path: Path, *, gateway: str, **settings: Any) -> None:
        """Bind a dataset to a file, as `source bind` does."""
        form = settings.pop("format", None) or format_of(path, None)
        bind(self.home.gateway(gateway), dataset, DatasetSettings(path=path, format=form, **settings))

    def publish(self, steward: str, document: bytes, path: Path, *, gateway: str) -> views.Dataset:
        """Bind the source and publish the contract."""
        self.source(odcs.load(document).contract.dataset, path, gateway=gateway)
        return self.exchange(steward).publish(document, gateway=gateway)

    def agree(
        self, consumer: str, dataset: str, purpose: str, *, approvers: Iterable[str] = (), fields: tuple[str, ...] = ()
    ) -> str:
        """Request, approve, sign; the agreement's name."""
        asked = self.exchange(consumer).request(dataset, purpose=purpose, reason="to try it", fields=fields)
        for approver in approvers:
            self.exchange(approver).approve(asked.name)
        agreement = self.exchange(consumer).request_status(asked.name).agreement
        return self.exchange(consumer).ready(agreement).name

    def start(self, name: str) -> None:
        """Start one process again. Clients that were connected to an exchange that went away need a
        moment to notice that it is back; `pull` and the command line begin with a connection of their own."""
        self.town.start(name)
        if name == "exchange":
            for connection in self._open.values():
                eventually(lambda found=connection: _answers(found), f"{connection!r} is connected again")

    def start_gateway(self, name: str, profile: str) -> None:
        """Start a gateway again, and wait until it heard of the exchange, which tells `profile` where it is."""
        self.start(name)
        found = self.exchange(profile).gateway(name)

        def serving() -> bool:
            with fl.FlightClient(found.address, tls_root_certs=found.ca_certificate.encode()) as client:
                (told,) = client.do_action(fl.Action("health", b""))
                return bool(json.loads(told.body.to_pybytes())["serving"])

        eventually(serving, "the gateway serves")

    # --- looking

    def states(self, consumer: str, agreement: str) -> dict[str, str]:
        """Transfer -> state, of one agreement."""
        return {found.name: found.state for found in self.exchange(consumer).transfers(agreement)}

    def state(self, consumer: str, transfer: str) -> str:
        """The state of one transfer."""
        return self.exchange(consumer).transfer(transfer).state

    def settle(self, consumer: str, transfer: str, *states: str, seconds: float = 30.0) -> views.Transfer:
        """Wait until a transfer is in one of these states."""
        eventually(
            lambda: self.state(consumer, transfer) in states, f"{transfer} is {' or '.join(states)}", seconds=seconds
        )
        return self.exchange(consumer).transfer(transfer)

    def releases(self, gateway: str) -> list[str]:
        """What stands in a gateway's spool."""
        spool = self.home.gateway(gateway).parent / "spool"
        return sorted(entry.name for entry in spool.iterdir()) if spool.is_dir() else []

    def ledger_verifies(self, *profiles: str) -> None:
        """The ledger only grew since each of these last looked. Raises LEDGER_INVALID."""
        for profile in profiles:
            watch_ledger(self.exchange(profile))

    def log(self, name: str) -> str:
        """What a process wrote to standard error."""
        return self.town.logs[name].read_text(errors="replace")

    def last_words(self, lines: int = 12) -> list[tuple[str, str]]:
        """What each process last said besides calls that went well, with a heading."""
        said = {
            name: [line for line in self.log(name).splitlines() if '"outcome":"OK"' not in line]
            for name in self.town.logs
        }
        return [(f"{name} said last", "\n".join(found[-lines:])) for name, found in said.items()]


def _answers(connection: Exchange) -> bool:
    try:
        connection.whoami()
    except SluicegateError as error:
        if error.reason is not Reason.UNAVAILABLE:
            raise
        return False
    return True


def change(path: Path, settings: Mapping[str, object]) -> None:
    """Change settings of a TOML file."""
    if settings:
        path.write_text(tomli_w.dumps(tomllib.loads(path.read_text()) | dict(settings)))

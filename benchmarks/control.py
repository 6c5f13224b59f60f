"""The control plane: evidenced grants a second, and how long one takes, with eight clients at once.

A grant counts only with its evidence: the policy was asked, the entry stands in the ledger, the commit is
on the disk, the answer is signed. That is checked afterwards for every single one of them.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import data, machine, masks, servers, stage
from benchmarks.results import Aim, Result, Table, percentile
from benchmarks.stage import Stage
from benchmarks.workers import Worker
from contracts import merkle
from contracts.envelope import Kind, verify
from contracts.receipt import Grant
from contracts.trust import read
from exchange.client import Exchange
from exchange.evidence import trust_of, watch_ledger


@dataclass(frozen=True)
class Scale:
    """Clients, and the grants that each asks for in a round."""

    clients: int = 8
    each: int = 100
    rounds: int = 3
    proofs: int = 25  # ledger entries of a consumer whose inclusion is proved


FULL, QUICK = Scale(), Scale(clients=2, each=5, rounds=1, proofs=3)
EMBEDDED, AT_SCALE = "embedded policy, SQLite", "OPA server, PostgreSQL"
AIMS = {EMBEDDED: 150, AT_SCALE: 300}


def run(folder: Path, *, quick: bool) -> Result:
    """The benchmark, in an empty folder. What needs a server that is not there is left out, and says so."""
    scale = QUICK if quick else FULL
    people = folder / "people.parquet"
    data.write_people(people, 1000)
    found = {EMBEDDED: _measured(folder / "embedded", people, scale, {}, None)}
    with contextlib.ExitStack() as stack:
        opa = stack.enter_context(servers.opa_server()) if servers.opa() else None
        policy = {"policy": {"engine": "opa", "url": opa, "unsafe_plaintext": True, "timeout": 10.0}}
        if opa:
            found["OPA server, SQLite"] = _measured(folder / "opa", people, scale, policy, None)
        if opa and servers.postgres():
            database = stack.enter_context(servers.postgres_schema())
            found[AT_SCALE] = _measured(folder / "scale", people, scale, policy, database)
    return _result(scale, found)


def _measured(
    folder: Path, people: Path, scale: Scale, settings: dict[str, Any], database: str | None
) -> dict[str, Any]:
    with _city(folder, people, scale, settings, database) as (city, agreements):
        profiles = [stage.profile(number) for number in range(1, scale.clients + 1)]
        with Worker("grants", city.home.root, *profiles) as asking:
            asking.ask(agreements=agreements, each=max(1, scale.each // 10))  # to warm up
            used = machine.cpu_seconds(city.pid("exchange"))
            answers = [asking.ask(agreements=agreements, each=scale.each) for _ in range(scale.rounds)]
            used = machine.cpu_seconds(city.pid("exchange")) - used
        granted = [name for answer in answers for name in answer["transfers"]]
        evidenced = _evidenced(city, profiles, granted, scale)
    waits = [wait for answer in answers for wait in answer["waits"]]
    rates = [len(answer["transfers"]) / answer["seconds"] for answer in answers]
    return {
        "rate": round(statistics.median(rates), 1),
        "rates": [round(rate, 1) for rate in rates],
        "p50_ms": round(statistics.median(waits) * 1e3, 2),
        "p99_ms": round(percentile(waits, 0.99) * 1e3, 2),
        "worst_ms": round(max(waits) * 1e3, 2),
        "cpu_ms": round(used / len(granted) * 1e3, 2),
        "client_cpu_ms": round(sum(answer["cpu"] for answer in answers) / len(granted) * 1e3, 2),
        "granted": len(granted),
        "evidenced": evidenced,
    }


@contextlib.contextmanager
def _city(
    folder: Path, people: Path, scale: Scale, settings: dict[str, Any], database: str | None
) -> Iterator[tuple[Stage, list[str]]]:
    with stage.city(folder, consumers=scale.clients, exchange=settings, database=database, only="exchange") as city:
        dataset = city.publish((masks.CONTRACTS / "people.odcs.yaml").read_bytes(), people)
        yield (
            city,
            [city.agree(stage.profile(number), dataset, masks.PURPOSE) for number in range(1, scale.clients + 1)],
        )


def _evidenced(city: Stage, profiles: list[str], granted: list[str], scale: Scale) -> int:
    """Of how many grants the ledger has the entry. Raises when one is signed by somebody else, or when
    the ledger or an inclusion proof does not verify."""
    known: set[str] = set()
    for profile in profiles:
        with Exchange(city.home.profile(profile)) as client:
            watch_ledger(client)
            head = read(merkle.Checkpoint, client.checkpoint())
            entries = [entry for entry in client.entries() if entry.event == "transfer.granted"]
            known |= {entry.resource for entry in entries}
            for entry in entries[: scale.proofs]:
                path = client.inclusion(entry.index, head.tree_size)
                merkle.verify_inclusion(
                    bytes.fromhex(entry.leaf_hash), entry.index, head.tree_size, path, bytes.fromhex(head.root)
                )
                grant = client.transfer(entry.resource).grant
                assert grant is not None
                verify(Kind.GRANT, grant, [trust_of(client.profile).grant_key])
                assert read(Grant, grant).transfer == entry.resource
    return len(known & set(granted))


def _result(scale: Scale, found: dict[str, dict[str, Any]]) -> Result:
    table = Table(
        f"Evidenced grants, {scale.clients} clients at once",
        ("exchange", "grants a second", "p50 ms", "p99 ms", "worst ms", "CPU ms a grant"),
        note="One client process with a thread and a connection each, on the same machine as the exchange. Median "
        "of the rounds; waits of all of them. CPU is the exchange process's own.",
    )
    for name, figures in found.items():
        table.rows.append(
            (name, *(f"{figures[key]:.1f}" for key in ("rate", "p50_ms", "p99_ms", "worst_ms", "cpu_ms")))
        )
    for name in AIMS:
        if name not in found:
            table.rows.append((name, "not measured: no such server at hand", "", "", "", ""))
    return Result(
        name="control",
        title="The control plane",
        setting={"clients": scale.clients, "grants_each": scale.each, "rounds": scale.rounds},
        figures=dict(found),
        tables=[table],
        checks={
            f"{name}: every grant stands in the ledger, which verifies": figures["evidenced"] == figures["granted"]
            for name, figures in found.items()
        },
        aims=[
            Aim(
                f"grants a second, {name}",
                f"at least {least}",
                f"{found[name]['rate']:.0f}",
                found[name]["rate"] >= least,
            )
            for name, least in AIMS.items()
            if name in found
        ],
    )

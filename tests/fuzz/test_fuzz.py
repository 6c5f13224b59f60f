"""Strangers' bytes at every entrance: past finds again, and fresh ones, a bounded number on every run."""

from __future__ import annotations

import logging
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors import digest
from contracts import evidence, receipt
from contracts.errors import Reason, SluicegateError
from contracts.receipt import PartDigest
from tests import papers
from tests.fuzz import calls, flights, targets, watching
from tests.fuzz.run import SHARES, tried
from tests.fuzz.targets import CELL, TARGETS, attack, kept
from tests.fuzz.watching import Find, Watch

# One exchange and one gateway for all of it.
pytestmark = pytest.mark.xdist_group("fuzz")
NAMES = sorted(TARGETS)


@pytest.mark.parametrize("name", NAMES)
def test_good_examples_and_past_finds(name: str) -> None:
    for data in kept(TARGETS[name]):
        attack(TARGETS[name], data)


@pytest.mark.parametrize("name", NAMES)
def test_good_examples_are_good(name: str) -> None:
    """Otherwise everything below would be refused at the door."""
    GOOD[name]()


def _good_token() -> None:
    for shown in TARGETS["token"].seeds()[:2]:
        assert targets.token(shown).party == "health-bureau"  # type: ignore[attr-defined]


def _good_ticket() -> None:
    one = papers.make()
    shown = TARGETS["ticket"].seeds()[0]
    receipt.verify_ticket(shown, trust=one.trust, agreement=one.agreed, gateway=papers.GATEWAY, now=papers.NOW)


def _good_evidence() -> None:
    assert evidence.succeeded(targets.evidence_file(TARGETS["evidence"].seeds()[0]))  # type: ignore[arg-type]


def _good_proof() -> None:
    evidence.verify_ledger(papers.make().evidence().ledger[0], papers.make().trust)


def _good_files() -> None:
    parts = [PartDigest(rows=rows, digest="blake3:" + "0" * 64) for rows in (2, 1)]
    found: Counter[str] = Counter()
    for number, raw in enumerate(TARGETS["file"].seeds()):
        with tempfile.NamedTemporaryFile() as file:
            Path(file.name).write_bytes(raw)
            found[digest.of_file(Path(file.name), targets.SCHEMAS[number // 8], parts, "blake3")] += 1
    assert sorted(found.values()) == [4, 8], "packed or not, a file has one digest"


def _good_calls() -> None:
    """A recorded day has calls of every kind, and each was answered."""
    methods = {line.split()[0].decode() for line in calls.hall().recorded}
    assert len(methods) > 30, set(calls.METHODS) - methods


def _good_flights() -> None:
    door = flights.door()
    fresh = next(seed for seed in flights.seeds() if seed.startswith(b"do_get fresh"))
    body = flights._anew(door.gate, "do_get", fresh.partition(b"\n")[2])
    assert len(flights._said(door.client, "do_get", body)) > 1000
    opening = next(seed for seed in flights.seeds() if seed.startswith(b"reveal fresh"))
    door.gate.clock.now += 1  # an order is good once
    assert flights._said(door.client, "reveal", flights._anew(door.gate, "reveal", opening.partition(b"\n")[2]))


GOOD: dict[str, Callable[[], object]] = {
    "calls": _good_calls,
    "contract": lambda: [targets.contract(seed) for seed in TARGETS["contract"].seeds()],
    "envelope": lambda: [targets.envelope(seed) for seed in TARGETS["envelope"].seeds()],
    "evidence": _good_evidence,
    "file": _good_files,
    "gateway": _good_flights,
    "ledger": _good_proof,
    "ticket": _good_ticket,
    "token": _good_token,
}


def test_whoever_watches_sees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mark in an error, in what caused it or in a log line, a text that a terminal obeys, time and memory."""
    watch = Watch([b"k" * 32, CELL.encode()])
    caused = SluicegateError(Reason.DATA_INVALID, "no good")
    caused.__cause__ = ValueError(f"could not read {CELL}")
    for error in (SluicegateError(Reason.DATA_INVALID, "x", metadata={"key": (b"k" * 32).hex()}), caused):
        with pytest.raises(Find, match="marked"):
            watch.demand_decent(error)
    caused.__cause__ = None
    watch.demand_decent(caused)

    def finds(what: str, deed: Callable[[], object]) -> None:
        watch.begin()
        deed()
        with pytest.raises(Find, match=what):
            watch.end()

    finds("log line", lambda: logging.getLogger("sluicegate.gateway").warning("a cell: %s", CELL))
    monkeypatch.setattr(watching, "SLOWEST", 0.01)
    finds("took", lambda: [time.process_time() for _ in range(500_000)])
    monkeypatch.setattr(watching, "SLOWEST", 60.0)
    monkeypatch.setattr(watching, "LARGEST", 1 << 20)
    finds("MiB", lambda: bytearray(1 << 20) * 2000)


def test_a_million_inputs_are_shared_out_and_counted() -> None:
    """Every target has a share, and what was tried of it is on record."""
    assert set(SHARES) == set(NAMES)
    assert sum(SHARES.values()) == 1_000_000
    assert min(SHARES.values()) >= 50_000
    assert set(tried()) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**64 - 1), which=st.integers(0, 1000))
def test_near_a_good_example(name: str, seed: int, which: int) -> None:
    examples = kept(TARGETS[name])
    attack(TARGETS[name], TARGETS[name].spoil(examples[which % len(examples)], random.Random(seed)))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.binary(max_size=2000) | st.text(max_size=500).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_anything(name: str, data: bytes) -> None:
    attack(TARGETS[name], data)

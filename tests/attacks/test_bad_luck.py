"""Bad luck: power cuts, a full queue at the database, damaged files, a clock that steps back.

Nobody means harm here; the promises are the same. What was answered is there afterwards, nothing is
granted or served twice, and what cannot be trusted any more is not served from.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.errors import Reason, SluicegateError
from exchange.config import ExchangeSettings, load
from tests import papers
from tests.attacks.day import Day
from tests.connectors.gate import fetch_all, info_of, make_gate, refused
from tests.thorough import thorough, times

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("bad-luck")]


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    with Day.begun(tmp_path_factory.mktemp("day"), random.SystemRandom().randrange(2**32)) as begun:
        yield begun


@thorough
def test_power_cuts_at_random_moments(day: Day) -> None:
    """kill -9 of exchange, gateway or consumer, anywhere between a contract and its acknowledged data."""
    rounds = times(6, at_least=2)
    for number in range(rounds):
        day.round(number)
    day.check()
    assert len(day.files) == rounds


def test_a_locked_database(day: Day) -> None:
    """Somebody holds the exchange's database: nothing is granted, and nothing that was answered is lost."""
    day.round(100)
    settings = load(day.city.home.exchange, ExchangeSettings)
    analyst = day.city.exchange("analyst")
    agreement = next(analyst.agreements("ACTIVE")).name
    before = len(list(analyst.transfers()))
    with sqlite3.connect(settings.database.removeprefix("sqlite:///"), isolation_level=None) as held:
        held.execute("BEGIN IMMEDIATE")
        with pytest.raises(SluicegateError) as caught:
            analyst.create_transfer(agreement)
        assert caught.value.traits.retryable
        assert len(list(analyst.transfers())) == before, "it can be read meanwhile"
        held.execute("ROLLBACK")
    held.close()
    granted = analyst.create_transfer(agreement)
    assert len(list(analyst.transfers())) == before + 1
    day.answered[granted.name] = "GRANTED"
    day.check()


def test_a_damaged_page_of_the_exchange(day: Day) -> None:
    """One changed byte in an entry of the ledger, and the exchange does not start again; it does once the
    byte is mended."""
    town, settings = day.city.town, load(day.city.home.exchange, ExchangeSettings)
    day.round(200)
    town.stop("exchange")
    path = Path(settings.database.removeprefix("sqlite:///"))
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    sound = path.read_bytes()
    at = sound.index(b"contract.published")
    try:
        for damaged in (
            sound[:at] + b"X" + sound[at + 1 :],
            sound[: len(sound) // 8192 * 4096] + b"\xff" * 4096 + sound[len(sound) // 8192 * 4096 + 4096 :],
        ):
            path.write_bytes(damaged)
            with pytest.raises(SluicegateError) as caught:
                town.start("exchange")
            assert "damaged" in caught.value.message
    finally:
        path.write_bytes(sound)
    day.city.start("exchange")
    day.check()


def test_a_damaged_page_of_a_gateways_state(tmp_path: Path) -> None:
    """A gateway that cannot read which grants were used serves nothing."""
    gate = make_gate(tmp_path)
    gate.start()
    client, ticket = gate.client(), gate.ticket()
    fetch_all(client, info_of(client, ticket))
    gate.stop()
    path = tmp_path / "state" / "state.db"
    raw = bytearray(path.read_bytes())
    raw[4096 : 3 * 4096] = random.Random(1).randbytes(2 * 4096)
    path.write_bytes(raw)
    with pytest.raises(SluicegateError) as caught:
        gate.start()
    assert caught.value.reason is Reason.CONFIG_INVALID
    assert "restore it from a backup" in caught.value.message


def test_a_clock_that_steps_back(tmp_path: Path) -> None:
    """A used ticket stays used, a stopped agreement stopped, and the interval's release the same."""
    gate = make_gate(tmp_path)
    gate.start()
    try:
        client, ticket = gate.client(), gate.ticket()
        info = info_of(client, ticket)
        fetch_all(client, info)
        gate.clock.now -= 300
        assert refused(lambda: info_of(client, ticket)) == "GRANT_USED"
        again = info_of(client, gate.ticket())
        assert again.app_metadata != info.app_metadata
        assert len(list((tmp_path / "spool").iterdir())) == 1, "no second release"
        gate.clock.now += 300
        gate.gateway.suspend(gate.order(until=papers.NOW + papers.DAY))
        gate.clock.now -= 300
        assert refused(lambda: info_of(client, gate.ticket())) == "AGREEMENT_NOT_LIVE"
    finally:
        gate.stop()

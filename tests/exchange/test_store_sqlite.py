"""What only the SQLite store has to prove: durability, privacy of its file, other processes."""

from __future__ import annotations

import dataclasses
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from contracts.errors import Reason
from exchange import ledger, rechecking
from exchange.records import Party
from exchange.store import Store, Tx
from tests.halls import City, party_record, refused
from tests.papers import PARTIES, key

WRITER = """
import sys, time
from exchange.store import Store
from exchange import ledger
from tests.halls import City

city = City(Store(sys.argv[1]))
number = 0
while True:
    with city.store.transaction() as tx:
        ledger.append(tx, city.hall, event="e", resource=f"r/{number}", actor="a", parties=(), detail={})
    print(number, flush=True)
    number += 1
"""


def opened(path: Path, **arguments: float) -> Store:
    store = Store(f"sqlite:///{path}", **arguments)
    store.migrate()
    return store


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///x.db?mode=ro",
        "mysql://user:secret@host/db",
        "oracle://user:secret@host/db",
        "://user:secret@host",
    ],
)
def test_addresses_that_cannot_be(url: str) -> None:
    with refused(Reason.CONFIG_INVALID) as caught:
        Store(url)
    assert "secret" not in str(caught.value)


def test_a_password_is_not_shown() -> None:
    store = Store("postgresql://user:secret@localhost:1/db", patience=0.5)
    assert "secret" not in repr(store)
    with refused(Reason.UNAVAILABLE) as caught, store.read():
        raise AssertionError("unreachable")
    assert "secret" not in str(caught.value)
    with refused(Reason.LEDGER_UNAVAILABLE) as caught, store.transaction():
        raise AssertionError("unreachable")
    assert "secret" not in str(caught.value)
    store.close()


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    store = opened(tmp_path / "deep" / "x.db")
    with store.transaction() as tx:
        tx.insert(party_record("a"))
        for path in (tmp_path / "deep").iterdir():
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path.name
    store.close()


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with refused(Reason.CONFIG_INVALID):
        Store(f"sqlite:///{tmp_path / 'file' / 'x.db'}")
    with refused(Reason.CONFIG_INVALID):
        Store(f"sqlite:///{tmp_path}")


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"something else entirely" * 100)
    store = Store(f"sqlite:///{tmp_path / 'x.db'}")
    with refused(Reason.CONFIG_INVALID):
        store.migrate()
    store.close()


@pytest.mark.parametrize(
    ("pragma", "expected"),
    [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("fullfsync", 1), ("trusted_schema", 0)],
)
def test_every_connection_is_set_up_to_last(tmp_path: Path, pragma: str, expected: object) -> None:
    store = opened(tmp_path / "x.db")
    with store.read() as tx:
        assert tx.connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one() == expected
    store.close()


def test_another_process_that_holds_the_database(tmp_path: Path) -> None:
    """Nothing is granted while the ledger cannot be written; reading goes on; then all is well."""
    store = opened(tmp_path / "x.db", patience=0.2)
    other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with refused(Reason.LEDGER_UNAVAILABLE), store.transaction():
        raise AssertionError("unreachable")
    with store.read() as tx:
        assert tx.count(Party) == 0
    other.execute("ROLLBACK")
    other.close()
    with store.transaction() as tx:
        tx.insert(party_record("a"))
    store.close()


def test_what_was_answered_survives_kill_9(tmp_path: Path) -> None:
    """Every entry that the writer announced is there after it was killed in mid-work, and all verify."""
    store = opened(tmp_path / "x.db")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, f"sqlite:///{tmp_path / 'x.db'}"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as writer:
        assert writer.stdout is not None
        announced = -1
        for line in writer.stdout:
            announced = int(line)
            if announced == 25:
                break
        writer.send_signal(signal.SIGKILL)
    with store.read() as tx:
        kept = rechecking.recheck(tx)
        assert kept > announced
        assert tx.count(Party) == len(PARTIES) + 1
    store.close()


def test_recheck_works_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(tmp_path / "x.db")
    city = City(store)
    with store.transaction() as tx:
        for number in range(23):
            ledger.append(tx, city.hall, event="e", resource=f"r/{number}", actor="a", parties=(), detail={})
    for chunk in (1, 2, 3, 4, 7, 8, 22, 23, 24):
        monkeypatch.setattr(ledger, "CHUNK", chunk)
        with store.read() as tx:
            assert rechecking.recheck(tx) == 23
    monkeypatch.setattr(ledger, "CHUNK", 4)
    with store.transaction() as tx:
        tx.connection.exec_driver_sql("UPDATE ledger_nodes SET hash = zeroblob(32) WHERE level = 3 AND position = 1")
    with refused(Reason.LEDGER_INVALID), store.read() as tx:
        rechecking.recheck(tx)
    store.close()


CHECKPOINT_KEY = key("exchange:checkpoints")


def grown(path: Path, entries: int, signed_at: int) -> Store:
    """A store with so many entries, a checkpoint of ours after `signed_at` of them."""
    store = opened(path)
    city = City(store)
    hall = dataclasses.replace(city.hall, checkpoint_key=CHECKPOINT_KEY)
    for number in range(entries):
        with store.transaction() as tx:
            ledger.append(tx, hall, event="e", resource=f"r/{number}", actor="a", parties=(), detail={})
        if number + 1 == signed_at:
            ledger.checkpoint(hall)
    return store


def edited(store: Store, statement: str) -> None:
    with store.transaction() as tx:
        tx.connection.exec_driver_sql(statement)


REWRITTEN = "UPDATE ledger_entries SET entry = x'7b7d' WHERE position = {}"


@pytest.mark.parametrize("signed_at", [1, 4, 7, 11, 12])
def test_a_start_checks_what_came_since_the_signed_checkpoint(
    tmp_path: Path, signed_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = grown(tmp_path / "x.db", 12, signed_at)
    monkeypatch.setattr(rechecking, "_recompute", counted := Counted(rechecking._recompute))
    with store.read() as tx:
        assert rechecking.since(tx, CHECKPOINT_KEY.public) == 12
    assert counted.ranges == [(signed_at, 12)]
    if signed_at < 12:
        edited(store, REWRITTEN.format(signed_at))
        with refused(Reason.LEDGER_INVALID), store.read() as tx:
            rechecking.since(tx, CHECKPOINT_KEY.public)
    store.close()


class Counted:
    """Passes on what it is asked, and remembers from where to where."""

    def __init__(self, inner: Callable[[Tx, int, int], None]) -> None:
        self._inner = inner
        self.ranges: list[tuple[int, int]] = []

    def __call__(self, tx: Tx, start: int, total: int) -> None:
        self.ranges.append((start, total))
        self._inner(tx, start, total)


@pytest.mark.parametrize(
    "statement",
    [
        # What the root at the checkpoint is made of: 8 + 2 + 1 entries.
        "UPDATE ledger_nodes SET hash = zeroblob(32) WHERE level = 3 AND position = 0",
        "UPDATE ledger_nodes SET hash = zeroblob(32) WHERE level = 0 AND position = 10",
        "DELETE FROM ledger_nodes WHERE level = 1 AND position = 4",
        "DELETE FROM ledger_entries WHERE position > 9",
    ],
)
def test_a_start_demands_the_root_that_was_signed(tmp_path: Path, statement: str) -> None:
    store = grown(tmp_path / "x.db", 12, 11)
    edited(store, statement)
    with refused(Reason.LEDGER_INVALID), store.read() as tx:
        rechecking.since(tx, CHECKPOINT_KEY.public)
    store.close()


def test_a_start_believes_no_checkpoint_of_another_key(tmp_path: Path) -> None:
    store = grown(tmp_path / "x.db", 5, 4)
    with refused(Reason.LEDGER_INVALID):
        store.demand_sound(key("somebody").public)
    store.close()


def test_without_a_checkpoint_a_start_checks_everything(tmp_path: Path) -> None:
    store = grown(tmp_path / "x.db", 5, 0)
    edited(store, REWRITTEN.format(0))
    with refused(Reason.LEDGER_INVALID), store.read() as tx:
        rechecking.since(tx, CHECKPOINT_KEY.public)
    store.close()


def test_what_is_found_damaged_while_serving_serves_no_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start has time for one piece; the damage is in the second."""
    monkeypatch.setattr(ledger, "CHUNK", 4)
    monkeypatch.setattr("exchange.store.AT_START", -1.0)
    store = grown(tmp_path / "x.db", 12, 12)
    edited(store, REWRITTEN.format(5))
    store.demand_sound(CHECKPOINT_KEY.public)
    with store.read() as tx:
        assert ledger.size(tx) == 12
    with refused(Reason.LEDGER_INVALID):
        store.check(lambda _: False)
    for use in (store.read, store.look, store.transaction):
        with refused(Reason.LEDGER_INVALID), use():
            pass
    store.close()


def test_a_check_of_a_sound_store_goes_on_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "CHUNK", 4)
    store, pieces = grown(tmp_path / "x.db", 12, 12), []
    for _ in range(5):
        store.check(lambda took: pieces.append(took) is None)
    assert len(pieces) == 3
    with store.read() as tx:
        assert ledger.size(tx) == 12
    store.close()

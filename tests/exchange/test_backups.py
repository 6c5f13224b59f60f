"""Backups: everything comes back, nothing leaks, and what was touched does not open."""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import stat
import tarfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts import merkle
from contracts.errors import Reason, SluicegateError
from contracts.trust import PartyKind
from exchange import backups, checking, config, evidence, keyfiles, ledger, rechecking, records
from exchange.app import exchange_server
from exchange.config import ExchangeSettings, GatewaySettings
from exchange.founding import found
from exchange.home import EXAMPLE_CITY, Founder, Home
from exchange.store import Store
from tests.halls import refused

SECRET = b"a passphrase that is long enough"
# The cost of the key derivation is not what is tested: 128 MiB and half a second each.
CHEAP = {"n": 2**12, "r": 8, "p": 1}


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backups, "SCRYPT", CHEAP)


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = Home(tmp_path_factory.mktemp("founded") / "home")
    # Parties that are called what is left out elsewhere.
    odd = [Founder(name, PartyKind.COMPANY, {f"a@{name}.example": ("requester",)}) for name in ("logs", "spool")]
    found(home, [*EXAMPLE_CITY, *odd], now=int(time.time()) - 60, entropy=os.urandom)
    return home.root


@pytest.fixture
def home(founded: Path, tmp_path: Path) -> Home:
    shutil.copytree(founded, tmp_path / "home")
    return Home(tmp_path / "home")


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.suffix.startswith(".db")
    }


def events(home: Home) -> list[str]:
    store = Store(config.load(home.exchange, ExchangeSettings).database)
    with store.read() as tx:
        rechecking.recheck(tx)
        rows = tx.connection.exec_driver_sql("SELECT event FROM ledger_entries ORDER BY position").fetchall()
    store.close()
    return [row[0] for row in rows]


def test_everything_comes_back(home: Home, tmp_path: Path) -> None:
    made = backups.backup(home, tmp_path / "b", SECRET)
    other = Home(tmp_path / "restored")
    restored = backups.restore(tmp_path / "b", other, SECRET)
    assert contents(other.root) == contents(home.root)
    assert made.files == restored.files == len(contents(home.root)) + 1
    assert (made.outside, restored.outside) == ((), ())
    assert {finding.level for finding in checking.check(other)} == {"weak"}
    for path in other.root.rglob("*"):
        before = home.root / path.relative_to(other.root)
        if path.is_dir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o700, path
        elif before.exists():
            assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(before.stat().st_mode), path


def test_the_ledger_says_that_it_was_restored(home: Home, tmp_path: Path) -> None:
    backups.backup(home, tmp_path / "b", SECRET)
    backups.restore(tmp_path / "b", Home(tmp_path / "restored"), SECRET)
    assert events(Home(tmp_path / "restored")) == [*events(home), "ledger.restored"]


def test_logs_spools_and_passing_files_are_left_out_and_parties_of_that_name_are_not(
    home: Home, tmp_path: Path
) -> None:
    gateway = home.gateway("health-bureau-1").parent
    for path in (home.root / "logs" / "exchange.log", gateway / "spool" / "rel-1" / "part-0", home.root / ".x.1.new"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("passing")
    (home.root / "link").symlink_to("/etc/hostname")
    backups.backup(home, tmp_path / "b", SECRET)
    backups.restore(tmp_path / "b", Home(tmp_path / "restored"), SECRET)
    names = set(contents(tmp_path / "restored"))
    assert not any(
        name.startswith(("logs/", ".", "link")) or "/spool/" in name
        for name in names - {"parties/spool/root.jwk", "parties/spool/issuer.jwk"}
    )
    assert {"parties/logs/root.jwk", "parties/spool/root.jwk"} <= names


def test_a_backup_holds_nothing_readable(home: Home, tmp_path: Path) -> None:
    backups.backup(home, tmp_path / "b", SECRET)
    raw = (tmp_path / "b").read_bytes()
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o600
    for text in (b"health-bureau", b'"kty"', b"-----BEGIN", b"SQLite", b"ustar\x00", SECRET):
        assert text not in raw
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "home"]
    assert not [path.name for path in home.root.iterdir() if path.name.startswith(".")]


def test_two_backups_of_the_same_share_nothing(home: Home, tmp_path: Path) -> None:
    backups.backup(home, tmp_path / "one", SECRET)
    backups.backup(home, tmp_path / "two", SECRET)
    one, two = ((tmp_path / name).read_bytes().split(b"\n", 2)[2] for name in ("one", "two"))
    assert one[4:1024] != two[4:1024]


def nothing_came(tmp_path: Path) -> None:
    root = tmp_path / "restored"
    assert not root.exists() or not list(root.iterdir())


def test_a_wrong_passphrase_opens_nothing(home: Home, tmp_path: Path) -> None:
    backups.backup(home, tmp_path / "b", SECRET)
    with pytest.raises(SluicegateError) as caught:
        backups.restore(tmp_path / "b", Home(tmp_path / "restored"), SECRET + b"!")
    assert caught.value.reason is Reason.CONFIG_INVALID
    assert "nothing was restored" in caught.value.message
    nothing_came(tmp_path)


@pytest.fixture(scope="module")
def sealed(founded: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A backup of several chunks, to spoil."""
    patch = pytest.MonkeyPatch()
    patch.setattr(backups, "SCRYPT", CHEAP)
    patch.setattr(backups, "CHUNK", 64 * 1024)
    folder = tmp_path_factory.mktemp("sealed")
    backups.backup(Home(founded), folder / "b", SECRET)
    patch.undo()
    return (folder / "b").read_bytes()


def chunks(raw: bytes) -> tuple[bytes, list[bytes]]:
    """Head and sealed chunks, each with its length before it."""
    head = raw[: raw.index(b"\n", raw.index(b"\n") + 1) + 1]
    found, at = [], len(head)
    while at < len(raw):
        end = at + 4 + int.from_bytes(raw[at : at + 4], "big")
        found.append(raw[at:end])
        at = end
    return head, found


def refuses(folder: Path, raw: bytes) -> None:
    (folder / "spoilt").write_bytes(raw)
    with pytest.raises(SluicegateError) as caught:
        backups.restore(folder / "spoilt", Home(folder / "restored"), SECRET)
    assert caught.value.reason is Reason.CONFIG_INVALID
    nothing_came(folder)


def test_chunks_that_are_cut_off_repeated_or_reordered(sealed: bytes, tmp_path: Path) -> None:
    head, found = chunks(sealed)
    assert len(found) > 4
    refuses(tmp_path, head + b"".join(found[:-1]))
    refuses(tmp_path, head + b"".join(found[:1]))
    refuses(tmp_path, head)
    refuses(tmp_path, head + b"".join([found[1], found[0], *found[2:]]))
    refuses(tmp_path, head + b"".join([*found[:2], found[1], *found[2:]]))
    refuses(tmp_path, head + b"".join([*found, found[-1]]))
    refuses(tmp_path, head + b"".join(found) + b"\0")
    refuses(tmp_path, head + b"".join(found[1:]))


def test_a_flipped_bit_anywhere_before_the_chunks_is_found(sealed: bytes, tmp_path: Path) -> None:
    """Also one that leaves the meaning as it was: a digit of the salt in capitals."""
    head, _ = chunks(sealed)
    for at in range(len(head)):
        for bit in range(8):
            refuses(tmp_path, sealed[:at] + bytes([sealed[at] ^ 1 << bit]) + sealed[at + 1 :])


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(at=st.integers(0, 2**32), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_found(
    sealed: bytes, tmp_path_factory: pytest.TempPathFactory, at: int, bit: int
) -> None:
    spoilt = bytearray(sealed)
    spoilt[at % len(sealed)] ^= 1 << bit
    refuses(tmp_path_factory.mktemp("flip", numbered=True), bytes(spoilt))


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(at=st.integers(0, 2**32))
def test_a_cut_anywhere_is_found(sealed: bytes, tmp_path_factory: pytest.TempPathFactory, at: int) -> None:
    refuses(tmp_path_factory.mktemp("cut", numbered=True), sealed[: at % len(sealed)])


@pytest.mark.parametrize(
    "header",
    [
        {"n": 2**24, "r": 8, "p": 1, "salt": "00" * 16},
        {"n": 2**17, "r": 64, "p": 1, "salt": "00" * 16},
        {"n": 2**12, "r": 8, "p": 999, "salt": "00" * 16},
        {"n": 1000, "r": 8, "p": 1, "salt": "00" * 16},
        {"n": -1, "r": 8, "p": 1, "salt": "00" * 16},
        {"n": 2**12, "r": 8, "p": 1},
        {"n": 2**12, "r": 8, "p": 1, "salt": "no hex"},
        [],
    ],
)
def test_a_header_cannot_ask_for_the_moon(tmp_path: Path, header: object) -> None:
    refuses(tmp_path, backups.MAGIC + json.dumps(header).encode() + b"\n" + b"\0" * 64)


@pytest.mark.parametrize("raw", [b"", b"PK\x03\x04", backups.MAGIC, backups.MAGIC + b"x" * 10_000])
def test_what_is_no_backup(tmp_path: Path, raw: bytes) -> None:
    refuses(tmp_path, raw)


def forged(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> None:
    """A backup under the right passphrase with members of our own making."""
    with path.open("wb") as raw:
        writer = backups._Encrypted(raw, SECRET)
        with tarfile.open(fileobj=writer, mode="w|") as tar:  # type: ignore[call-overload]
            for member, content in members:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        writer.finish()


def linked(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    "member",
    [
        tarfile.TarInfo("../escaped"),
        tarfile.TarInfo("exchange/../../escaped"),
        linked("exchange", "/tmp"),
        linked("exchange", "../../elsewhere"),
        linked("a", "../../escaped", tarfile.LNKTYPE),
        linked("device", "", tarfile.CHRTYPE),
    ],
    ids=["up", "down and up", "link away", "link up", "hard link", "device"],
)
def test_a_path_that_leads_out_is_refused(tmp_path: Path, member: tarfile.TarInfo) -> None:
    forged(tmp_path / "b", (member, b""))
    with refused(Reason.CONFIG_INVALID):
        backups.restore(tmp_path / "b", Home(tmp_path / "restored"), SECRET)
    nothing_came(tmp_path)
    assert not (tmp_path / "escaped").exists()


def test_what_is_no_home_is_neither_backed_up_nor_restored(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with refused(Reason.CONFIG_INVALID):
        backups.backup(Home(tmp_path / "folder"), tmp_path / "b", SECRET)
    forged(tmp_path / "b", (tarfile.TarInfo("letter"), b"dear"))
    with refused(Reason.CONFIG_INVALID):
        backups.restore(tmp_path / "b", Home(tmp_path / "restored"), SECRET)
    nothing_came(tmp_path)


def test_nothing_is_overwritten(home: Home, tmp_path: Path) -> None:
    backups.backup(home, tmp_path / "b", SECRET)
    before = (tmp_path / "b").read_bytes()
    with refused(Reason.ALREADY_EXISTS):
        backups.backup(home, tmp_path / "b", SECRET)
    with refused(Reason.ALREADY_EXISTS):
        backups.restore(tmp_path / "b", home, SECRET)
    assert (tmp_path / "b").read_bytes() == before


def test_places_that_cannot_be_written(home: Home, tmp_path: Path) -> None:
    with refused(Reason.SINK_FAILED):
        backups.backup(home, tmp_path / "missing" / "b", SECRET)
    with refused(Reason.SINK_FAILED):
        backups.backup(home, home.root / "b", SECRET)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home"]


def test_a_damaged_database_ends_the_backup(home: Home, tmp_path: Path) -> None:
    path = home.root / "exchange" / "exchange.db"
    path.write_bytes(b"no database at all" * 1000)
    with refused(Reason.SOURCE_UNAVAILABLE):
        backups.backup(home, tmp_path / "b", SECRET)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["home"]


def test_what_lies_outside_is_named(home: Home, tmp_path: Path) -> None:
    shutil.move(home.root / "gateways" / "health-bureau-1" / "keys", tmp_path / "vault")
    config.change(
        home.gateway("health-bureau-1"),
        GatewaySettings,
        lambda value: value.update(master_key=str(tmp_path / "vault" / "master.key")),
    )
    made = backups.backup(home, tmp_path / "b", SECRET)
    assert made.outside == (str(tmp_path / "vault" / "master.key"),)


def test_the_passphrase_is_private_and_long(tmp_path: Path) -> None:
    folder = tmp_path / "private"
    keyfiles.write_private(folder / "p", SECRET + b"\n")
    assert backups.passphrase(folder / "p") == SECRET
    (folder / "p").chmod(0o640)
    with refused(Reason.CONFIG_UNSAFE):
        backups.passphrase(folder / "p")
    keyfiles.write_private(folder / "short", b"secret")
    with refused(Reason.CONFIG_UNSAFE):
        backups.passphrase(folder / "short")


def test_a_running_exchange_is_backed_up_consistently(home: Home, tmp_path: Path) -> None:
    """Somebody writes all the while: each restored ledger is whole."""
    store = Store(config.load(home.exchange, ExchangeSettings).database)
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            with store.transaction() as tx:
                name = f"parties/metro-lines/principals/p{number}@metro.example"
                person = records.Person(
                    name=name,
                    party="metro-lines",
                    subject=f"p{number}@metro.example",
                    roles=("requester",),
                    created=number,
                    updated=number,
                )
                tx.insert(person)
                ledger.found(tx, entropy=os.urandom, now=number, party="metro-lines", keys=[name])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(3):
            time.sleep(0.1)
            backups.backup(home, tmp_path / f"b{number}", SECRET)
    finally:
        stop.set()
        writer.join()
        store.close()
    sizes = []
    for number in range(3):
        other = Home(tmp_path / f"restored-{number}")
        backups.restore(tmp_path / f"b{number}", other, SECRET)
        told = events(other)
        restored = Store(config.load(other.exchange, ExchangeSettings).database)
        with restored.read() as tx:
            people = [each for each in tx.page(records.Person, limit=100_000) if each.subject.startswith("p")]
        restored.close()
        written = told.count("party.founded") - 6
        assert len([each for each in people if each.subject[1].isdigit()]) == written
        sizes.append(written)
    assert sizes == sorted(sizes)
    assert sizes[-1] > 0


def test_a_database_left_by_a_crash_is_backed_up_with_its_log(home: Home, tmp_path: Path) -> None:
    """What a killed process committed is in the write-ahead log alone."""
    path = home.root / "exchange" / "exchange.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA wal_autocheckpoint=0")
    connection.execute("INSERT INTO facts (name, value) VALUES ('late', x'01')")
    connection.commit()
    killed = tmp_path / "killed"
    shutil.copytree(home.root, killed)
    connection.close()
    assert (killed / "exchange" / "exchange.db-wal").stat().st_size
    backups.backup(Home(killed), tmp_path / "b", SECRET)
    other = Home(tmp_path / "restored")
    backups.restore(tmp_path / "b", other, SECRET)
    found_there = sqlite3.connect(other.root / "exchange" / "exchange.db")
    assert found_there.execute("SELECT value FROM facts WHERE name = 'late'").fetchone() == (b"\x01",)
    found_there.close()


def test_whoever_saw_a_later_checkpoint_refuses_the_rewound_ledger(home: Home, tmp_path: Path) -> None:
    """The whole point of keeping a checkpoint: a restored exchange cannot pass for the one before."""
    from msgspec.structs import replace

    from exchange.client import Exchange

    def serve(at: Home) -> tuple[object, Exchange]:
        server = exchange_server(replace(config.load(at.exchange, ExchangeSettings), listen="127.0.0.1:0"))
        server.start()
        profile = replace(home.profile("auditor"), endpoint=f"localhost:{server.address.rsplit(':', 1)[1]}")
        return server, Exchange(profile)

    backups.backup(home, tmp_path / "b", SECRET)
    server, client = serve(home)
    with client:
        head, told = evidence.watch_ledger(client)
        assert "nothing was seen before" in told
        admin = Exchange(replace(home.profile("admin"), endpoint=client.profile.endpoint))
        for number in range(3):
            admin.register_principal(f"n{number}@cdo.example", ("auditor",))
        admin.close()
        later, told = evidence.watch_ledger(client)
        assert later.tree_size == head.tree_size + 3
        assert f"extends the checkpoint of {head.tree_size} entries" in told
    server.stop()  # type: ignore[attr-defined]

    kept = home.profile("auditor").checkpoint
    assert kept is not None
    remembered = kept.read_bytes()
    backups.restore(tmp_path / "b", Home(tmp_path / "restored"), SECRET)
    server, client = serve(Home(tmp_path / "restored"))
    with client:
        with refused(Reason.LEDGER_INVALID):
            evidence.watch_ledger(client)
        assert kept.read_bytes() == remembered, "the evidence of what was seen stays"
        # Grown past the old size it is still another ledger.
        admin = Exchange(replace(home.profile("admin"), endpoint=client.profile.endpoint))
        for number in range(6):
            admin.register_principal(f"n{number}@cdo.example", ("auditor",))
        admin.close()
        with refused(Reason.LEDGER_INVALID):
            evidence.watch_ledger(client)
        assert (
            merkle.verify_checkpoint(client.checkpoint(), evidence.read_trust(home.trust)).tree_size > later.tree_size
        )
        assert "ledger.restored" in {entry.event for entry in client.entries()}
    server.stop()  # type: ignore[attr-defined]

"""Whoever reads along: everything the product writes, prints, answers or keeps, searched for secrets.

The reader holds every log, every file, both databases, every answer and every error, and the home of
everybody as it lies on disk. He knows each private key, salt, token and passphrase in all its spellings,
and each value of a masked cell, and looks whether any of them lies where it does not belong.
"""

from __future__ import annotations

import base64
import copy
import gc
import os
import pickle
import shutil
import stat
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.flight as fl
import pytest

from connectors.gateway.records import Interval
from connectors.keys import AgreementSecrets, KeyRing, MasterKey, hkdf_extract
from connectors.spooling.order import ReleaseKey
from contracts.envelope import Kind, SigningKey, sign
from contracts.errors import SluicegateError
from contracts.instants import rfc3339
from contracts.receipt import Proof
from exchange import config, identity, keyfiles
from exchange.client import Exchange
from exchange.config import ExchangeSettings, GatewaySettings, Profile
from exchange.connection import Connection, TokenSource
from exchange.founding import found
from exchange.hall import Hall
from exchange.home import Home
from tests import papers
from tests.attacks.conftest import ARCHIVE, EVERYBODY, REGISTRY
from tests.attacks.marks import ALLOWED, CANARY, ISLAND, Marks
from tests.attacks.typed import typed
from tests.connectors.gate import info_of, make_gate
from tests.e2e.city import CONTRACTS, ROOT, City
from tests.e2e.conftest import people
from tests.e2e.steps import Fetching
from tests.exchange.town import Town

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("attacks")]

ROWS = 600


@dataclass
class Read:
    """A city that lived, with everything it said to anybody."""

    city: City
    out: Path
    said: dict[str, str] = field(default_factory=dict)
    spooled: dict[str, bytes] = field(default_factory=dict)
    reasons: set[str] = field(default_factory=set)
    marks: Marks = field(default_factory=Marks)

    def command(self, *words: object, code: int = 0, traced: bool = False) -> str:
        """A command's whole output, kept: on a refusal with its traceback, if `traced`."""
        said = typed(self.city.home.root, *words, code=code, traced=traced)
        self.said[f"command {len(self.said)}: {' '.join(map(str, words))}"] = said.out + said.err
        return said.out

    def refused(self, what: str, attempt: Callable[[], object]) -> None:
        """An attempt that must fail; the error is kept as text, repr and traceback, as a log would hold it."""
        with pytest.raises((SluicegateError, fl.FlightError)) as caught:
            attempt()
        error = caught.value
        self.reasons.add(str(getattr(error, "reason", type(error).__name__)))
        told = getattr(error, "metadata", ""), getattr(error, "violations", ""), getattr(error, "extra_info", "")
        self.said[what] = f"{error} {error!r} {told} {''.join(traceback.format_exception(error))}"


def marked(rows: int = ROWS) -> pl.DataFrame:
    """The register, with a word in every masked cell that must turn up nowhere."""
    return people(rows).with_columns(pl.format(f"{{}}-{CANARY}-{{}}", c, c).alias(c) for c in ("person_id", "serial"))


def bad_sources(folder: Path) -> Iterator[tuple[str, Path]]:
    """Data that cannot be shared, each with the words in it that an error could quote."""
    lonely = pl.when(pl.int_range(pl.len()) < 3).then(pl.lit(ISLAND)).otherwise("district")
    tables = {
        "bounds that fail": marked().with_columns(district=lonely),
        "a column of another type": marked().with_columns(score=pl.format(f"{CANARY}{{}}", "score")),
        "an entity that is null": marked().with_columns(
            person_id=pl.when(pl.int_range(pl.len()) != 77).then("person_id")
        ),
    }
    for number, (what, table) in enumerate(tables.items()):
        table.write_parquet(path := folder / f"bad-{number}.parquet")
        yield what, path
    text = marked().write_csv().encode()
    at, row = text.rindex(CANARY.encode()), text.index(b"\n", len(text) // 2)
    for what, raw in {
        "a number that is none": text[:row] + text[row:].replace(b",north,", b",north," + CANARY.encode(), 1),
        "a cell that is not UTF-8": text[:at] + b"\xff" + text[at:],
        "a row with too many cells": text + f"{CANARY},{CANARY},a,1,2020-01-01,{CANARY},{CANARY}\n".encode(),
    }.items():
        (path := folder / f"{len(what)}.csv").write_bytes(raw)
        yield what, path
    (path := folder / "none.parquet").write_bytes(CANARY.encode() * 99)
    yield "no Parquet at all", path


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Read:
    """A city of its own that publishes, asks, approves, pulls, is refused in every way, suspends, exports and
    is backed up, all of it on the record; then it ends."""
    folder = tmp_path_factory.mktemp("secrets")
    out, sources = folder / "out", folder / "sources"
    out.mkdir()
    sources.mkdir(mode=0o700)
    settings: Mapping[str, object] = {"log_level": "debug"}
    with City.founded(
        folder / "home",
        EVERYBODY,
        exchange={"heartbeat": 1, "refusals_per_minute": 10_000, **settings},
        gateways={REGISTRY: {"part_bytes": 64 << 10, **settings}, ARCHIVE: settings},
    ) as city:
        read = Read(city, out)
        _a_good_day(read, sources)
        _every_refusal(read, sources)
        _the_evening(read)
        read.marks = Marks.of(city.home.root)
        spool = city.home.gateway(REGISTRY).parent / "spool"
        read.spooled = {path.name: path.read_bytes() for path in spool.rglob("*") if path.is_file()}
    for name in city.town.logs:
        read.said[f"log of {name}"] = city.log(name)
    return read


def _a_good_day(read: Read, sources: Path) -> None:
    city, contract = read.city, CONTRACTS / "people.odcs.yaml"
    marked().write_parquet(source := sources / "people.parquet")
    read.command("source", "bind", "people", source, "--gateway", REGISTRY)
    read.command("contract", "test", contract, "--data", source)
    read.command("publish", contract, "--gateway", REGISTRY, "--as", "keeper")
    for who in ("analyst", "planner"):
        ask = ("request", "registry-office/people", "--purpose", "planning", "--reason", "to try it")
        asked = read.command(*ask, "--as", who).split()[0]
        read.command("approve", asked, "--yes", "--output", "json", "--as", "keeper")
        agreement = city.exchange(who).ready(city.exchange(who).request_status(asked).agreement).name
        read.command("agreements", agreement, "--output", "json", "--as", who)
        read.said[f"agreement of {who}"] = agreement
    read.command("pull", read.said["agreement of analyst"], "--out", read.out / "people.parquet", "--as", "analyst")
    transfer = next(city.exchange("analyst").transfers(read.said["agreement of analyst"], 1)).name
    for who in ("analyst", "keeper", "auditor"):
        read.command("receipts", transfer, "--output", "json", "--as", who)
        read.command("ledger", "--output", "json", "--limit", 1000, "--as", who)
    read.command("evidence", "export", transfer, "--out", read.out / "evidence.json", "--as", "analyst")
    read.command(
        "verify", read.out / "people.parquet.receipt.json", "--data", read.out / "people.parquet", "--as", "analyst"
    )
    for words in (("key", "list"), ("profile", "show"), ("profile", "list"), ("token",), ("party", "list")):
        read.command(*words, "--output", "json", "--as", "analyst")
    read.command("source", "list", "--output", "json")
    read.command("config", "check", "--output", "json")
    read.command("key", "show", city.home.profile("analyst").signing_key)


def _every_refusal(read: Read, sources: Path) -> None:
    city, analyst = read.city, read.city.exchange("analyst")
    agreement, planners = read.said["agreement of analyst"], read.said["agreement of planner"]

    # Bad data and bounds, at the planner's expense: nothing was released to it yet.
    for what, source in bad_sources(sources):
        stated = {"columns": {"score": "int64"}} if source.suffix == ".csv" else {}
        city.source("people", source, gateway=REGISTRY, **stated)
        read.refused(what, lambda: city.exchange("planner").pull(planners, to=read.out / "never.parquet"))
        refused = next(city.exchange("planner").transfers(planners, 1)).name
        city.settle("planner", refused, "REFUSED")
        read.command("receipts", refused, "--output", "json", "--as", "keeper")
    read.command("pull", planners, "--out", read.out / "never.csv", "--as", "planner", code=2, traced=True)
    read.command("contract", "test", CONTRACTS / "people.odcs.yaml", "--data", source, code=2, traced=True)
    city.source("people", sources / "people.parquet", gateway=REGISTRY)

    # Wrong tickets: garbage, another's, and one of a key that is not the holder's.
    granted = analyst.create_transfer(agreement)
    assert granted.grant is not None
    stranger = SigningKey.from_seed(os.urandom(32))
    forged = sign(Kind.PROOF, Proof(grant=granted.grant, created=rfc3339(int(time.time()))), stranger).to_bytes()
    for what, ticket in {"garbage": b"\xff" * 99, "another key's ticket": forged}.items():
        with Fetching(granted, ticket) as fetching:
            read.refused(what, fetching.announce)
            read.refused(f"{what}, receipt", fetching.receipt)
    with Fetching(granted, analyst.sign_ticket(granted)) as fetching:
        fetching.announce()
        fetching.read_all()
        read.refused("a part twice", partial(fetching.read, 0))
        fetching.receipt()

    # Wrong wishes, wrong roles, wrong tokens.
    read.refused(
        "wrong purpose", partial(analyst.request, "registry-office/people", purpose="marketing", reason="to try it")
    )
    read.refused("no approver", partial(analyst.approve, city.exchange("keeper").requests(limit=1).__next__().name))
    read.refused("no admin of theirs", partial(analyst.register_gateway, "x", address="x", ca_certificate="x"))
    for what, subject, end in (("expired", "analyst@harbour.example", -3600), ("nobody", "nobody@harbour.example", 0)):
        with Exchange(_with_token(read, what, subject, end)) as wrong:
            read.refused(f"a token of {what}", wrong.whoami)
    read.command(
        "request",
        "registry-office/people",
        "--purpose",
        "marketing",
        "--reason",
        "to try it",
        "--as",
        "analyst",
        code=5,
    )
    read.command("pull", "agreements/a-none", "--out", read.out / "n.parquet", "--as", "analyst", code=3, traced=True)


def _with_token(read: Read, name: str, subject: str, end: int) -> Profile:
    """A profile whose token lies in a private file."""
    home = read.city.home
    profile = home.profile("analyst")
    assert profile.token.issuer_key is not None
    token = identity.mint(
        keyfiles.read_key(profile.token.issuer_key),
        issuer=profile.token.issuer,
        subject=subject,
        audience=profile.token.audience,
        lifetime=900,
        now=int(time.time()) + end,
        entropy=os.urandom,
    )
    file = home.root / "profiles" / "keys" / f"{name}.jwt"
    keyfiles.write_private(file, token.encode())
    changed = config.TokenSettings(file=file)
    return Profile(
        party=profile.party,
        subject=subject,
        endpoint=profile.endpoint,
        ca=profile.ca,
        trust=profile.trust,
        token=changed,
    )


def _the_evening(read: Read) -> None:
    city, agreement = read.city, read.said["agreement of analyst"]
    until = rfc3339(int(time.time()) + 3600)
    read.command("suspend", agreement, "--reason", "a question", "--until", until, "--as", "keeper")
    read.command("pull", agreement, "--out", read.out / "n.parquet", "--as", "analyst", code=5, traced=True)
    read.command("resume", agreement, "--reason", "answered", "--as", "keeper")
    keyfiles.write_private(city.home.root / "secret" / "passphrase", f"{os.urandom(12).hex()}\n".encode())
    secret = city.home.root / "secret" / "passphrase"
    read.command("backup", read.out / "home.backup", "--passphrase-file", secret)


# --- searching


def test_no_secret_in_what_anybody_was_told(read: Read) -> None:
    """No secret in a log, an error, a traceback or an answer; nor a masked cell's value."""
    wanted = {
        "BOUNDS_NOT_MET",
        "DATA_INVALID",
        "PLAN_REFUSED",
        "GRANT_INVALID",
        "GRANT_USED",
        "REQUEST_OUTSIDE_CONTRACT",
    }
    assert wanted | {"TOKEN_EXPIRED", "ROLE_MISSING"} <= read.reasons
    assert len(read.said) > 50
    assert [leak for where, text in read.said.items() for leak in read.marks.leaks(where, text.encode())] == []


def test_no_secret_lies_outside_its_own_file(read: Read) -> None:
    """Databases with their logs, ledger, spools, states, profiles: each key lies in its own file, a salt in
    the gateway's state, a cell nowhere."""
    home = read.city.home.root
    files = [path for path in home.rglob("*") if path.is_file()]
    assert {"exchange.db", "state.db"} <= {path.name for path in files}
    leaks = [leak for path in files for leak in read.marks.leaks(str(path.relative_to(home)), path.read_bytes())]
    assert leaks == []
    # And there they are: a search that finds nothing anywhere would prove nothing.
    for kind, own in read.marks.marks:
        if not kind.startswith("cell value"):
            found = [path for path in home.glob(own.partition(" ")[0]) if path.is_file()]
            assert any(mark in path.read_bytes() for path in found for mark in read.marks.marks[kind, own]), (kind, own)
    assert {kind.partition(" zqx")[0] for kind, _ in read.marks.marks} == {*ALLOWED, "cell value"}


def test_no_secret_in_a_spool_and_no_spool_is_left(read: Read) -> None:
    """What a gateway serves from is masked already, and lies there only while it serves it."""
    assert read.spooled
    assert [leak for name, raw in read.spooled.items() for leak in read.marks.leaks(name, raw)] == []
    assert read.city.releases(REGISTRY) == []
    assert read.city.releases(ARCHIVE) == []


def test_no_secret_in_what_is_carried_away(read: Read) -> None:
    """Released files, receipts and evidence hold no secret; a backup does, under its passphrase alone."""
    names = {path.name for path in read.out.iterdir()}
    assert names == {"people.parquet", "people.parquet.receipt.json", "evidence.json", "home.backup"}
    for path in read.out.iterdir():
        assert read.marks.leaks(path.name, path.read_bytes()) == []
    # A Parquet file may compress what it says.
    released = pl.read_parquet(read.out / "people.parquet")
    assert released.height == ROWS
    assert read.marks.leaks("the rows", released.write_csv().encode()) == []


# --- what holds a secret


def _holders(home: Home) -> Iterator[tuple[Any, bool]]:
    """Every public value that holds a secret, or names one's file; and whether it may be pickled."""
    master = MasterKey.load(home.gateway(REGISTRY).parent / "keys" / "master.key")
    ring, salt = KeyRing(master, lambda _: b"s" * 32), b"s" * 32
    secrets = AgreementSecrets(hkdf_extract(salt, b"m" * 32), "sha256:a", "rel-a")
    key = keyfiles.read_key(home.party("registry-office") / "root.jwk")
    profile, gateway = home.profile("analyst"), config.load(home.gateway(REGISTRY), GatewaySettings)
    source = TokenSource(profile.token, profile.subject)
    source()
    exchange = config.load(home.exchange, ExchangeSettings)
    hall = Hall(*([None] * 4), *([int] * 2), grant_key=key, checkpoint_key=key)  # type: ignore[arg-type]
    connection = Connection.of(profile)
    yield from ((one, False) for one in (key, master, ring, secrets, ReleaseKey(b"o" * 32, "rel-a"), source))
    yield from ((one, False) for one in (hall, connection, Exchange(profile)))
    yield from ((one, True) for one in (profile, gateway, exchange))


def test_what_holds_a_secret_says_nothing_of_it(read: Read) -> None:
    """No repr, format, error or traceback of a holder shows what it holds, and none is serialised."""
    home, derived = read.city.home, Marks()
    derived.add("derived", "nowhere", hkdf_extract(b"s" * 32, b"m" * 32))
    derived.add("order", "nowhere", hkdf_extract(b"o" * 32, b"rel-a"))
    for holder, plain in _holders(home):
        shown = f"{holder} {holder!r} {holder!s} {format(holder)} {[holder]} { ({'a': holder}) }"
        try:
            raise ValueError(holder)
        except ValueError as error:
            shown += "".join(traceback.format_exception(error))
        raw = shown.encode()
        if plain:
            raw += pickle.dumps(holder)
        else:
            for leak in (pickle.dumps, copy.deepcopy):
                with pytest.raises(TypeError):
                    leak(holder)
        token = getattr(holder, "_token", b"")
        if isinstance(token, str):
            assert token.count(".") == 2
            assert token not in shown
        assert read.marks.leaks(repr(holder), raw) + derived.leaks(repr(holder), raw) == []


OURS = ("contracts", "connectors", "exchange")
HOLD = {"Gateway", "GatewayState", "KeyRing", "MasterKey", "SigningKey", "Release", "OpenTransfer", "Hall", "Plan"}


def alive() -> Iterator[object]:
    """Every object of the product's classes in this process, whether the collector tracks it or something holds it."""
    seen: set[int] = set()
    waiting: list[object] = gc.get_objects()
    while waiting:
        found = waiting.pop()
        if isinstance(found, type) or id(found) in seen:
            continue
        seen.add(id(found))
        if type(found).__module__.partition(".")[0] in OURS:
            yield found
            waiting.extend(gc.get_referents(found))


def test_no_object_alive_says_what_it_holds(tmp_path: Path) -> None:
    """A gateway and an exchange that live in this process, in the middle of their work, with everything they are
    made of: no `repr` and no `str` of any object shows a key, a salt or a cell."""
    gate, town = make_gate(tmp_path, part_bytes=16 << 10), Town(tmp_path / "town")
    gate.start()
    try:
        info = info_of(gate.client(), gate.ticket())
        reader = gate.client().do_get(info.endpoints[0].ticket)
        with pytest.raises(fl.FlightError):
            info_of(gate.client(), gate.ticket(expires=rfc3339(gate.clock())))
        town.announce("gateway", town.pull("analyst", town.agreement()).name)
        marks = Marks()
        marks.add("master key", "nowhere", bytes.fromhex((tmp_path / "keys" / "master.key").read_text()))
        marks.add("salt", "nowhere", gate.state.salt(gate.papers.agreement.digest))
        for name, key in (("gateway", papers.key(papers.GATEWAY)), ("grant", town.hall.grant_key)):
            private = key.unsafe_private_jwk()["d"]
            marks.add(f"{name} key", "nowhere", base64.urlsafe_b64decode(private + "="))
        marks.add("cell", "nowhere", b"CID0", b"NAME0")
        leaky = Interval(
            "metro", "visits", gate.state.salt(gate.papers.agreement.digest).hex(), "p", False, "r", "CID000042", 0
        )
        shown, leaks = set(), []
        for found in alive():
            kind = type(found).__name__
            shown.add(kind)
            leaks += [(found is leaky, leak) for leak in marks.leaks(kind, f"{found!r} {found}".encode())]
        assert HOLD - shown == set()
        assert [leak for mine, leak in leaks if not mine] == []
        assert {leak.partition(" of ")[0] for _, leak in leaks} == {"salt", "cell"}, "a leak would be seen"
        reader.cancel()
    finally:
        gate.stop()


# --- files


def test_keys_are_private_from_the_beginning(read: Read) -> None:
    """Files with keys are 0600 in folders of 0700, and so is what holds salts and carries evidence away."""
    home, seen = read.city.home.root, set()
    for (kind, own), _ in read.marks.marks.items():
        for path in home.glob(own.partition(" ")[0]):
            seen.add(kind)
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700, path.parent
    assert seen == set(ALLOWED)
    assert stat.S_IMODE((home / "exchange" / "exchange.db").stat().st_mode) == 0o600
    for name in ("people.parquet.receipt.json", "evidence.json", "home.backup"):
        assert stat.S_IMODE((read.out / name).stat().st_mode) == 0o600


EXCHANGE, GATEWAY = "exchange/exchange.toml", f"gateways/{REGISTRY}/gateway.toml"
LOOSE = {
    "exchange/keys/grant.jwk": ("exchange.app", "exchange", EXCHANGE),
    "exchange/keys/checkpoint.jwk": ("exchange.app", "exchange", EXCHANGE),
    "exchange/tls/key.pem": ("exchange.app", "exchange", EXCHANGE),
    f"gateways/{REGISTRY}/keys/signing.jwk": ("exchange.app", "gateway", GATEWAY),
    f"gateways/{REGISTRY}/keys/master.key": ("exchange.app", "gateway", GATEWAY),
    f"gateways/{REGISTRY}/tls/key.pem": ("exchange.app", "gateway", GATEWAY),
    f"gateways/{REGISTRY}/state.db": ("exchange.app", "gateway", GATEWAY),
    "profiles/keys/analyst.signing.jwk": ("exchange.cli.main", "key", "rotate", "analyst", "--key", "signing"),
    "profiles/keys/analyst.holder.jwk": ("exchange.cli.main", "key", "rotate", "analyst", "--key", "holder"),
    "parties/harbour-analytics/issuer.jwk": ("exchange.cli.main", "token", "--as", "analyst"),
    "parties/harbour-analytics/root.jwk": ("exchange.cli.main", "key", "revoke", "x", "--reason", "x"),
}
ROOTED = ("--root", "parties/harbour-analytics/root.jwk", "--as", "analyst")


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """A fresh copy of a founded home at each call."""
    first = Home(tmp_path_factory.mktemp("loose") / "home")
    found(first, EVERYBODY, now=int(time.time()) - 60, entropy=os.urandom)
    state = first.gateway(REGISTRY).parent / "state.db"
    keyfiles.write_private(state, b"")
    copies = iter(range(100))
    return lambda: Path(shutil.copytree(first.root, first.root.with_name(f"home-{next(copies)}")))


@pytest.mark.parametrize("file", LOOSE)
def test_a_secret_that_others_can_read_is_refused_at_the_start(homes: Callable[[], Path], file: str) -> None:
    """Loose permissions are refused by the process that would use the file: of the file, and of its folder."""
    module, *words = LOOSE[file]
    rooted = ROOTED if words[0] == "key" and words[-1] != "holder" else ()
    children = []
    for path, mode in (("", 0o640), ("..", 0o750)):
        home = homes()
        ((home / file) / path).resolve().chmod(mode)
        children.append(
            subprocess.Popen(
                [sys.executable, "-m", module, *words, *rooted],
                cwd=home,
                env={**os.environ, "SLUICEGATE_HOME": str(home), "PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        for child in children:
            out, err = child.communicate(timeout=20)
            assert (child.returncode, out) == (2, ""), err
            assert "run chmod" in err
            assert "Traceback" not in err
    finally:
        for child in children:
            child.kill()
            child.communicate()

"""Founding: whole or not at all, once, and so that everything in it can be trusted afterwards."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from contracts.envelope import Envelope, Kind, verify
from contracts.errors import Reason, SluicegateError
from contracts.trust import KeyStatement, PartyKind, Use, load_trust, read
from exchange import checking, config, keyfiles, rechecking, records
from exchange.config import DatasetSettings, ExchangeSettings, GatewaySettings
from exchange.founding import Ports, bind, found
from exchange.home import EXAMPLE_CITY, Founder, Home
from exchange.store import Store
from tests.halls import refused

NOW = int(time.time())
OFFICE = Founder("office", PartyKind.COORDINATION, {"admin@office.example": ("admin",)})


def founded(folder: Path, *founders: Founder, ports: Ports | None = None) -> Home:
    home = Home(folder / "home")
    found(home, founders or (OFFICE,), now=NOW, entropy=os.urandom, ports=ports or Ports())
    return home


def department(name: str, people: dict[str, tuple[str, ...]], gateway: str | None = None) -> Founder:
    return Founder(name, PartyKind.DEPARTMENT, people, gateway=gateway)


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The example city, to look at."""
    return founded(tmp_path_factory.mktemp("city"), *EXAMPLE_CITY)


def test_nothing_in_it_is_open_to_others(city: Home) -> None:
    assert stat.S_IMODE(city.root.stat().st_mode) == 0o700
    for path in city.root.rglob("*"):
        if path.is_file() and path.suffix in (".jwk", ".key", ".db"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        if path.name == "keys":
            assert stat.S_IMODE(path.stat().st_mode) == 0o700, path


def test_a_fresh_home_has_no_errors(city: Home) -> None:
    assert {finding.level for finding in checking.check(city)} == {"weak"}


def test_every_party_person_key_and_gateway_is_registered(city: Home) -> None:
    store = Store(config.load(city.exchange, ExchangeSettings).database)
    with store.read() as tx:
        assert {party.party for party in tx.page(records.Party)} == {item.party for item in EXAMPLE_CITY}
        people = {(person.party, person.subject): person.roles for person in tx.page(records.Person)}
        for item in EXAMPLE_CITY:
            for subject, roles in item.people.items():
                assert people.pop((item.party, subject)) == roles
        assert people == {("health-bureau", "health-bureau-1"): ("gateway",)}
        keys = tx.page(records.Key)
        assert len({key.kid for key in keys}) == len(keys) == 5
        assert rechecking.recheck(tx) == len(EXAMPLE_CITY)
    store.close()


def test_each_key_is_certified_by_its_own_root(city: Home) -> None:
    trust = load_trust(city.trust.read_bytes())
    store = Store(config.load(city.exchange, ExchangeSettings).database)
    with store.read() as tx:
        for key in tx.page(records.Key):
            envelope = Envelope.from_bytes(key.statement)
            verify(Kind.KEY, envelope, [trust.parties[key.party].root])
            statement = read(KeyStatement, envelope)
            assert (statement.key.kid, statement.subject, statement.use.value) == (key.kid, key.subject, key.use)
    store.close()


def test_profiles_find_their_files(city: Home) -> None:
    for name in city.profiles():
        profile = city.profile(name)
        assert profile.ca is not None
        assert profile.ca.is_file()
        assert profile.trust == city.trust
        for path in (profile.signing_key, profile.holder_key, profile.token.issuer_key):
            if path is not None:
                keyfiles.read_key(path)
    assert city.profile("planner").holder_key is not None
    assert city.profile("steward").holder_key is None
    assert city.profile("auditor").signing_key is None, "who signs nothing has no key to lose"


def test_the_gateway_knows_its_own_people_and_nobody_else(city: Home) -> None:
    settings = config.load(city.gateway("health-bureau-1"), GatewaySettings)
    known = {
        read(KeyStatement, Envelope.from_bytes(path.read_bytes())).subject for path in settings.statements.iterdir()
    }
    assert known == {"steward@health.example", "dpo@health.example"}


def test_a_home_is_never_founded_twice(tmp_path: Path) -> None:
    home = founded(tmp_path)
    before = {path: path.read_bytes() for path in home.root.rglob("*") if path.is_file()}
    with refused(Reason.ALREADY_EXISTS):
        founded(tmp_path)
    assert {path: path.read_bytes() for path in home.root.rglob("*") if path.is_file()} == before


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter").write_text("mine")
    with refused(Reason.ALREADY_EXISTS):
        founded(tmp_path)
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["letter"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("mine")
    with refused(Reason.CONFIG_INVALID):
        founded(tmp_path)


def test_an_empty_folder_is_used_and_closed(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o755)
    home = founded(tmp_path)
    assert stat.S_IMODE(home.root.stat().st_mode) == 0o700
    assert not [path.name for path in home.root.iterdir() if path.name.startswith(".")]


def test_a_founding_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """Randomness runs dry half way."""
    left = [7]

    def entropy(size: int) -> bytes:
        left[0] -= 1
        if not left[0]:
            raise OSError(5, "no more randomness")
        return os.urandom(size)

    home = Home(tmp_path / "home")
    with refused(Reason.CONFIG_INVALID):
        found(home, EXAMPLE_CITY, now=NOW, entropy=entropy)
    assert not list(home.root.iterdir())
    found(home, EXAMPLE_CITY[:1], now=NOW, entropy=os.urandom)


def test_a_person_of_two_uses_has_two_keys(tmp_path: Path) -> None:
    """Approving for the department and requesting from others: a key is certified for one of them."""
    both = department("water", {"wei@water.example": ("steward", "requester", "admin")}, "water-1")
    home = founded(tmp_path, OFFICE, both)
    profile = home.profile("wei")
    assert profile.signing_key is not None
    assert profile.requester_key is not None
    assert profile.holder_key is not None
    store = Store(config.load(home.exchange, ExchangeSettings).database)
    with store.read() as tx:
        uses = {key.kid: key.use for key in tx.page(records.Key, where={"party": "water"})}
    store.close()
    assert uses[keyfiles.read_key(profile.signing_key).kid] == Use.APPROVER
    assert uses[keyfiles.read_key(profile.requester_key).kid] == Use.REQUESTER
    assert keyfiles.read_key(profile.holder_key).kid not in uses


def test_profiles_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    one = department("water", {"li@water.example": ("steward",), "li@north.water.example": ("dpo",)})
    other = department("roads", {"li@roads.example": ("steward",)})
    home = founded(tmp_path, OFFICE, one, other)
    names = {home.profile(name).subject: name for name in home.profiles()}
    assert names["li@water.example"] == "li"
    assert names["li@north.water.example"] == "li-water"
    assert names["li@roads.example"] == "li-roads"


def test_gateways_get_ports_of_their_own(tmp_path: Path) -> None:
    home = founded(
        tmp_path,
        OFFICE,
        department("water", {}, "water-1"),
        department("roads", {}),
        department("parks", {}, "parks-1"),
        ports=Ports(exchange=8000, gateway=8100),
    )
    listens = {path.parent.name: config.load(path, GatewaySettings).listen for path in home.gateways()}
    assert listens == {"water-1": "127.0.0.1:8100", "parks-1": "127.0.0.1:8101"}
    assert {config.load(path, GatewaySettings).exchange for path in home.gateways()} == {"localhost:8000"}


@pytest.mark.parametrize(
    ("founders", "path"),
    [
        ([Founder("../x", PartyKind.COMPANY)], "../x"),
        ([Founder("A", PartyKind.COMPANY)], "A"),
        ([OFFICE, OFFICE], "office"),
        ([department("a", {}, "g"), department("b", {}, "g")], "gateway g"),
        ([department("a", {}, "../g")], "a.gateway"),
        ([Founder("a", PartyKind.COMPANY, {}, gateway="g")], "a.gateway"),
        ([Founder("a", PartyKind.COMPANY, {"x@a.example": ("steward",)})], "a.x@a.example"),
        ([Founder("a", PartyKind.COMPANY, {"x@a.example": ("king",)})], "a.x@a.example"),
        ([Founder("a", PartyKind.COMPANY, {"../x": ("requester",)})], "a.../x"),
    ],
)
def test_founders_that_cannot_be(tmp_path: Path, founders: list[Founder], path: str) -> None:
    with pytest.raises(SluicegateError) as caught:
        founded(tmp_path, *founders)
    assert caught.value.reason is Reason.INVALID_ARGUMENT
    assert path in {violation.path for violation in caught.value.violations}
    assert not (tmp_path / "home").exists()


def test_a_source_is_bound_with_all_its_settings(tmp_path: Path) -> None:
    home = founded(tmp_path, OFFICE, department("water", {}, "water-1"))
    file = home.gateway("water-1")
    source = DatasetSettings(
        path=tmp_path / "m.csv", format="csv", separator=";", columns={"id": "string"}, null_values=("NA",)
    )
    bind(file, "meters", source)
    bind(file, "pumps", DatasetSettings(path=tmp_path / "p", format="parquet"))
    settings = config.load(file, GatewaySettings)
    assert settings.datasets["meters"] == source
    assert set(settings.datasets) == {"meters", "pumps"}
    assert settings.gateway == "water-1"
    with refused(Reason.INVALID_ARGUMENT):
        bind(file, "../meters", source)

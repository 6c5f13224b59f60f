"""`config check` finds what will keep something from working, and names every weakening."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import msgspec
import pytest

from connectors import tls
from contracts.envelope import SigningKey
from contracts.errors import SluicegateError
from contracts.trust import dump_trust, load_trust
from exchange import checking, config
from exchange.config import (
    DatasetSettings,
    ExchangeSettings,
    GatewaySettings,
    PolicySettings,
    Profile,
    TokenSettings,
)
from exchange.founding import found
from exchange.home import EXAMPLE_CITY, Home

GATE = "health-bureau-1"


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = Home(tmp_path_factory.mktemp("founded") / "home")
    found(home, EXAMPLE_CITY, now=int(time.time()) - 60, entropy=os.urandom)
    return home.root


@pytest.fixture
def home(founded: Path, tmp_path: Path) -> Home:
    shutil.copytree(founded, tmp_path / "home")
    return Home(tmp_path / "home")


def told(home: Home, *levels: str) -> list[tuple[str, str]]:
    """Where and what, of those levels."""
    return [(each.where, each.message) for each in checking.check(home) if each.level in levels]


def the_error(home: Home) -> tuple[str, str]:
    found_now = told(home, "error")
    assert len(found_now) == 1, found_now
    return found_now[0]


def test_the_embedded_default_is_weak_and_nothing_worse(home: Home) -> None:
    found_now = checking.check(home)
    assert {each.level for each in found_now} == {"weak"}
    assert all("built-in issuer" in each.message for each in found_now)
    assert len(found_now) == 7  # six people and a gateway


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("exchange/keys/grant.jwk", "exchange"),
        ("exchange/keys/checkpoint.jwk", "exchange"),
        ("exchange/tls/key.pem", "exchange"),
        (f"gateways/{GATE}/keys/signing.jwk", GATE),
        (f"gateways/{GATE}/keys/master.key", GATE),
        (f"gateways/{GATE}/tls/key.pem", GATE),
        ("profiles/keys/planner.signing.jwk", "profile planner"),
        ("profiles/keys/planner.holder.jwk", "profile planner"),
    ],
)
def test_a_secret_that_lies_open(home: Home, path: str, where: str) -> None:
    (home.root / path).chmod(0o644)
    found_where, message = the_error(home)
    assert found_where == where
    assert "chmod 600" in message


def test_every_user_of_an_open_issuer_key_is_named(home: Home) -> None:
    (home.party("health-bureau") / "issuer.jwk").chmod(0o644)
    assert {where for where, _ in told(home, "error")} == {GATE, "profile dpo", "profile steward"}


@pytest.mark.parametrize("folder", [".", "exchange/keys", f"gateways/{GATE}/keys", "profiles/keys"])
def test_a_folder_of_secrets_that_others_may_enter(home: Home, folder: str) -> None:
    (home.root / folder).chmod(0o755)
    assert all("700" in message for _, message in told(home, "error"))
    assert told(home, "error")


@pytest.mark.parametrize(
    "path", ["exchange/keys/grant.jwk", f"gateways/{GATE}/keys/master.key", "exchange/tls/cert.pem", "trust.yaml"]
)
def test_a_file_that_is_missing(home: Home, path: str) -> None:
    (home.root / path).unlink()
    assert told(home, "error")


def test_a_setting_that_does_not_exist(home: Home) -> None:
    with home.exchange.open("a") as file:
        file.write("wokers = 3\n")
    where, message = the_error(home)
    assert where == "exchange"
    assert "wokers" in message
    assert "did you mean 'workers'?" in message


def test_keys_of_another_certificate(home: Home) -> None:
    certificate, _ = tls.self_signed(now=int(time.time()))
    (home.root / "exchange" / "tls" / "cert.pem").write_bytes(certificate)
    assert the_error(home) == ("exchange", "the TLS key is not the key of the certificate")


@pytest.mark.parametrize(("days", "level"), [(-1, "error"), (3, "soon"), (60, "weak")])
def test_a_certificate_that_ends(home: Home, days: int, level: str) -> None:
    certificate, key = tls.self_signed(now=int(time.time()) + (days - 100) * 86_400, days=100)
    folder = home.root / "exchange" / "tls"
    (folder / "cert.pem").write_bytes(certificate)
    (folder / "key.pem").write_bytes(key)
    said = [each for each in checking.check(home) if "cert.pem end" in each.message]
    assert [each.level for each in said] == ([] if level == "weak" else [level])


def test_a_trust_file_of_other_keys_or_another_bundle(home: Home) -> None:
    from msgspec.structs import replace

    trust = load_trust(home.trust.read_bytes())
    home.trust.write_bytes(dump_trust(replace(trust, grant_key=SigningKey.from_seed(b"g" * 32).public)))
    assert the_error(home)[1] == "pins other keys than those of the exchange of this home"
    home.trust.write_bytes(dump_trust(replace(trust, policies=(f"sha256:{'0' * 64}",))))
    assert "policy bundle" in the_error(home)[1]
    home.trust.write_bytes(dump_trust(replace(trust, standards=(f"sha256:{'0' * 64}",))))
    assert "standard" in the_error(home)[1]
    home.trust.write_text("parties: [")
    assert {"trust.yaml"} <= {where for where, _ in told(home, "error")}


# Every setting there is: None, or a value that weakens protection and the words that name it. A setting
# that is not in here fails the test below: decide whether it can weaken anything, and have it named.
OPA = {"engine": "opa", "url": "http://127.0.0.1:8181", "unsafe_plaintext": True}
DIGEST = f"sha256:{'0' * 64}"
SETTINGS: dict[type[config._Settings], dict[str, tuple[object, str] | None]] = {
    ExchangeSettings: {
        "listen": ("0.0.0.0:7450", "listens beyond this machine, on 0.0.0.0:7450"),
        "database": ("postgresql://me@db.example/x?sslmode=require", "without sslmode=verify-full"),
        "earlier_standards": ([DIGEST], f"under earlier standards: {DIGEST}"),
        "earlier_policies": ([DIGEST], f"under earlier policies: {DIGEST}"),
        "policy": (OPA, "policy server without TLS"),
        "heartbeat": (60, "hear every 60 s only"),
        "refusals_per_minute": (10_000, "10000 times a minute"),
        "unsafe_plaintext": (True, "calls and tokens are not encrypted"),
        **dict.fromkeys(("audience", "tls_certificate", "tls_key", "grant_key", "checkpoint_key", "standard")),
        # How much work it takes on, and how long it takes: too much serves nobody, and discloses nothing.
        **dict.fromkeys(("workers", "watchers", "max_deadline", "calls_per_minute", "shutdown_grace", "log_level")),
    },
    GatewaySettings: {
        "listen": ("0.0.0.0:7460", "listens beyond this machine, on 0.0.0.0:7460"),
        "policy": (OPA, "policy server without TLS"),
        "max_silence": (31, "up to 31 s without word"),
        "stall_after": (3600, "keeps its slot for 3600 s"),
        "slots_per_party": (16, "one consumer may take all 16 slots"),
        "slots": (4, "one consumer may take all 4 slots"),
        "datasets": ({"visits": {"path": "/etc/passwd", "format": "csv", "root": "/"}}, "its root is /"),
        "unsafe_plaintext": (True, "calls and tokens are not encrypted"),
        "token": None,  # as the profile's; the founded one is weak already
        **dict.fromkeys(("gateway", "party", "subject", "exchange", "exchange_ca", "trust", "statements", "standard")),
        "client_ca": None,  # without one, `listen` is named with what strangers can do
        **dict.fromkeys(
            ("tls_certificate", "tls_key", "signing_key", "master_key", "master_key_command", "state", "spool")
        ),
        **dict.fromkeys(("spool_limit", "memory_limit", "part_bytes", "content_hash", "log_level")),
    },
    DatasetSettings: dict.fromkeys(
        ("path", "format", "columns", "separator", "null_values", "root", "register")
    ),  # by datasets
    PolicySettings: dict.fromkeys(("engine", "url", "ca", "token_file", "timeout", "unsafe_plaintext")),  # by policy
    TokenSettings: dict.fromkeys(("file", "command", "issuer", "issuer_key", "audience")),  # every founded one is named
    Profile: {
        "unsafe_plaintext": (True, "calls and tokens are not encrypted"),
        "checkpoint": (None, "remembers no checkpoint"),
        "trust": None,  # without one it is an error
        **dict.fromkeys(("party", "subject", "endpoint", "ca", "token", "timeout")),
        **dict.fromkeys(("signing_key", "requester_key", "holder_key", "gateway_certificate", "gateway_key")),
    },
}
WEAKER = [
    (kind, name, *found) for kind, settings in SETTINGS.items() for name, found in settings.items() if found is not None
]


def test_every_setting_was_judged() -> None:
    every = {
        kind for kind in vars(config).values() if isinstance(kind, type) and issubclass(kind, config._Settings)
    } - {config._Settings}
    assert set(SETTINGS) == every
    for kind, judged in SETTINGS.items():
        names = {info.name for info in msgspec.structs.fields(kind)}
        assert set(judged) == names, kind
        if kind is not PolicySettings:  # of which the whole table is judged
            assert {name for name in names if name.startswith("unsafe_")} <= {
                name for name, found in judged.items() if found is not None
            }


@pytest.mark.parametrize(
    ("kind", "name", "value", "words"), WEAKER, ids=[f"{kind.__name__}-{name}" for kind, name, *_ in WEAKER]
)
def test_a_setting_that_weakens_protection_is_named(
    home: Home, kind: type[config._Settings], name: str, value: object, words: str
) -> None:
    file, where = {
        ExchangeSettings: (home.exchange, "exchange"),
        GatewaySettings: (home.gateway(GATE), GATE),
        Profile: (home.profile_file("planner"), "profile planner"),
    }[kind]
    before = told(home, "weak")
    assert not [message for _, message in before if words in message]
    config.change(file, kind, lambda v: v.pop(name) if value is None else v.update({name: value}))
    (more,) = [each for each in told(home, "weak") if each not in before]
    assert more[0] == where
    assert words in more[1]


def test_client_certificates(home: Home, tmp_path: Path) -> None:
    """An authority that is none would leave the gateway open to whom the system trusts; a pair is one."""
    gateway, profile = home.gateway(GATE), home.profile_file("planner")
    config.change(gateway, GatewaySettings, lambda v: v.update(listen="0.0.0.0:7460"))
    assert [message for _, message in told(home, "weak") if "strangers can fill its memory" in message]
    config.change(gateway, GatewaySettings, lambda v: v.update(client_ca=str(tmp_path / "clients.pem")))
    assert not [message for _, message in told(home, "weak") if "strangers" in message]
    assert the_error(home)[0] == GATE
    (tmp_path / "clients.pem").write_bytes(b"")
    assert the_error(home) == (GATE, "not a PEM certificate: expected -----BEGIN CERTIFICATE-----")
    certificate, key = tls.self_signed(now=int(time.time()))
    (tmp_path / "clients.pem").write_bytes(certificate)
    assert not told(home, "error")

    pair = {"gateway_certificate": str(tmp_path / "clients.pem"), "gateway_key": str(tmp_path / "key.pem")}
    config.change(profile, Profile, lambda v: v.update(pair))
    (tmp_path / "key.pem").write_bytes(key)
    (tmp_path / "key.pem").chmod(0o644)
    assert "can be read by others" in the_error(home)[1]
    (tmp_path / "key.pem").chmod(0o600)
    assert not told(home, "error")
    (tmp_path / "key.pem").write_bytes(tls.self_signed(now=int(time.time()))[1])
    assert the_error(home) == ("profile planner", "the TLS key is not the key of the certificate")


def test_halves_of_client_certificates(home: Home) -> None:
    for file, kind, half, words in (
        (home.profile_file("planner"), Profile, {"gateway_key": "key.pem"}, "go together"),
        (home.gateway(GATE), GatewaySettings, {"client_ca": "ca.pem", "unsafe_plaintext": True}, "needs TLS"),
    ):
        with pytest.raises(SluicegateError, match=words):
            config.change(file, kind, lambda v, half=half: v.update(half))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me@db.example/x?sslmode=verify-full",
        "postgresql://me@localhost/x",
        "postgresql:///x?host=/run/postgresql",
        "sqlite:///exchange.db",
    ],
)
def test_a_database_that_is_here_or_known_by_its_certificate_is_fine(home: Home, url: str) -> None:
    config.change(home.exchange, ExchangeSettings, lambda v: v.update(database=url))
    assert not [message for _, message in told(home, "weak") if "database" in message]


def test_weakenings_in_force_are_named(home: Home) -> None:
    config.change(home.exchange, ExchangeSettings, lambda v: v.update(listen="0.0.0.0:7450"))
    config.change(home.gateway(GATE), GatewaySettings, lambda v: v.update(max_silence=900, unsafe_plaintext=True))
    config.change(home.profile_file("planner"), Profile, lambda v: v.update(unsafe_plaintext=True))
    weak = dict(told(home, "weak"))
    said = {message for _, message in told(home, "weak")}
    assert any("listens beyond this machine, on 0.0.0.0:7450" in message for message in said)
    assert any("900 s without word" in message for message in said)
    assert sum("not encrypted" in message for message in said) >= 1
    assert "exchange" in weak
    config.change(
        home.exchange,
        ExchangeSettings,
        lambda v: v.update(policy={"engine": "opa", "url": "http://127.0.0.1:8181", "unsafe_plaintext": True}),
    )
    assert any("policy server without TLS" in message for _, message in told(home, "weak"))


def test_sources_and_tokens_that_are_not_there(home: Home, tmp_path: Path) -> None:
    gone = {"path": str(tmp_path / "gone.parquet"), "format": "parquet"}
    config.change(home.gateway(GATE), GatewaySettings, lambda v: v.update(datasets={"visits": gone}))
    assert the_error(home) == (GATE, f"the source of visits is not there: {tmp_path / 'gone.parquet'}")
    (tmp_path / "gone.parquet").write_bytes(b"")
    assert not told(home, "error")
    config.change(home.profile_file("planner"), Profile, lambda v: v.update(token={"file": str(tmp_path / "token")}))
    assert the_error(home)[0] == "profile planner"
    config.change(home.profile_file("planner"), Profile, lambda v: v.pop("token"))
    assert "names no token" in the_error(home)[1]


def test_keys_of_people_that_end_soon(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    later = time.time() + 350 * 86_400
    monkeypatch.setattr(checking.time, "time", lambda: later)
    soon = told(home, "soon")
    assert {message.split(" ends")[0] for where, message in soon if where == GATE} == {
        "the key of steward@health.example",
        "the key of dpo@health.example",
    }
    statement = next((home.gateway(GATE).parent / "statements").iterdir())
    statement.write_text("{}")
    assert any("is no key statement" in message for _, message in told(home, "error"))


def test_the_home_of_a_party_alone_needs_no_exchange(home: Home) -> None:
    shutil.rmtree(home.exchange.parent)
    assert not told(home, "error")


def test_an_empty_folder_is_no_home(tmp_path: Path) -> None:
    assert "sluicegate init" in the_error(Home(tmp_path))[1]


def test_worst_comes_first(home: Home) -> None:
    (home.root / "exchange" / "keys" / "grant.jwk").chmod(0o644)
    levels = [each.level for each in checking.check(home)]
    assert levels == sorted(levels, key=("error", "weak", "soon").index)
    assert levels[0] == "error"

"""A department's gateways and whom it trusts: made, registered, replaced, listed, run; and nothing half done."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from connectors import tls
from connectors.keys import MasterKey
from contracts.envelope import Envelope
from exchange import config, keyfiles
from exchange.config import GatewaySettings
from exchange.home import Home
from tests.cli.commands import ROOT, Commands
from tests.cli.conftest import Running, free_ports

pytestmark = pytest.mark.xdist_group("cli")  # one running city for all of them

NEW = ("gateway", "new", "spare-1", "--party", "health-bureau", "--exchange", "localhost:7450")


@pytest.fixture
def fresh(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Commands:
    """Commands in a home that is not there yet."""
    return Commands(tmp_path / "fresh", capsys)


# --- its folder


def test_a_gateway_is_made_ready_to_run(fresh: Commands, tmp_path: Path) -> None:
    said = fresh(*NEW, "--listen", "127.0.0.1:7999", "--host", "gate.example", "--token-command", "get-token --fast")
    folder = fresh.home / "gateways" / "spare-1"
    settings = config.load(folder / "gateway.toml", GatewaySettings)
    assert (settings.subject, settings.listen, settings.token.command) == (
        "spare-1",
        "127.0.0.1:7999",
        ("get-token", "--fast"),
    )
    assert settings.trust == fresh.home / "trust.yaml"
    MasterKey.load(settings.master_key)
    signing = keyfiles.read_key(settings.signing_key)
    assert json.loads(said.out) == {"kty": "OKP", "crv": "Ed25519", "x": signing.public.x}
    tls.check_pair(settings.tls_certificate.read_bytes(), settings.tls_key.read_bytes())
    assert "gateway register spare-1 --address gate.example:7999" in said.err
    assert {path.stat().st_mode & 0o077 for path in (fresh.home, folder, folder / "keys", settings.tls_key)} == {0}
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert "ALREADY_EXISTS" in fresh(*NEW, code=6).err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_what_cannot_be_a_gateway_leaves_nothing_behind(fresh: Commands, tmp_path: Path) -> None:
    certificate, key = tls.self_signed(("gate.example",), now=int(time.time()))
    other = tls.self_signed(("gate.example",), now=int(time.time()))[1]
    own, loose, wrong = tmp_path / "own", tmp_path / "loose", tmp_path / "wrong"
    keyfiles.write_private(own / "key.pem", key)
    keyfiles.write_private(wrong / "key.pem", other)
    keyfiles.write_private(loose / "key.pem", key)
    (loose / "key.pem").chmod(0o644)
    (own / "cert.pem").write_bytes(certificate)
    pair = ("--certificate", own / "cert.pem", "--certificate-key")
    fresh("gateway", "new", "Spare 1", *NEW[3:], code=2)
    fresh(*NEW, "--listen", "everywhere", code=2)
    fresh(*NEW, *pair, wrong / "key.pem", code=2)
    assert "CONFIG_UNSAFE" in fresh(*NEW, *pair, loose / "key.pem", code=2).err
    fresh(*NEW, "--certificate", own / "cert.pem", code=2)
    fresh(*NEW, "--issuer", "https://issuer.example", code=2)
    assert [path for path in fresh.home.rglob("*") if path.is_file()] == []
    fresh(*NEW, *pair, own / "key.pem")
    assert (fresh.home / "gateways" / "spare-1" / "tls" / "cert.pem").read_bytes() == certificate


def test_a_master_key_is_made_and_never_overwritten(fresh: Commands, tmp_path: Path) -> None:
    path = tmp_path / "keys" / "master.key"
    said = fresh("key", "new", "--master", path)
    assert said.out == ""
    MasterKey.load(path)
    raw = path.read_bytes()
    assert raw.strip().decode() not in said.err
    fresh("key", "new", "--master", path, code=6)
    assert path.read_bytes() == raw


# --- at the exchange


def test_a_place_is_registered_with_a_certified_authority_alone(
    cli: Commands, running: Running, fresh: Commands, tmp_path: Path
) -> None:
    """Any other would be refused by every consumer, hours later; and what is registered is not changed unasked."""
    fresh(*NEW)
    folder = fresh.home / "gateways" / "spare-1"
    ca, key, here = folder / "tls" / "cert.pem", folder / "keys" / "signing.jwk", "localhost:7999"
    place = ("--address", here, "--ca", ca, "--as", "dpo")
    register = ("gateway", "register", "spare-1", *place)
    assert "KEY_UNTRUSTED" in cli(*register, code=8).err
    root = running.home.party("health-bureau") / "root.jwk"
    certify = ("key", "certify", key, "--use", "gateway", "--subject", "spare-1", "--root", root, "--as", "dpo")
    made = cli(*certify, "--tls-certificate", ca, "--output", "json").json
    assert "ROLE_MISSING" in cli(*register[:-1], "steward", code=4).err
    cli("gateway", "replace", "spare-1", *place, code=3)
    said = cli(*register)
    assert "steward@health.example" in said.err  # the home's own gateway knows its people, this command sees to it
    before = cli("ledger", "--resource", "parties/health-bureau/gateways/spare-1", "--as", "dpo").rows
    cli(*register)
    after = cli("ledger", "--resource", "parties/health-bureau/gateways/spare-1", "--as", "dpo").rows
    assert len(before) == len(after) == 1
    moved = (*register[:4], "localhost:8000", *register[5:])
    assert "gateway replace" in cli(*moved, code=6).err
    other = tmp_path / "other.pem"
    other.write_bytes(tls.self_signed(now=int(time.time()))[0])
    cli("gateway", "replace", "spare-1", "--address", here, "--ca", other, "--as", "dpo", code=8)
    replaced = cli("gateway", "replace", *moved[2:], "--output", "json").json
    assert replaced["address"] == "grpc+tls://localhost:8000"
    listed = {each["name"]: each for each in cli("gateway", "list", "--as", "dpo", "--output", "json").json}
    assert listed["spare-1"]["certified_until"] == made["statement"]["payload"]["notAfter"]
    assert listed["health-bureau-1"]["certified_until"]
    # Once the key is revoked, the list says what consumers will say.
    cli("key", "revoke", made["name"], "--reason", "a try", "--root", root, "--as", "dpo")
    rows = {row[0]: row for row in cli("gateway", "list", "--as", "dpo").rows}
    assert rows["spare-1"][2] == "not certified"
    assert rows["health-bureau-1"][2].endswith("Z")


# --- running


def test_a_home_with_gateways_alone_runs_them(
    running: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`gateway run` is one in the foreground; `up` wants no exchange in the home. A stopped one ends with 0."""
    here = Commands(_gateway_alone(running, tmp_path), capsys)
    for words in (["gateway", "run", "health-bureau-1"], ["gateway", "run"], ["up"]):
        process = _started(here.home, *words)
        try:
            stream = process.stderr if words == ["up"] else process.stdout
            assert stream is not None
            line = stream.readline()
            assert ("health-bureau-1 ready at" if words == ["up"] else "ready 127.0.0.1:") in line, line
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
            assert process.returncode == 0
        finally:
            process.kill()
            process.wait()
    here("gateway", "run", "nobody", code=2)
    here("up", "--only", "exchange", code=3)
    Commands(tmp_path / "empty", capsys)("up", code=2)


def test_what_is_stopped_while_it_starts_ends_as_cleanly(
    running: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = Commands(_gateway_alone(running, tmp_path), capsys)
    process = _started(here.home, "up")
    try:
        while not (here.home / "logs" / "health-bureau-1.log").exists():
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=60) == ("", "ended\n")
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()


def _started(home: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "exchange.cli.main", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "SLUICEGATE_HOME": str(home), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        text=True,
    )


def _gateway_alone(running: Running, folder: Path) -> Path:
    """The home of a department without the exchange: its one gateway, with a state of its own."""
    home = Home(folder / "alone")
    path = home.gateway("health-bureau-1")
    settings = config.load(running.home.gateway("health-bureau-1"), GatewaySettings)
    path.parent.mkdir(parents=True, mode=0o700)
    for each in (home.root, path.parent.parent):
        each.chmod(0o700)
    (path.parent / "statements").mkdir(mode=0o700)
    moved = {
        "listen": f"127.0.0.1:{free_ports(1)}",
        "state": path.parent / "state.db",
        "spool": path.parent / "spool",
        "statements": path.parent / "statements",
        "datasets": {},
    }
    config.create(path, msgspec.structs.replace(settings, **moved))
    return home.root


# --- trust


def test_a_trust_file_is_changed_whole(still: Commands, tmp_path: Path) -> None:
    file = still.home / "trust.yaml"
    file.chmod(0o640)
    path = tmp_path / "keys" / "root.jwk"
    (tmp_path / "root.jwk").write_text(still("key", "new", path).out)
    add = ("trust", "add", "new-bureau", "--kind", "department", "--root-key", tmp_path / "root.jwk")
    kid = keyfiles.read_key(path).kid
    assert still(*add).out.split() == ["new-bureau", kid]
    still(*add)
    assert {"party": "new-bureau", "kind": "department", "root": kid} in still("trust", "list", "--output", "json").json
    assert file.stat().st_mode & 0o777 == 0o640
    before = file.read_bytes()
    # Another root for the same party, the same root for another, a name that is none: nothing changes.
    (tmp_path / "second.jwk").write_text(still("key", "new", tmp_path / "keys" / "second.jwk").out)
    assert "ALREADY_EXISTS" in still(*add[:-1], tmp_path / "second.jwk", code=6).err
    still("trust", "add", "twin", *add[3:], code=2)
    still("trust", "add", "No Name", *add[3:-1], tmp_path / "second.jwk", code=2)
    still("trust", "remove", "nobody", code=3)
    still("trust", "list", "--file", tmp_path / "none.yaml", code=2)
    assert file.read_bytes() == before
    still("trust", "remove", "new-bureau")
    assert not any(row[0] == "new-bureau" for row in still("trust", "list").rows)
    still("config", "check")


def test_a_new_approver_is_told_to_the_gateways_of_the_home(cli: Commands, running: Running, tmp_path: Path) -> None:
    path = tmp_path / "keys" / "second.jwk"
    cli("key", "new", path)
    root = running.home.party("health-bureau") / "root.jwk"
    certify = ("key", "certify", path, "--subject", "steward@health.example", "--root", root, "--as", "dpo")
    assert "health-bureau-1" in cli(*certify, "--use", "approver").err
    settings = config.load(running.home.gateway("health-bureau-1"), GatewaySettings)
    told = settings.statements / f"{keyfiles.read_key(path).kid}.json"
    assert Envelope.from_bytes(told.read_bytes()).payload["subject"] == "steward@health.example"

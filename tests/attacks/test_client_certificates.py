"""Anyone on the network, before a gateway that demands certificates of its clients: who has none, or one of
another authority, does not get past the handshake of TLS, so that nothing it could say is ever read."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from connectors import tls
from contracts.errors import Reason
from exchange.client import Exchange
from exchange.config import GatewaySettings, Profile, change
from exchange.stopping import Place, tell_gateway
from tests.attacks.conftest import DATASET, EVERYBODY, REGISTRY
from tests.attacks.test_network import SHAKEN
from tests.attacks.wires import connected, heard, trusting
from tests.e2e.city import CONTRACTS, City
from tests.e2e.conftest import people
from tests.e2e.steps import refused

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("attacks")]

PEM = serialization.Encoding.PEM
REGISTRY_ONLY = tuple(each for each in EVERYBODY if each.party != "archive-office")


class Authority:
    """A certificate authority that writes what it issues into a private folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "clients of the registry")])
        self._root = self._certificate(self._name, self._key.public_key(), authority=True)
        folder.mkdir(mode=0o700)
        self.path = folder / "ca.pem"
        self.path.write_bytes(self._root.public_bytes(PEM))

    def _certificate(self, name: x509.Name, key: ec.EllipticCurvePublicKey, *, authority: bool) -> x509.Certificate:
        now = datetime.fromtimestamp(int(time.time()), UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if not authority:
            made = made.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        return made.sign(self._key, hashes.SHA256())

    def issue(self, who: str) -> tuple[Path, Path]:
        """Certificate and key of a client, as files."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, who)])
        certificate, private = self._folder / f"{who}.pem", self._folder / f"{who}.key"
        certificate.write_bytes(self._certificate(name, key.public_key(), authority=False).public_bytes(PEM))
        private.touch(0o600)
        private.write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        return certificate, private


@dataclass
class Closed:
    """The city with a gateway that asks for certificates by `clients`, and an authority of somebody else."""

    city: City
    agreement: str
    clients: Authority
    strangers: Authority

    def give(self, profile: str, pair: tuple[Path, Path] | None) -> None:
        """Let a profile show this certificate, or none."""

        def edit(value: dict[str, object]) -> None:
            value.pop("gateway_certificate", None)
            value.pop("gateway_key", None)
            if pair is not None:
                value.update(gateway_certificate=str(pair[0]), gateway_key=str(pair[1]))

        change(self.city.home.profile_file(profile), Profile, edit)


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Closed]:
    folder = tmp_path_factory.mktemp("closed")
    clients, strangers = Authority(folder / "clients"), Authority(folder / "strangers")
    with City.founded(folder / "home", REGISTRY_ONLY, gateways={REGISTRY: {"client_ca": str(clients.path)}}) as city:
        source = folder / "people.parquet"
        people(3_000).write_parquet(source)
        city.publish("keeper", (CONTRACTS / "people.odcs.yaml").read_bytes(), source, gateway=REGISTRY)
        agreement = city.agree("analyst", DATASET, "planning", approvers=["keeper"])
        yield Closed(city, agreement, clients, strangers)


def _said(closed: Closed, pair: tuple[Path, Path] | None) -> bytes:
    """What the gateway's HTTP/2 says to a connection with that certificate."""
    context = trusting()
    if pair is not None:
        context.load_cert_chain(*pair)
    port = int(closed.city.town.addresses[REGISTRY].rpartition(":")[2])
    try:
        with connected(port, context) as end:
            end.sendall(SHAKEN)
            return heard(end, 2)
    except (ssl.SSLError, ConnectionError):
        return b""


def test_comes_without_a_client_certificate(closed: Closed) -> None:
    """Not a frame is read of who shows no certificate, a foreign one, or one that it made itself."""
    assert _said(closed, closed.clients.issue("somebody"))  # the control: HTTP/2 answers
    assert _said(closed, None) == b""
    assert _said(closed, closed.strangers.issue("somebody")) == b""
    own = closed.strangers.issue("own")
    for path, made in zip(own, tls.self_signed(now=int(time.time())), strict=True):
        path.write_bytes(made)
    assert _said(closed, own) == b""


def test_pulls_without_the_right_client_certificate(closed: Closed, tmp_path: Path) -> None:
    """A ticket alone is not enough; with certificate and ticket, client and command line pull."""
    for pair in (None, closed.strangers.issue("analyst")):
        closed.give("analyst", pair)
        with Exchange(closed.city.home.profile("analyst")) as exchange:
            refused(lambda: exchange.pull(closed.agreement), Reason.UNAVAILABLE)
    closed.give("analyst", closed.clients.issue("analyst"))
    with Exchange(closed.city.home.profile("analyst")) as exchange:
        pulled = exchange.pull(closed.agreement)
    assert pulled.frame().height == pulled.rows > 1_000
    closed.city.run("pull", closed.agreement, "--out", tmp_path / "people.parquet", "--as", "analyst")
    assert pl.read_parquet(tmp_path / "people.parquet").height == pulled.rows


def test_orders_a_stop_without_a_client_certificate(closed: Closed) -> None:
    """A department's own people need one as well, to stop an agreement at the gateway itself."""
    home = closed.city.home
    place = Place(
        f"grpc+tls://{closed.city.town.addresses[REGISTRY]}",
        (home.gateway(REGISTRY).parent / "tls" / "cert.pem").read_text(),
    )
    for pair, reached in ((None, False), (closed.clients.issue("keeper"), True)):
        closed.give("keeper", pair)
        with Exchange(home.profile("keeper")) as exchange:
            told = tell_gateway(exchange, closed.agreement, reason="an incident", until=None, place=place)
        assert told is not None
        assert told.reached is reached


def test_an_authority_that_is_none(closed: Closed, tmp_path: Path) -> None:
    """The gateway does not start on an empty file: whom the system trusts would be let in."""
    (tmp_path / "none.pem").write_bytes(b"")
    path = closed.city.home.gateway(REGISTRY)
    closed.city.town.stop(REGISTRY)
    try:
        change(path, GatewaySettings, lambda value: value.update(client_ca=str(tmp_path / "none.pem")))
        refused(lambda: closed.city.town.start(REGISTRY), Reason.CONFIG_INVALID)
        assert "not a PEM certificate" in closed.city.log(REGISTRY)
    finally:
        change(path, GatewaySettings, lambda value: value.update(client_ca=str(closed.clients.path)))
        closed.city.town.start(REGISTRY)

"""An order to stop goes to the gateway that the department certified, and nothing keeps it from the exchange."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import msgspec
import pytest

from connectors import tls
from connectors.gateway import orders
from contracts.agreement import AgreementBundle
from contracts.canonical import digest_bytes
from contracts.envelope import Envelope, Kind, sign, verify
from contracts.errors import Reason, SluicegateError
from contracts.trust import KeyStatement, dump_trust
from exchange import keyfiles, stopping, views
from exchange.client import Exchange
from exchange.config import Profile
from exchange.stopping import Told
from tests.halls import refused
from tests.papers import GATEWAY, NOW, PROVIDER, STEWARD, key, make

PEM = tls.self_signed(now=NOW)[0].decode()
OTHER = tls.self_signed(now=NOW)[0].decode()
PAPERS = make()
NAME = PAPERS.agreed.id


def certified(statement: Envelope, pem: str) -> Envelope:
    """The gateway's key statement with its TLS authority; others as they are."""
    if statement.payload["subject"] != GATEWAY:
        return statement
    stated = msgspec.convert(statement.payload, KeyStatement)
    digest = digest_bytes(pem.encode())
    return sign(Kind.KEY, msgspec.structs.replace(stated, tls_certificate=digest), key(f"root:{PROVIDER}"))


class Shown:
    """What the exchange shows to the department's steward; `pem` it may lie about."""

    def __init__(self, profile: Profile) -> None:
        self.profile, self.pem = profile, PEM
        self.place = f"parties/{PROVIDER}/gateways/{GATEWAY}"

    def agreement(self, name: str) -> views.Agreement:
        dataset = f"parties/{PROVIDER}/datasets/hospital-visits"
        return views.Agreement(name=name, dataset=dataset, gateway=self.place)

    def gateway(self, name: str) -> views.Gateway:
        return views.Gateway(name=name, address="grpc+tls://gate.example:1", ca_certificate=self.pem)

    def bundle(self, _: str) -> AgreementBundle:
        statements = tuple(certified(one, PEM) for one in PAPERS.bundle.statements)
        return msgspec.structs.replace(PAPERS.bundle, statements=statements)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Shown:
    monkeypatch.setattr("exchange.signing.time.time", lambda: NOW + 60)
    (tmp_path / "trust.yaml").write_bytes(dump_trust(PAPERS.cast.trust))
    keyfiles.write_key(tmp_path / "steward.jwk", key(STEWARD))
    return Shown(
        Profile(
            party=PROVIDER,
            subject=STEWARD,
            endpoint="localhost:1",
            trust=tmp_path / "trust.yaml",
            signing_key=tmp_path / "steward.jwk",
        )
    )


def told(shown: Shown) -> Told | None:
    return stopping.tell_gateway(cast(Exchange, shown), NAME, reason="an incident", until=None)


def test_the_certified_gateway_is_told(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, str, Envelope, object]] = []
    monkeypatch.setattr(orders, "send", lambda *order: sent.append(order))
    assert told(shown) == Told(GATEWAY, reached=True)
    ((address, pem, order, pair),) = sent
    assert (address, pem, pair) == ("grpc+tls://gate.example:1", PEM, None)
    verify(Kind.REVOCATION, order, [key(STEWARD).public])


def test_a_place_that_the_department_did_not_certify_is_told_nothing(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exchange could otherwise swallow the order, and say that the gateway obeyed."""
    sent: list[object] = []
    monkeypatch.setattr(orders, "send", lambda *order: sent.append(order))
    for pem in (OTHER, ""):
        shown.pem = pem
        assert told(shown) == Told(GATEWAY, reached=False, certified=False)
    assert sent == []


@pytest.mark.parametrize("reason", sorted(stopping.UNREACHED))
def test_a_gateway_that_does_not_answer_keeps_nobody_from_the_exchange(
    shown: Shown, monkeypatch: pytest.MonkeyPatch, reason: Reason
) -> None:
    def silent(*_: object) -> None:
        raise SluicegateError(reason, "nobody there")

    monkeypatch.setattr(orders, "send", silent)
    assert told(shown) == Told(GATEWAY, reached=False)


def test_what_the_gateway_refuses_is_said(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(*_: object) -> None:
        raise SluicegateError(Reason.KEY_UNTRUSTED, "not an approver")

    monkeypatch.setattr(orders, "send", refusing)
    with refused(Reason.KEY_UNTRUSTED):
        told(shown)

"""Whoever wants values opened that are not for them to open, or unseen: one person of the department alone, its
consumers, another department, the exchange's operator. Real processes, and values that really left.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from connectors.gateway import orders
from connectors.gateway.sealing import unseal
from contracts.envelope import Envelope, Kind, SigningKey, countersign, sign
from contracts.errors import Reason, SluicegateError
from contracts.instants import rfc3339
from contracts.papers import RevealOrder
from contracts.revealing import GOOD_FOR
from exchange import keyfiles
from exchange.names import last
from exchange.revealing import key_of
from tests.attacks.conftest import REGISTRY, Attacked
from tests.attacks.test_exchange_operator import OPERATOR, told_otherwise
from tests.attacks.typed import typed
from tests.e2e.city import CONTRACTS, City, eventually
from tests.e2e.steps import refused

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("attacks")]

PRIVATE = X25519PrivateKey.from_private_bytes(bytes(range(32)))
WHY = "a court asks, file 17/26"
KEEPER, DEPUTY = "keeper", "deputy"
ROWS = 400


@dataclass
class Cases:
    """What left to two consumers in a form that can be turned back, and the means of everybody to ask for more."""

    city: City
    folder: Path
    source: pl.DataFrame
    agreements: dict[str, str]
    pulled: dict[str, pl.DataFrame]
    questions: Iterator[int] = field(default_factory=itertools.count)

    def sent(self, column: str = "case_no", who: str = "analyst", row: int = 0) -> str:
        """A value as that consumer has it."""
        return str(self.pulled[who][column][row])

    def order(self, who: str = "analyst", **changed: Any) -> RevealOrder:
        """An order about one value that this consumer has; no two are the same."""
        agreement = self.city.exchange(KEEPER).bundle(self.agreements[who]).agreement
        public = PRIVATE.public_key().public_bytes_raw()
        asked = RevealOrder(
            agreement=self.agreements[who],
            agreement_digest=agreement.digest,
            field="case_no",
            values=(self.sent(who=who),),
            reason=f"{WHY}, question {next(self.questions)}",
            answer_key=base64.urlsafe_b64encode(public).decode().rstrip("="),
            at=rfc3339(int(time.time())),
        )
        return msgspec.structs.replace(asked, **changed)

    def signed(self, asked: RevealOrder, *by: str | SigningKey) -> Envelope:
        """The order signed by these; by default by the two who may."""
        return sign(Kind.REVEAL, asked, *(self.key(who) if isinstance(who, str) else who for who in by or BOTH))

    def key(self, who: str) -> SigningKey:
        """The signing key of a profile."""
        path = self.city.home.profile(who).signing_key
        assert path is not None
        return keyfiles.read_key(path)

    def send(self, order: Envelope) -> bytes:
        """What the gateway answers."""
        there = self.city.exchange(KEEPER).gateway(REGISTRY)
        return orders.reveal(there.address, there.ca_certificate, order)

    def opened(self, order: Envelope) -> list[str]:
        """What the values of an order stand for."""
        return list(msgspec.json.decode(unseal(self.send(order), PRIVATE, order=order.digest)))

    def refuses(self, asked: RevealOrder, *by: str | SigningKey, reason: Reason) -> None:
        """Demand that the gateway does not open it, and that nobody is told that it did."""
        before = self.told()
        refused(lambda: self.send(self.signed(asked, *by)), reason)
        assert self.told() == before

    def told(self, who: str = "analyst") -> list[Any]:
        """What the ledger says of values opened under a consumer's agreement."""
        entries = self.city.exchange("auditor").entries(self.agreements[who])
        return [found.entry["detail"] for found in entries if found.entry["event"] == "agreement.revealed"]

    def ask(self, out: Path, *, code: int = 0, as_: str = KEEPER, **changed: str) -> str:
        """Ask at the command line; what was said on standard error."""
        words = {"field": "case_no", "value": self.sent(), "reason": WHY} | changed
        options = [word for name, text in words.items() for word in (f"--{name}", text)]
        agreement = self.agreements["analyst"]
        return typed(
            self.city.home.root, "reveal", "ask", agreement, *options, "--out", out, "--as", as_, code=code
        ).err

    def certified(self, out: Path, subject: str) -> SigningKey:
        """Another key, which the department's admin certifies as an approver's; its gateway is told."""
        key, root = out / "keys" / f"{time.monotonic_ns()}.jwk", self.city.home.party("registry-office") / "root.jwk"
        typed(self.city.home.root, "key", "new", key)
        words = ("--use", "approver", "--subject", subject, "--root", root, "--as", KEEPER)
        assert REGISTRY in typed(self.city.home.root, "key", "certify", key, *words).err
        return keyfiles.read_key(key)


BOTH = (KEEPER, DEPUTY)
UNREACHED = (Reason.UNAVAILABLE, Reason.CONTROL_PLANE_SILENT, Reason.DEADLINE_EXCEEDED)


@pytest.fixture(scope="module")
def cases(attacked: Attacked, tmp_path_factory: pytest.TempPathFactory) -> Cases:
    city, folder = attacked.city, tmp_path_factory.mktemp("cases")
    numbers = range(1, ROWS + 1)
    source = pl.DataFrame(
        {
            "case_no": [f"CASE-{n * 7919 % 1_000_003:07d}" for n in numbers],
            "card_no": [f"{n * 104_729_104_729 % 999_999_999_989:012d}" for n in numbers],
            "file_no": [f"F{n:05d}" for n in numbers],
            "district": [("north", "south")[n % 2] for n in numbers],
        }
    )
    source.write_parquet(folder / "cases.parquet")
    city.publish(KEEPER, (CONTRACTS / "cases.odcs.yaml").read_bytes(), folder / "cases.parquet", gateway=REGISTRY)
    made = Cases(city, folder, source, {}, {})
    for who in ("analyst", "planner"):
        made.agreements[who] = city.agree(who, "registry-office/cases", "follow-up", approvers=[KEEPER])
        city.exchange(who).pull(made.agreements[who], to=folder / f"{who}.parquet")
        made.pulled[who] = pl.read_parquet(folder / f"{who}.parquet")
    return made


# --- the exchange's operator


def test_the_operator_forges_an_order(cases: Cases) -> None:
    """It holds every key of the exchange, sees each order's signatures if it likes, and has no approver's key."""
    asked = cases.order()
    half = cases.signed(asked, KEEPER)
    grant = keyfiles.read_key(cases.city.home.exchange.parent / "keys" / "grant.jwk")
    for by in ((OPERATOR, grant), (OPERATOR,), (KEEPER, OPERATOR), (KEEPER, DEPUTY, OPERATOR)):
        cases.refuses(asked, *by, reason=Reason.KEY_UNTRUSTED)
    refused(lambda: cases.send(countersign(Kind.REVEAL, half, OPERATOR)), Reason.KEY_UNTRUSTED)
    # The keeper did sign the agreement; that signature is of another kind of paper.
    signatures = cases.city.exchange(KEEPER).bundle(asked.agreement).approvals[0].signatures
    refused(lambda: cases.send(Envelope(half.payload, (*half.signatures, *signatures))), Reason.SIGNATURE_INVALID)
    assert cases.opened(cases.signed(asked))[0] in set(cases.source["case_no"])


def test_the_operator_replays_an_order(cases: Cases) -> None:
    """It answers nobody a second time, nor another key; and the answer that it caught is sealed."""
    asked = cases.order()
    order = cases.signed(asked)
    caught = cases.send(order)
    own = X25519PrivateKey.generate()
    refused(lambda: unseal(caught, own, order=order.digest), Reason.DATA_INVALID)
    assert not [raw for raw in cases.source["case_no"] if raw.encode() in caught]
    before = cases.told()
    public = base64.urlsafe_b64encode(own.public_key().public_bytes_raw()).decode().rstrip("=")
    for payload, signatures, reason in (
        (order.payload, order.signatures, Reason.STATE_WRONG),
        (order.payload, tuple(reversed(order.signatures)), Reason.STATE_WRONG),
        (order.payload, cases.signed(asked).signatures, Reason.STATE_WRONG),
        (order.payload | {"answerKey": public}, order.signatures, Reason.SIGNATURE_INVALID),
    ):
        sent = Envelope(payload, signatures)
        refused(lambda sent=sent: cases.send(sent), reason)
    cases.city.town.stop(REGISTRY)
    cases.city.start_gateway(REGISTRY, KEEPER)
    refused(lambda: cases.send(order), Reason.STATE_WRONG)
    assert cases.told() == before


def test_the_operator_names_a_gateway_of_its_own(cases: Cases, tmp_path: Path) -> None:
    """To catch the order, or to answer with values of its own: nothing is sent to it."""
    cases.ask(out := tmp_path / "order.json")
    typed(cases.city.home.root, "reveal", "sign", out, "--yes", "--as", DEPUTY)
    name = f"parties/registry-office/gateways/{REGISTRY}"
    other = cases.city.exchange("archivist").gateway("archive-1")
    with told_otherwise(cases.city, name, address=other.address, ca_certificate=other.ca_certificate):
        assert "nothing was sent" in typed(cases.city.home.root, "reveal", "open", out, "--as", KEEPER, code=8).err
    assert typed(cases.city.home.root, "reveal", "open", out, "--output", "json", "--as", KEEPER).json["values"]


@contextlib.contextmanager
def unwritable(city: City) -> Iterator[None]:
    """The ledger takes no entry, whatever else the exchange's database takes."""
    path = city.home.exchange.parent / "exchange.db"

    def run(statement: str) -> None:
        with contextlib.closing(sqlite3.connect(path, timeout=30)) as db:
            db.execute(statement)
            db.commit()

    run("CREATE TRIGGER no_entry BEFORE INSERT ON ledger_entries BEGIN SELECT RAISE(ABORT, 'no entry'); END")
    try:
        yield
    finally:
        run("DROP TRIGGER no_entry")


def test_the_ledger_takes_no_entry(cases: Cases) -> None:
    """Nothing is opened that is not in the ledger: neither while it cannot be written, nor while the exchange is
    away. The order stays good."""
    order, before = cases.signed(cases.order()), len(cases.told())
    with unwritable(cases.city):
        for _ in range(2):
            refused(lambda: cases.send(order), Reason.INTERNAL, Reason.UNAVAILABLE)
        assert len(cases.told()) == before
    assert cases.opened(order)[0] in set(cases.source["case_no"])
    assert len(cases.told()) == before + 1
    away = cases.signed(cases.order())
    there = cases.city.exchange(KEEPER).gateway(REGISTRY)
    cases.city.town.stop("exchange")
    try:
        refused(lambda: orders.reveal(there.address, there.ca_certificate, away), *UNREACHED)
    finally:
        cases.city.start("exchange")
    assert len(cases.told()) == before + 1

    def opened() -> bool:
        try:
            return bool(cases.opened(away))
        except SluicegateError as error:
            if error.reason not in UNREACHED:
                raise
            return False

    eventually(opened, "the gateway has heard that the exchange is back")
    assert len(cases.told()) == before + 2


# --- consumers and other departments


def test_a_consumer_or_another_department_asks(cases: Cases, tmp_path: Path) -> None:
    """What left is theirs to use, and only its department's to open."""
    assert "ROLE_MISSING" in cases.ask(tmp_path / "a.json", as_="analyst", code=4)
    for who in ("planner", "archivist"):  # it does not even see the agreement
        assert "NOT_FOUND" in cases.ask(tmp_path / "b.json", as_=who, code=3)
    for by in (("analyst", "planner"), (KEEPER, "analyst"), (KEEPER, "archivist"), ("archivist", "planner")):
        cases.refuses(cases.order(), *by, reason=Reason.KEY_UNTRUSTED)
    assert not list(tmp_path.iterdir())


# --- the department's own people


def test_one_person_signs_for_two(cases: Cases, tmp_path: Path) -> None:
    """Asks and countersigns, signs with a second key of his own, or signs once and sends it."""
    cases.ask(out := tmp_path / "order.json")
    assert "SIGNATURE_INVALID" in typed(cases.city.home.root, "reveal", "open", out, "--as", KEEPER, code=8).err
    assert "POLICY_REFUSED" in typed(cases.city.home.root, "reveal", "sign", out, "--yes", "--as", KEEPER, code=5).err
    twice = countersign(Kind.REVEAL, Envelope.from_bytes(out.read_bytes()), cases.key(KEEPER))
    out.write_bytes(twice.to_bytes())
    assert "SIGNATURE_INVALID" in typed(cases.city.home.root, "reveal", "open", out, "--as", KEEPER, code=8).err
    second = cases.certified(tmp_path, "keeper@registry.example")
    cases.refuses(cases.order(), KEEPER, second, reason=Reason.SIGNATURE_INVALID)
    cases.refuses(cases.order(), KEEPER, reason=Reason.SIGNATURE_INVALID)


def test_somebody_else_writes_an_order_that_each_of_two_takes_for_the_others(cases: Cases, tmp_path: Path) -> None:
    """The order's answer is sealed to its writer, who has no key of an approver: nobody signs it first."""
    out = tmp_path / "order.json"
    for signatures in ((), cases.signed(cases.order(), OPERATOR).signatures):
        out.write_bytes(Envelope(cases.signed(cases.order(), OPERATOR).payload, signatures).to_bytes())
        before = out.read_bytes()
        for who in BOTH:
            assert (
                "asked by" not in typed(cases.city.home.root, "reveal", "sign", out, "--yes", "--as", who, code=8).out
            )
        assert out.read_bytes() == before


def test_an_approver_whom_the_contract_does_not_name(cases: Cases, tmp_path: Path) -> None:
    """The department's admin makes more approvers; the contract that everybody signed names who opens values."""
    third = cases.certified(tmp_path, "clerk@registry.example")
    for other in BOTH:
        cases.refuses(cases.order(), other, third, reason=Reason.POLICY_REFUSED)


def test_an_order_is_used_for_something_else(cases: Cases) -> None:
    """Another value, field or agreement than was signed; and a value of one agreement under another."""
    order = cases.signed(cases.order())
    other = cases.order(who="planner")
    for changed in (
        {"values": [cases.sent(row=1)]},
        {"values": [cases.sent(), cases.sent(row=1)]},
        {"field": "card_no"},
        {"reason": "curiosity"},
        {"agreement": other.agreement, "agreementDigest": other.agreement_digest},
    ):
        sent = Envelope(order.payload | changed, order.signatures)
        refused(lambda sent=sent: cases.send(sent), Reason.SIGNATURE_INVALID)
    cases.refuses(cases.order(values=other.values), reason=Reason.DATA_INVALID)
    cases.refuses(cases.order(agreement=other.agreement), reason=Reason.INVALID_ARGUMENT)
    cases.refuses(cases.order(agreement_digest="sha256:" + "0" * 64), reason=Reason.AGREEMENT_NOT_LIVE)
    cases.refuses(cases.order(values=tuple(cases.pulled["analyst"]["case_no"][:11])), reason=Reason.INVALID_ARGUMENT)
    assert cases.opened(order)[0] in set(cases.source["case_no"])


def test_an_order_is_used_late(cases: Cases) -> None:
    now = int(time.time())
    cases.refuses(cases.order(at=rfc3339(now - GOOD_FOR)), reason=Reason.STATE_WRONG)
    cases.refuses(cases.order(at=rfc3339(now + 7200)), reason=Reason.INVALID_ARGUMENT)


def test_no_reason_is_given(cases: Cases, tmp_path: Path) -> None:
    assert "INVALID_ARGUMENT" in cases.ask(tmp_path / "order.json", reason="  ", code=2)
    for reason in ("", "   ", "\t\n"):
        cases.refuses(cases.order(reason=reason), reason=Reason.INVALID_ARGUMENT)
    assert not list(tmp_path.iterdir())


def test_what_was_not_made_to_be_opened(cases: Cases, tmp_path: Path) -> None:
    """A keyed hash, a field that left as it is, and one that was not sent."""
    for column in ("file_no", "district", "name"):
        assert "INVALID_ARGUMENT" in cases.ask(tmp_path / "order.json", field=column, code=2)
        cases.refuses(cases.order(field=column), reason=Reason.INVALID_ARGUMENT)
    assert not list(tmp_path.iterdir())


def test_a_revoked_key_signs_an_order(cases: Cases, tmp_path: Path) -> None:
    """Before or after it is taken back: this gateway hears of it with the agreement at the latest."""
    stolen = cases.certified(tmp_path, "deputy@registry.example")
    order = cases.signed(cases.order(), KEEPER, stolen)
    assert cases.opened(cases.signed(cases.order(), KEEPER, stolen))
    root = cases.city.home.party("registry-office") / "root.jwk"
    words = ("--reason", "stolen", "--root", root, "--as", KEEPER)
    typed(cases.city.home.root, "key", "revoke", f"parties/registry-office/keys/{stolen.kid}", *words)
    before = cases.told()
    refused(lambda: cases.send(order), Reason.KEY_UNTRUSTED)
    cases.refuses(cases.order(), KEEPER, stolen, reason=Reason.KEY_UNTRUSTED)
    assert cases.told() == before


def test_what_was_opened_lies_nowhere(cases: Cases, tmp_path: Path) -> None:
    """Not in the ledger, the exchange's database, a log, the gateway's state or spool, an order or an error; in what
    the exchange holds there is no pseudonym and no reason either."""
    cases.ask(out := tmp_path / "order.json")
    typed(cases.city.home.root, "reveal", "sign", out, "--yes", "--as", DEPUTY)
    shown = typed(cases.city.home.root, "reveal", "open", out, "--output", "json", "--as", KEEPER)
    ((sent, raw),) = shown.json["values"].items()
    assert raw in set(cases.source["case_no"])
    assert raw not in shown.err
    again = typed(cases.city.home.root, "reveal", "open", out, "--as", KEEPER, code=2).err
    refused_text = str(refused(lambda: cases.send(Envelope.from_bytes(out.read_bytes())), Reason.STATE_WRONG))
    cards = cases.opened(cases.signed(cases.order(field="card_no", values=(cases.sent("card_no"),))))
    assert not key_of(out).exists()

    home = cases.city.home.root
    files = {path: path.read_bytes() for where in (home, tmp_path) for path in where.rglob("*") if path.is_file()}
    said = {"again": again.encode(), "refused": refused_text.encode()}
    for value in (raw.encode(), *(card.encode() for card in cards)):
        marks = (value, value.hex().encode(), base64.b64encode(value).rstrip(b"="))
        assert not [str(where) for where, held in (files | said).items() if any(mark in held for mark in marks)]
    told = [held for path, held in files.items() if path.is_relative_to(home / "exchange") or path.suffix == ".log"]
    assert told
    assert not [held for held in told if sent.encode() in held or WHY.encode() in held]
    assert last(cases.agreements["analyst"]).encode() in b"".join(told)  # which they do name

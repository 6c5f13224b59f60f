"""The consumer: a company with a lawful agreement, keys of its own, a stock Flight client and patience.

It asks for more than it was given, takes without owning up, reads what refusals let slip, and keeps
others from being served. What it does with the data once it has it is in `test_consumer_releases.py`.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import msgspec
import polars as pl
import pyarrow.flight as fl
import pytest

from connectors import calling
from contracts.envelope import Kind, sign
from contracts.errors import TRAITS, Reason, SluicegateError
from exchange import agreements, keyfiles, signing, transfers
from exchange.v1 import (
    agreement_pb2,
    agreement_pb2_grpc,
    request_pb2,
    request_pb2_grpc,
    transfer_pb2,
    transfer_pb2_grpc,
)
from exchange.views import Transfer
from tests.attacks.archive import archive
from tests.attacks.conftest import ARCHIVE, DATASET, PEOPLE, REGISTRY, Attacked
from tests.attacks.raw_flight import RawFlight, said
from tests.e2e.city import CONTRACTS, City, eventually
from tests.e2e.conftest import people
from tests.e2e.steps import Fetching, refused
from tests.exchange.town import Town
from tests.rpc.served import fresh_id

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("attacks")]

LARGE = 400_000


def register(name: str, **changed: bytes) -> bytes:
    """The contract of the register under another name; `changed` are further words of it."""
    document = (CONTRACTS / "people.odcs.yaml").read_bytes().replace(b"name: people", b"name: " + name.encode())
    for old, new in changed.items():
        document = document.replace(old.encode(), new)
    return document


@dataclass
class Big:
    """A register at the archive, of two large parts, and each company's agreement on it."""

    city: City
    analysts: str
    planners: str

    def own_up(self) -> None:
        """Settle and acknowledge whatever the analyst began, so that the next test starts afresh."""
        analyst = self.city.exchange("analyst")
        for found in analyst.transfers(self.analysts):
            if found.state == "SERVING":
                self.city.settle("analyst", found.name, "PARTIAL", "COMPLETED")
        for found in analyst.transfers(self.analysts):
            if found.state in ("PARTIAL", "COMPLETED"):
                analyst.acknowledge(found.name, content_digest=None)


@pytest.fixture(scope="module")
def big(attacked: Attacked, tmp_path_factory: pytest.TempPathFactory) -> Big:
    city, source = attacked.city, tmp_path_factory.mktemp("big") / "people.parquet"
    people(LARGE).write_parquet(source)
    document = register("people-large", registry=b"archive").replace(b"keeper@", b"archivist@")
    city.publish("archivist", document, source, gateway=ARCHIVE)
    mine, theirs = (
        city.agree(who, "archive-office/people-large", "planning", approvers=["archivist"])
        for who in ("analyst", "planner")
    )
    return Big(city, mine, theirs)


# --- asking for more than was agreed


def test_one_ticket_in_many_hands(attacked: Attacked) -> None:
    """Each part is served once per grant, whoever holds the ticket, however many ask at once."""
    with Fetching.granted(attacked.city.exchange("planner"), attacked.planners) as first:
        first.announce()
        served: list[int] = []
        ready = threading.Barrier(6)

        def friend(_: int) -> None:
            with Fetching(attacked.city.exchange("planner").transfer(first.transfer), first.ticket) as hand:
                hand.announce()
                ready.wait()
                for part in first.parts:
                    with contextlib.suppress(SluicegateError):
                        served.append(hand.read(part).num_rows)

        with ThreadPoolExecutor(6) as friends:
            list(friends.map(friend, range(6)))
        assert len(served) == len(first.parts)
        assert sum(served) == PEOPLE
        assert first.receipt()["complete"]
    attacked.city.settle("planner", first.transfer, "COMPLETED")
    attacked.city.exchange("planner").acknowledge(first.transfer, content_digest=first.intent["contentDigest"])


def test_two_transfers_at_once_are_one_release(attacked: Attacked) -> None:
    """Two grants at a time are two copies of the same rows, not two looks at the source."""
    planner = attacked.city.exchange("planner")
    with (
        Fetching.granted(planner, attacked.planners) as one,
        Fetching.granted(planner, attacked.planners) as other,
    ):
        assert one.announce()["release"] == other.announce()["release"]
        assert one.read_all().equals(other.read_all())
        for fetching in (one, other):
            assert fetching.receipt()["complete"]
            attacked.city.settle("planner", fetching.transfer, "COMPLETED")
            planner.acknowledge(fetching.transfer, content_digest=fetching.intent["contentDigest"])


def test_more_fields_than_were_agreed(attacked: Attacked, tmp_path: Path) -> None:
    """Fields are fixed in the signed agreement: nothing that a consumer says later adds one."""
    city, planner, few = attacked.city, attacked.city.exchange("planner"), ("person_id", "district")
    city.publish("keeper", register("people-few"), attacked.people, gateway=REGISTRY)
    asked = planner.request("registry-office/people-few", purpose="planning", reason="to try it", fields=few)
    city.exchange("keeper").approve(asked.name)
    draft = planner.agreement(planner.request_status(asked.name).agreement)
    assert draft.statement is not None
    # It signs an agreement with more in it.
    key = keyfiles.read_key(planner.profile.signing_key)
    for change in ({"fields": [*few, "score"]}, {"purpose": "marketing"}, {"holder": key.public.x}):
        forged = sign(Kind.AGREEMENT, {**draft.statement.payload, **change}, key)
        message = agreement_pb2.SignAgreementRequest(
            name=draft.name, statement=forged.to_bytes(), request_id=fresh_id()
        )
        sign_it = planner.connection.stub(agreement_pb2_grpc.AgreementServiceStub).SignAgreement
        refused(lambda call=sign_it, it=message: planner.connection.call(call, it), Reason.DIGEST_MISMATCH)
    agreement = planner.ready(draft.name).name
    # It writes what it wants into the tickets of the parts.
    with Fetching.granted(planner, agreement) as fetching:
        fetching.announce()
        ticket = json.loads(fetching.endpoint(0).ticket.ticket)
        for changed in ({"fields": ["score"]}, {"part": 10_000}, {"part": -1}, {"part": "*"}):
            more = fl.Ticket(json.dumps({**ticket, **changed}).encode())
            refused(lambda more=more: told(lambda: fetching.client.do_get(more).read_all()), Reason.GRANT_INVALID)
        assert tuple(fetching.read_all().schema.names) == few
    # Nor does another request help while this agreement lives; one beyond the contract never does.
    refused(lambda: city.agree("planner", "registry-office/people-few", "planning"), Reason.ALREADY_EXISTS)
    for wanted in ({"purpose": "planning", "fields": ("home",)}, {"purpose": "marketing", "fields": few}):
        refused(
            lambda wanted=wanted: city.exchange("analyst").request(
                "registry-office/people-few", reason="to try it", **wanted
            ),
            Reason.REQUEST_OUTSIDE_CONTRACT,
        )


def told(call: Callable[[], object]) -> object:
    """A Flight error as one of ours."""
    try:
        return call()
    except fl.FlightError as error:
        raise calling.told(error) from None


# --- taking without owning up


def test_all_but_the_last_rows_are_taken_and_denied(big: Big) -> None:
    """A receipt names every part that was sent and every part that was begun; until it is acknowledged
    nothing more is granted."""
    city, analyst = big.city, big.city.exchange("analyst")
    with Fetching.granted(analyst, big.analysts) as fetching:
        announced = fetching.announce()
        assert fetching.parts == [0, 1]
        fetching.read(1)
        reader, rows = fetching.stream(0), 0
        while rows < announced["parts"][0]["rows"] // 2:
            rows += reader.read_chunk().data.num_rows
        reader.cancel()
        fetching.hang_up()
        receipt = fetching.receipt()
    assert (receipt["complete"], receipt["partsSent"], receipt["partsBegun"]) == (False, [1], [0])
    told = city.settle("analyst", fetching.transfer, "PARTIAL")
    (entry,) = [
        found for found in city.exchange("archivist").entries(fetching.transfer) if found.event == "transfer.partial"
    ]
    assert (entry.entry["detail"]["sent"], entry.entry["detail"]["begun"]) == (1, 1)
    refused(lambda: analyst.create_transfer(big.analysts), Reason.RECEIPT_OUTSTANDING)
    assert told.receipt is not None
    big.own_up()
    assert analyst.create_transfer(big.analysts).grant is not None


def test_a_wrong_digest_is_acknowledged(attacked: Attacked) -> None:
    """An acknowledgement binds the digest of what was attested; another one settles nothing, and a second
    story is on record."""
    city, planner = attacked.city, attacked.city.exchange("planner")
    with Fetching.granted(planner, attacked.planners) as fetching:
        attested = fetching.announce()["contentDigest"]
        fetching.read_all()
        fetching.receipt()
    honest = signing.acknowledgement(
        planner.profile, city.settle("planner", fetching.transfer, "COMPLETED"), attested
    ).payload
    wrong = attested[:-1] + ("0" if attested[-1] != "0" else "1")
    key, holder = (keyfiles.read_key(path) for path in (planner.profile.signing_key, planner.profile.holder_key))
    send = planner.connection.stub(transfer_pb2_grpc.TransferServiceStub).AcknowledgeTransfer
    for payload, signer, reasons in (
        ({**honest, "contentDigest": wrong}, key, {Reason.DIGEST_MISMATCH, Reason.RECEIPT_INVALID}),
        ({**honest, "receiptDigest": "sha256:" + "0" * 64}, key, {Reason.RECEIPT_INVALID}),
        (honest, holder, {Reason.KEY_UNTRUSTED}),
    ):
        message = transfer_pb2.AcknowledgeTransferRequest(
            name=fetching.transfer,
            acknowledgement=sign(Kind.ACKNOWLEDGEMENT, payload, signer).to_bytes(),
            request_id=fresh_id(),
        )
        refused(lambda call=send, it=message: planner.connection.call(call, it), *reasons)
    assert city.state("planner", fetching.transfer) == "COMPLETED"
    refused(lambda: planner.create_transfer(attacked.planners), Reason.RECEIPT_OUTSTANDING)
    planner.acknowledge(fetching.transfer, content_digest=attested)
    refused(lambda: planner.acknowledge(fetching.transfer, content_digest=None), Reason.RECEIPT_INVALID)
    events = [found.event for found in city.exchange("keeper").entries(fetching.transfer)]
    assert events.count("transfer.acknowledged") == events.count("transfer.contradicted") == 1


# --- learning from refusals


@pytest.fixture
def hidden(attacked: Attacked) -> str:
    """A dataset that is for the other company alone."""
    with contextlib.suppress(SluicegateError):  # published by an earlier test already
        attacked.city.publish(
            "keeper",
            register("quiet-works").replace(b'consumers: ["*"]', b"consumers: [metro-lines]"),
            attacked.people,
            gateway=REGISTRY,
        )
    assert attacked.city.exchange("planner").dataset("registry-office/quiet-works").contract is not None
    return "quiet-works"


def same(call: Callable[[str], object], there: str, absent: str) -> None:
    """Demand that nothing in a refusal tells what is there from what is not."""
    found = []
    for name in (there, absent):
        error = refused(lambda name=name: call(name), Reason.NOT_FOUND)
        metadata = {key: value for key, value in error.metadata.items() if key != "requestId"}
        found.append((error.message.replace(name, "X"), error.violations, metadata))
    assert found[0] == found[1]


def test_refusals_tell_what_is_hidden_from_what_is_absent(attacked: Attacked, hidden: str) -> None:
    """What a company may not see is not there for it, in the very words used for what never was."""
    city, analyst, theirs = attacked.city, attacked.city.exchange("analyst"), attacked.planners
    visible = analyst.dataset(DATASET)

    def request(name: str) -> object:
        asked = signing.request(
            analyst.profile, visible, purpose="planning", fields=(), duration="P90D", reason="to try it"
        )
        key = keyfiles.read_key(analyst.profile.signing_key)
        forged = sign(Kind.REQUEST, {**asked.payload, "dataset": name}, key).to_bytes()
        message = request_pb2.CreateRequestRequest(statement=forged, request_id=fresh_id())
        create = analyst.connection.stub(request_pb2_grpc.RequestServiceStub).CreateRequest
        return analyst.connection.call(create, message)

    for ask in (
        lambda name: analyst.dataset(f"registry-office/{name}"),
        lambda name: analyst.contract(f"parties/registry-office/datasets/{name}/contracts/1.0.0"),
        lambda name: list(analyst.contracts(f"registry-office/{name}")),
        request,
    ):
        same(ask, hidden, "never-was-it")
    for ask in (analyst.party, lambda name: list(analyst.keys(name)), lambda name: list(analyst.gateways(name))):
        same(ask, "metro-lines", "never-was-it")
    for ask in (
        analyst.agreement,
        analyst.bundle,
        analyst.create_transfer,
        lambda name: analyst.terminate(name, reason="not mine"),
        analyst.sign,
    ):
        same(ask, theirs, "agreements/a-zzzzzzzzzz")
    run = next(city.exchange("planner").transfers(theirs, 1)).name
    same(analyst.transfer, run, "transfers/t-zzzzzzzzzz")
    request_name = city.exchange("planner").agreement(theirs).request
    for ask in (analyst.request_status, analyst.cancel):
        same(ask, request_name, "requests/r-zzzzzzzzzz")
    assert list(analyst.search("quiet")) == []
    assert hidden not in str([found.name for found in analyst.datasets()])
    assert list(analyst.transfers(theirs)) == list(analyst.entries(theirs)) == list(analyst.entries(run)) == []


def test_refusals_are_timed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The store is asked the same questions for what is hidden as for what is absent, and nothing after
    them: there is no work whose time could tell."""
    town = Town(tmp_path)
    deal = town.agreement()
    run = town.pull("analyst", deal).name
    hall, rival = town.hall, town.principal("rival")
    caplog.set_level(logging.DEBUG, "sluicegate.store")
    for call, there, absent in (
        (lambda name: transfers.get(hall, rival, name), run, "transfers/t-zzzzzzzzzz"),
        (lambda name: transfers.create(hall, rival, None, name), deal, "agreements/a-zzzzzzzzzz"),
        (lambda name: agreements.get(hall, rival, name), deal, "agreements/a-zzzzzzzzzz"),
    ):
        seen = []
        for name in (there, absent):
            caplog.clear()
            refused(lambda call=call, name=name: call(name), Reason.NOT_FOUND)
            seen.append(list(caplog.messages))
        assert seen[0] == seen[1] != []


def test_bounds_are_probed_by_refusals(attacked: Attacked, tmp_path: Path) -> None:
    """Figures on a failed bound go to the department; the consumer learns only that they were not met,
    and another choice of fields costs another agreement."""
    city, analyst = attacked.city, attacked.city.exchange("analyst")
    lone = pl.concat([attacked.source, attacked.source.tail(3).with_columns(district=pl.lit("island"))])
    lone.write_parquet(tmp_path / "lone.parquet")
    city.publish("keeper", register("people-lone"), tmp_path / "lone.parquet", gateway=REGISTRY)
    agreement = city.agree("analyst", "registry-office/people-lone", "planning", approvers=["keeper"])
    told = []
    for _ in range(2):
        with Fetching.granted(analyst, agreement) as fetching:
            told.append(refused(fetching.announce, Reason.BOUNDS_NOT_MET))
            refused(fetching.announce, Reason.BOUNDS_NOT_MET)
        city.settle("analyst", fetching.transfer, "REFUSED")
    assert {error.message for error in told} == {f"the gateway refused: {TRAITS[Reason.BOUNDS_NOT_MET].meaning}"}
    shown = [analyst.transfer(fetching.transfer).as_json(), [e.as_json() for e in analyst.entries(fetching.transfer)]]
    department = json.loads(city.exchange("keeper").transfer(fetching.transfer).failure_detail)
    assert department["detail" if "detail" in department else "k_lowest"]
    for word in ("k_lowest", "k_required", "share", "rows_in", "island"):
        assert word not in json.dumps(shown)
    refused(
        lambda: analyst.request(
            "registry-office/people-lone", purpose="planning", reason="to try it", fields=("person_id", "district")
        ),
        Reason.ALREADY_EXISTS,
    )


def test_a_release_that_fails_is_asked_for_again_and_again(attacked: Attacked) -> None:
    """Each look costs the gateway its whole source and the one place where releases are made. So the same rows are
    refused at once, also after a power cut, without a release begun; what the department mends is served."""
    city, analyst = attacked.city, attacked.city.exchange("analyst")
    hermits = archive(attacked, "hermits")
    honest = pl.read_parquet(hermits.source)
    pl.concat([honest, honest.tail(3).with_columns(district=pl.lit("island"))]).write_parquet(hermits.source)
    deal = city.agree("analyst", hermits.dataset, "planning", approvers=["archivist"])
    refused(lambda: analyst.pull(deal), Reason.BOUNDS_NOT_MET)
    city.town.kill(ARCHIVE)
    city.start(ARCHIVE)
    spool = city.home.gateway(ARCHIVE).parent / "spool"
    aside = spool.rename(spool.with_name("spool-aside"))
    spool.write_text("where a release would have its folder")
    try:
        for _ in range(3):
            refused(lambda: analyst.pull(deal), Reason.BOUNDS_NOT_MET)
    finally:
        spool.unlink()
        aside.rename(spool)
    keeper = city.exchange("archivist")

    def reported() -> list[str]:
        return [name for name, state in city.states("analyst", deal).items() if state == "REFUSED"]

    eventually(lambda: len(reported()) == 4, "each refusal is reported")
    told = [json.loads(keeper.transfer(name).failure_detail) for name in reported()]
    assert told == 4 * told[:1]
    assert int(told[0]["k_lowest"]) < int(told[0]["k_required"])
    honest.write_parquet(hermits.source)
    assert analyst.pull(deal).frame().height == honest.height


# --- reading what comes along


FIXED = re.compile(r"([A-Z_]+): (.+) \[[0-9a-f]{12}\](\. Detail: [A-Z][a-z]+)?")  # the last word is the library's


def test_errors_and_their_trailers_are_read_for_more(attacked: Attacked) -> None:
    """Of an error at the gateway its reason, that reason's fixed sentence and a request id leave, in no
    trailer more; at the exchange, no traceback, path or other party's name."""
    city, analyst = attacked.city, attacked.city.exchange("analyst")
    granted = analyst.create_transfer(attacked.analysts)
    ticket = analyst.sign_ticket(granted)
    whole = msgspec.json.decode(ticket)
    broken = msgspec.json.encode({**whole, "payload": {**whole["payload"], "created": "never"}})
    command = [fl.FlightDescriptor.for_command(raw).serialize() for raw in (b"", b"\xff" * 99, b"{}", broken)]
    path = fl.FlightDescriptor.for_path("/etc/passwd").serialize()
    part = json.dumps({"ticket": whole, "part": 0}).encode()
    attempts = [
        *(("GetFlightInfo", message) for message in (*command, path)),
        *(("GetSchema", message) for message in (*command, path)),
        *(("DoGet", fl.Ticket(raw).serialize()) for raw in (b"", b"\xff" * 99, b"{}", broken, part)),
        ("ListFlights", b""),
        *(("DoAction", action(kind, b"{}")) for kind in ("receipt", "suspend", "reveal", "nothing", "health/../x")),
        ("DoAction", action("receipt", ticket)),
    ]
    texts = []
    with RawFlight(granted.gateway_address, granted.gateway_ca_certificate) as raw:
        for method, message in attempts:
            with pytest.raises(grpc.RpcError) as caught:
                raw.stream(method, message)
            words = FIXED.fullmatch(caught.value.details())
            assert words, (method, caught.value.details())
            assert words[2] == TRAITS[Reason(words[1])].meaning
            texts.append(said(caught.value))
        for method, message in (("Nothing", b""), ("GetFlightInfo", b"\xff" * 50), ("DoGet", b"\x0a\xff")):
            with pytest.raises(grpc.RpcError) as caught:  # the library's own answers
                raw.stream(method, message)
            texts.append(said(caught.value))
    for call in (
        lambda: analyst.create_transfer("agreements/../../etc"),
        lambda: analyst.create_transfer(attacked.planners),
        lambda: analyst.create_transfer(attacked.analysts, resume="transfers/t-zzzzzzzzzz"),
        lambda: analyst.dataset("registry-office/" + "x" * 200),
        lambda: list(analyst.search("%' OR 1=1 --")) or analyst.agreement("agreements/%"),
        lambda: analyst.acknowledge(granted.name, content_digest="sha256:0"),
        lambda: analyst.approve("requests/r-zzzzzzzzzz"),
    ):
        with pytest.raises(SluicegateError) as ours:
            call()
        texts.append(repr((str(ours.value), ours.value.metadata, ours.value.violations)))
    secrets = [str(city.home.root), str(attacked.people), "Traceback", ".py", "sqlite", "metro-lines", "planner@"]
    secrets += attacked.source["person_id"].head(200).to_list()
    for text in (*texts, *(unpacked(text) for text in texts)):
        assert not [secret for secret in secrets if secret in text], text


def action(kind: str, body: bytes) -> bytes:
    """A Flight action as its message: two fields of bytes."""
    return b"".join(bytes([tag]) + _varint(len(value)) + value for tag, value in ((0x0A, kind.encode()), (0x12, body)))


def _varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + _varint(number >> 7)


def unpacked(text: str) -> str:
    """The trailers with what is base64 in them read."""
    found = ""
    for word in re.findall(r"[A-Za-z0-9+/=]{24,}", text):
        with contextlib.suppress(ValueError):
            found += base64.b64decode(word, validate=True).decode(errors="replace")
    return found


def test_health_and_reflection_are_read_for_others(attacked: Attacked) -> None:
    """A gateway tells anybody counts and times, and describes nothing: no party, dataset or agreement."""
    city, planner = attacked.city, attacked.city.exchange("planner")
    with Fetching.granted(planner, attacked.planners) as theirs:
        theirs.announce()
        theirs.read(0)
        granted = planner.transfer(theirs.transfer)
        with RawFlight(granted.gateway_address, granted.gateway_ca_certificate) as raw:
            health = json.loads(fl.Result.deserialize(raw.stream("DoAction", action("health", b""))).body.to_pybytes())
            listed = raw.stream("ListActions", b"")
            for method, message in (("ListFlights", b""), ("PollFlightInfo", b"")):
                with pytest.raises(grpc.RpcError):
                    raw.stream(method, message)
            for service in (
                "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                "grpc.health.v1.Health/Check",
            ):
                with pytest.raises(grpc.RpcError) as caught:
                    raw.ask(f"/{service}", b"")
                assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert health["transfers"] >= 1
        assert all(isinstance(value, int | float | bool | str) for value in health.values())
        shown = json.dumps(health) + listed.decode(errors="replace")
        for word in ("metro", "harbour", "people", attacked.planners, theirs.transfer, str(city.home.root), "a-", "t-"):
            assert word not in shown.replace("data-", ""), word
        for part in theirs.parts[1:]:
            theirs.read(part)
        theirs.receipt()
    city.settle("planner", theirs.transfer, "COMPLETED")
    planner.acknowledge(theirs.transfer, content_digest=theirs.intent["contentDigest"])


# --- keeping others from being served


def test_a_thousand_streams_are_opened_at_once(big: Big) -> None:
    """A consumer has a few slots at a gateway; the rest of its streams are refused, and others are served."""
    city, analyst = big.city, big.city.exchange("analyst")
    granted = [analyst.create_transfer(big.analysts) for _ in range(6)]
    with RawFlight(granted[0].gateway_address, granted[0].gateway_ca_certificate) as raw:
        firsts = [raw.info(analyst.sign_ticket(run))[1][0].ticket.serialize() for run in granted]
        with Running(granted[0]) as running:
            calls, answers = list[Any](), list[str]()
            for _ in range(12):  # in one moment they would be a thousand threads: the port's own weakness
                wave = [raw.begin("DoGet", first, timeout=300) for _ in range(14) for first in firsts]
                answers += [answer(call) for call in wave]
                calls += wave
        assert city.exchange("planner").pull(big.planners).rows == LARGE
        assert len(answers) == 1_008
        # Where the flood takes so much of the machine that heartbeats come late, nothing is served: closed, not open.
        assert set(answers) <= {"rows", "TOO_MANY_TRANSFERS", "GRANT_USED", "CONTROL_PLANE_SILENT"}
        # A slot is free again once its rows are on their way: then another grant has its turn, once.
        assert 1 <= answers.count("rows") <= len(granted)
        assert 1 <= running.most <= 4
        for call in calls:
            call.cancel()
        for run in granted:
            raw.stream("DoAction", action("receipt", analyst.sign_ticket(run)))
    big.own_up()
    assert analyst.pull(big.analysts).rows == LARGE


class Running:
    """The most streams that a gateway says it runs while the block lasts, as anybody can ask: `most`."""

    def __init__(self, granted: Transfer) -> None:
        self.most = 0
        self._there, self._over = granted, threading.Event()
        self._asking = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self) -> Running:
        self._asking.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._asking.join()

    def _ask(self) -> None:
        with RawFlight(self._there.gateway_address, self._there.gateway_ca_certificate) as raw:
            while not self._over.is_set():
                told = fl.Result.deserialize(
                    raw.stream("DoAction", action("health", b""), timeout=300)
                ).body.to_pybytes()
                self.most = max(self.most, json.loads(told)["streams"])


def answer(call: Iterator[bytes]) -> str:
    """`rows` for a stream that began, else the reason why it did not."""
    try:
        next(call)  # the schema
        next(call)
    except grpc.RpcError as error:
        return error.details().split(":")[0]
    return "rows"

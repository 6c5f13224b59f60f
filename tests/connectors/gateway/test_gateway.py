"""The gate, end to end: a stock Flight client over TLS, real papers, policy, masks and state."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.flight as fl
import pytest
from msgspec.structs import replace

from connectors import calling, dictionaries
from connectors.digest import ContentDigest
from connectors.sources import SourceSettings
from contracts import receipt as receipts
from contracts.envelope import Envelope, Kind
from contracts.errors import Reason, SluicegateError
from contracts.receipt import Receipt
from contracts.trust import PartyKind
from tests import papers
from tests.connectors.gate import (
    Gate,
    act,
    fetch_all,
    info_of,
    intent_of,
    make_gate,
    reason,
    receipt_of,
    refused,
    until,
)

# Parts of about 4 kB: a release of some twenty parts.
SMALL = {"part_bytes": 4096, "memory_limit": 1 << 20}


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    made = make_gate(tmp_path, slots_per_party=4, **SMALL)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def one_part(tmp_path: Path) -> Iterator[Gate]:
    made = make_gate(tmp_path)
    made.start()
    yield made
    made.stop()


def stored(gate: Gate, transfer: str) -> Receipt:
    until(lambda: transfer in gate.exchange.receipts)
    envelope = gate.exchange.receipts[transfer]
    return receipts.verify_receipt(envelope, gate.papers.verified, at=gate.clock())


# --- the whole way


def test_a_stock_client_gets_masked_rows_and_a_receipt_that_verifies(gate: Gate) -> None:
    client, ticket = gate.client(), gate.ticket()
    info = info_of(client, ticket)
    assert len(info.endpoints) > 3
    assert info.total_records == 4800
    tables = fetch_all(client, info)
    frame = pl.concat([pl.from_arrow(table) for table in tables])
    assert frame.columns == ["home_postcode", "visit_ts", "hospital_code"]
    assert set(frame["home_postcode"]) == {"10", "11"}
    assert frame.group_by(frame.columns).len()["len"].min() == 200
    envelope = Envelope.from_bytes(act(client, "receipt", ticket))
    intent = Envelope(**json.loads(info.app_metadata)["intent"])
    digest = ContentDigest(intent_of(info).schema, "blake3")
    for part, table in enumerate(tables):
        digest.update(part, table)
    attested = receipts.verify_receipt(
        envelope, gate.papers.verified, at=gate.clock(), intent=intent, content_digest=digest.finish()
    )
    assert attested.complete
    assert attested.rows_in == attested.rows_out == 4800
    assert gate.exchange.intents[attested.transfer].payload == intent.payload
    assert stored(gate, attested.transfer) == attested


def test_dictionaries_go_to_whoever_says_that_it_takes_them(gate: Gate) -> None:
    """The same rows and digests in fewer bytes; every other client gets the types that it was announced."""
    client, sizes = gate.client(), {}
    for said in ("dictionaries", "dictionary", ""):
        info = info_of(client, gate.ticket())
        announced = intent_of(info)
        digest = ContentDigest(announced.schema, announced.hash)
        options = calling.within(30, (dictionaries.ACCEPT[0], said))
        tables = [client.do_get(endpoint.ticket, options).read_all() for endpoint in info.endpoints]
        for part, table in enumerate(tables):
            digest.update(part, table)
            assert said == "dictionaries" or table.schema == info.schema
        packed = {field.name for field in tables[0].schema if pa.types.is_dictionary(field.type)}
        assert packed == ({*info.schema.names} if said == "dictionaries" else set())
        assert digest.finish() == announced.content_digest
        sizes[said] = sum(table.nbytes for table in tables)
    assert sizes["dictionaries"] * 2 < sizes["dictionary"] == sizes[""]


def test_the_intent_is_reported_before_the_first_row(gate: Gate) -> None:
    client = gate.client()
    info = info_of(client, gate.ticket())
    assert gate.exchange.calls[-1] == "report_intent"
    client.do_get(info.endpoints[0].ticket).read_all()


def test_the_receipt_is_signed_without_being_asked_for_once_all_parts_left(gate: Gate) -> None:
    client, ticket = gate.client(), gate.ticket()
    info = info_of(client, ticket)
    fetch_all(client, info)
    assert stored(gate, intent_of(info).transfer).complete
    assert gate.gateway.health()["transfers"] == 0


def test_a_part_whose_end_was_never_taken_is_on_the_receipt(gate: Gate) -> None:
    """Whoever takes every row and drops the stream before its end has the rows: the receipt says so."""
    client, ticket = gate.client(), gate.ticket()
    info = info_of(client, ticket)
    release, stream = gate.gateway.stream(info.endpoints[0].ticket.ticket, peer="ipv4:127.0.0.1:1")
    rows = 0
    while rows < release.parts[0].rows:
        rows += next(stream).num_rows
    stream.close()
    receipt = receipt_of(act(client, "receipt", ticket))
    assert (receipt.parts_sent, receipt.parts_begun, receipt.complete) == ((), (0,), False)
    rest = gate.ticket(release=receipt.release)
    fetch_all(client, info_of(client, rest))
    whole = receipt_of(act(client, "receipt", rest))
    assert (whole.parts_begun, whole.complete) == ((), True)


@pytest.mark.parametrize("register", ["residents", "nobody"])
def test_people_are_looked_up_in_a_register_that_is_bound(tmp_path: Path, register: str) -> None:
    """The same rows as their own register, matched by fewer columns; one that is not there refuses the release."""
    visits = SourceSettings(path=str(tmp_path / "visits.parquet"), format="parquet", register=register)
    gate = make_gate(tmp_path, datasets={"hospital-visits": visits, "residents": visits})
    gate.start()
    client, ticket = gate.client(), gate.ticket()
    if register == "nobody":
        assert refused(lambda: info_of(client, ticket)) == "SOURCE_UNAVAILABLE"
    else:
        bounds = intent_of(info_of(client, ticket)).bounds
        assert bounds is not None
        assert bounds.certificate is not None
        assert bounds.certificate.journalist_risk is not None
        assert 0 < bounds.certificate.journalist_risk <= bounds.certificate.dr_b
    gate.stop()


def test_a_register_that_was_mended_is_looked_into_again(tmp_path: Path) -> None:
    """What it refused is remembered, and no longer than it is as it was."""
    visits = SourceSettings(path=str(tmp_path / "visits.parquet"), format="parquet", register="residents")
    residents = SourceSettings(path=str(tmp_path / "residents.parquet"), format="parquet")
    gate = make_gate(tmp_path, datasets={"hospital-visits": visits, "residents": residents})
    people = pl.read_parquet(tmp_path / "visits.parquet")
    people.drop("citizen_id").write_parquet(tmp_path / "residents.parquet")
    gate.start()
    client = gate.client()
    for _ in range(2):
        assert refused(lambda: info_of(client, gate.ticket())) == "DATA_INVALID"
    people.write_parquet(tmp_path / "residents.parquet")
    assert intent_of(info_of(client, gate.ticket())).bounds is not None
    gate.stop()


def test_pulls_within_the_refresh_interval_serve_the_same_release(gate: Gate) -> None:
    client = gate.client()
    first = info_of(client, gate.ticket())
    tables = fetch_all(client, first)
    pl.read_parquet(gate.folder / "visits.parquet").head(100).write_parquet(gate.folder / "visits.parquet")
    gate.clock.now += 6 * papers.DAY
    second = info_of(client, gate.ticket())
    assert intent_of(second).release == intent_of(first).release
    assert intent_of(second).content_digest == intent_of(first).content_digest
    assert fetch_all(client, second) == tables
    assert stored(gate, intent_of(second).transfer).complete


def test_after_the_refresh_interval_the_release_is_made_anew_and_the_old_one_removed(gate: Gate) -> None:
    client = gate.client()
    first = info_of(client, gate.ticket())
    fetch_all(client, first)
    gate.clock.now += 7 * papers.DAY
    gate.gateway.tick()
    assert list((gate.folder / "spool").iterdir()) == []
    second = info_of(client, gate.ticket())
    assert intent_of(second).release != intent_of(first).release
    assert [entry.name for entry in (gate.folder / "spool").iterdir()] == [intent_of(second).release]


def test_a_release_that_is_being_served_outlives_its_interval(gate: Gate) -> None:
    client = gate.client()
    gate.clock.now = papers.NOW
    info_of(client, gate.ticket())
    gate.clock.now += 7 * papers.DAY - 60
    info = info_of(client, gate.ticket())
    gate.clock.now += 120
    gate.gateway.tick()
    assert sum(table.num_rows for table in fetch_all(client, info)) == 4800
    until(lambda: not list((gate.folder / "spool").iterdir()))


def test_asking_for_the_info_again_gives_the_same_transfer(gate: Gate) -> None:
    client, ticket = gate.client(), gate.ticket()
    assert info_of(client, ticket).app_metadata == info_of(client, ticket).app_metadata
    assert gate.exchange.calls.count("report_intent") == 1


def test_two_pulls_at_once_make_one_release(gate: Gate) -> None:
    found: list[str] = []

    def pull() -> None:
        found.append(intent_of(info_of(gate.client(), ticket.pop())).release)

    ticket = [gate.ticket() for _ in range(4)]
    threads = [threading.Thread(target=pull) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert gate.exchange.calls.count("report_intent") == 4


# --- tickets


def test_a_part_is_served_once_per_grant(gate: Gate) -> None:
    client = gate.client()
    info = info_of(client, gate.ticket())
    client.do_get(info.endpoints[0].ticket).read_all()
    assert refused(lambda: client.do_get(info.endpoints[0].ticket).read_all()) == "GRANT_USED"
    client.do_get(info.endpoints[1].ticket).read_all()


def test_a_ticket_of_another_holder_is_refused_and_does_not_harm_the_transfer(gate: Gate) -> None:
    client, grant = gate.client(), gate.grant()
    stolen = gate.papers.ticket_of(grant, holder=papers.key("a thief"))
    assert refused(lambda: info_of(client, stolen)) == "GRANT_INVALID"
    assert gate.exchange.refusals == {}
    assert info_of(client, gate.papers.ticket_of(grant)).total_records == 4800
    assert refused(lambda: info_of(client, stolen)) == "GRANT_INVALID"
    assert refused(lambda: act(client, "receipt", stolen)) == "GRANT_INVALID"


@pytest.mark.parametrize(
    "changed",
    [
        {"gateway": "health-bureau-2"},
        {"agreement_digest": "sha256:" + "0" * 64},
        {"parts": ()},
        {"parts": (999,)},
        {"parts": (-1,)},
    ],
)
def test_grants_that_do_not_fit_are_refused(gate: Gate, changed: dict[str, Any]) -> None:
    ticket = gate.ticket(**changed)
    assert refused(lambda: info_of(gate.client(), ticket)) == "GRANT_INVALID"


def test_a_grant_of_somebody_else_is_refused_before_anything_is_fetched(gate: Gate) -> None:
    grant = gate.grant()
    forged = papers.Cast.sign(papers.Kind.GRANT, grant.payload, "root:health-bureau")
    asked = len(gate.exchange.calls)
    assert refused(lambda: info_of(gate.client(), gate.papers.ticket_of(forged))) == "GRANT_INVALID"
    assert len(gate.exchange.calls) == asked


def test_an_expired_grant_is_refused_for_info_and_parts_but_still_gives_its_receipt(gate: Gate) -> None:
    client, late, ticket = gate.client(), gate.ticket(), gate.ticket()
    info = info_of(client, ticket)
    gate.clock.now += 600
    assert refused(lambda: info_of(client, late)) == "GRANT_EXPIRED"
    assert refused(lambda: client.do_get(info.endpoints[0].ticket).read_all()) in ("GRANT_EXPIRED", "GRANT_USED")
    receipt = receipt_of(act(client, "receipt", ticket))
    assert (receipt.complete, receipt.parts_sent) == (False, ())


def test_a_transfer_that_nobody_fetches_ends_with_its_grant(gate: Gate) -> None:
    info = info_of(gate.client(), gate.ticket())
    gate.clock.now += 601
    gate.gateway.tick()
    receipt = stored(gate, intent_of(info).transfer)
    assert (receipt.complete, receipt.parts_sent) == (False, ())


def test_a_second_grant_for_a_transfer_is_refused(gate: Gate) -> None:
    client, grant = gate.client(), gate.grant()
    info_of(client, gate.papers.ticket_of(grant))
    other = gate.grant(transfer=grant.payload["transfer"])
    assert refused(lambda: info_of(client, gate.papers.ticket_of(other))) == "GRANT_INVALID"


def test_a_grant_covers_only_the_parts_it_names(gate: Gate) -> None:
    client = gate.client()
    info_of(client, gate.ticket())
    ticket = gate.ticket(parts=(1, 2))
    info = info_of(client, ticket)
    assert [json.loads(endpoint.ticket.ticket)["part"] for endpoint in info.endpoints] == [1, 2]
    other = json.dumps({"ticket": json.loads(ticket), "part": 0}).encode()
    assert refused(lambda: client.do_get(fl.Ticket(other)).read_all()) == "GRANT_INVALID"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"null",
        b"[1]",
        b"\xff\xfe",
        b'{"part": 0}',
        b'{"ticket": {}, "part": 0}',
        b'{"ticket": {"payload": {}, "signatures": []}, "part": 0}',
        b'{"ticket": {"payload": {}, "signatures": []}, "part": true}',
        b'{"ticket": {"payload": {}, "signatures": []}, "part": -1}',
        b'{"ticket": {"payload": {}, "signatures": []}, "part": 1e400}',
        b"[" * 20000,
    ],
)
def test_malformed_tickets_are_refused(one_part: Gate, raw: bytes) -> None:
    client = one_part.client()
    assert refused(lambda: client.do_get(fl.Ticket(raw)).read_all()) == "GRANT_INVALID"
    assert refused(lambda: info_of(client, raw or b"x")) == "GRANT_INVALID"


def test_oversized_tickets_and_bodies_are_refused(one_part: Gate) -> None:
    client, large = one_part.client(), b"x" * 300_000
    assert refused(lambda: client.do_get(fl.Ticket(large)).read_all()) == "TOO_LARGE"
    assert refused(lambda: info_of(client, large)) in ("TOO_LARGE", "GRANT_INVALID")
    assert refused(lambda: act(client, "receipt", large)) == "TOO_LARGE"


def test_a_part_of_a_transfer_that_was_not_begun_is_refused(one_part: Gate) -> None:
    ticket = json.dumps({"ticket": json.loads(one_part.ticket()), "part": 0}).encode()
    assert refused(lambda: one_part.client().do_get(fl.Ticket(ticket)).read_all()) == "GRANT_INVALID"


def test_everything_else_that_flight_can_do_is_refused(one_part: Gate) -> None:
    client = one_part.client()
    descriptor = fl.FlightDescriptor.for_path("x")
    schema = pa.schema([("a", pa.int64())])

    def put() -> None:
        writer, _ = client.do_put(descriptor, schema)
        writer.write_batch(pa.record_batch([[1]], schema=schema))
        writer.close()

    def exchange() -> None:
        writer, reader = client.do_exchange(descriptor)
        with writer:
            writer.begin(schema)
            reader.read_all()

    assert refused(lambda: list(client.list_flights())) == "INVALID_ARGUMENT"
    assert refused(put) == "INVALID_ARGUMENT"
    assert refused(exchange) == "INVALID_ARGUMENT"
    assert refused(lambda: client.get_flight_info(descriptor)) == "GRANT_INVALID"
    with pytest.raises(OSError, match=r"^INVALID_ARGUMENT"):  # what pyarrow makes of any error of this call
        client.get_schema(fl.FlightDescriptor.for_command(one_part.ticket()))
    assert refused(lambda: act(client, "shutdown")) == "INVALID_ARGUMENT"
    assert {action.type for action in client.list_actions()} == {"receipt", "suspend", "reveal", "health"}


def test_without_the_right_certificate_there_is_no_connection(one_part: Gate) -> None:
    from connectors import tls

    other, _ = tls.self_signed(now=int(time.time()))
    client = fl.FlightClient(one_part.address, tls_root_certs=other)
    with pytest.raises(fl.FlightUnavailableError):
        info_of(client, one_part.ticket())
    plain = fl.FlightClient(one_part.address.replace("grpc+tls", "grpc"))
    with pytest.raises(fl.FlightError):
        plain.do_get(fl.Ticket(b"x"), fl.FlightCallOptions(timeout=5)).read_all()


# --- what the department did not sign


def test_an_agreement_that_the_department_did_not_sign_is_refused(one_part: Gate) -> None:
    forged = papers.make(cast=one_part.papers.cast, agreement_signers=(papers.ANALYST,), approvers=(papers.STEWARD,))
    one_part.exchange.bundles[forged.agreed.id] = forged.bundle
    assert refused(lambda: info_of(one_part.client(), one_part.ticket())) != ""
    assert list((one_part.folder / "spool").iterdir()) == []


def test_an_agreement_without_approval_is_refused(one_part: Gate) -> None:
    bundle = one_part.papers.bundle
    import msgspec

    one_part.exchange.bundles[one_part.papers.agreed.id] = msgspec.structs.replace(bundle, approvals=())
    with pytest.raises(SluicegateError):
        one_part.gateway.open(one_part.ticket())
    assert list((one_part.folder / "spool").iterdir()) == []


def test_an_expired_agreement_is_refused(one_part: Gate) -> None:
    one_part.clock.now += 400 * papers.DAY
    one_part.hear()
    with pytest.raises(SluicegateError):
        one_part.gateway.open(one_part.ticket())


def test_the_gateways_own_policy_decides_again(tmp_path: Path) -> None:
    """The exchange granted; the department's engine has another bundle than the trust file accepts."""
    made = make_gate(tmp_path)
    made.papers = papers.make(cast=papers.Cast())  # a trust file with another policy digest
    made.exchange.bundles[made.papers.agreed.id] = made.papers.bundle
    made.start()
    try:
        ticket = made.ticket()
        assert refused(lambda: info_of(made.client(), ticket)) == "POLICY_UNAVAILABLE"
        assert made.exchange.refusals == {}
    finally:
        made.stop()


def test_the_gateways_own_policy_refuses_what_the_exchange_granted(tmp_path: Path) -> None:
    """The exchange granted; in the trust file of the department the consumer is of a kind that gets no data."""
    made = make_gate(tmp_path)
    consumer = made.papers.consumer
    pinned = made.papers.trust
    kept = replace(pinned.parties[consumer], kind=PartyKind.SUPERVISION)
    made.extra["trust"] = replace(pinned, parties={**pinned.parties, consumer: kept})
    made.start()
    try:
        assert refused(lambda: info_of(made.client(), made.ticket())) == "POLICY_REFUSED"
        assert list((tmp_path / "spool").iterdir()) == []
    finally:
        made.stop()


def test_another_departments_agreement_is_not_served(tmp_path: Path) -> None:
    """Of two departments whose gateways have the same name, each serves its own agreements only."""
    made = make_gate(tmp_path, party="city-data-office")
    made.start()
    try:
        assert refused(lambda: info_of(made.client(), made.ticket())) == "GRANT_INVALID"
        assert list((tmp_path / "spool").iterdir()) == []
    finally:
        made.stop()


def test_a_revocation_that_the_exchange_hides_again_counts(one_part: Gate) -> None:
    """Shown once is remembered, also when the very bundle that showed it was refused for it."""
    gate, bundle = one_part, one_part.papers.bundle
    taken_back = gate.papers.cast.revocation(papers.PROVIDER, papers.STEWARD, gate.clock())
    gate.exchange.bundles[gate.papers.agreed.id] = replace(bundle, revocations=(taken_back,))
    assert refused(lambda: info_of(gate.client(), gate.ticket())) == "KEY_UNTRUSTED"
    gate.exchange.bundles[gate.papers.agreed.id] = bundle
    assert refused(lambda: info_of(gate.client(), gate.ticket())) == "KEY_UNTRUSTED"


def test_a_revocation_that_the_department_did_not_sign_is_not_remembered(one_part: Gate) -> None:
    """Else one lie of the exchange would stop the gateway for ever."""
    gate, bundle = one_part, one_part.papers.bundle
    genuine = gate.papers.cast.revocation(papers.PROVIDER, papers.STEWARD, gate.clock())
    forged = papers.Cast.sign(Kind.REVOCATION, genuine.payload, "checkpoint")
    gate.exchange.bundles[gate.papers.agreed.id] = replace(bundle, revocations=(forged,))
    assert refused(lambda: info_of(gate.client(), gate.ticket())) == "KEY_UNTRUSTED"
    gate.exchange.bundles[gate.papers.agreed.id] = bundle
    assert info_of(gate.client(), gate.ticket()).endpoints


def test_schema_drift_is_refused_and_told_to_the_department_only(one_part: Gate) -> None:
    path = one_part.folder / "visits.parquet"
    pl.read_parquet(path).drop("home_postcode").write_parquet(path)
    client, ticket = one_part.client(), one_part.ticket()
    with pytest.raises(fl.FlightError) as caught:
        info_of(client, ticket)
    assert reason(caught.value) == "PLAN_REFUSED"
    assert "home_postcode" not in str(caught.value)
    until(lambda: one_part.exchange.refusals)
    (told,) = one_part.exchange.refusals.values()
    assert told[0] == "PLAN_REFUSED"
    assert "home_postcode" in told[1]["violations"]
    assert refused(lambda: info_of(client, ticket)) == "PLAN_REFUSED"


def test_a_missing_source_is_refused_without_its_path(one_part: Gate) -> None:
    (one_part.folder / "visits.parquet").unlink()
    with pytest.raises(fl.FlightError) as caught:
        info_of(one_part.client(), one_part.ticket())
    assert reason(caught.value) == "SOURCE_UNAVAILABLE"
    assert str(one_part.folder) not in str(caught.value)


def test_failed_bounds_are_told_to_the_department_with_figures_and_to_the_consumer_without(tmp_path: Path) -> None:
    made = make_gate(tmp_path, rows={"people": 20, "visits_each": 12})
    made.start()
    try:
        client, ticket = made.client(), made.ticket()
        with pytest.raises(fl.FlightError) as caught:
            info_of(client, ticket)
        text = str(caught.value)
        assert text.startswith("BOUNDS_NOT_MET: the re-identification bounds were not met [")
        assert "10" not in text.split("[")[0]
        until(lambda: made.exchange.refusals)
        (told,) = made.exchange.refusals.values()
        assert told[0] == "BOUNDS_NOT_MET"
        assert told[1]["k_required"] == "20"
        assert int(told[1]["k_lowest"]) < 20
        assert list((tmp_path / "spool").iterdir()) == []
        made_again = made.exchange.calls.count("agreement_bundle")
        assert refused(lambda: info_of(client, ticket)) == "BOUNDS_NOT_MET"
        assert made.exchange.calls.count("agreement_bundle") == made_again
    finally:
        made.stop()


# --- nothing but our own words leaves


def every_text(error: BaseException) -> str:
    extra = getattr(error, "extra_info", None) or b""
    return f"{error!r} {error} {extra!r} {error.__cause__!r} {error.__context__!r}"


def test_a_data_error_that_quotes_a_cell_is_told_as_internal_with_a_request_id(
    one_part: Gate, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from connectors.releases import release

    def quoting(*_: Any, **__: Any) -> None:
        pl.DataFrame({"citizen_id": ["CID000042"]}).select(pl.col("citizen_id").cast(pl.Int64))

    with pytest.raises(pl.exceptions.PolarsError, match="CID000042"):
        quoting()
    monkeypatch.setattr(release, "make", quoting)
    with pytest.raises(fl.FlightError) as caught:
        info_of(one_part.client(), one_part.ticket())
    text = every_text(caught.value)
    assert reason(caught.value) == "INTERNAL"
    for secret in ("CID000042", "citizen_id", "Traceback", ".py", "polars"):
        assert secret not in text
    assert "CID000042" not in caplog.text
    until(lambda: one_part.exchange.refusals)
    assert "CID000042" not in str(one_part.exchange.refusals)


def test_an_error_in_the_middle_of_a_stream_says_nothing_either(
    one_part: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    from connectors.releases import release

    real = release.read_part

    def broken(*arguments: Any) -> Iterator[pa.RecordBatch]:
        yield from list(real(*arguments))[:1]
        pl.DataFrame({"citizen_id": ["CID000042"]}).select(pl.col("citizen_id").cast(pl.Int64))

    monkeypatch.setattr(release, "read_part", broken)
    client, ticket = one_part.client(), one_part.ticket()
    info = info_of(client, ticket)
    with pytest.raises(fl.FlightError) as caught:
        client.do_get(info.endpoints[0].ticket).read_all()
    assert reason(caught.value) == "INTERNAL"
    for secret in ("CID000042", "citizen_id", "Traceback", ".py"):
        assert secret not in every_text(caught.value)
    assert receipt_of(act(client, "receipt", ticket)).parts_sent == ()
    assert one_part.gateway.health()["streams"] == 0


@pytest.mark.parametrize("where", ["open", "stream", "receipt", "suspend", "reveal", "health"])
def test_no_handler_lets_an_unexpected_error_out(one_part: Gate, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("CID000042 at /secret/place")

    monkeypatch.setattr(one_part.gateway, where, broken)
    client = one_part.client()
    calls = {
        "open": lambda: info_of(client, b"x"),
        "stream": lambda: client.do_get(fl.Ticket(b"x")).read_all(),
        "receipt": lambda: act(client, "receipt", b"x"),
        "suspend": lambda: act(client, "suspend", b"x"),
        "reveal": lambda: act(client, "reveal", b"x"),
        "health": lambda: act(client, "health"),
    }
    with pytest.raises((fl.FlightError, pa.ArrowException)) as caught:
        calls[where]()
    assert reason(caught.value) == "INTERNAL"
    assert "CID000042" not in every_text(caught.value)
    assert "/secret" not in every_text(caught.value)
    assert "Traceback" not in every_text(caught.value)


def test_every_reason_has_a_flight_error_with_the_fixed_sentence() -> None:
    from connectors.gateway.flight import _told
    from contracts.errors import TRAITS

    for known in Reason:
        error = _told(known, "abc123")
        assert isinstance(error, fl.FlightError)
        assert str(error) == f"{known}: {TRAITS[known].meaning} [abc123]"


# --- stopping


def test_health_is_counts_and_times(one_part: Gate) -> None:
    health = json.loads(act(one_part.client(), "health"))
    assert health["serving"] is True
    assert health["gateway"] == "health-bureau-1"
    assert health["streams"] == health["transfers"] == health["outbox"] == 0


def test_plaintext_has_to_be_asked_for(one_part: Gate) -> None:
    from connectors.gateway.flight import FlightGateway

    for host, unsafe in (("127.0.0.1", False), ("0.0.0.0", True)):
        with pytest.raises(SluicegateError) as caught:
            FlightGateway(one_part.gateway, host, 0, tls=None, entropy=bytes, unsafe_plaintext=unsafe)
        assert caught.value.reason is Reason.CONFIG_UNSAFE


@pytest.mark.parametrize("said", ["", "dictionaries"])
def test_the_wire_carries_no_raw_value(gate: Gate, said: str) -> None:
    """Every byte of every batch, buffers under nulls and beyond slices included."""
    client = gate.client()
    info = info_of(client, gate.ticket())
    sink = pa.BufferOutputStream()
    for endpoint in info.endpoints:
        reader = client.do_get(endpoint.ticket, calling.within(30, (dictionaries.ACCEPT[0], said)))
        with pa.ipc.new_stream(sink, reader.schema) as writer:
            for chunk in reader:
                writer.write_batch(chunk.data)
                for column in chunk.data.columns:
                    for buffer in column.buffers():
                        sink.write(buffer or b"")
    wire = sink.getvalue().to_pybytes()
    raw = pl.read_parquet(gate.folder / "visits.parquet")
    for column in ("citizen_id", "patient_name", "home_postcode", "diagnosis_icd10"):
        assert not [value for value in raw[column].unique() if value.encode() in wire]


def test_what_opens_the_class_commitment_outlives_the_release(gate: Gate) -> None:
    import hashlib

    client, ticket = gate.client(), gate.ticket()
    fetch_all(client, info_of(client, ticket))
    bounds = receipt_of(act(client, "receipt", ticket)).bounds
    assert bounds is not None
    gate.clock.now += 7 * papers.DAY
    gate.gateway.tick()
    (opening,) = (gate.folder / "openings").iterdir()
    assert bounds.class_commitment == "sha256:" + hashlib.sha256(opening.read_bytes()).hexdigest()
    assert opening.stat().st_mode & 0o077 == 0
    assert opening.parent.stat().st_mode & 0o077 == 0

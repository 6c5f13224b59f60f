"""Pulling: what arrives is verified before it appears, what breaks off is resumed, what is wrong is refused."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.flight as fl
import pyarrow.parquet as pq
import pytest

from connectors.calling import told
from connectors.consumer import pull, sinks
from connectors.consumer.pull import Granted, Incomplete
from connectors.digest import of_file
from connectors.releases import release
from contracts import receipt as receipts
from contracts.envelope import Envelope, Kind, sign
from contracts.errors import Reason, SluicegateError, Violation
from tests import papers
from tests.connectors.gate import CERT, Gate, make_gate, receipt_of, until


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    made = make_gate(tmp_path, slots_per_party=4, part_bytes=4096, memory_limit=1 << 20)
    made.start()
    yield made
    made.stop()


def fetch(gate: Gate, sink: sinks.Sink, ticket: bytes | None = None, **more: Any) -> pull.Fetched:
    return pull.fetch(
        gate.address, CERT, ticket or gate.ticket(), sink, agreement=gate.papers.verified, clock=gate.clock, **more
    )


class Grants:
    """The exchange's side of a pull, as simple as it can be: a resume covers what no receipt says was sent."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.resumed: list[str] = []
        self.abandoned: list[str] = []

    def grant(self, resume: str, parts: tuple[int, ...] = ()) -> Granted:
        changed: dict[str, Any] = {}
        if resume:
            self.resumed.append(resume)
            until(lambda: resume in self.gate.exchange.receipts)
            known = msgspec.convert(self.gate.exchange.receipts[resume].payload, receipts.Receipt)
            left = parts or tuple(sorted(set(range(len(known.parts))) - set(known.parts_sent)))
            changed = {"release": known.release, "parts": left or None}
        ticket = self.gate.ticket(**changed)
        transfer = receipts.claimed_grant(ticket).transfer
        return Granted(transfer, self.gate.address, CERT, ticket, self.gate.papers.verified)

    def abandon(self, transfer: str) -> None:
        self.abandoned.append(transfer)


def run(gate: Gate, sink: sinks.Sink, grants: Grants | None = None, **more: Any) -> pull.PullResult:
    return pull.pull(grants or Grants(gate), sink, clock=gate.clock, pause=lambda _: None, **more)


@pytest.mark.parametrize("parallel", [1, 2])
@pytest.mark.parametrize("name", ["x.parquet", "x.arrow", "x.csv"])
def test_a_file_has_the_attested_digest(gate: Gate, tmp_path: Path, name: str, parallel: int) -> None:
    seen: list[tuple[int, int, int]] = []
    fetched = fetch(gate, sinks.open(tmp_path / name), parallel=parallel, progress=lambda *now: seen.append(now))
    receipt = receipts.verify_receipt(
        fetched.receipt,
        gate.papers.verified,
        at=gate.clock(),
        intent=fetched.intent,
        content_digest=fetched.content_digest,
    )
    assert receipt.complete
    assert of_file(tmp_path / name, receipt.schema, receipt.parts, receipt.hash) == fetched.content_digest
    assert fetched.rows == 4800
    assert seen[-1] == (4800, fetched.bytes, 4800)
    assert [rows for rows, _, _ in seen] == sorted(rows for rows, _, _ in seen)
    assert not (tmp_path / f"{name}.partial").exists()


def test_lists_arrive_in_every_kind_of_file_and_are_judged_by_their_elements(tmp_path: Path) -> None:
    """The hospital's code as a list of codes: classes are of whole lists, what is attested is every element."""
    document = papers.document()
    table = document["schema"][0]["properties"]
    (column,) = (column for column in table if column["name"] == "hospital_code")
    column |= {"logicalType": "array", "items": {"logicalType": "string"}}
    made = make_gate(tmp_path, document=document, part_bytes=4096, memory_limit=0)
    source = tmp_path / "visits.parquet"
    frame = pl.read_parquet(source)
    number = pl.int_range(pl.len()) % 3
    lists = (
        pl.when(number == 0).then(pl.lit(None)).when(number == 1).then([]).otherwise(pl.concat_list("hospital_code"))
    )
    frame.with_columns(hospital_code=lists).write_parquet(source)
    made.start()
    try:
        held = sinks.MemorySink()
        digest = fetch(made, held).content_digest
        for name in ("x.parquet", "x.arrow", "x.csv"):
            fetched = fetch(made, sinks.open(tmp_path / name))
            receipt = msgspec.convert(fetched.receipt.payload, receipts.Receipt)
            assert dict(receipt.schema)["hospital_code"] == "list(string)"
            assert fetched.content_digest == digest
            assert of_file(tmp_path / name, receipt.schema, receipt.parts, receipt.hash) == digest
        codes = held.frame()["hospital_code"]
        assert codes.dtype == pl.List(pl.String)
        assert sorted(codes.value_counts()["count"]) == [1600, 1600, 1600]
    finally:
        made.stop()


@pytest.mark.parametrize("slots", [1, 2])
def test_as_many_streams_run_as_the_gateway_has_slots_for(tmp_path: Path, slots: int) -> None:
    made = make_gate(tmp_path, slots_per_party=slots, part_bytes=4096, memory_limit=1 << 20)
    made.start()
    try:
        sink = sinks.MemorySink()
        result = run(made, sink, parallel=4)
        assert (result.attempts, result.fetched.rows, sink.frame().height) == (1, 4800, 4800)
    finally:
        made.stop()


def test_a_gateway_without_any_slot_is_told_of(gate: Gate) -> None:
    gate.gateway._streams._slots_per_party = 0
    with pytest.raises(SluicegateError) as caught:
        fetch(gate, sinks.MemorySink(), parallel=2)
    assert caught.value.reason is Reason.TOO_MANY_TRANSFERS


def test_what_fails_in_one_of_two_streams_is_what_is_raised(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "read_part", cutting(3))
    sink = sinks.MemorySink()
    with pytest.raises(Incomplete) as caught:
        fetch(gate, sink, parallel=2)
    assert caught.value.reason is Reason.TRANSFER_STOPPED
    assert run(gate, sink, parallel=2, resume=caught.value.transfer).attempts == 1
    assert sink.frame().height == 4800


def test_memory_gives_a_frame(gate: Gate) -> None:
    sink = sinks.MemorySink()
    fetch(gate, sink)
    assert sink.frame().height == 4800


def cutting(after: int) -> Callable[..., Iterator[pa.RecordBatch]]:
    """Serves `after` parts in all; from then on streams break off after their first batch."""
    real, numbers = release.read_part, itertools.count()

    def read_part(made: release.Release, part: int) -> Iterator[pa.RecordBatch]:
        number = next(numbers)
        batches = list(real(made, part))
        if number == after:
            yield batches[0].slice(0, 1)
            raise SluicegateError(Reason.TRANSFER_STOPPED, "cut by the test")
        yield from batches

    return read_part


def test_a_broken_fetch_leaves_parts_and_no_output(gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "read_part", cutting(3))
    out = tmp_path / "out" / "x.parquet"
    out.parent.mkdir()
    with pytest.raises(Incomplete) as caught:
        fetch(gate, sinks.open(out))
    assert caught.value.reason is Reason.TRANSFER_STOPPED
    assert caught.value.partial is not None
    assert receipt_of(caught.value.partial.to_bytes()).parts_sent == (0, 1, 2)
    assert [entry.name for entry in out.parent.iterdir()] == ["x.parquet.partial"]
    kept = sorted(entry.name for entry in (out.parent / "x.parquet.partial").iterdir() if entry.name.startswith("part"))
    assert kept == ["part-00000.arrow", "part-00001.arrow", "part-00002.arrow"]


def test_a_broken_pull_resumes_with_the_missing_parts_only(
    gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release, "read_part", cutting(3))
    grants, out = Grants(gate), tmp_path / "x.parquet"
    result = run(gate, sinks.open(out), grants)
    assert result.attempts == 2
    assert len(grants.resumed) == 1
    total = len(receipt_of(result.fetched.receipt.to_bytes()).parts)
    assert result.fetched.parts == tuple(range(3, total))
    receipt = receipt_of(result.fetched.receipt.to_bytes())
    assert receipt.complete
    assert of_file(out, receipt.schema, receipt.parts, receipt.hash) == receipt.content_digest
    assert pq.read_metadata(out).num_rows == 4800


def test_a_pull_is_resumed_by_another_process_later(
    gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release, "read_part", cutting(3))
    out, ticket = tmp_path / "x.parquet", gate.ticket()
    with pytest.raises(Incomplete) as caught:
        fetch(gate, sinks.open(out), ticket)
    result = run(gate, sinks.open(out), resume=caught.value.transfer)
    assert result.fetched.parts[0] == 3
    assert pq.read_metadata(out).num_rows == 4800


def test_parts_that_left_but_were_lost_here_come_again(
    gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release, "read_part", cutting(3))
    out = tmp_path / "x.parquet"
    with pytest.raises(Incomplete) as caught:
        fetch(gate, sinks.open(out))
    part = tmp_path / "x.parquet.partial" / "part-00001.arrow"
    raw = bytearray(part.read_bytes())
    middle = raw.index(b"H01") if b"H01" in raw else raw.index(b"H02")
    raw[middle] ^= 1
    part.write_bytes(raw)
    result = run(gate, sinks.open(out), resume=caught.value.transfer)
    assert result.attempts == 2
    receipt = receipt_of(result.fetched.receipt.to_bytes())
    assert of_file(out, receipt.schema, receipt.parts, receipt.hash) == receipt.content_digest


def test_a_gateway_that_was_restarted_gives_the_missing_parts(
    gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release, "read_part", cutting(3))
    out = tmp_path / "x.parquet"
    with pytest.raises(Incomplete) as caught:
        fetch(gate, sinks.open(out))
    gate.stop()
    gate.start()
    grants = Grants(gate)
    result = run(gate, sinks.open(out), grants, resume=caught.value.transfer)
    assert grants.abandoned == []
    assert 0 not in result.fetched.parts
    assert pq.read_metadata(out).num_rows == 4800


def test_a_first_grant_that_continues_a_release_that_is_gone_is_settled_too(gate: Gate, tmp_path: Path) -> None:
    class Continuing(Grants):
        def grant(self, resume: str, parts: tuple[int, ...] = ()) -> Granted:
            if self.abandoned:
                return super().grant(resume, parts)
            ticket = gate.ticket(release="rel-aaaaaaaaaa")
            name = receipts.claimed_grant(ticket).transfer
            return Granted(name, gate.address, CERT, ticket, gate.papers.verified, resumes="transfers/t-earlier000")

    grants = Continuing(gate)
    assert run(gate, sinks.open(tmp_path / "x.parquet"), grants).fetched.rows == 4800
    assert grants.abandoned == ["transfers/t-earlier000"]


def test_what_asking_again_cannot_mend_is_raised_at_once(gate: Gate, tmp_path: Path) -> None:
    gate.hear(gate.papers.agreed.id)
    with pytest.raises(SluicegateError) as caught:
        run(gate, sinks.open(tmp_path / "x.parquet"))
    assert caught.value.reason is Reason.AGREEMENT_NOT_LIVE
    assert caught.value.metadata["requestId"]
    assert next(gate.transfers) == 1


def test_attempts_end(gate: Gate, tmp_path: Path) -> None:
    gate.exchange.answers["report_intent"] = SluicegateError(Reason.UNAVAILABLE, "away")
    with pytest.raises(SluicegateError) as caught:
        run(gate, sinks.open(tmp_path / "x.parquet"), attempts=3)
    assert caught.value.reason is Reason.UNAVAILABLE
    assert next(gate.transfers) == 3


# --- a gateway that lies, seen by a careful reader


class Liar(fl.FlightServerBase):
    """Relays a real gateway, and changes one thing."""

    def __init__(self, gate: Gate, change: str) -> None:
        super().__init__("grpc://127.0.0.1:0")
        self._client, self._change, self._key = gate.client(), change, papers.key(papers.GATEWAY)
        self._intent: dict[str, Any] = {}

    def get_flight_info(self, context: Any, descriptor: fl.FlightDescriptor) -> fl.FlightInfo:
        info = self._client.get_flight_info(descriptor)
        shown = msgspec.json.decode(info.app_metadata)
        endpoints, schema = list(info.endpoints), info.schema
        match self._change:
            case "no intent":
                shown = {}
            case "unsigned intent":
                shown["intent"]["payload"]["rowsIn"] += 1
            case "intent by another key":
                shown["intent"] = msgspec.to_builtins(
                    sign(Kind.INTENT, shown["intent"]["payload"], papers.key(papers.STEWARD))
                )
            case "intent of another transfer":
                changed = {**shown["intent"]["payload"], "transfer": "transfers/t-zzzzzzzzzz"}
                shown["intent"] = msgspec.to_builtins(sign(Kind.INTENT, changed, self._key))
            case "fewer parts":
                endpoints = endpoints[:-1]
            case "other columns":
                schema = pa.schema([*schema, ("extra", pa.int64())])
        return fl.FlightInfo(schema, descriptor, endpoints, app_metadata=msgspec.json.encode(shown))

    def do_get(self, context: Any, ticket: fl.Ticket) -> fl.FlightDataStream:
        table = self._client.do_get(ticket).read_all()
        if self._change == "one value" and b'"part":2' in ticket.ticket:
            column = table.column(0).to_pylist()
            table = table.set_column(0, table.schema.field(0), pa.array(["99", *column[1:]], table.schema.types[0]))
        if self._change == "a row less" and b'"part":2' in ticket.ticket:
            table = table.slice(1)
        if self._change == "one text for all rows" and b'"part":2' in ticket.ticket:
            once = pa.DictionaryArray.from_arrays(pa.array([0] * len(table), pa.int8()), pa.array(["9" * (2 << 24)]))
            table = table.set_column(0, table.schema.names[0], once)
        if self._change == "cut in the middle" and b'"part":2' in ticket.ticket:
            batch = table.to_batches()[0]

            def broken() -> Iterator[pa.RecordBatch]:
                yield batch.slice(0, 5)
                raise fl.FlightUnavailableError("the line went dead")

            return fl.GeneratorStream(table.schema, broken())
        return fl.RecordBatchStream(table)

    def do_action(self, context: Any, action: fl.Action) -> Iterator[fl.Result]:
        results = list(self._client.do_action(action))
        envelope = Envelope.from_bytes(results[0].body.to_pybytes())
        match self._change:
            case "receipt changed":
                envelope = Envelope({**envelope.payload, "rowsIn": envelope.payload["rowsIn"] + 1}, envelope.signatures)
            case "receipt by another key":
                envelope = sign(Kind.RECEIPT, envelope.payload, papers.key(papers.STEWARD))
            case "receipt of another digest":
                changed = {**envelope.payload, "contentDigest": "blake3:" + "0" * 64}
                envelope = sign(Kind.RECEIPT, changed, self._key)
            case "partial receipt":
                changed = {**envelope.payload, "partsSent": [0], "complete": False}
                envelope = sign(Kind.RECEIPT, changed, self._key)
        return iter([fl.Result(pa.py_buffer(envelope.to_bytes()))])


LIES = {
    "no intent": Reason.RECEIPT_INVALID,
    "unsigned intent": Reason.SIGNATURE_INVALID,
    "intent by another key": Reason.KEY_UNTRUSTED,
    "intent of another transfer": Reason.RECEIPT_INVALID,
    "fewer parts": Reason.TRANSFER_STOPPED,
    "other columns": Reason.DIGEST_MISMATCH,
    "one value": Reason.DIGEST_MISMATCH,
    "a row less": Reason.DIGEST_MISMATCH,
    "one text for all rows": Reason.DATA_INVALID,
    "cut in the middle": Reason.UNAVAILABLE,
    "receipt changed": Reason.SIGNATURE_INVALID,
    "receipt by another key": Reason.KEY_UNTRUSTED,
    "receipt of another digest": Reason.DIGEST_MISMATCH,
    "partial receipt": Reason.RECEIPT_INVALID,
}


@pytest.mark.parametrize("lie", ["nothing", *LIES])
def test_no_lie_of_a_gateway_leaves_an_output(gate: Gate, tmp_path: Path, lie: str) -> None:
    out = tmp_path / "out" / "x.parquet"
    out.parent.mkdir()
    with Liar(gate, lie) as server:
        address = f"grpc://127.0.0.1:{server.port}"

        def attempt() -> pull.Fetched:
            return pull.fetch(
                address,
                None,
                gate.ticket(),
                sinks.open(out),
                agreement=gate.papers.verified,
                clock=gate.clock,
                unsafe_plaintext=True,
            )

        if lie == "nothing":
            attempt()
            assert [entry.name for entry in out.parent.iterdir()] == ["x.parquet"]
            return
        with pytest.raises(SluicegateError) as caught:
            attempt()
    assert caught.value.reason is LIES[lie]
    assert [entry.name for entry in out.parent.iterdir()] in ([], ["x.parquet.partial"])
    assert (
        not (out.parent / "x.parquet.partial" / "part-00002.arrow").exists() or "receipt" in lie or lie == "fewer parts"
    )


def test_a_server_of_another_authority_is_refused(gate: Gate, tmp_path: Path) -> None:
    import time

    from connectors import tls

    other, _ = tls.self_signed(now=int(time.time()))
    with pytest.raises(SluicegateError) as caught:
        pull.fetch(
            gate.address, other, gate.ticket(), sinks.MemorySink(), agreement=gate.papers.verified, clock=gate.clock
        )
    assert caught.value.reason is Reason.UNAVAILABLE


def test_plaintext_is_refused_unless_asked_for(gate: Gate) -> None:
    with pytest.raises(SluicegateError) as caught:
        pull.fetch(
            "grpc://127.0.0.1:1", None, b"x", sinks.MemorySink(), agreement=gate.papers.verified, clock=gate.clock
        )
    assert caught.value.reason is Reason.CONFIG_UNSAFE


def test_a_gateway_that_does_not_answer_is_not_waited_for_forever(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    waiting = threading.Event()
    monkeypatch.setattr(gate.gateway, "open", lambda _: waiting.wait(20))
    with pytest.raises(SluicegateError) as caught:
        fetch(gate, sinks.MemorySink(), start_timeout=0.5)
    waiting.set()
    assert caught.value.reason is Reason.DEADLINE_EXCEEDED


def test_what_keeps_a_gateway_from_being_reached_is_told_apart(gate: Gate) -> None:
    from connectors import tls

    def refused(address: str, ca: bytes) -> SluicegateError:
        with pytest.raises(SluicegateError) as caught:
            pull.fetch(address, ca, gate.ticket(), sinks.MemorySink(), agreement=gate.papers.verified, clock=gate.clock)
        assert caught.value.reason is Reason.UNAVAILABLE
        return caught.value

    nobody = refused("grpc+tls://localhost:1", CERT)
    assert nobody.message.startswith(
        "the gateway at localhost:1 cannot be reached: nobody answers there, or with a TLS"
    )
    other, _ = tls.self_signed(now=gate.clock())
    untrusted = refused(gate.address, other)
    place = gate.address.removeprefix("grpc+tls://")
    assert untrusted.message.startswith(f"the gateway at {place} has a TLS certificate that is not trusted")
    assert "registered with" in untrusted.remedy


def test_what_the_department_must_mend_is_said_to_be_its(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """The consumer has no data to mend and sees no violations; its department sees why."""

    def refuse(*_: object, **__: object) -> None:
        raise SluicegateError(Reason.PLAN_REFUSED, "no", (Violation("score", "missing"),))

    monkeypatch.setattr(gate.gateway, "_begin", refuse)
    with pytest.raises(SluicegateError) as caught:
        pull.pull(Grants(gate), sinks.MemorySink(), clock=gate.clock)
    error = caught.value
    assert (error.reason, error.violations) == (Reason.PLAN_REFUSED, ())
    assert error.remedy.startswith("ask the department, and name transfers/")
    assert "sluicegate receipts transfers/" in error.remedy


@pytest.mark.parametrize("text", ["NOT_A_REASON: x", "", "GRANT_USED", "Flight error: GRANT_USED: x"])
def test_only_our_own_reasons_are_taken_from_a_text(text: str) -> None:
    assert told(fl.FlightServerError(text)).reason is Reason.UNAVAILABLE

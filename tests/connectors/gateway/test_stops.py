"""What stops a transfer, and what is left: revocation, silence, stalled readers, slots, kills, a ledger that lies."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pyarrow.flight as fl
import pytest

from connectors.sources import SourceSettings
from contracts import merkle
from contracts import receipt as receipts
from contracts.agreement import Suspension
from contracts.destruction import verify_destruction
from contracts.envelope import Envelope, Kind
from contracts.errors import Reason, SluicegateError
from contracts.instants import SKEW, rfc3339
from contracts.merkle import Checkpoint
from tests import papers
from tests.connectors.gate import Gate, act, info_of, intent_of, make_gate, receipt_of, refused, until

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def wide_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import polars as pl

    from tests.connectors.gate import visits

    # One part of some megabytes, in many batches: more than a connection buffers.
    path = tmp_path_factory.mktemp("wide") / "visits.parquet"
    frame = visits(path)
    pl.concat([frame] * 250).write_parquet(path)
    return path


@pytest.fixture
def wide(tmp_path: Path, wide_data: Path) -> Iterator[Gate]:
    made = make_gate(tmp_path, stall_after=600.0)
    (tmp_path / "visits.parquet").unlink()
    (tmp_path / "visits.parquet").symlink_to(wide_data)
    made.settings["datasets"] = {
        "hospital-visits": SourceSettings(path=str(wide_data), format="parquet", root=str(wide_data.parent))
    }
    made.start()
    yield made
    made.stop()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    made = make_gate(tmp_path, part_bytes=4096, memory_limit=1 << 20)
    made.start()
    yield made
    made.stop()


def drain(reader: fl.FlightStreamReader) -> None:
    while True:
        try:
            reader.read_chunk()
        except StopIteration:
            return


def stalled(gate: Gate) -> tuple[fl.FlightClient, bytes, fl.FlightStreamReader]:
    """A reader that took one batch and no more; the server hangs in a write."""
    client, ticket = gate.client(), gate.ticket()
    info = info_of(client, ticket)
    reader = client.do_get(info.endpoints[0].ticket)
    reader.read_chunk()
    until(lambda: gate.gateway.health()["streams"] == 1)
    return client, ticket, reader


def settled(gate: Gate, ticket: bytes) -> receipts.Receipt:
    transfer = receipts.claimed_grant(ticket).transfer
    until(lambda: transfer in gate.exchange.receipts)
    return receipts.verify_receipt(gate.exchange.receipts[transfer], gate.papers.verified, at=gate.clock())


# --- the exchange and the department say stop


def test_the_exchanges_stop_list_ends_a_running_stream(wide: Gate) -> None:
    _, ticket, reader = stalled(wide)
    wide.hear(wide.papers.agreed.id)
    assert refused(lambda: drain(reader)) in ("TRANSFER_STOPPED", "Flight returned unavailable error, with message")
    receipt = settled(wide, ticket)
    assert (receipt.complete, receipt.parts_sent, receipt.parts_begun) == (False, (), (0,))
    assert refused(lambda: info_of(wide.client(), wide.ticket())) == "AGREEMENT_NOT_LIVE"
    wide.hear()
    assert info_of(wide.client(), wide.ticket()).endpoints


def test_the_exchanges_answer_to_an_intent_stops_before_the_first_row(gate: Gate) -> None:
    """It need not wait for a heartbeat; nor does it matter that the next one was written before the stop."""
    gate.exchange.answers["report_intent"] = SluicegateError(Reason.AGREEMENT_NOT_LIVE, "it is TERMINATED")
    ticket, client = gate.ticket(), gate.client()
    assert refused(lambda: info_of(client, ticket)) == "AGREEMENT_NOT_LIVE"
    gate.hear()
    asked = json.dumps({"ticket": json.loads(ticket), "part": 0}).encode()
    assert refused(lambda: client.do_get(fl.Ticket(asked)).read_all()) == "UNAVAILABLE"
    assert refused(lambda: info_of(client, ticket)) == "UNAVAILABLE"
    assert gate.exchange.calls.count("report_intent") == 1  # the exchange has kept it
    receipt = Envelope.from_bytes(act(client, "receipt", ticket))
    attested = receipts.verify_receipt(receipt, gate.papers.verified, at=gate.clock())
    assert (attested.complete, attested.parts_sent, attested.parts_begun) == (False, (), ())
    assert gate.exchange.receipts == {attested.transfer: receipt}
    health = gate.gateway.health()
    assert (health["outbox"], health["rejected"]) == (0, 0)
    # What is lifted is served again, under a new grant.
    del gate.exchange.answers["report_intent"]
    assert info_of(client, gate.ticket()).endpoints


def test_the_departments_order_acts_without_the_exchange(wide: Gate) -> None:
    client, ticket, reader = stalled(wide)
    wide.exchange.away = True
    answer = json.loads(act(wide.client(), "suspend", wide.order(until=wide.clock() + 3600)))
    assert answer == {
        "agreement": wide.papers.agreed.id,
        "stopped": True,
        "until": rfc3339(wide.clock() + 3600),
    }
    with pytest.raises(fl.FlightError):
        drain(reader)
    wide.exchange.away = False
    assert not settled(wide, ticket).complete
    assert refused(lambda: info_of(wide.client(), wide.ticket())) == "AGREEMENT_NOT_LIVE"
    wide.clock.now += 3600
    wide.hear()
    assert info_of(wide.client(), wide.ticket()).endpoints
    del client


def test_orders_of_others_and_replayed_orders_are_refused(gate: Gate) -> None:
    client = gate.client()
    info_of(client, gate.ticket())  # the department's key papers are known from here on
    now = gate.clock()
    assert refused(lambda: act(client, "suspend", gate.order(until=now + 60, by=papers.ANALYST))) == "KEY_UNTRUSTED"
    assert (
        refused(lambda: act(client, "suspend", gate.order(until=now + 60, by="root:health-bureau"))) == "KEY_UNTRUSTED"
    )
    assert refused(lambda: act(client, "suspend", b"{}")) == "SIGNATURE_INVALID"
    assert refused(lambda: act(client, "suspend", gate.order(until=now + 9000, at=now + 4000))) == "INVALID_ARGUMENT"
    assert refused(lambda: act(client, "suspend", gate.order(until=now - 60))) == "INVALID_ARGUMENT"
    stop = gate.order(until=now + 3600)
    act(client, "suspend", stop)
    gate.clock.now += 10
    lift = gate.order(until=None, lifted=True)
    assert json.loads(act(client, "suspend", lift))["stopped"] is False
    assert refused(lambda: act(client, "suspend", stop)) == "STATE_WRONG"
    gate.clock.now += 10
    act(client, "suspend", gate.order(until=gate.clock() + 3600))
    assert refused(lambda: act(client, "suspend", lift)) == "STATE_WRONG"
    assert refused(lambda: info_of(client, gate.ticket())) == "AGREEMENT_NOT_LIVE"


def test_a_local_stop_survives_a_restart_and_the_exchanges_contradiction(gate: Gate) -> None:
    info_of(gate.client(), gate.ticket())
    act(gate.client(), "suspend", gate.order(until=gate.clock() + 3600))
    gate.stop()
    gate.exchange.beats.queue.clear()
    gate.start()
    assert refused(lambda: info_of(gate.client(), gate.ticket())) == "AGREEMENT_NOT_LIVE"


def test_an_end_for_good_destroys_the_secret_and_the_release(gate: Gate) -> None:
    client = gate.client()
    info_of(client, gate.ticket())
    digest = gate.papers.agreement.digest
    assert gate.state.salt(digest)
    act(client, "suspend", gate.order(until=None))
    with pytest.raises(SluicegateError) as caught:
        gate.state.salt(digest)
    assert caught.value.reason is Reason.AGREEMENT_NOT_LIVE
    until(lambda: not list((gate.folder / "spool").iterdir()))
    until(lambda: gate.exchange.destructions)
    paper = verify_destruction(gate.exchange.destructions[gate.papers.agreed.id], gate.papers.verified, at=gate.clock())
    assert (paper.agreement_digest, paper.gateway) == (digest, gate.papers.agreed.gateway)


def test_an_end_for_good_is_carried_out_by_the_next_run_if_this_one_was_killed(gate: Gate) -> None:
    info_of(gate.client(), gate.ticket())
    digest = gate.papers.agreement.digest
    raw = gate.order(until=None)
    order = msgspec.convert(Envelope.from_bytes(raw).payload, Suspension)
    gate.state.suspend(order, Envelope.from_bytes(raw), at=gate.clock(), until=None)  # and no further
    assert gate.state.salt(digest)
    gate.stop()
    gate.exchange.beats.queue.clear()
    gate.start()
    with pytest.raises(SluicegateError) as caught:
        gate.state.salt(digest)
    assert caught.value.reason is Reason.AGREEMENT_NOT_LIVE
    assert gate.state.to_destroy() == []
    until(lambda: gate.exchange.destructions)
    paper = verify_destruction(gate.exchange.destructions[gate.papers.agreed.id], gate.papers.verified, at=gate.clock())
    assert paper.order_digest == Envelope.from_bytes(raw).digest


# --- silence


def test_heartbeats_that_were_held_up_do_not_end_the_silence_but_their_stop_list_counts(gate: Gate) -> None:
    from connectors.gateway.control_plane import Heartbeat

    oldest = gate.clock() - 30 - SKEW  # 30 seconds are the silence that is allowed
    gate.ticks.leap += 31
    gate.gateway._watch.take(Heartbeat(oldest - 1, frozenset({gate.papers.agreed.id})))
    assert refused(lambda: info_of(gate.client(), gate.ticket())) == "CONTROL_PLANE_SILENT"
    assert gate.gateway._watch.stops(gate.papers.agreed.id)
    gate.gateway._watch.take(Heartbeat(oldest, frozenset()))
    assert info_of(gate.client(), gate.ticket()).endpoints


def test_nothing_starts_before_the_exchange_was_heard_and_after_it_fell_silent(tmp_path: Path) -> None:
    made = make_gate(tmp_path)
    made.start(heard=False)
    try:
        assert refused(lambda: info_of(made.client(), made.ticket())) == "CONTROL_PLANE_SILENT"
        made.hear()
        info = info_of(made.client(), made.ticket())
        made.ticks.leap += 31
        assert refused(lambda: info_of(made.client(), made.ticket())) == "CONTROL_PLANE_SILENT"
        assert refused(lambda: drain(made.client().do_get(info.endpoints[0].ticket))) == "CONTROL_PLANE_SILENT"
        assert json.loads(act(made.client(), "health"))["reason"] == "CONTROL_PLANE_SILENT"
        made.hear()
        drain(made.client().do_get(info.endpoints[0].ticket))
        assert made.exchange.refusals == {}
    finally:
        made.stop()


def test_silence_ends_a_running_stream(wide: Gate) -> None:
    _, ticket, reader = stalled(wide)
    wide.ticks.leap += 31
    wide.gateway.tick()
    with pytest.raises(fl.FlightError):
        drain(reader)
    assert not settled(wide, ticket).complete


def test_the_watch_is_taken_up_again_when_it_breaks(gate: Gate) -> None:
    gate.exchange.beats.put(None)
    until(lambda: gate.exchange.calls.count("watch") == 2)
    gate.hear()


# --- readers that stall, slots


def test_a_stalled_reader_is_cut_off_and_its_slot_freed(wide: Gate) -> None:
    _, ticket, reader = stalled(wide)
    wide.gateway._serving._stall_after = 1.0
    receipt = settled(wide, ticket)
    assert (receipt.complete, receipt.parts_sent, receipt.parts_begun) == (False, (), (0,))
    until(lambda: wide.gateway.health()["streams"] == 0)
    with pytest.raises(fl.FlightError):
        drain(reader)
    assert refused(lambda: info_of(wide.client(), ticket)) == "GRANT_USED"


def test_a_client_that_goes_away_frees_its_slot(wide: Gate) -> None:
    client, _, reader = stalled(wide)
    reader.cancel()
    del reader
    client.close()
    until(lambda: wide.gateway.health()["streams"] == 0)


def test_slots_are_counted_per_party_and_overall(tmp_path: Path, wide_data: Path) -> None:
    source = SourceSettings(path=str(wide_data), format="parquet", root=str(wide_data.parent))
    made = make_gate(tmp_path, slots_per_party=1, datasets={"hospital-visits": source})
    made.start()
    try:
        _, _, reader = stalled(made)
        info = info_of(made.client(), made.ticket())
        assert refused(lambda: drain(made.client().do_get(info.endpoints[0].ticket))) == "TOO_MANY_TRANSFERS"
        reader.cancel()
        until(lambda: made.gateway.health()["streams"] == 0)
        drain(made.client().do_get(info.endpoints[0].ticket))
    finally:
        made.stop()


def test_the_receipt_action_stops_what_runs_and_ends_the_transfer(wide: Gate) -> None:
    _, ticket, reader = stalled(wide)
    receipt = receipt_of(act(wide.client(), "receipt", ticket))
    assert (receipt.complete, receipt.parts_sent, receipt.parts_begun) == (False, (), (0,))
    with pytest.raises(fl.FlightError):
        drain(reader)
    assert receipt_of(act(wide.client(), "receipt", ticket)) == receipt
    assert refused(lambda: info_of(wide.client(), ticket)) == "GRANT_USED"


# --- resume


def test_a_resume_serves_the_missing_parts_of_the_same_release(gate: Gate) -> None:
    client, ticket = gate.client(), gate.ticket()
    info = info_of(client, ticket)
    total = len(info.endpoints)
    for endpoint in info.endpoints[:2]:
        drain(client.do_get(endpoint.ticket))
    partial = receipt_of(act(client, "receipt", ticket))
    assert partial.parts_sent == (0, 1)
    again = gate.ticket(release=partial.release, parts=tuple(range(2, total)))
    resumed = info_of(client, again)
    assert len(resumed.endpoints) == total - 2
    assert intent_of(resumed).content_digest == partial.content_digest
    for endpoint in resumed.endpoints:
        drain(client.do_get(endpoint.ticket))
    whole = receipt_of(act(client, "receipt", again))
    assert whole.complete
    assert whole.parts_sent == tuple(range(total))
    once_more = gate.ticket(release=partial.release)
    for endpoint in info_of(client, once_more).endpoints:
        drain(client.do_get(endpoint.ticket))
    assert receipt_of(act(client, "receipt", once_more)).complete


def test_a_resume_of_a_release_that_is_gone_is_refused(gate: Gate) -> None:
    client = gate.client()
    assert refused(lambda: info_of(client, gate.ticket(release="rel-aaaaaaaaaa"))) == "NOT_FOUND"
    until(lambda: gate.exchange.refusals)


# --- the exchange is away, or says no


def test_no_row_leaves_while_the_intent_cannot_be_reported(gate: Gate) -> None:
    client, ticket = gate.client(), gate.ticket()
    gate.exchange.answers["report_intent"] = SluicegateError(Reason.UNAVAILABLE, "away")
    assert refused(lambda: info_of(client, ticket)) == "UNAVAILABLE"
    part = json.dumps({"ticket": json.loads(ticket), "part": 0}).encode()
    assert refused(lambda: drain(client.do_get(fl.Ticket(part)))) == "UNAVAILABLE"
    del gate.exchange.answers["report_intent"]
    info = info_of(client, ticket)
    drain(client.do_get(info.endpoints[0].ticket))


def test_an_intent_that_the_exchange_rejects_is_never_served(gate: Gate) -> None:
    client, ticket = gate.client(), gate.ticket()
    gate.exchange.answers["report_intent"] = SluicegateError(Reason.STATE_WRONG, "it was suspended meanwhile")
    assert refused(lambda: info_of(client, ticket)) == "STATE_WRONG"
    assert refused(lambda: info_of(client, ticket)) == "UNAVAILABLE"
    assert gate.gateway.health()["rejected"] == 1


def test_a_receipt_waits_in_the_outbox_until_the_exchange_is_back(gate: Gate) -> None:
    client, ticket = gate.client(), gate.ticket()
    info = info_of(client, ticket)
    gate.exchange.away = True
    receipt = receipt_of(act(client, "receipt", ticket))
    assert gate.exchange.receipts == {}
    gate.exchange.away = False
    gate.gateway._outbox.wake()
    assert settled(gate, ticket) == receipt
    assert intent_of(info).transfer == receipt.transfer


# --- kills and restarts


def test_after_an_orderly_restart_the_transfer_has_ended_and_its_release_is_made_again(gate: Gate) -> None:
    client, ticket = gate.client(), gate.ticket()
    info = info_of(client, ticket)
    drain(client.do_get(info.endpoints[0].ticket))
    gate.stop()
    receipt = settled(gate, ticket)
    assert (receipt.complete, receipt.parts_sent) == (False, (0,))
    assert list((gate.folder / "spool").iterdir()) == []
    gate.start()
    client = gate.client()
    assert refused(lambda: info_of(client, ticket)) == "GRANT_USED"
    assert refused(lambda: drain(client.do_get(info.endpoints[1].ticket))) == "GRANT_USED"
    assert receipt_of(act(client, "receipt", ticket)) == receipt
    rest = gate.ticket(release=receipt.release, parts=tuple(range(1, len(info.endpoints))))
    resumed = info_of(client, rest)
    assert intent_of(resumed).release == receipt.release
    for endpoint in resumed.endpoints:
        drain(client.do_get(endpoint.ticket))
    whole = receipt_of(act(client, "receipt", rest))
    assert whole.complete
    assert whole.content_digest == receipt.content_digest


@pytest.mark.parametrize("at", ["intent", "part", "claim"])
def test_a_killed_gateway_signs_what_left_when_it_starts_again(tmp_path: Path, at: str) -> None:
    """A gateway process with its own Flight server is killed -9 after the intent, after a part that was
    served to its end, and in the middle of one. The next start settles the transfer."""
    script = textwrap.dedent(
        """
        import os, signal, sys, time
        sys.path.insert(0, sys.argv[2])
        from pathlib import Path
        from tests.connectors.gate import *
        gate = make_gate(Path(sys.argv[1]), part_bytes=4096, memory_limit=1 << 20)
        gate.start()
        client, ticket = gate.client(), gate.ticket()
        info = info_of(client, ticket)
        if sys.argv[3] == "part":
            client.do_get(info.endpoints[2].ticket).read_all()
        if sys.argv[3] == "claim":
            gate.gateway._serving.stream(info.endpoints[1].ticket.ticket, peer="")
        Path(sys.argv[1], "ticket").write_bytes(ticket)
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), str(ROOT), at], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(list((tmp_path / "spool").iterdir())) == 1
    (tmp_path / "visits.parquet").unlink()
    gate = make_gate(tmp_path, part_bytes=4096, memory_limit=1 << 20)
    gate.start()
    try:
        ticket = (tmp_path / "ticket").read_bytes()
        receipt = settled(gate, ticket)
        assert not receipt.complete
        assert receipt.parts_sent == ((2,) if at == "part" else ())
        assert list((tmp_path / "spool").iterdir()) == []
        assert refused(lambda: info_of(gate.client(), ticket)) == "GRANT_USED"
        assert gate.exchange.calls.count("report_receipt") == 1
        assert gate.state.unfinished() == []
        assert gate.state.releases_standing() == []
    finally:
        gate.stop()


def test_the_spool_is_cleaned_of_releases_and_of_nothing_else(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir(mode=0o700)
    (spool / "rel-aaaaaaaaaa").mkdir()
    (spool / "precious").mkdir()
    (spool / "note").write_text("x")
    (tmp_path / "elsewhere").mkdir()
    (spool / "rel-bbbbbbbbbb").symlink_to(tmp_path / "elsewhere")
    gate = make_gate(tmp_path)
    gate.start()
    gate.stop()
    assert sorted(entry.name for entry in spool.iterdir()) == ["note", "precious", "rel-bbbbbbbbbb"]
    assert (tmp_path / "elsewhere").is_dir()


def test_a_spool_that_others_can_reach_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir(mode=0o755)
    gate = make_gate(tmp_path)
    with pytest.raises(SluicegateError) as caught:
        gate.start()
    assert caught.value.reason is Reason.CONFIG_UNSAFE
    gate.state.close()


def test_a_full_spool_refuses_new_releases(tmp_path: Path) -> None:
    gate = make_gate(tmp_path, spool_limit=0)
    gate.start()
    try:
        assert refused(lambda: info_of(gate.client(), gate.ticket())) == "SPOOL_FULL"
    finally:
        gate.stop()


# --- the ledger


class Tree:
    """A small ledger with its proofs."""

    def __init__(self, leaves: int, salt: str = "") -> None:
        self.nodes: dict[tuple[int, int], bytes] = {}
        for index in range(leaves):
            leaf = merkle.leaf_hash(b"", hashlib.sha256(f"{salt}{index}".encode()).digest())
            for level, position, value in merkle.append(self.read, index, leaf):
                self.nodes[level, position] = value

    def read(self, level: int, index: int) -> bytes:
        return self.nodes[level, index]

    def checkpoint(self, size: int, by: str = "checkpoint", origin: str = "sluicegate") -> Envelope:
        value = Checkpoint(
            origin=origin, tree_size=size, root=merkle.root(self.read, size).hex(), time=rfc3339(papers.NOW)
        )
        return papers.Cast.sign(Kind.CHECKPOINT, value, by)


def show(gate: Gate, checkpoint: Envelope | None) -> None:
    """A heartbeat with a checkpoint or without, taken or refused."""
    from connectors.gateway.control_plane import Heartbeat

    gate.gateway._watch.take(Heartbeat(gate.clock(), frozenset(), checkpoint))


def test_an_honest_ledger_is_followed_and_countersigned(gate: Gate) -> None:
    tree = Tree(20)
    gate.exchange.grown = {(7, 20): merkle.consistency(tree.read, 7, 20)}
    show(gate, tree.checkpoint(7))
    show(gate, tree.checkpoint(20))
    show(gate, tree.checkpoint(20))
    assert gate.gateway.health()["serving"]
    kept = gate.state.checkpoint()
    assert kept is not None
    assert kept.payload["treeSize"] == 20
    (witnessed,) = gate.exchange.countersigned
    assert len(witnessed.signatures) == 2
    assert merkle.verify_checkpoint(witnessed, gate.papers.trust, [papers.key(papers.GATEWAY).public]).tree_size == 7


@pytest.mark.parametrize("lie", ["rewound", "forked", "another root", "another key", "another ledger"])
def test_a_ledger_that_lies_stops_everything_until_it_is_honest_again(gate: Gate, lie: str) -> None:
    tree, other = Tree(20), Tree(20, "other")
    gate.exchange.grown = {
        (10, 15): merkle.consistency(other.read, 10, 15),
        (10, 20): merkle.consistency(tree.read, 10, 20),
    }
    show(gate, tree.checkpoint(10))
    shown = {
        "rewound": tree.checkpoint(5),
        "forked": other.checkpoint(15),
        "another root": other.checkpoint(10),
        "another key": tree.checkpoint(20, by="root:health-bureau"),
        "another ledger": tree.checkpoint(10, origin="of another exchange"),
    }[lie]
    show(gate, shown)
    assert refused(lambda: info_of(gate.client(), gate.ticket())) == "LEDGER_INVALID"
    assert gate.state.checkpoint() == tree.checkpoint(10)
    show(gate, tree.checkpoint(20))
    assert info_of(gate.client(), gate.ticket()).endpoints


def test_without_a_proof_a_heartbeat_does_not_end_the_silence_but_its_stop_list_counts(gate: Gate) -> None:
    from connectors.gateway.control_plane import Heartbeat

    tree = Tree(20)
    show(gate, tree.checkpoint(10))
    gate.exchange.answers["consistency"] = SluicegateError(Reason.UNAVAILABLE, "away")
    gate.ticks.leap += 20
    gate.gateway._watch.take(Heartbeat(gate.clock(), frozenset({gate.papers.agreed.id}), tree.checkpoint(20)))
    assert refused(lambda: info_of(gate.client(), gate.ticket())) == "AGREEMENT_NOT_LIVE"
    gate.ticks.leap += 20
    assert refused(lambda: info_of(gate.client(), gate.ticket())) == "CONTROL_PLANE_SILENT"


def test_a_ledger_that_is_no_longer_shown_is_not_taken_for_honest(gate: Gate) -> None:
    tree, other = Tree(20), Tree(20, "other")
    gate.exchange.grown = {(10, 20): merkle.consistency(tree.read, 10, 20)}
    show(gate, tree.checkpoint(10))
    show(gate, other.checkpoint(10))
    show(gate, None)
    assert refused(lambda: info_of(gate.client(), gate.ticket())) == "LEDGER_INVALID"
    show(gate, tree.checkpoint(20))
    assert info_of(gate.client(), gate.ticket()).endpoints
    gate.ticks.leap += 31
    show(gate, None)
    assert refused(lambda: info_of(gate.client(), gate.ticket())) == "CONTROL_PLANE_SILENT"

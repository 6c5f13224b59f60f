"""What a recipient was sent stays on record: beside the state, across restarts, until its retention ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow.flight as fl
import pytest

from connectors.gateway.records import Interval
from connectors.gateway.shelf import Shelf
from connectors.gateway.state import GatewayState
from connectors.releases.release import SENT, Recipient, Release
from connectors.sent.records import Sent, SentRecord
from contracts.dtypes import STRING
from contracts.errors import Reason, SluicegateError
from tests import papers
from tests.connectors.gate import Clock, Entropy, Gate, fetch_all, info_of, intent_of, make_gate, until, visits
from tests.connectors.gateway.test_gateway import refused
from tests.connectors.plans import plan

WEEK = 7 * papers.DAY


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    made = make_gate(tmp_path)
    made.start()
    yield made
    made.stop()


def pull(gate: Gate) -> pl.DataFrame:
    """The rows of a whole transfer."""
    client = gate.client()
    tables = fetch_all(client, info_of(client, gate.ticket()))
    return pl.concat(pl.DataFrame(pl.from_arrow(table)) for table in tables)


def folders(gate: Gate) -> list[str]:
    return [folder.name for folder in (gate.folder / "sent").iterdir()]


def next_week(gate: Gate, people: int) -> None:
    visits(gate.folder / "visits.parquet", people=people)
    gate.clock.now += WEEK
    gate.hear()


def test_one_more_person_refuses_the_next_release_with_figures_for_the_department_alone(gate: Gate) -> None:
    pull(gate)
    next_week(gate, 401)
    client, told = gate.client(), gate.ticket()
    with pytest.raises(fl.FlightError) as caught:
        info_of(client, told)
    assert "BOUNDS_NOT_MET" in str(caught.value)
    assert "difference" not in str(caught.value)
    until(lambda: gate.exchange.refusals)
    ((_, figures),) = gate.exchange.refusals.values()
    assert figures["difference_persons"] == "1"
    assert figures["earlier_releases"] == folders(gate)[0]


def test_the_files_of_the_last_release_replace_those_before(gate: Gate) -> None:
    first = pull(gate)
    assert len(folders(gate)) == 1
    assert (gate.folder / "sent").stat().st_mode & 0o777 == 0o700
    before = folders(gate)
    next_week(gate, 800)
    assert pull(gate).height == 2 * first.height
    assert len(folders(gate)) == 1
    assert folders(gate) != before


def test_a_second_release_is_made_again_after_a_restart(gate: Gate) -> None:
    """It is compared with what was before it, not with itself."""
    pull(gate)
    next_week(gate, 800)
    second = intent_of(info_of(gate.client(), gate.ticket()))
    kept = folders(gate)
    gate.stop()
    gate.start()
    again = intent_of(info_of(gate.client(), gate.ticket()))
    assert (again.release, again.content_digest) == (second.release, second.content_digest)
    assert folders(gate) == kept


def test_nothing_is_served_when_the_files_are_gone(gate: Gate) -> None:
    pull(gate)
    (folder,) = (gate.folder / "sent").iterdir()
    (folder / "rows.arrow").unlink()
    next_week(gate, 800)
    assert refused(lambda: info_of(gate.client(), gate.ticket())) == "STATE_WRONG"


def test_a_start_removes_what_is_not_on_record(gate: Gate) -> None:
    pull(gate)
    kept = folders(gate)
    gate.stop()
    (gate.folder / "sent" / "rel-aaaaaaaaaa").mkdir()
    gate.start()
    assert folders(gate) == kept


@pytest.fixture
def state(tmp_path: Path) -> Iterator[GatewayState]:
    with GatewayState(tmp_path / "state" / "state.db", clock=Clock(papers.NOW), entropy=Entropy()) as opened:
        yield opened


def record(release: str, *, ends: int) -> SentRecord:
    sent = Sent(release=release, made=papers.NOW, until=ends, bit=0, k=5, agreement="sha256:a")
    return SentRecord(definition="sha256:d", probe="00", release=release, sent=(sent,))


def shelf_of(state: GatewayState, clock: Clock, folder: Path) -> Shelf:
    shelf = Shelf(folder / "spool", state, clock=clock, entropy=Entropy(), makers=1, limit=1 << 20)
    shelf.clean()
    return shelf


def maker(ends: int) -> object:
    def made(folder: Path, name: str) -> Release:
        (folder / SENT).mkdir(mode=0o700)
        return Release(
            name, folder, {}, (), "blake3:0", "blake3", 1, 1, 0, None, "keyed", papers.NOW, record(name, ends=ends)
        )

    return made


def test_what_is_to_be_gone_is_gone(tmp_path: Path) -> None:
    clock = Clock(papers.NOW)
    with GatewayState(tmp_path / "state" / "state.db", clock=clock, entropy=Entropy()) as state:
        shelf = shelf_of(state, clock, tmp_path)
        made = maker(papers.NOW + WEEK)
        recipient = Recipient("metro-lines", "visits", "sha256:a", "planning")
        shelf.make(recipient, plan({"id": ({"mask": "keep"}, STRING)}), made, wait=1.0)  # type: ignore[arg-type]
        assert len(list(shelf.sent.iterdir())) == 1
        clock.now += WEEK
        shelf.sweep()
        assert list(shelf.sent.iterdir()) == []
        assert state.sent_records("metro-lines", "visits") == {}


def test_of_a_release_that_did_not_come_to_be_nothing_is_kept(tmp_path: Path, state: GatewayState) -> None:
    shelf = shelf_of(state, Clock(papers.NOW), tmp_path)
    other = Interval(
        "metro-lines", "visits", "sha256:b", "planning", False, "rel-bbbbbbbbbb", "blake3:1", papers.NOW + WEEK
    )
    made = maker(papers.NOW + WEEK)

    def overtaken(folder: Path, name: str) -> Release:
        state.release_made(other)
        return made(folder, name)  # type: ignore[operator, no-any-return]

    with pytest.raises(SluicegateError) as caught:
        shelf.make(
            Recipient("metro-lines", "visits", "sha256:a", "planning"),
            plan({"id": ({"mask": "keep"}, STRING)}),
            overtaken,
            wait=1.0,
        )
    assert caught.value.reason is Reason.REFRESH_PENDING
    assert list(shelf.sent.iterdir()) == []
    assert state.sent_folders() == set()


def test_what_was_sent_is_one_record_for_each_definition(state: GatewayState) -> None:
    until = papers.NOW + WEEK
    first = Interval("metro-lines", "visits", "sha256:a", "planning", False, "rel-aaaaaaaaaa", "blake3:0", until)
    state.release_made(first, record("rel-aaaaaaaaaa", ends=until))
    assert state.sent_records("metro-lines", "visits") == {"sha256:d": record("rel-aaaaaaaaaa", ends=until)}
    assert state.sent_records("harbour", "visits") == {}
    state.unsafe_forget_sent("metro-lines", "visits")
    assert state.sent_folders() == set()


def test_what_was_sent_meanwhile_stops_a_release_that_was_not_compared_with_it(state: GatewayState) -> None:
    ends = papers.NOW + WEEK
    over = Interval("metro-lines", "visits", "sha256:a", "planning", False, "rel-aaaaaaaaaa", "blake3:0", papers.NOW)
    state.release_made(over, record("rel-aaaaaaaaaa", ends=ends), frozenset())
    late = Interval("metro-lines", "visits", "sha256:b", "planning", False, "rel-bbbbbbbbbb", "blake3:1", ends)
    with pytest.raises(SluicegateError) as caught:
        state.release_made(late, record("rel-bbbbbbbbbb", ends=ends), frozenset())
    assert caught.value.reason is Reason.TOO_MANY_TRANSFERS
    assert state.sent_folders() == {"rel-aaaaaaaaaa"}
    assert state.intervals("metro-lines", "visits") == []
    state.release_made(late, record("rel-bbbbbbbbbb", ends=ends), frozenset({"rel-aaaaaaaaaa"}))
    assert state.sent_folders() == {"rel-bbbbbbbbbb"}

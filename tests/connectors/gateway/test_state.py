"""The gateway's memory: once is once, erased is erased, and a kill -9 forgets nothing."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connectors.gateway.records import Interval, StoredTransfer
from connectors.gateway.state import GatewayState
from connectors.releases.budget import Figures
from connectors.sent.records import SentRecord
from contracts.agreement import Suspension
from contracts.envelope import Envelope, Kind, SigningKey, sign
from contracts.errors import Reason, SluicegateError

KEY = SigningKey.from_seed(bytes(range(32)))
NOW = 1_800_000_000
STATED = Envelope({"agreement": "agreements/a"}, ())
ROOT = Path(__file__).parents[3]


class Entropy:
    """Different bytes at each call, the same in each run."""

    def __init__(self) -> None:
        self._calls = itertools.count(1)

    def __call__(self, count: int) -> bytes:
        return bytes([next(self._calls)]) * count


def open_state(folder: Path) -> GatewayState:
    return GatewayState(folder / "gate" / "state.db", clock=lambda: NOW, entropy=Entropy())


@pytest.fixture
def state(tmp_path: Path) -> Iterator[GatewayState]:
    with open_state(tmp_path) as opened:
        yield opened


def begin(state: GatewayState, name: str = "t-1", *, release: str = "rel-1", resumed: bool = False) -> StoredTransfer:
    state.begin(
        transfer=name,
        grant_id=f"g-{name}",
        agreement="agreements/a-1",
        consumer="metro",
        release=release,
        resumed=resumed,
        expires=NOW + 600,
        intent=sign(Kind.INTENT, {"transfer": name}, KEY),
        draft=b"{}",
    )
    stored = state.transfer(name)
    assert stored is not None
    return stored


def receipt(name: str, complete: bool = False) -> Envelope:
    return sign(Kind.RECEIPT, {"transfer": name, "complete": complete}, KEY)


def refusal(error: pytest.ExceptionInfo[SluicegateError]) -> Reason:
    return error.value.reason


def test_the_file_is_private_and_synced(state: GatewayState, tmp_path: Path) -> None:
    folder = tmp_path / "gate"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(entry.stat().st_mode) for entry in folder.iterdir()} == {0o600}
    assert state._rows("PRAGMA synchronous") == [(2,)]
    assert state._rows("PRAGMA secure_delete") == [(1,)]


def test_one_gateway_at_a_time(state: GatewayState, tmp_path: Path) -> None:
    with pytest.raises(SluicegateError) as caught:
        open_state(tmp_path)
    assert refusal(caught) is Reason.STATE_WRONG
    state.close()
    open_state(tmp_path).close()


@pytest.mark.parametrize("open_up", ["folder", "file"])
def test_a_state_that_others_can_reach_is_refused(tmp_path: Path, open_up: str) -> None:
    open_state(tmp_path).close()
    (tmp_path / "gate" if open_up == "folder" else tmp_path / "gate" / "state.db").chmod(0o755)
    with pytest.raises(SluicegateError) as caught:
        open_state(tmp_path)
    assert refusal(caught) is Reason.CONFIG_UNSAFE


@pytest.mark.parametrize("content", [b"not a database" * 100, b"SQLite format 3\0" + b"\xff" * 500])
def test_what_is_no_state_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "gate").mkdir(mode=0o700)
    path = tmp_path / "gate" / "state.db"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(SluicegateError) as caught:
        open_state(tmp_path)
    assert refusal(caught) is Reason.CONFIG_INVALID
    assert path.read_bytes() == content


def test_a_later_version_is_refused(tmp_path: Path) -> None:
    open_state(tmp_path).close()
    with sqlite3.connect(tmp_path / "gate" / "state.db") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(SluicegateError, match="update"):
        open_state(tmp_path)


def test_a_salt_stays_until_it_is_erased_and_never_returns(tmp_path: Path) -> None:
    with open_state(tmp_path) as state:
        salt = state.salt("sha256:a")
        assert len(salt) == 32
        assert state.salt("sha256:b") != salt
    with open_state(tmp_path) as state:
        assert state.salt("sha256:a") == salt
        for _ in range(2):
            state.erase_salt("sha256:a", "agreements/a", STATED)
        assert [(report.transfer, report.kind) for report in state.reports()] == [("agreements/a", "destruction")]
        for _ in range(2):
            with pytest.raises(SluicegateError) as caught:
                state.salt("sha256:a")
            assert refusal(caught) is Reason.AGREEMENT_NOT_LIVE
        assert all(salt not in entry.read_bytes() for entry in (tmp_path / "gate").iterdir())
        assert len(state.salt("sha256:b")) == 32


def test_a_salt_that_was_erased_before_its_first_use_is_never_made(state: GatewayState) -> None:
    state.erase_salt("sha256:a", "agreements/a", STATED)
    with pytest.raises(SluicegateError):
        state.salt("sha256:a")


def test_a_transfer_and_a_grant_begin_once(state: GatewayState) -> None:
    begin(state)
    for name, grant in (("t-1", "g-other"), ("t-other", "g-t-1")):
        with pytest.raises(SluicegateError) as caught:
            state.begin(
                transfer=name,
                grant_id=grant,
                agreement="a",
                consumer="c",
                release="r",
                resumed=False,
                expires=0,
                intent=receipt("x"),
                draft=b"{}",
            )
        assert refusal(caught) is Reason.GRANT_USED
    assert [report.kind for report in state.reports()] == ["intent"]


def test_a_part_is_claimed_once_per_grant(state: GatewayState) -> None:
    begin(state)
    state.claim("g-t-1", 0, "rel-1")
    with pytest.raises(SluicegateError) as caught:
        state.claim("g-t-1", 0, "rel-1")
    assert refusal(caught) is Reason.GRANT_USED
    state.claim("g-t-1", 1, "rel-1")


def test_many_threads_claim_a_part_once(state: GatewayState) -> None:
    begin(state)
    won: list[int] = []

    def claim(number: int) -> None:
        try:
            state.claim("g-t-1", 0, "rel-1")
            won.append(number)
        except SluicegateError:
            pass

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def test_nothing_is_claimed_after_the_end_or_without_a_beginning(state: GatewayState) -> None:
    begin(state)
    state.end("t-1", receipt("t-1"))
    for grant in ("g-t-1", "g-unknown"):
        with pytest.raises(SluicegateError) as caught:
            state.claim(grant, 0, "rel-1")
        assert refusal(caught) is Reason.GRANT_USED


def test_the_first_receipt_wins(state: GatewayState) -> None:
    begin(state)
    first = state.end("t-1", receipt("t-1"))
    assert state.end("t-1", receipt("t-1", complete=True)) == first
    assert [report.kind for report in state.reports()] == ["intent", "receipt"]


def test_a_transfer_without_an_intent_has_no_receipt(state: GatewayState) -> None:
    state.refuse(
        transfer="t-9",
        grant_id="g",
        agreement="a",
        consumer="c",
        expires=0,
        reason=Reason.BOUNDS_NOT_MET,
        detail=b"{}",
    )
    with pytest.raises(SluicegateError):
        state.end("t-9", receipt("t-9"))
    stored = state.transfer("t-9")
    assert stored is not None
    assert stored.ended
    assert stored.refusal == "BOUNDS_NOT_MET"


def test_a_refusal_is_kept_once_and_does_not_touch_a_transfer_that_runs(state: GatewayState) -> None:
    begin(state)
    for name in ("t-1", "t-2", "t-2"):
        state.refuse(
            transfer=name,
            grant_id=f"g-{name}",
            agreement="a",
            consumer="c",
            expires=0,
            reason=Reason.INTERNAL,
            detail=b"{}",
        )
    assert [(report.transfer, report.kind) for report in state.reports()] == [("t-1", "intent"), ("t-2", "refusal")]


def test_parts_that_left_count_earlier_grants_only_for_a_resume(state: GatewayState) -> None:
    first = begin(state)
    for part in (0, 1, 2):
        state.claim("g-t-1", part, "rel-1")
    state.sent("g-t-1", 0)
    state.sent("g-t-1", 2)
    assert state.parts_left(first) == ((0, 2), (1,))
    resumed = begin(state, "t-2", resumed=True)
    state.claim("g-t-2", 1, "rel-1")
    assert state.parts_left(resumed) == ((0, 2), (1,))
    state.sent("g-t-2", 1)
    assert state.parts_left(resumed) == ((0, 1, 2), ())
    assert state.parts_of("g-t-2") == {1}
    fresh = begin(state, "t-3")
    assert state.parts_left(fresh) == ((), ())
    assert state.parts_left(begin(state, "t-4", release="rel-2", resumed=True)) == ((), ())


def test_the_outbox_keeps_order_and_what_was_rejected(state: GatewayState) -> None:
    begin(state, "t-1")
    begin(state, "t-2")
    one, two = state.reports()
    state.undelivered(one)
    assert state.reports()[0].attempts == 1
    state.delivered(one, "sha256:1")
    assert state.transfer("t-1").intent_reported  # type: ignore[union-attr]
    (unproved,) = state.unproved()
    assert (unproved.transfer, unproved.kind, unproved.mark) == ("t-1", "intent", "sha256:1")
    state.proved(unproved)
    assert state.unproved() == []
    state.rejected(two, Reason.STATE_WRONG)
    assert state.reports() == []
    assert state.outbox_size() == (0, 1)


def order(at: str, until: str | None, *, lifted: bool = False) -> Suspension:
    return Suspension(agreement="agreements/a-1", reason="x", at=at, until=until, lifted=lifted)


def test_orders_are_not_replayed(state: GatewayState) -> None:
    paper = receipt("order")
    assert state.suspend(order("a", "b"), paper, at=100, until=200).stops(150)
    assert not state.suspensions()[0].stops(200)
    lifted = state.suspend(order("a", None, lifted=True), paper, at=110, until=None)
    assert not lifted.stops(150)
    for at in (100, 110):
        with pytest.raises(SluicegateError) as caught:
            state.suspend(order("a", "b"), paper, at=at, until=200)
        assert refusal(caught) is Reason.STATE_WRONG


def test_an_end_for_good_is_not_taken_back(state: GatewayState) -> None:
    paper = receipt("order")
    assert state.suspend(order("a", None), paper, at=100, until=None).stops(10**12)
    with pytest.raises(SluicegateError, match="for good"):
        state.suspend(order("a", None, lifted=True), paper, at=200, until=None)


def test_papers_are_kept_once(state: GatewayState) -> None:
    papers = [sign(Kind.KEY, {"n": n}, KEY) for n in range(3)]
    state.keep_papers("statement", papers)
    state.keep_papers("statement", papers)
    state.keep_papers("revocation", papers[:1])
    assert {paper.digest for paper in state.papers("statement")} == {paper.digest for paper in papers}
    assert state.papers("revocation") == ()


def test_the_last_checkpoint_is_kept(state: GatewayState) -> None:
    assert state.checkpoint() is None
    for size in (1, 2):
        state.keep_checkpoint(sign(Kind.CHECKPOINT, {"treeSize": size}, KEY))
    kept = state.checkpoint()
    assert kept is not None
    assert kept.payload == {"treeSize": 2}
    state.unsafe_forget_checkpoint()
    assert state.checkpoint() is None


def test_what_was_promised_survives_a_kill(tmp_path: Path) -> None:
    """The child says a claim is done only after the call came back; then it is killed without warning."""
    script = textwrap.dedent(
        """
        import sys, time
        sys.path.insert(0, sys.argv[2])
        from pathlib import Path
        from connectors.gateway.state import GatewayState
        from contracts.envelope import Kind, SigningKey, sign
        key = SigningKey.from_seed(bytes(range(32)))
        state = GatewayState(Path(sys.argv[1]) / "gate" / "state.db", clock=lambda: 1, entropy=lambda n: b"s" * n)
        state.begin(transfer="t-1", grant_id="g-1", agreement="a", consumer="c", release="rel-1", resumed=False,
                    expires=9, intent=sign(Kind.INTENT, {"transfer": "t-1"}, key), draft=b"{}")
        for part in range(1000):
            state.claim("g-1", part, "rel-1")
            if part % 2 == 0:
                state.sent("g-1", part)
            print(part, flush=True)
        """
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path), str(ROOT)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    for line in child.stdout:
        if line.strip() == "5":
            break
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    with open_state(tmp_path) as state:
        (stored,) = state.unfinished()
        assert stored.intent is not None
        assert set(state.parts_left(stored).sent) >= {0, 2, 4}
        for part in range(6):
            with pytest.raises(SluicegateError):
                state.claim("g-1", part, "rel-1")
        assert [report.kind for report in state.reports()] == ["intent"]


# --- refresh intervals


def test_an_interval_has_one_release(state: GatewayState) -> None:
    first = Interval("metro", "visits", "sha256:a", "planning", False, "rel-1", "blake3:1", NOW + 600)
    state.release_made(first)
    state.release_made(first)  # made again after a restart: the very same
    for other in (
        replace(first, release="rel-2"),
        replace(first, content_digest="blake3:2"),
        replace(first, agreement_digest="sha256:b"),
        replace(first, until=NOW + 1200),
    ):
        with pytest.raises(SluicegateError) as caught:
            state.release_made(other)
        assert caught.value.reason is Reason.REFRESH_PENDING
    assert state.intervals("metro", "visits") == [first]


def test_each_purpose_has_its_interval_unless_one_stands_alone(state: GatewayState) -> None:
    first = Interval("metro", "visits", "sha256:a", "planning", False, "rel-1", "blake3:1", NOW + 600)
    second = replace(first, agreement_digest="sha256:b", purpose="safety", release="rel-2")
    state.release_made(first)
    state.release_made(second)
    assert state.intervals("metro", "visits") == [first, second]
    for other in (
        replace(first, agreement_digest="sha256:c", purpose="research", alone=True),
        replace(second, agreement_digest="sha256:c"),
    ):
        with pytest.raises(SluicegateError) as caught:
            state.release_made(other)
        assert caught.value.reason is Reason.REFRESH_PENDING
    assert state.intervals("metro", "visits") == [first, second]


# --- what is drawn once, and what was sent


def meanwhile(state: GatewayState, monkeypatch: pytest.MonkeyPatch, deed: Callable[[], object]) -> None:
    """Somebody does this after the next look at the state, before what follows from it is written."""
    looked = state._rows

    def rows(query: str, *values: object) -> list[tuple[Any, ...]]:
        monkeypatch.setattr(state, "_rows", looked)
        found = looked(query, *values)
        deed()
        return found

    monkeypatch.setattr(state, "_rows", rows)


def test_lots_that_an_agreement_begins_to_draw_are_not_forgotten(
    state: GatewayState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its next release would be drawn anew."""
    drawn = list[bytes]()

    def draw() -> None:
        state.salt("sha256:b")
        drawn.append(state.salt(state.draw_lots("metro", "visits", "sha256:b")))

    state.salt(state.draw_lots("metro", "visits", "sha256:a"))  # whose secret is gone
    meanwhile(state, monkeypatch, draw)
    state.forget_lots()
    assert [state.salt(state.draw_lots("metro", "visits", "sha256:b"))] == drawn


def test_a_release_whose_lots_were_forgotten_meanwhile_is_not_made(state: GatewayState) -> None:
    made = Interval("metro", "visits", "sha256:a", "planning", False, "rel-1", "blake3:1", NOW + 600)
    state.draw_lots("metro", "visits", "sha256:a")
    state.forget_lots()
    with pytest.raises(SluicegateError) as caught:
        state.release_made(made, lots=True)
    assert caught.value.reason is Reason.AGREEMENT_NOT_LIVE
    assert state.intervals("metro", "visits") == []
    state.draw_lots("metro", "visits", "sha256:a")
    state.release_made(made, lots=True)


def test_what_is_forgotten_of_what_was_sent_is_what_is_removed(
    state: GatewayState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that no record names would stay."""

    def sent(release: str) -> None:
        made = Interval("metro", release, "sha256:a", "planning", False, release, "blake3:1", NOW + 600)
        state.release_made(
            made, SentRecord(definition="sha256:d", probe="", release=release, sent=(), fields=(), units=())
        )

    sent("rel-1")
    meanwhile(state, monkeypatch, lambda: sent("rel-2"))
    assert set(state.sent_over()) == {"rel-1", "rel-2"}
    assert state.sent_folders() == set()


# --- a file of the version before

BEFORE = """
CREATE TABLE intervals (
    consumer TEXT NOT NULL, dataset TEXT NOT NULL, agreement_digest TEXT NOT NULL, release TEXT NOT NULL,
    content_digest TEXT NOT NULL, until INTEGER NOT NULL, PRIMARY KEY (consumer, dataset)) STRICT, WITHOUT ROWID;
CREATE TABLE refused (
    consumer TEXT NOT NULL, dataset TEXT NOT NULL, making TEXT NOT NULL, source TEXT NOT NULL, reason TEXT NOT NULL,
    message TEXT NOT NULL, metadata TEXT NOT NULL, until INTEGER NOT NULL,
    PRIMARY KEY (consumer, dataset)) STRICT, WITHOUT ROWID;
CREATE TABLE aggregates (
    consumer TEXT NOT NULL, dataset TEXT NOT NULL, release TEXT NOT NULL, plan TEXT NOT NULL, made INTEGER NOT NULL,
    figures BLOB NOT NULL, PRIMARY KEY (consumer, dataset)) STRICT, WITHOUT ROWID;
"""


def shape(path: Path) -> set[str]:
    """Every table of a file, as it was made."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        rows = db.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    return {" ".join(sql.replace('"', "").split()) for _, sql in rows}


def test_what_ran_before_an_update_runs_on_as_it_was(tmp_path: Path) -> None:
    """The very release, or none: under its own agreement it goes on, and every other waits, whatever its purpose."""
    with open_state(tmp_path):
        pass
    path = tmp_path / "gate" / "state.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        for name in ("intervals", "refused", "aggregates", "lots"):
            db.execute(f"DROP TABLE {name}")
        db.executescript(f"{BEFORE} PRAGMA user_version = 1;")
        row = ("metro", "visits", "sha256:a", "rel-1", "blake3:1", NOW + 600)
        db.execute("INSERT INTO intervals VALUES (?, ?, ?, ?, ?, ?)", row)
        db.execute("INSERT INTO aggregates VALUES ('metro', 'visits', 'rel-1', 'sha256:p', 1, x'00')")
        db.commit()
    with open_state(tmp_path) as state:
        (running,) = state.intervals("metro", "visits")
        assert (running.purpose, running.release, running.alone) == ("", "rel-1", False)
        state.release_made(running)  # made again
        for purpose in ("planning", "safety"):
            other = replace(running, agreement_digest="sha256:b", purpose=purpose, release="rel-2")
            with pytest.raises(SluicegateError) as caught:
                state.release_made(other)
            assert caught.value.reason is Reason.REFRESH_PENDING
        assert state.figures("metro", "visits", "rel-1") == Figures("rel-1", "sha256:p", 1, b"\0")
        state.keep_figures("metro", "visits", "planning", Figures("rel-2", "sha256:p", 1, b"\1"))
        assert state.figures("metro", "visits", "rel-1") is None
    with open_state(tmp_path / "new"):
        pass
    assert shape(path) == shape(tmp_path / "new" / "gate" / "state.db")


def test_an_update_that_is_interrupted_changes_nothing(tmp_path: Path) -> None:
    with open_state(tmp_path):
        pass
    path = tmp_path / "gate" / "state.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE aggregates")  # the second step fails
        db.execute("PRAGMA user_version = 1")
    before = shape(path)
    with pytest.raises(SluicegateError) as caught:
        open_state(tmp_path)
    assert caught.value.reason is Reason.CONFIG_INVALID
    assert shape(path) == before

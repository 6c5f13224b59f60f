"""What a gateway remembers of releases: whose they are and until when, what was sent and drawn, what was refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import astuple
from typing import Any

import msgspec

from connectors.gateway.records import Interval, RefusedRelease, held, refresh_pending
from connectors.releases import budget
from connectors.sent.records import SentRecord
from contracts.canonical import canonical
from contracts.errors import Reason, SluicegateError


class Released(budget.Budgets):
    """That part of the gateway's state. Thread-safe."""

    _clock: Callable[[], int]

    # Lots: what is drawn once for a recipient of a dataset, under whichever agreement.

    def draw_lots(self, consumer: str, dataset: str, agreement_digest: str) -> str:
        """The name of the salt that they are drawn with, kept from now on for as long as the agreement's own."""
        row = (consumer, dataset, agreement_digest)
        if not self._rows("SELECT 1 FROM lots WHERE consumer = ? AND dataset = ? AND agreement_digest = ?", *row):
            with self._write() as db:
                db.execute("INSERT OR IGNORE INTO lots VALUES (?, ?, ?, 0)", row)
        return _lots(consumer, dataset)

    def forget_lots(self) -> None:
        """Erase the salt of lots where every agreement that drew them has lost its secret, and whatever was made with
        them is to be gone: nobody is left who could be drawn another one."""
        now = self._clock()
        if not self._rows(_LOTS_OVER, now):
            return
        # Looked at again where it is written: somebody may have drawn them since.
        with self._write() as db:
            for whose in db.execute(_LOTS_OVER, (now,)).fetchall():
                db.execute("DELETE FROM lots WHERE consumer = ? AND dataset = ?", whose)
                db.execute("DELETE FROM salts WHERE agreement_digest = ?", (_lots(*whose),))
        self._truncate_log()

    # Releases: which spool belongs to whom.

    def intervals(self, consumer: str, dataset: str) -> list[Interval]:
        """The refresh intervals that run now for a consumer and a dataset."""
        return [_interval(row) for row in self._rows(_RUNNING, consumer, dataset, self._clock())]

    def release_made(
        self,
        made: Interval,
        sent: SentRecord | None = None,
        compared: Iterable[str] | None = None,
        *,
        lots: bool = False,
        gone: int = 0,
    ) -> None:
        """Remember a release that now stands in the spool, its interval, and with it what was sent; `gone`: when its
        recipient may no longer have it; `lots`: whether some were drawn for it. Raises REFRESH_PENDING when the
        interval of another release that excludes it has not ended, whoever began it meanwhile, TOO_MANY_TRANSFERS when
        something was sent that is not among the records that it was `compared` with, and AGREEMENT_NOT_LIVE when its
        lots were forgotten meanwhile, as they are with the last agreement's secret: others would be drawn next."""
        now = self._clock()
        with self._write() as db:
            running = map(_interval, db.execute(_RUNNING, (made.consumer, made.dataset, now)).fetchall())
            before = held(running, made.agreement_digest, made.purpose, alone=made.alone)
            if before is not None and before != made:
                raise refresh_pending(before)
            db.execute(
                "INSERT OR REPLACE INTO releases VALUES (?, ?, ?, NULL)", (made.release, made.agreement_digest, now)
            )
            db.execute("INSERT OR REPLACE INTO intervals VALUES (?, ?, ?, ?, ?, ?, ?, ?)", astuple(made))
            keep = "UPDATE lots SET until = max(until, ?) WHERE consumer = ? AND dataset = ? AND agreement_digest = ?"
            kept = db.execute(keep, (gone, made.consumer, made.dataset, made.agreement_digest)).rowcount
            if lots and kept != 1:
                message = "the agreement's secret was destroyed while its release was being made"
                raise SluicegateError(Reason.AGREEMENT_NOT_LIVE, message)
            if compared is not None:
                query = "SELECT release FROM sent WHERE consumer = ? AND dataset = ?"
                if not {name for (name,) in db.execute(query, (made.consumer, made.dataset))} <= set(compared):
                    message = "another release to the same consumer was made meanwhile; ask again"
                    raise SluicegateError(Reason.TOO_MANY_TRANSFERS, message)
            if sent is not None:
                row = (made.consumer, made.dataset, sent.definition, sent.release, _json(sent), sent.until)
                db.execute("INSERT OR REPLACE INTO sent VALUES (?, ?, ?, ?, ?, ?)", row)

    def sent_records(self, consumer: str, dataset: str) -> dict[str, SentRecord]:
        """What a consumer was sent of a dataset, by the definition of rows."""
        query = "SELECT definition, record FROM sent WHERE consumer = ? AND dataset = ?"
        rows = self._rows(query, consumer, dataset)
        return {definition: msgspec.json.decode(record, type=SentRecord) for definition, record in rows}

    def sent_folders(self) -> set[str]:
        """The folders of files of everything that was sent."""
        return {name for (name,) in self._rows("SELECT release FROM sent")}

    def sent_over(self) -> list[str]:
        """Forget what was sent and is to be gone by now; the folders of its files."""
        now = self._clock()
        if not self._rows("SELECT 1 FROM sent WHERE until <= ?", now):
            return []
        with self._write() as db:
            over = db.execute("DELETE FROM sent WHERE until <= ? RETURNING release", (now,)).fetchall()
        return [name for (name,) in over]

    def unsafe_forget_sent(self, consumer: str, dataset: str) -> None:
        """Compare the next release with nothing: only where the files are lost and the recipient has nothing left."""
        with self._write() as db:
            db.execute("DELETE FROM sent WHERE consumer = ? AND dataset = ?", (consumer, dataset))

    def release_refused(self, refused: RefusedRelease) -> None:
        """Remember a release that cannot be made, in the place of the last one that was made so for that consumer."""
        row = (*astuple(refused)[:4], str(refused.reason), refused.message, json.dumps(refused.metadata), refused.until)
        with self._write() as db:
            db.execute("DELETE FROM refused WHERE until <= ?", (self._clock(),))
            db.execute("INSERT OR REPLACE INTO refused VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def refused_release(self, consumer: str, dataset: str, making: str) -> RefusedRelease | None:
        """The release that was last refused to a consumer of a dataset, made so, unless that is over."""
        query = "SELECT * FROM refused WHERE consumer = ? AND dataset = ? AND making = ? AND until > ?"
        rows = self._rows(query, consumer, dataset, making, self._clock())
        if not rows:
            return None
        _, _, _, source, reason, message, metadata, until = rows[0]
        return RefusedRelease(consumer, dataset, making, source, Reason(reason), message, json.loads(metadata), until)

    def release_removed(self, release: str) -> None:
        """Remember that its spool is gone."""
        with self._write() as db:
            db.execute(
                "UPDATE releases SET removed = ? WHERE release = ? AND removed IS NULL", (self._clock(), release)
            )

    def releases_standing(self) -> list[str]:
        """Releases whose spool was not removed yet."""
        return [name for (name,) in self._rows("SELECT release FROM releases WHERE removed IS NULL ORDER BY made")]


_LOTS_OVER = (
    "SELECT consumer, dataset FROM lots LEFT JOIN salts USING (agreement_digest)"
    " GROUP BY consumer, dataset HAVING max(until) <= ? AND count(salt) = 0"
)
_RUNNING = "SELECT * FROM intervals WHERE consumer = ? AND dataset = ? AND until > ?"


def _interval(row: tuple[Any, ...]) -> Interval:
    consumer, dataset, agreement_digest, purpose, alone, release, content_digest, until = row
    return Interval(consumer, dataset, agreement_digest, purpose, bool(alone), release, content_digest, until)


def _lots(consumer: str, dataset: str) -> str:
    # Not an agreement's salt, which goes with it; no digest of an agreement looks like this.
    return canonical(["lots", consumer, dataset]).decode()


def _json(sent: SentRecord) -> str:
    return msgspec.json.encode(sent).decode()

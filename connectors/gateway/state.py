"""What a gateway must not forget: one SQLite file, synced before the first row leaves.

Grants used per part, the salts of agreements (erasable), releases, intents, receipts, the outbox of
reports, what aggregates have cost, the last checkpoint, local suspensions, orders to open values and the
department's own key papers. Every change is one transaction with `synchronous = FULL`, so that what was
promised before a `kill -9` or a power cut is still there after it. One process at a time: the file is locked
while it is open.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from connectors.gateway.records import (
    Delivered,
    LocalSuspension,
    PaperKind,
    PartsLeft,
    Report,
    ReportKind,
    StoredTransfer,
)
from connectors.gateway.released import Released
from connectors.gateway.tables import SCHEMA_VERSION, STEPS, TABLES
from connectors.releases import budget
from contracts.agreement import Suspension
from contracts.envelope import Envelope
from contracts.errors import Reason, SluicegateError

SALT_BYTES = 32


class GatewayState(Released):
    """The file and its few questions. Thread-safe; close it when the gateway stops."""

    def __init__(self, path: Path, *, clock: Callable[[], int], entropy: Callable[[int], bytes]) -> None:
        """Open or create the file, 0600 in a folder of 0700.

        Raises CONFIG_UNSAFE when others can reach it, STATE_WRONG when another gateway has it open,
        CONFIG_INVALID when it cannot be read or is of a later version.
        """
        self._clock, self._entropy = clock, entropy
        super().__init__(path, tables=TABLES + budget.TABLES, version=SCHEMA_VERSION, steps=STEPS)

    # Salts: what makes an agreement's pseudonyms and order its own, until they are destroyed.

    def salt(self, agreement_digest: str) -> bytes:
        """The agreement's 32 secret bytes, drawn at first use. Raises AGREEMENT_NOT_LIVE once erased."""
        with self._write() as db:
            row = db.execute("SELECT salt FROM salts WHERE agreement_digest = ?", (agreement_digest,)).fetchone()
            if row is None:
                salt = self._entropy(SALT_BYTES)
                db.execute("INSERT INTO salts VALUES (?, ?, ?, NULL)", (agreement_digest, salt, self._clock()))
                return salt
        if row[0] is None:
            raise SluicegateError(
                Reason.AGREEMENT_NOT_LIVE, "the agreement's secret was destroyed; it serves nothing more"
            )
        return bytes(row[0])

    def erase_salt(self, agreement_digest: str, agreement: str, stated: Envelope) -> None:
        """Destroy the agreement's secret for good: its pseudonyms can never be made or linked again. What the
        gateway states of it is put into the outbox with it; not again where it was gone already.

        The pages are overwritten and the log is truncated; what a file system's own snapshots or an
        earlier backup kept is beyond this.
        """
        now = self._clock()
        with self._write() as db:
            db.execute("INSERT OR IGNORE INTO salts VALUES (?, NULL, ?, NULL)", (agreement_digest, now))
            gone = "UPDATE salts SET salt = NULL, erased = ? WHERE agreement_digest = ? AND erased IS NULL"
            if db.execute(gone, (now, agreement_digest)).rowcount:
                _post(db, agreement, "destruction", stated.to_bytes())
        self._truncate_log()

    def secret_since(self, agreement_digest: str) -> int:
        """When the agreement's secret was drawn, by whoever verified it then. Raises AGREEMENT_NOT_LIVE when it has
        none: destroyed, or never drawn."""
        query = "SELECT created FROM salts WHERE agreement_digest = ? AND salt IS NOT NULL"
        for (created,) in self._rows(query, agreement_digest):
            return int(created)
        raise SluicegateError(Reason.AGREEMENT_NOT_LIVE, "the agreement has no secret; nothing can be opened")

    # Orders to open values: kept for the department, each answered once.

    def state_reveal(self, agreement: str, order: Envelope, stated: Envelope) -> None:
        """Keep an order to open values, and put what the gateway states of it into the outbox. An order that is
        sent again stays as it was."""
        with self._write() as db:
            row = (order.digest, order.to_bytes(), stated.digest)
            fresh = "INSERT OR IGNORE INTO reveals (order_digest, envelope, stated) VALUES (?, ?, ?)"
            if db.execute(fresh, row).rowcount:
                _post(db, agreement, "revealed", stated.to_bytes())

    def use_reveal(self, agreement_digest: str, order: Envelope) -> None:
        """Use up an order, the last thing before it is answered. Raises STATE_WRONG for one that was answered,
        UNAVAILABLE while the exchange has not taken what was stated, AGREEMENT_NOT_LIVE when the secret is gone."""
        with self._write() as db:
            self.secret_since(agreement_digest)
            query = "SELECT told, opened FROM reveals WHERE order_digest = ?"
            told, opened = db.execute(query, (order.digest,)).fetchone()
            if opened is not None:
                raise SluicegateError(Reason.STATE_WRONG, "this order was carried out before; sign another")
            if not told:
                raise SluicegateError(Reason.UNAVAILABLE, "the ledger has not been told of this order yet")
            db.execute("UPDATE reveals SET opened = ? WHERE order_digest = ?", (self._clock(), order.digest))

    def keep_agreement(self, agreement: str, agreement_digest: str) -> None:
        """Remember which digest an agreement's name stands for."""
        if agreement_digest not in self.agreement_digests(agreement):
            with self._write() as db:
                db.execute("INSERT OR IGNORE INTO agreements VALUES (?, ?)", (agreement_digest, agreement))

    def agreement_digests(self, agreement: str) -> list[str]:
        """The digests under which an agreement of that name was served here."""
        rows = self._rows("SELECT agreement_digest FROM agreements WHERE agreement = ?", agreement)
        return [digest for (digest,) in rows]

    def to_destroy(self) -> list[tuple[str, str, Envelope]]:
        """Agreements that were ended for good and still have a secret, with their digests and the orders: the
        gateway was killed between the order and its execution."""
        query = (
            "SELECT agreement, agreement_digest, envelope FROM suspensions JOIN agreements USING (agreement)"
            " JOIN salts USING (agreement_digest) WHERE until IS NULL AND NOT lifted AND salt IS NOT NULL"
        )
        return [(name, digest, Envelope.from_bytes(order)) for name, digest, order in self._rows(query)]

    # Transfers.

    def transfer(self, name: str) -> StoredTransfer | None:
        """The transfer of that name, or None."""
        rows = self._rows(f"SELECT {_COLUMNS} FROM transfers WHERE transfer = ?", name)  # noqa: S608 - constant
        return _stored(rows[0]) if rows else None

    def begin(
        self,
        *,
        transfer: str,
        grant_id: str,
        agreement: str,
        consumer: str,
        release: str,
        resumed: bool,
        expires: int,
        intent: Envelope,
        draft: bytes,
    ) -> None:
        """Store the signed intent and put its report in the outbox. Raises GRANT_USED if either the
        transfer or the grant was begun before."""
        raw = intent.to_bytes()
        try:
            with self._write() as db:
                db.execute(
                    "INSERT INTO transfers (transfer, grant_id, agreement, consumer, release, resumed, expires,"
                    " intent, draft) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (transfer, grant_id, agreement, consumer, release, int(resumed), expires, raw, draft),
                )
                _post(db, transfer, "intent", raw)
        except sqlite3.IntegrityError:
            raise SluicegateError(Reason.GRANT_USED, "this grant was begun before at this gateway") from None

    def refuse(
        self,
        *,
        transfer: str,
        grant_id: str,
        agreement: str,
        consumer: str,
        expires: int,
        reason: Reason,
        detail: bytes,
    ) -> None:
        """End a transfer before its intent, with the reason, and put the report in the outbox. A second
        refusal of the same transfer changes nothing."""
        try:
            with self._write() as db:
                db.execute(
                    "INSERT INTO transfers (transfer, grant_id, agreement, consumer, resumed, expires, refusal)"
                    " VALUES (?, ?, ?, ?, 0, ?, ?)",
                    (transfer, grant_id, agreement, consumer, expires, str(reason)),
                )
                _post(db, transfer, "refusal", detail)
        except sqlite3.IntegrityError:
            return

    def intent_reported(self, transfer: str) -> None:
        """The exchange has the intent: rows may leave."""
        with self._write() as db:
            db.execute("UPDATE transfers SET intent_reported = 1 WHERE transfer = ?", (transfer,))

    def claim(self, grant_id: str, part: int, release: str) -> None:
        """Use up one part of a grant, durably, before its first row. Raises GRANT_USED the second time,
        and when the transfer has ended meanwhile."""
        try:
            with self._write() as db:
                row = db.execute(
                    "SELECT receipt IS NULL AND refusal IS NULL FROM transfers WHERE grant_id = ?", (grant_id,)
                ).fetchone()
                if row is None or not row[0]:
                    raise SluicegateError(Reason.GRANT_USED, "the transfer of this grant has ended")
                db.execute("INSERT INTO parts VALUES (?, ?, ?, ?, NULL)", (grant_id, part, release, self._clock()))
        except sqlite3.IntegrityError:
            raise SluicegateError(Reason.GRANT_USED, f"part {part} was already served under this grant") from None

    def sent(self, grant_id: str, part: int) -> None:
        """The part was served to its end."""
        with self._write() as db:
            db.execute("UPDATE parts SET sent = ? WHERE grant_id = ? AND part = ?", (self._clock(), grant_id, part))

    def parts_left(self, stored: StoredTransfer) -> PartsLeft:
        """Parts that left under this grant and, for a resumed transfer, under earlier ones of the same
        release. A part counts as begun once it was claimed: its first row follows at once."""
        where, which = ("release", stored.release) if stored.resumed else ("grant_id", stored.grant_id)
        query = f"SELECT part, max(sent) FROM parts WHERE {where} = ? GROUP BY part ORDER BY part"  # noqa: S608 - constant
        rows = self._rows(query, which)
        return PartsLeft(
            tuple(part for part, sent in rows if sent is not None), tuple(part for part, sent in rows if sent is None)
        )

    def parts_of(self, grant_id: str) -> frozenset[int]:
        """Parts served to the end under this very grant."""
        rows = self._rows("SELECT part FROM parts WHERE grant_id = ? AND sent IS NOT NULL", grant_id)
        return frozenset(part for (part,) in rows)

    def end(self, transfer: str, receipt: Envelope) -> Envelope:
        """Store the signed receipt and put its report in the outbox. The first receipt wins: a later
        one is dropped and the first is returned."""
        raw = receipt.to_bytes()
        with self._write() as db:
            changed = db.execute(
                "UPDATE transfers SET receipt = ?, draft = NULL WHERE transfer = ? AND intent IS NOT NULL"
                " AND receipt IS NULL",
                (raw, transfer),
            ).rowcount
            if changed:
                _post(db, transfer, "receipt", raw)
        stored = self.transfer(transfer)
        if stored is None or stored.receipt is None:
            raise SluicegateError(Reason.STATE_WRONG, "a transfer without an intent has no receipt")
        return Envelope.from_bytes(stored.receipt)

    def unfinished(self) -> list[StoredTransfer]:
        """Transfers with an intent and no receipt, oldest first."""
        query = f"SELECT {_COLUMNS} FROM transfers WHERE receipt IS NULL AND refusal IS NULL ORDER BY rowid"  # noqa: S608
        return [_stored(row) for row in self._rows(query)]

    # Outbox: reports to the exchange, kept until it has them.

    def reports(self, after: int = 0, limit: int = 100) -> list[Report]:
        """The oldest reports with an id above `after` that still have to be delivered."""
        rows = self._rows(
            "SELECT id, transfer, kind, body, attempts FROM outbox WHERE rejected IS NULL AND id > ?"
            " ORDER BY id LIMIT ?",
            after,
            limit,
        )
        return [Report(*row) for row in rows]

    def reports_of(self, transfer: str) -> list[Report]:
        """One transfer's reports that still have to be delivered, oldest first."""
        rows = self._rows(
            "SELECT id, transfer, kind, body, attempts FROM outbox WHERE rejected IS NULL AND transfer = ? ORDER BY id",
            transfer,
        )
        return [Report(*row) for row in rows]

    def delivered(self, report: Report, mark: str, *, stopped: bool = False) -> None:
        """The exchange has it: keep no more than the mark by which its ledger must name it. `stopped`: it has an
        intent, and answered that nothing may be served under it."""
        with self._write() as db:
            db.execute("DELETE FROM outbox WHERE id = ?", (report.id,))
            row = (report.id, report.transfer, report.kind, mark, self._clock())
            db.execute("INSERT OR IGNORE INTO unproved VALUES (?, ?, ?, ?, ?)", row)
            if report.kind == "intent" and not stopped:
                db.execute("UPDATE transfers SET intent_reported = 1 WHERE transfer = ?", (report.transfer,))
            elif report.kind == "revealed":
                db.execute("UPDATE reveals SET told = 1 WHERE stated = ?", (mark,))

    def unproved(self, limit: int = 100) -> list[Delivered]:
        """The oldest reports that the exchange took and that no proof puts into its ledger yet."""
        rows = self._rows("SELECT id, transfer, kind, mark, delivered FROM unproved ORDER BY id LIMIT ?", limit)
        return [Delivered(*row) for row in rows]

    def proved(self, report: Delivered) -> None:
        """The ledger has it: forget it here."""
        with self._write() as db:
            db.execute("DELETE FROM unproved WHERE id = ?", (report.id,))

    def undelivered(self, report: Report) -> None:
        """The exchange could not be reached: count the attempt."""
        with self._write() as db:
            db.execute("UPDATE outbox SET attempts = attempts + 1 WHERE id = ?", (report.id,))

    def rejected(self, report: Report, reason: Reason) -> None:
        """The exchange answered no: keep the paper, with the reason, and do not send it again."""
        with self._write() as db:
            db.execute("UPDATE outbox SET rejected = ?, attempts = attempts + 1 WHERE id = ?", (str(reason), report.id))

    def outbox_size(self) -> tuple[int, int]:
        """How many reports wait, and how many the exchange rejected."""
        ((waiting, rejected),) = self._rows("SELECT count(*) - count(rejected), count(rejected) FROM outbox")
        return waiting, rejected

    # Ledger, suspensions, the department's key papers.

    def checkpoint(self) -> Envelope | None:
        """The last checkpoint of the ledger that verified, or None."""
        rows = self._rows("SELECT value FROM facts WHERE name = 'checkpoint'")
        return Envelope.from_bytes(rows[0][0]) if rows else None

    def keep_checkpoint(self, checkpoint: Envelope) -> None:
        """Replace the last checkpoint."""
        with self._write() as db:
            db.execute("INSERT OR REPLACE INTO facts VALUES ('checkpoint', ?)", (checkpoint.to_bytes(),))

    def unsafe_forget_checkpoint(self) -> None:
        """Accept whatever ledger the exchange shows next: only after it openly restored a backup."""
        with self._write() as db:
            db.execute("DELETE FROM facts WHERE name = 'checkpoint'")
            db.execute("DELETE FROM unproved")

    def suspend(self, suspension: Suspension, envelope: Envelope, *, at: int, until: int | None) -> LocalSuspension:
        """Keep what an approver ordered. Raises STATE_WRONG when a later order is known (a replay), or
        when the agreement was ended for good."""
        with self._write() as db:
            row = db.execute(
                "SELECT at, until, lifted FROM suspensions WHERE agreement = ?", (suspension.agreement,)
            ).fetchone()
            if row is not None and at <= row[0]:
                raise SluicegateError(
                    Reason.STATE_WRONG, "an order of the same or a later time is known for this agreement"
                )
            if row is not None and row[1] is None and not row[2]:
                raise SluicegateError(Reason.STATE_WRONG, "the agreement was ended for good; that is not taken back")
            db.execute(
                "INSERT OR REPLACE INTO suspensions VALUES (?, ?, ?, ?, ?)",
                (suspension.agreement, envelope.to_bytes(), at, until, int(suspension.lifted)),
            )
        return LocalSuspension(suspension.agreement, at, until, suspension.lifted)

    def suspensions(self) -> list[LocalSuspension]:
        """Every local order, lifted and lapsed ones included."""
        rows = self._rows("SELECT agreement, at, until, lifted FROM suspensions ORDER BY agreement")
        return [LocalSuspension(name, at, until, bool(lifted)) for name, at, until, lifted in rows]

    def keep_papers(self, kind: PaperKind, envelopes: Iterable[Envelope]) -> None:
        """Keep key statements or revocations, so that an approver's order can be verified while the
        exchange is away. Keeping proves nothing: whoever uses them verifies them."""
        rows = [(envelope.digest, kind, envelope.to_bytes()) for envelope in envelopes]
        known = {digest for (digest,) in self._rows("SELECT digest FROM papers")}
        if fresh := [row for row in rows if row[0] not in known]:
            with self._write() as db:
                db.executemany("INSERT OR IGNORE INTO papers VALUES (?, ?, ?)", fresh)

    def papers(self, kind: PaperKind) -> tuple[Envelope, ...]:
        """The kept statements or revocations."""
        rows = self._rows("SELECT envelope FROM papers WHERE kind = ? ORDER BY digest", kind)
        return tuple(Envelope.from_bytes(raw) for (raw,) in rows)


_COLUMNS = (
    "transfer, grant_id, agreement, consumer, release, resumed, expires,"
    " intent, intent_reported, draft, receipt, refusal"
)


def _stored(row: tuple[Any, ...]) -> StoredTransfer:
    values = dict(zip(_COLUMNS.split(", "), row, strict=True))
    values["resumed"], values["intent_reported"] = bool(values["resumed"]), bool(values["intent_reported"])
    return StoredTransfer(**values)


def _post(db: sqlite3.Connection, transfer: str, kind: ReportKind, body: bytes) -> None:
    db.execute("INSERT INTO outbox (transfer, kind, body) VALUES (?, ?, ?)", (transfer, kind, body))

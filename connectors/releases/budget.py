"""What differentially private aggregates have cost, kept exactly: whole numbers in the gateway's state.

A privacy filter by basic composition: the epsilons and deltas of all releases of a dataset that were begun for
one recipient are added up, and a release that would go beyond the budget is refused before anything is
read. What is taken is never given back: a release that fails or is killed has spent it, because nobody
can say what was learned of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from connectors.durable import DurableFile
from contracts.aggregate import MICRO, PICO, decimal
from contracts.errors import Reason, SluicegateError

TABLES = """
CREATE TABLE IF NOT EXISTS spent (
    release TEXT PRIMARY KEY, consumer TEXT NOT NULL, dataset TEXT NOT NULL, agreement_digest TEXT NOT NULL,
    micro_epsilon INTEGER NOT NULL CHECK (micro_epsilon >= 0), pico_delta INTEGER NOT NULL CHECK (pico_delta >= 0),
    taken INTEGER NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS spent_by ON spent (consumer, dataset);
CREATE TABLE IF NOT EXISTS aggregates (
    consumer TEXT NOT NULL, dataset TEXT NOT NULL, purpose TEXT NOT NULL, release TEXT NOT NULL, plan TEXT NOT NULL,
    made INTEGER NOT NULL, figures BLOB NOT NULL, PRIMARY KEY (consumer, dataset, purpose)) STRICT, WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """Epsilon in 10^-6 and delta in 10^-12."""

    micro_epsilon: int
    pico_delta: int

    def __str__(self) -> str:
        return f"epsilon {decimal(self.micro_epsilon, MICRO)}, delta {decimal(self.pico_delta, PICO)}"


@dataclass(frozen=True, slots=True)
class Figures:
    """The table that one release sends, as an Arrow file, by which plan (its digest) and when it was made."""

    release: str
    plan: str
    made: int
    content: bytes


class Budgets(DurableFile):
    """The part of the gateway's state that remembers costs and the figures they bought. Thread-safe."""

    def take(
        self, release: str, *, consumer: str, dataset: str, agreement_digest: str, cost: Cost, budget: Cost, now: int
    ) -> Cost:
        """Take what a release costs, durably, before anything is computed; what is left then.

        One transaction reads the sum and adds to it, so that whoever asks at the same time waits for its end.
        Raises BUDGET_SPENT, taking nothing, when it is not covered; STATE_WRONG when this release was paid for
        before: its noise cannot be drawn a second time for the same price.
        """
        with self._write() as db:
            spent = Cost(*db.execute(_SUM, (consumer, dataset)).fetchone())
            if db.execute("SELECT 1 FROM spent WHERE release = ?", (release,)).fetchone():
                message = f"{release} was begun before and what it made is lost; wait for the next refresh interval"
                raise SluicegateError(Reason.STATE_WRONG, message)
            left = Cost(budget.micro_epsilon - spent.micro_epsilon, budget.pico_delta - spent.pico_delta)
            if cost.micro_epsilon > left.micro_epsilon or cost.pico_delta > left.pico_delta:
                message = f"a release costs {cost}; of the budget of {budget}, {spent} is spent"
                raise SluicegateError(Reason.BUDGET_SPENT, message, metadata={"spent": str(spent)})
            row = (release, consumer, dataset, agreement_digest, cost.micro_epsilon, cost.pico_delta, now)
            db.execute("INSERT INTO spent VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        return Cost(left.micro_epsilon - cost.micro_epsilon, left.pico_delta - cost.pico_delta)

    def spent(self, consumer: str, dataset: str) -> Cost:
        """What a recipient's releases of a dataset have cost in all."""
        ((epsilon, delta),) = self._rows(_SUM, consumer, dataset)
        return Cost(epsilon, delta)

    def keep_figures(self, consumer: str, dataset: str, purpose: str, figures: Figures) -> None:
        """Keep what a release made in the place of what the recipient had before for that purpose: after a restart
        within its interval it is served again as it is, and costs nothing."""
        row = (consumer, dataset, purpose, figures.release, figures.plan, figures.made, figures.content)
        with self._write() as db:
            # Of no purpose is what an earlier version of this program kept: its interval is over by now.
            db.execute(
                "DELETE FROM aggregates WHERE consumer = ? AND dataset = ? AND purpose = ''", (consumer, dataset)
            )
            db.execute("INSERT OR REPLACE INTO aggregates VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def figures(self, consumer: str, dataset: str, release: str) -> Figures | None:
        """What that release made, if it is the recipient's last one for its purpose."""
        query = "SELECT release, plan, made, figures FROM aggregates WHERE consumer = ? AND dataset = ? AND release = ?"
        rows = self._rows(query, consumer, dataset, release)
        return Figures(*rows[0]) if rows else None


_SUM = (
    "SELECT coalesce(sum(micro_epsilon), 0), coalesce(sum(pico_delta), 0) FROM spent WHERE consumer = ? AND dataset = ?"
)

"""Whose turn it is to write, and who commits.

One writer at a time, first come first served. Bringing a commit to the disk takes longer than most of what is
committed, so whoever waits when a writer is done goes on in the same transaction, and the last of them commits
for all: nobody is answered before that. A writer that fails takes back its own part alone.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.engine import Engine

from contracts.errors import Reason, SluicegateError
from exchange.databases import translated, unavailable
from exchange.session import WRITE, Session

MOST = 16  # parts of one transaction, failed ones too
LONGEST = 0.2  # seconds after which nobody goes on in it: so long, about, the first of them waits


class _Line:
    """Writers of this process, first come first served. Python's own lock, like SQLite's busy handler,
    lets late comers pass; under load somebody then waits several times as long as everybody else."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._busy = False
        self._waiting: deque[threading.Lock] = deque()

    def enter(self, patience: float) -> bool:
        """Wait for the turn; False when it did not come within `patience` seconds."""
        with self._mutex:
            if not self._busy:
                self._busy = True
                return True
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append(mine)
        try:
            came = mine.acquire(timeout=patience)
        except BaseException:  # an interrupt: the turn must not be given to nobody
            if not self._gave_up(mine):
                self.leave()
            raise
        return came or not self._gave_up(mine)

    def _gave_up(self, mine: threading.Lock) -> bool:
        """Whether the turn did not come while giving up."""
        with self._mutex:
            if mine in self._waiting:
                self._waiting.remove(mine)
                return True
        return False

    def take(self) -> bool:
        """The turn, if nobody has it."""
        with self._mutex:
            free, self._busy = not self._busy, True
        return free

    def hand_on(self) -> bool:
        """Hand the turn to whoever waited longest; False when nobody waits, and the turn is still mine."""
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().release()
                return True
        return False

    def leave(self) -> None:
        """Hand the turn to whoever waited longest, or to whoever comes."""
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._busy = False


class _Shared:
    """A transaction that writers go through one after the other. Only who has the turn touches it, but for `settled`,
    which is set once it is committed, or is not (`error`)."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.began = time.monotonic()
        self.tried = self.kept = 0  # parts
        self.broken = False
        self.settled = threading.Event()
        self.error: SluicegateError | None = None

    @property
    def full(self) -> bool:
        """Whether nobody may go on in it."""
        return self.broken or self.tried >= MOST or time.monotonic() - self.began > LONGEST

    @contextmanager
    def part(self) -> Iterator[Session]:
        """One writer's part. What it raises takes back this part; where that cannot be done, all."""
        self.tried += 1
        self.broken = True  # until this part is kept, or is taken back without those before it
        marked = bool(self.kept)
        if marked:
            self.session.mark()
        try:
            yield self.session
            self.session.flush()
        except BaseException:
            if marked:
                self.session.back_to_mark()
                self.broken = False
            raise
        self.broken = False
        self.kept += 1


class Turns:
    """The writers of this process. `patience` is how many seconds one waits for its turn."""

    def __init__(self, engine: Engine, patience: float) -> None:
        self._engine, self._patience = engine, patience
        self._line = _Line()
        self._shared: _Shared | None = None  # only who has the turn touches it

    @contextmanager
    def turn(self) -> Iterator[Session]:
        """A transaction of one's own, as far as one can tell. Committed when the context ends, unless it raises.

        Raises LEDGER_UNAVAILABLE when the turn does not come in time or the database cannot be written; then
        nothing has changed."""
        if not self._line.enter(self._patience):
            raise unavailable(Reason.LEDGER_UNAVAILABLE)
        try:
            shared = self._shared = self._shared or self._begun()
        except BaseException:
            self._line.leave()
            raise
        try:
            with translated(Reason.LEDGER_UNAVAILABLE), shared.part() as session:
                yield session
        finally:
            self._done(shared)

    def _begun(self) -> _Shared:
        with translated(Reason.LEDGER_UNAVAILABLE):
            session = Session(self._engine)
            try:
                session.begin(WRITE)
            except BaseException:
                session.close()
                raise
        return _Shared(session)

    def _done(self, shared: _Shared) -> None:
        """End one's part: hand the transaction on and wait, or end it for all."""
        if shared.full or not self._line.hand_on():
            self._end(shared)
        while not shared.settled.wait(1.0):
            if self._line.take():  # whoever was to go on was interrupted before it began
                self._end(shared)
        if shared.error is not None:
            raise SluicegateError(shared.error.reason, shared.error.message) from shared.error

    def _end(self, shared: _Shared) -> None:
        """Commit, if there is something to, and give the turn away."""
        if self._shared is not shared:  # somebody did
            self._line.leave()
            return
        self._shared = None
        shared.error = unavailable(Reason.LEDGER_UNAVAILABLE) if shared.kept else None
        try:
            with translated(Reason.LEDGER_UNAVAILABLE):
                if shared.kept and not shared.broken:
                    shared.session.commit()
                    shared.error = None
        except SluicegateError as error:
            shared.error = error
        finally:
            shared.session.close()
            self._line.leave()
            shared.settled.set()

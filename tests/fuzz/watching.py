"""One input under watch: what it may raise, how much time and memory it may take, and what nobody may see of it.

A target may return or raise a `SluicegateError`; anything else is a find. So is an error text that is long or
that a terminal would obey, an input that takes too much processor time or memory, and anything marked in
what was said: in errors with all that caused them, in log lines, in answers.
"""

from __future__ import annotations

import logging
import resource
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator

from contracts.errors import SluicegateError
from tests.attacks.marks import spellings

LONGEST_TEXT = 100_000  # a contract's thousand violations, each of a line
SLOWEST = 5.0  # seconds of processor time for one input, which coverage makes some five times slower
LARGEST = 256 << 20  # bytes that one input may add to the most memory ever held
_PAGE = 1 if sys.platform == "darwin" else 1024


class Find(AssertionError):
    """Something that should not have happened."""


class Heard(logging.Handler):
    """What was logged since one last asked; the last thousand lines of it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: deque[str] = deque(maxlen=1000)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self.lines.append(self.format(record))

    def taken(self) -> list[str]:
        """The lines, which are forgotten."""
        lines = list(self.lines)
        self.lines.clear()
        return lines


class Watch:
    """Looks at inputs one after another. `marks` are what nobody may see: 32-byte keys count in all their
    spellings, other words as they are."""

    def __init__(self, marks: Iterable[bytes] = ()) -> None:
        self.marks = {mark for one in marks for mark in (spellings(one) if len(one) == 32 else {one})}
        self.heard = Heard()
        self.slowest, self.largest, self._peak, self._began = 0.0, 0, 0, 0.0
        log = logging.getLogger("sluicegate")
        log.setLevel(logging.DEBUG)
        log.propagate = False
        log.addHandler(self.heard)

    def begin(self) -> None:
        """Before an input; what was logged earlier is nobody's."""
        self.heard.lines.clear()
        self._peak = _peak()
        self._began = time.process_time()

    def end(self) -> None:
        """After it. Raises Find."""
        took, grown = time.process_time() - self._began, _peak() - self._peak
        self.slowest, self.largest = max(self.slowest, took), max(self.largest, grown)
        if took > SLOWEST:
            raise Find(f"one input took {took:.1f} s")
        if grown > LARGEST:
            raise Find(f"one input took {grown >> 20} MiB")
        for line in self.heard.taken():
            self.demand_clean(line.encode(errors="replace"), "a log line")

    def demand_decent(self, error: SluicegateError) -> None:
        """The error may be shown to anybody, with all that caused it. Raises Find."""
        text = str(error)
        if len(text) > LONGEST_TEXT:
            raise Find(f"an error of {len(text)} characters")
        if not "".join(text.split("\n")).isprintable():
            raise Find(f"control characters in an error: {text!r}"[:500])
        self.demand_clean(f"{text} {dict(error.metadata)} {error!r}".encode(errors="replace"), "an error")
        for cause in _causes(error):
            self.demand_clean(f"{cause} {cause!r}".encode(errors="replace"), "what caused an error")

    def demand_clean(self, said: bytes, where: str) -> None:
        """Nothing marked is in it. Raises Find."""
        for mark in self.marks:
            if mark in said:
                raise Find(f"something marked is in {where}: {mark[:8]!r}...")


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _PAGE


def _causes(error: BaseException) -> Iterator[BaseException]:
    """What a traceback would show besides the error."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        yield cause
        yield from _causes(cause)

"""Calls that are ended when something did not happen in time: one thread watches over all of them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

Act = Callable[[], object]


class Alarm:
    """Acts after so many seconds, unless it is called off before.

    As all wait equally long, they are due in the order in which they were set. The thread sleeps until
    the oldest one that still counts, or until there is one: a call costs it nothing.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._set: deque[tuple[float, list[Act]]] = deque()  # when it is due; what to do, empty once called off
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def unless_done(self, act: Act) -> Iterator[None]:
        """Do that when the block takes longer."""
        still = [act]
        with self._changed:
            self._set.append((time.monotonic() + self._seconds, still))
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="alarm", daemon=True)
                self._thread.start()
            elif len(self._set) == 1:
                self._changed.notify()
        try:
            yield
        finally:
            still.clear()

    def _watch(self) -> None:
        while True:
            with self._changed:
                while self._set and not self._set[0][1]:
                    self._set.popleft()
                wait = self._set[0][0] - time.monotonic() if self._set else None
                if wait is None or wait > 0:
                    self._changed.wait(wait)
                    continue
                _, still = self._set.popleft()
            for act in still:
                act()

"""A bounded number of places, of which no party gets more than its share."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator

from contracts.errors import Reason, SluicegateError


class Places:
    """At most `total` at once, at most `share` of one party; `what` says what they are for, in errors."""

    def __init__(self, total: int, share: int, what: str) -> None:
        self._total, self._share, self._what = total, share, what
        self._taken = Counter[str]()
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def place(self, party: str, *, wait: float = 0.0) -> Iterator[None]:
        """Hold a place; `wait` is how many seconds one may take to become free. Raises RATE_LIMITED."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._free(party), wait):
                whose = f"{party} has {self._share}" if self._taken[party] >= self._share else f"all {self._total} are"
                raise SluicegateError(
                    Reason.RATE_LIMITED,
                    f"too many {self._what} at once: {whose} taken; repeat later",
                    metadata={"retryAfterSeconds": "1"},
                )
            self._taken[party] += 1
        try:
            yield
        finally:
            with self._changed:
                self._taken[party] -= 1
                self._taken += Counter()  # forgets who has none
                self._changed.notify_all()

    def _free(self, party: str) -> bool:
        return self._taken[party] < self._share and self._taken.total() < self._total

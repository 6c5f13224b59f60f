"""What was made from something that never changes, remembered under its digest."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

REMEMBERED = 256

V = TypeVar("V")


class Memo(Generic[V]):
    """Values that depend on nothing but a digest, by that digest; forgets the least recently used."""

    def __init__(self, most: int = REMEMBERED) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._values: OrderedDict[str, V] = OrderedDict()

    def get(self, digest: str, make: Callable[[], V]) -> V:
        """The value of that digest, made when it is not known. Two threads may make it at once."""
        with self._lock:
            if digest in self._values:
                self._values.move_to_end(digest)
                return self._values[digest]
        value = make()
        with self._lock:
            self._values[digest] = value
            while len(self._values) > self._most:
                self._values.popitem(last=False)
        return value

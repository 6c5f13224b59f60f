"""One policy engine for all tests of a process that do not look at the engine itself: to build one costs
more than a hundred decisions."""

from __future__ import annotations

from functools import cache

from contracts.policy.embedded import EmbeddedEngine


@cache
def shared_engine() -> EmbeddedEngine:
    """The engine of this process."""
    return EmbeddedEngine()

"""How often a test repeats what chance decides: a few times in `make test`, and in full where .ci/run sets
SLUICEGATE_THOROUGH and runs all that is marked so. What a test demands is the same both times.

    @thorough
    def test_something() -> None:
        for number in range(times(6, at_least=2)):
"""

from __future__ import annotations

import os

import pytest

NAME = "SLUICEGATE_THOROUGH"
thorough = pytest.mark.thorough


def times(full: int, *, at_least: int) -> int:
    """How often: `full` where everything is run, else `at_least`."""
    return full if os.environ.get(NAME) else at_least

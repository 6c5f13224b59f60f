"""A source in memory, for tests of what reads one."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from connectors.sources.base import dtype_of
from contracts.dtypes import Schema
from contracts.errors import Violation


class Held:
    """A source in memory."""

    name = "held"

    def __init__(self, frame: pl.DataFrame) -> None:
        self.frame = frame

    def state(self) -> str:
        """See Source."""
        return str(self.frame.hash_rows().sum())

    def schema(self) -> Schema:
        """See Source."""
        return {name: dtype_of(dtype) for name, dtype in self.frame.schema.items()}

    def scan(self, columns: Sequence[str]) -> pl.LazyFrame:
        """See Source."""
        return self.frame.lazy().select(columns)

    def misfits(self, columns: Sequence[str]) -> tuple[Violation, ...]:
        """See Source."""
        return ()

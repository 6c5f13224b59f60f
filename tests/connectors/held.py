"""A source in memory, for tests of what reads one; and the rows of a release that was made of it."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import pyarrow as pa

from connectors.dictionaries import written_out
from connectors.releases import release
from connectors.releases.release import Release
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


def rows_of(made: Release, *parts: int) -> pl.DataFrame:
    """The rows of a release, or of some of its parts, in their order."""
    wanted = parts or range(len(made.parts))
    batches = [written_out(batch) for part in wanted for batch in release.read_part(made, part)]
    return pl.DataFrame(pl.from_arrow(pa.Table.from_batches(batches)))

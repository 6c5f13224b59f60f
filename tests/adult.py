"""The Adult census extract of the corpora: 32,561 persons, a row each."""

from __future__ import annotations

from pathlib import Path

import polars as pl

COLUMNS = (
    *("age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship"),
    *("race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country", "income"),
)


def read(corpora: Path) -> pl.DataFrame:
    """All rows, texts without the blanks around them, numbers as the file's types are guessed, and an `id`."""
    raw = pl.read_csv(corpora / "adult" / "adult.data", has_header=False, new_columns=list(COLUMNS))
    trimmed = raw.drop_nulls("age").with_columns(pl.col(pl.String).str.strip_chars())
    return trimmed.with_columns(id=pl.int_range(pl.len()).cast(pl.String))

"""Tracks: whom a few known rows tell apart among all pseudonyms."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from connectors.reidentification.outcome import Outcome

SAMPLE = 500  # pseudonyms that are tried


def by_points(released: pl.DataFrame, pseudonym: str, columns: Sequence[str], *, points: int, seed: int) -> Outcome:
    """Of pseudonyms with `points` different rows or more, a sample: of each, so many rows are known, as they
    are released (a time, a place). Told apart is whose rows no other pseudonym has all of; among several,
    one is taken by chance. After de Montjoye and others, Scientific Reports 2013.
    """
    name = f"{points} known rows by {', '.join(columns)}"
    rows = (
        released.drop_nulls(pseudonym)
        .select(unit=pl.col(pseudonym), point=pl.struct(columns).hash(seed))
        .unique(maintain_order=True)
    )
    units = rows["unit"].n_unique()
    able = rows.filter(pl.len().over("unit") >= points)["unit"].unique(maintain_order=True)
    if not len(able):
        return Outcome(name, 0, 0.0, baseline=1 / max(1, units))
    targets = able.sample(min(SAMPLE, len(able)), seed=seed).rename("target")
    known = (
        rows.join(targets.to_frame(), left_on="unit", right_on="target", how="semi")
        .select(target=pl.col("unit"), point=pl.col("point"))
        .with_columns(place=pl.int_range(pl.len()).shuffle(seed).over("target"))
        .filter(pl.col("place") < points)
    )
    fitting = (
        known.join(rows, on="point")
        .group_by("target", "unit")
        .len()
        .filter(pl.col("len") == points)
        .group_by("target")
        .len(name="alike")
    )
    return Outcome(name, len(targets), float((1 / fitting["alike"]).sum()), baseline=1 / max(1, units))

"""Guessing what a value stands for: by trying all there are, by how often it occurs, by its class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import polars as pl
import polars_hash  # noqa: F401 - registers the `chash` expressions

from connectors.reidentification.outcome import Outcome

# What a department without a standard does to an identifier. None needs a key.
_UNKEYED = (("nchash", "md5"), ("nchash", "sha1"), ("chash", "sha2_256"), ("chash", "sha2_512"), ("chash", "blake3"))


def by_enumeration(outgoing: pl.Series, candidates: pl.Series) -> Outcome:
    """The share of the values that leave which are a candidate as it is, or its unkeyed hash (MD5, SHA-1,
    SHA-256, SHA-512, BLAKE3, in hexadecimal, also cut off). `candidates` are all values that the column can hold: an
    attacker who enumerates has them all."""
    name = f"enumeration of {outgoing.name}"
    shown = outgoing.cast(pl.String).drop_nulls().unique()
    if not len(shown):
        return Outcome(name, 0, 0.0, of="values")
    every = candidates.cast(pl.String).drop_nulls().unique().rename("value")
    found = shown.is_in(every.implode())
    lengths = cast(list[int], shown.str.len_chars().unique().to_list())
    value = cast(Any, pl.col("value"))
    for namespace, algorithm in _UNKEYED:
        hashed: pl.Expr = getattr(getattr(value, namespace), algorithm)()
        digests = every.to_frame().select(hashed).to_series()
        for length in (length for length in lengths if 8 <= length <= 128):
            tried = digests.str.slice(0, length)
            found |= shown.str.to_lowercase().is_in(tried.implode())
    return Outcome(name, len(shown), float(found.sum()), of="values")


def by_frequency(outgoing: pl.Series, truth: pl.Series) -> Outcome:
    """Values that occur as often as no other one are told by a register that knows how often each occurs.

    `truth` has, row by row, what the outgoing value stands for.
    """
    rows = pl.DataFrame({"shown": outgoing.cast(pl.String), "truth": truth.cast(pl.String)}).drop_nulls()
    shown = rows.group_by("shown").agg(pl.len().alias("n"), pl.col("truth").first())
    alone = shown.filter(pl.len().over("n") == 1).select("n", claimed="truth")
    known = rows.group_by("truth").len().filter(pl.len().over("len") == 1)
    hit = alone.join(known, left_on="n", right_on="len").filter(pl.col("claimed") == pl.col("truth")).height
    return Outcome(f"frequency of {outgoing.name}", shown.height, hit, of="values", baseline=1 / max(1, shown.height))


def by_class(released: pl.DataFrame, quasi: Sequence[str], sensitive: str) -> Outcome:
    """The commonest sensitive value of a row's class is claimed; the baseline is that of all rows."""
    rows = released.select(*quasi, sensitive).drop_nulls(sensitive)
    if not rows.height:
        return Outcome(f"inference of {sensitive}", 0, 0.0, of="rows")
    common = rows.group_by(*quasi, sensitive).len().group_by(quasi).agg(pl.col("len").max())
    whole = int(cast(int, rows[sensitive].value_counts()["count"].max()))
    return Outcome(
        f"inference of {sensitive}",
        rows.height,
        float(common["len"].sum()),
        of="rows",
        baseline=whole / rows.height,
    )


def by_homogeneity(released: pl.DataFrame, quasi: Sequence[str], sensitive: str) -> Outcome:
    """Rows whose class has one sensitive value: whoever knows the class, knows it for sure."""
    rows = released.select(*quasi, sensitive).drop_nulls(sensitive)
    classes = rows.group_by(quasi).agg(pl.len(), pl.col(sensitive).n_unique().alias("values"))
    sure = classes.filter(pl.col("values") == 1)["len"].sum()
    return Outcome(f"homogeneity of {sensitive}", rows.height, float(sure), of="rows")

"""Which rows of a whole release leave: samples of entities, and no small classes of things."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.keys import AgreementSecrets
from connectors.releases.rehearsal import dry_run
from connectors.spooling.scope import drawn
from contracts.dtypes import DATE, INT64, STRING, DType
from contracts.errors import Reason
from contracts.techniques import Sample, SuppressSmall
from tests.connectors import plans
from tests.connectors.held import Held, rows_of
from tests.connectors.releases.test_release import (
    BOUNDED,
    FIELDS,
    KEEP,
    PEOPLE,
    ROWS,
    SECRETS,
    WAYS,
    _make,
    _refusal,
    _small_batches,
)

__all__ = ["_small_batches"]  # the same small batches here

VISITS = pl.concat([PEOPLE, PEOPLE.filter(pl.col("row") % 3 == 0)])
THINGS = {"town": (KEEP, STRING), "note": (KEEP, STRING), "age": ({"mask": "bucket", "size": 10}, INT64)}


# --- samples


@WAYS
def test_whoever_is_drawn_leaves_with_all_rows_and_nobody_else(tmp_path: Path, options: dict[str, Any]) -> None:
    plan = plans.plan({**FIELDS, "id": (KEEP, STRING)}, **BOUNDED, sample=Sample(rate=0.25, entity="id"))
    made = _make(plan, Held(VISITS), tmp_path, **options)
    found = rows_of(made)
    drawn_ids = found["id"].unique()
    assert abs(len(drawn_ids) / ROWS - 0.25) < 0.04  # six standard deviations
    assert made.rows_in == made.rows_out == VISITS.filter(pl.col("id").is_in(drawn_ids.implode())).height
    again = _make(plan, Held(VISITS.reverse().head(VISITS.height - 1)), tmp_path / "again", release_id="rel-bbbbbbbbbb")
    assert len(set(drawn_ids) ^ set(rows_of(again)["id"])) <= 1  # whatever else changed


def test_a_lower_rate_draws_some_of_the_same_and_so_does_another_agreement_but_no_other_recipient() -> None:
    def who(rate: float, secrets: AgreementSecrets = SECRETS) -> set[str]:
        plan = plans.plan(FIELDS, **BOUNDED, sample=Sample(rate=rate, entity="id"))
        return set(drawn(PEOPLE.lazy(), plan, secrets).collect()["id"])

    few, many = who(0.1), who(0.4)
    assert few < many
    recipient = {"lots": b"l" * 32}
    many = who(0.4, AgreementSecrets(b"k" * 32, "sha256:a", **recipient))
    assert who(0.4, AgreementSecrets(b"j" * 32, "sha256:b", **recipient)) == many
    assert who(0.1, AgreementSecrets(b"j" * 32, "sha256:b", **recipient)) < many
    other = who(0.4, AgreementSecrets(b"k" * 32, "sha256:a", lots=b"m" * 32))
    assert abs(len(many & other) / ROWS - 0.16) < 0.04


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.one_of(st.none(), st.text(max_size=8)), max_size=60),
    rate=st.floats(1e-9, 1 - 1e-9, exclude_min=True, exclude_max=True),
)
def test_equal_entities_share_their_lot_and_spellings_of_one_too(values: list[str | None], rate: float) -> None:
    frame = pl.DataFrame({"id": values, "row": range(len(values))}, schema={"id": pl.String, "row": pl.Int64})
    plan = plans.thing_plan({"row": (KEEP, INT64)}, sample=Sample(rate=rate, entity="id"))
    left = drawn(pl.concat([frame, frame.with_columns(pl.col("id") + "  ")]).lazy(), plan, SECRETS).collect()
    kept = left.group_by("row").len()
    assert set(kept["len"]) <= {2}
    assert left["id"].null_count() == 0
    by_id = frame.join(kept, on="row", how="left").group_by("id").agg(pl.col("len").n_unique())
    assert by_id.filter(pl.col("id").is_not_null() & (pl.col("len") > 1)).is_empty()


@pytest.mark.parametrize("dtype", [STRING, INT64, DATE], ids=str)
def test_it_draws_by_texts_numbers_and_dates(dtype: DType) -> None:
    values = {"string": PEOPLE["id"], "integer": PEOPLE["row"], "date": PEOPLE["when"].dt.date()}[dtype.kind]
    plan = plans.thing_plan({"v": (KEEP, dtype)}, sample=Sample(rate=0.5, entity="v"))
    left = drawn(values.rename("v").to_frame().lazy(), plan, SECRETS).collect()
    assert 0 < left.height < ROWS


def test_bounds_hold_in_the_sample_alone(tmp_path: Path) -> None:
    """Classes of 44 and more persons in the whole leave fewer than 12 of each in a twentieth."""
    fields = {"age": (KEEP, INT64)}
    whole = plans.plan(fields, quasi_identifiers=("age",), k=12)
    assert _make(whole, Held(PEOPLE), tmp_path).rows_out == ROWS
    part = plans.plan(fields, quasi_identifiers=("age",), k=12, sample=Sample(rate=0.05, entity="id"))
    assert _refusal(part, PEOPLE, tmp_path / "part").reason is Reason.BOUNDS_NOT_MET


def test_a_person_without_a_name_still_refuses_a_sample(tmp_path: Path) -> None:
    frame = PEOPLE.with_columns(id=pl.when(pl.col("row") > 0).then("id"))
    plan = plans.plan(FIELDS, **BOUNDED, sample=Sample(rate=0.01, entity="id"))
    assert "null or empty in 1 of" in _refusal(plan, frame, tmp_path).message


def test_a_sample_of_nobody_is_no_release(tmp_path: Path) -> None:
    plan = plans.plan(FIELDS, **BOUNDED, sample=Sample(rate=1e-12, entity="id"))
    assert _refusal(plan, PEOPLE, tmp_path).reason is Reason.DATA_INVALID


# --- small classes


@WAYS
def test_rows_that_too_few_are_like_stay_behind(tmp_path: Path, options: dict[str, Any]) -> None:
    fields = ("town", "note", "age")
    plan = plans.thing_plan(
        THINGS, suppress_small=SuppressSmall(k=18, fields=fields, max_suppression=0.9), order="keyed"
    )
    made = _make(plan, Held(PEOPLE), tmp_path, **options)
    masked = PEOPLE.select("town", "note", pl.col("age") // 10 * 10)
    expected = masked.filter(pl.len().over(fields) >= 18)
    assert 0 < expected.height < ROWS
    found = rows_of(made)
    assert found.sort(fields).equals(expected.sort(fields))
    assert (made.rows_in, made.rows_suppressed, made.bounds, made.order) == (
        ROWS,
        ROWS - expected.height,
        None,
        "keyed",
    )


def test_where_more_would_stay_behind_than_may_nothing_leaves(tmp_path: Path) -> None:
    plan = plans.thing_plan(
        {"row": (KEEP, INT64)}, suppress_small=SuppressSmall(k=2, fields=("row",), max_suppression=0.9), order="keyed"
    )
    error = _refusal(plan, PEOPLE, tmp_path)
    assert error.reason is Reason.BOUNDS_NOT_MET
    assert error.metadata == {
        "rows_in": str(ROWS),
        "rows_to_suppress": str(ROWS),
        "max_suppression": "0.900000",
    }
    run = dry_run(plan, Held(PEOPLE), spool=tmp_path / "dry", entropy=os.urandom)
    assert not run.passes


def test_a_dry_run_leaves_out_the_same_rows(tmp_path: Path) -> None:
    small, sample = (
        SuppressSmall(k=16, fields=("town", "note", "age"), max_suppression=0.9),
        Sample(rate=0.9, entity="row"),
    )
    read = ("town", "note", "age", "row")
    plan = plans.thing_plan(THINGS, suppress_small=small, order="keyed", sample=sample, read=read)
    run = dry_run(plan, Held(PEOPLE), spool=tmp_path / "dry", entropy=os.urandom)
    assert run.passes
    assert 0 < run.rows_suppressed < run.rows_in < ROWS
    assert run.share <= run.max_suppression == 0.9

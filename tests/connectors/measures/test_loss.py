"""The loss of a release's quasi-identifiers: what its definition says, and nearly so where it is a sample's."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.masks.masking import masked
from connectors.measures import loss
from connectors.measures.loss import Losses
from connectors.spooling.order import ReleaseKey
from contracts.dtypes import FLOAT64, INT64, STRING, DType
from tests.connectors import plans
from tests.connectors.releases.test_release import SECRETS

KEY = ReleaseKey(b"k" * 32, "rel-aaaaaaaaaa")
BY_TEN: tuple[dict[str, Any], DType] = ({"mask": "bucket", "size": 10}, INT64)


def watched(frame: pl.DataFrame, fields: dict[str, tuple[dict[str, Any], DType]], batch: int = 1000) -> Losses:
    """What was watched of a frame, masked and taken in batch by batch."""
    plan = plans.plan(fields, quasi_identifiers=tuple(fields))
    losses = Losses(plan, KEY)
    secrets = SECRETS.of_release("rel-aaaaaaaaaa")
    out = masked(frame.lazy(), plan, secrets, beside=losses.beside).collect()
    assert set(losses.columns) == set(out.columns) - set(fields)
    for piece in out.iter_slices(batch):
        losses.look(piece)
    return losses


def defined(before: list[Any], after: list[Any]) -> float:
    """The definition, row by row."""
    became = defaultdict(set)
    for was, value in zip(before, after, strict=True):
        became[value].add(was)
    every = max(1, len(set(before)) - 1)
    return sum((len(became[value]) - 1) / every for value in after) / max(1, len(after))


@settings(max_examples=100, deadline=None)
@given(ages=st.lists(st.one_of(st.none(), st.integers(-50, 150)), min_size=1, max_size=80), batch=st.integers(1, 90))
def test_it_is_what_the_definition_says(ages: list[int | None], batch: int) -> None:
    frame = pl.DataFrame({"age": ages, "id": ages}, schema={"age": pl.Int64, "id": pl.Int64})
    found = watched(frame, {"age": BY_TEN}, batch).total(0.0)
    assert found == pytest.approx(defined(ages, [None if age is None else age // 10 * 10 for age in ages]))


def test_what_leaves_as_it_is_loses_nothing_and_without_values_all() -> None:
    frame = pl.DataFrame({"a": ["x", "y", "z"], "b": ["x", "y", "z"], "id": ["1", "2", "3"]})
    kept, gone = ({"mask": "keep"}, STRING), ({"mask": "null"}, STRING)
    assert watched(frame, {"a": kept}).total(0.0) == 0.0
    assert watched(frame, {"b": gone}).total(0.0) == 1.0
    assert watched(frame, {"a": kept, "b": gone}).total(0.0) == 0.5
    assert watched(frame, {"a": ({"mask": "hmac", "domain": "d"}, STRING)}).total(0.0) == 0.0
    assert watched(frame, {"a": ({"mask": "constant", "value": "-"}, STRING)}).total(0.0) == 1.0


def test_a_suppressed_row_loses_all() -> None:
    frame = pl.DataFrame({"age": [1, 2, 11, 12], "id": [1, 2, 3, 4]})
    losses = watched(frame, {"age": BY_TEN})
    assert losses.total(0.0) == pytest.approx(1 / 3)
    assert losses.total(0.25) == pytest.approx(0.25 + 0.75 / 3)
    assert losses.total(1.0) == 1.0


def test_a_cell_is_made_of_both_coordinates() -> None:
    """Two places of one latitude are two values."""
    frame = pl.DataFrame({"lat": [31.2] * 4, "lon": [121.1, 121.2, 121.3, 121.4], "id": [1, 2, 3, 4]})
    cell = {"lat": ({"mask": "geohash", "precision": 1, "longitude": "lon"}, FLOAT64)}
    assert watched(frame, cell).total(0.0) == 1.0


def test_a_sample_of_many_values_and_rows_tells_it_nearly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "MOST", 2_000)
    monkeypatch.setattr(loss, "ALL_OF", 10_000)
    draw = random.Random(5)
    numbers = [int(draw.expovariate(1 / 20_000)) for _ in range(120_000)]
    phones = [f"13{draw.randrange(10)}{number:08d}" for number in numbers]
    frame = pl.DataFrame({"number": numbers, "phone": phones, "id": numbers})
    by_thousand: tuple[dict[str, Any], DType] = ({"mask": "bucket", "size": 10_000}, INT64)
    partial: tuple[dict[str, Any], DType] = ({"mask": "partial", "keep_first": 3}, STRING)
    for fields, before, after in (
        ({"number": by_thousand}, numbers, [number // 10_000 for number in numbers]),
        ({"phone": partial}, phones, [phone[:3] for phone in phones]),
    ):
        losses = watched(frame, fields, 3_000)
        found = losses.total(0.0)
        assert found == pytest.approx(defined(before, after), rel=0.1)
        (one,) = losses._fields.values()
        assert one._pairs["was"].n_unique() < 2_200
        assert sum(len(new) for new, _, _ in one._new) == 0


def test_rows_count_alike_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source in order: what loses nothing comes first, and every row of it is watched."""
    monkeypatch.setattr(loss, "ALL_OF", 10_000)
    ages = [10 * (n % 10) for n in range(10_000)] + [1_000 + n % 10 for n in range(40_000)]
    found = watched(pl.DataFrame({"age": ages, "id": ages}), {"age": BY_TEN}).total(0.0)
    assert found == pytest.approx(defined(ages, [age // 10 for age in ages]), rel=0.02)


def test_chance_is_no_loss_and_takes_no_memory() -> None:
    """What noise goes into is watched as it was before: rounded, and of few values."""
    ages = [float(n % 90) for n in range(50_000)]
    noisy: tuple[dict[str, Any], DType] = (
        {"mask": "noise", "distribution": "laplace", "scale": 20, "base": 10},
        FLOAT64,
    )
    losses = watched(pl.DataFrame({"age": ages, "id": [str(n) for n in range(50_000)]}), {"age": noisy})
    rounded = pl.Series(ages).map_elements(lambda age: float(round(age / 10 + 1e-9)), return_dtype=pl.Float64).to_list()
    assert losses.total(0.0) == pytest.approx(defined(ages, rounded), rel=0.05)
    (one,) = losses._fields.values()
    assert one._pairs.height == 90


def test_it_holds_on_to_no_text() -> None:
    """Of a few rows of a batch a column of texts holds all texts that the batch was read with: raw ones, and ten
    times the rows would need ten times the memory."""
    plan = plans.plan({"a": ({"mask": "prefix", "length": 20}, STRING)}, quasi_identifiers=("a",))
    losses, pool = Losses(plan, KEY), pa.proxy_memory_pool(pa.default_memory_pool())
    secrets = SECRETS.of_release("rel-aaaaaaaaaa")
    for number in range(4):
        texts = [f"{number * 100_000 + row:>60}" for row in range(100_000)]
        read = pl.DataFrame({"a": pl.from_arrow(pa.array(texts, pa.large_string(), memory_pool=pool))})
        assert pool.bytes_allocated() > 6_000_000
        frame = read.with_columns(id=pl.col("a")).lazy()
        losses.look(masked(frame, plan, secrets, beside=losses.beside).collect())
        del read, frame
        assert pool.bytes_allocated() == 0


def test_without_quasi_identifiers_there_is_none() -> None:
    assert Losses(plans.thing_plan({"a": ({"mask": "keep"}, STRING)}), KEY).total(0.0) is None

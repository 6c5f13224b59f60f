"""Releases that miss a bound: refused, with columns and figures for the department, and without a value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from connectors.keys import AgreementSecrets
from connectors.measures import missed
from connectors.releases import release
from contracts.dtypes import DATE, INT64, STRING
from contracts.errors import Reason, SluicegateError
from contracts.model import SharingModel
from contracts.plan import Plan
from tests.connectors import plans
from tests.connectors.held import Held

SECRETS = AgreementSecrets(b"k" * 32, "sha256:a")
KEEP = {"mask": "keep"}
ROWS = 2400
# Sex and district alone are large classes; a birth year within a district of the 40 is not.
PEOPLE = pl.DataFrame(
    {
        "id": [f"id-{i:06d}" for i in range(ROWS)],
        "sex": ["f" if i % 2 else "m" for i in range(ROWS)],
        "year": [1940 + i // 2 % 60 for i in range(ROWS)],
        "district": [f"district-{i // 120 % 20:02d}" for i in range(ROWS)],
        "income": [1000 * (i % 7) for i in range(ROWS)],
        "illness": [["flu", "cold", "gout"][i % 3] for i in range(ROWS)],
    }
)
TYPES = {"sex": STRING, "year": INT64, "district": STRING, "income": INT64, "illness": STRING}
QUASI = ("sex", "year", "district")


def _plan(*fields: str, **changes: Any) -> Plan:
    sent = {name: (KEEP, TYPES.get(name, STRING)) for name in fields}
    quasi = tuple(name for name in fields if name in QUASI)
    return plans.plan(sent, **{"quasi_identifiers": quasi, "k": 5, **changes})


def _make(plan: Plan, folder: Path, frame: pl.DataFrame = PEOPLE, **options: Any) -> release.Release:
    given = {"spool": folder / "rel", "release_id": "rel-aaaaaaaaaa", "clock": lambda: 1_770_000_000, **options}
    return release.make(plan, Held(frame), SECRETS, **given)


def _refusal(plan: Plan, folder: Path, frame: pl.DataFrame = PEOPLE, **options: Any) -> SluicegateError:
    with pytest.raises(SluicegateError) as caught:
        _make(plan, folder, frame, **options)
    assert caught.value.reason is Reason.BOUNDS_NOT_MET
    assert not (folder / "rel").exists()
    return caught.value


WAYS = pytest.mark.parametrize("options", [{}, {"memory_limit": 0, "exact_rows": 0}], ids=["memory", "disk"])


@WAYS
def test_the_worst_combination_is_named_by_its_columns(tmp_path: Path, options: dict[str, Any]) -> None:
    """Year and district together isolate; sex does not have to be there."""
    error = _refusal(_plan("sex", "year", "district"), tmp_path, **options)
    assert set(error.metadata["worst_combination"].split(", ")) == {"year", "district"}
    told = " ".join([error.message, *error.metadata, *error.metadata.values()])
    for column in ("sex", "district", "id"):
        assert not [value for value in PEOPLE[column].unique() if len(value) > 1 and value in told]
    assert error.metadata["share_of_uniques"] == "1.000000"


def test_one_column_that_isolates_is_named_alone(tmp_path: Path) -> None:
    error = _refusal(_plan("sex", "district", "id", quasi_identifiers=("sex", "district", "id")), tmp_path)
    assert error.metadata["worst_combination"] == "id"


def test_a_table_too_large_to_search_names_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(missed, "MOST_ROWS", 2 * 3 * ROWS - 1)
    assert "worst_combination" not in _refusal(_plan("sex", "year", "district"), tmp_path).metadata


@WAYS
@pytest.mark.parametrize(
    ("field", "bound", "figures"),
    [
        ("income", {"t": {"income": 0.2}}, {"t_required.income": "0.2", "t_highest.income": "0.475000"}),
        ("illness", {"t": {"illness": 0.3}}, {"t_required.illness": "0.3", "t_highest.illness": "0.633333"}),
        ("illness", {"entropy": {"illness": 1.5}}, {"entropy_lowest.illness": "1.000000"}),
    ],
)
def test_a_class_spread_otherwise_than_the_whole_is_refused(
    tmp_path: Path, options: dict[str, Any], field: str, bound: dict[str, Any], figures: dict[str, str]
) -> None:
    """Everybody in district 3 has the lowest income and the flu; k alone would let them go."""
    here = pl.col("district") == "district-03"
    frame = PEOPLE.with_columns(
        income=pl.when(here).then(0).otherwise("income"), illness=pl.when(here).then(pl.lit("flu")).otherwise("illness")
    )
    assert _make(_plan("district", field), tmp_path / "k", frame, **options).bounds is not None
    plan = _plan("district", field, **bound)
    metadata = _refusal(plan, tmp_path, frame, **options).metadata
    found = {name: metadata[name] for name in figures}
    for name, value in figures.items():
        assert float(found[name]) == pytest.approx(float(value), abs=0.02)
    allowed = _plan("district", field, **bound, on_violation="suppress", max_suppression=0.05)
    made = _make(allowed, tmp_path, frame, **options)
    assert made.rows_suppressed == 120
    assert made.bounds is not None
    assert made.bounds.certificate is not None
    spread = made.bounds.certificate.spread[field]
    assert (spread.t_required, spread.entropy_required) == (
        bound.get("t", {}).get(field),
        bound.get("entropy", {}).get(field),
    )
    assert (spread.ordered is not None) == (field == "income")


@WAYS
def test_a_release_riskier_than_its_contract_says_is_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    """Classes of twenty by sex and year: the mean risk is 1/20, however far k alone needs to be counted."""
    plan = _plan("sex", "year", max_risk=0.05)
    bounds = _make(plan, tmp_path / "made", **options).bounds
    assert bounds is not None
    assert bounds.certificate is not None
    assert not bounds.at_least
    assert (bounds.certificate.risk, bounds.certificate.level) == (pytest.approx(1 / 20), 3)
    error = _refusal(_plan("sex", "year", max_risk=0.04), tmp_path, **options)
    assert (error.metadata["risk_required"], error.metadata["risk"]) == ("0.04", "0.050000")


def test_the_certificate_without_bounds_of_its_own_costs_no_other_counting(tmp_path: Path) -> None:
    bounds = _make(_plan("sex", "year", sharing_model=SharingModel.ENCLAVE, tau=1 / 3), tmp_path).bounds
    assert bounds is not None
    assert bounds.certificate is not None
    assert bounds.certificate.spread == {}
    assert (bounds.certificate.tau, bounds.certificate.dr_b) == (0.333333333333, 1 / 20)


# --- bad input


def test_k_larger_than_the_table(tmp_path: Path) -> None:
    error = _refusal(_plan("sex", k=ROWS + 1), tmp_path)
    assert (error.metadata["k_required"], error.metadata["k_lowest"]) == (str(ROWS + 1), str(ROWS // 2))
    everything = _plan("sex", k=ROWS + 1, on_violation="suppress", max_suppression=0.99)
    assert _refusal(everything, tmp_path).metadata["share"] == "1.000000"


def test_one_class_only_holds_everybody(tmp_path: Path) -> None:
    frame = PEOPLE.with_columns(sex=pl.lit("f"))
    bounds = _make(_plan("sex", "income", t={"income": 0.01}), tmp_path, frame).bounds
    assert bounds is not None
    assert bounds.certificate is not None
    assert (bounds.classes, bounds.k_met, bounds.certificate.dr_c) == (1, ROWS, pytest.approx(1 / ROWS))
    assert bounds.certificate.spread["income"].ordered == 0.0


def test_a_sensitive_column_that_is_constant(tmp_path: Path) -> None:
    """Whoever is in the release has it: l and entropy say so, t cannot."""
    frame = PEOPLE.with_columns(illness=pl.lit("flu"))
    error = _refusal(_plan("sex", "illness", sensitive={"illness": 2}), tmp_path, frame)
    assert error.metadata["l_lowest.illness"] == "1"
    error = _refusal(_plan("sex", "illness", entropy={"illness": 1.1}), tmp_path, frame)
    assert error.metadata["entropy_lowest.illness"] == "1.000000"
    nothing = PEOPLE.with_columns(illness=pl.lit(None, dtype=pl.String))
    assert _refusal(_plan("sex", "illness", entropy={"illness": 1.1}), tmp_path, nothing)


@pytest.mark.parametrize("empty", ["all", "missing"])
def test_an_entity_column_that_tells_nobody_apart(tmp_path: Path, empty: str) -> None:
    frame = PEOPLE.with_columns(id=pl.lit(None, dtype=pl.String)) if empty == "all" else PEOPLE.drop("id")
    with pytest.raises(SluicegateError) as caught:
        _make(_plan("sex"), tmp_path, frame)
    assert caught.value.reason is Reason.DATA_INVALID
    assert ("cannot be told apart" if empty == "all" else "a column that is needed") in caught.value.message


def test_dates_have_an_order_too(tmp_path: Path) -> None:
    frame = PEOPLE.with_columns(since=pl.date(2020, 1, 1) + pl.duration(days=pl.col("income") // 1000))
    sent = {"sex": (KEEP, STRING), "since": (KEEP, DATE)}
    plan = plans.plan(sent, quasi_identifiers=("sex",), k=5, t={"since": 0.2})
    bounds = _make(plan, tmp_path, frame).bounds
    assert bounds is not None
    assert bounds.certificate is not None
    assert bounds.certificate.spread["since"].ordered is not None

"""The test contract with a purpose of differentially private aggregates, and a table for it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import polars as pl

from connectors.keys import AgreementSecrets, passing_secrets
from contracts import plan, standard
from contracts.dtypes import DATE, INT64, STRING, Schema, timestamp
from contracts.plan import Plan
from tests import papers

PURPOSE = "visit-statistics"
SCHEMA: Schema = {
    "citizen_id": STRING,
    "patient_name": STRING,
    "birth_date": DATE,
    "home_postcode": STRING,
    "visit_ts": timestamp("us"),
    "hospital_code": STRING,
    "diagnosis_icd10": STRING,
    "stay_minutes": INT64,
}
LISTED = {"hospital_code": ["H01", "H02", "H03"]}


def aggregate(**changes: Any) -> dict[str, Any]:
    """The terms, some of them changed; None takes one out."""
    terms = {
        "entity": "citizen_id",
        "groupBy": ["hospital_code"],
        "measures": {
            "visits": {"count": "rows"},
            "patients": {"count": "persons"},
            "minutes": {"sum": "stay_minutes", "lower": 0, "upper": 600},
            "mean_stay": {"mean": "stay_minutes", "lower": 0, "upper": 600},
        },
        "contribution": {"groups": 2, "rows": 3},
        "epsilon": "1.5",
        "delta": "0.000001",
        "budget": {"epsilon": 3, "delta": "0.000002"},
        **changes,
    }
    return {key: value for key, value in terms.items() if value is not None}


def purpose(terms: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """The purpose, with other terms or other parts."""
    value = {
        "term": "dpv:ImproveTransportMobility",
        "legalBasis": "dpv:OfficialAuthorityOfController",
        "consumers": ["*"],
        "release": "dp-aggregate",
        "fields": {"hospital_code": {"mask": "keep"}, "stay_minutes": {"mask": "keep"}},
        "aggregate": aggregate() if terms is None else terms,
        "refresh": "P7D",
        "retention": "P365D",
        "geography": {"allowed": ["XX-CTY"], "crossBorder": "prohibited"},
        **changes,
    }
    return {key: part for key, part in value.items() if part is not None}


def document(terms: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """The whole contract."""
    found = papers.document()
    stay = papers._column("stay_minutes", "integer", "highly-private", "sensitive", "medical-code")
    found["schema"][0]["properties"].append(stay)
    found["roles"].append({"role": PURPOSE, "access": "read", "firstLevelApprovers": papers.STEWARD})
    found["roles"][-1]["secondLevelApprovers"] = papers.DPO
    for entry in found["customProperties"]:
        if entry["property"] == "purposes":
            entry["value"][PURPOSE] = purpose(terms, **changes)
    return found


def compiled(terms: dict[str, Any] | None = None, **changes: Any) -> Plan:
    """The purpose's plan."""
    contract = papers.make(purpose=PURPOSE, document=document(terms, **changes)).contract
    return plan.compile(plan.terms_for(contract, PURPOSE), contract, SCHEMA, standard.load("desensitisation/1"))


def visits(path: Path, people: int = 900, visits_each: int = 4) -> pl.DataFrame:
    """Each person visits `visits_each` times, one of three hospitals in turn; one alone visits H99."""
    rows = people * visits_each
    person = pl.int_range(rows, eager=True) % people
    turn = (pl.int_range(rows, eager=True) // people + person) % 3
    frame = pl.DataFrame(
        {
            "citizen_id": "CID" + person.cast(pl.String),
            "patient_name": "NAME" + person.cast(pl.String),
            "birth_date": pl.repeat(dt.date(1970, 1, 1), rows, eager=True),
            "home_postcode": pl.repeat("10K", rows, eager=True),
            "visit_ts": pl.repeat(dt.datetime(2026, 2, 2), rows, dtype=pl.Datetime("us"), eager=True),
            "hospital_code": "H0" + (turn + 1).cast(pl.String),
            "diagnosis_icd10": pl.repeat("J00", rows, eager=True),
            "stay_minutes": 30 + person % 60,
        }
    )
    alone = frame.head(1).with_columns(citizen_id=pl.lit("ALONE"), hospital_code=pl.lit("H99"))
    frame = pl.concat([frame, alone.cast(dict(frame.schema))])
    frame.write_parquet(path)
    return frame


def secrets(seed: int = 0) -> AgreementSecrets:
    """Some agreement's secrets."""
    return passing_secrets(lambda count: bytes([seed]) * count)

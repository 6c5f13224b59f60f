"""A synthetic sample of a dataset: rows made up from the contract alone, then really masked.

Shows a future consumer the form of a release. It is drawn from the contract's public text, never from
data, so it says nothing about anyone; the values are not distributed like the real ones.
"""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta

import polars as pl

from connectors.keys import passing_secrets
from connectors.masks.masking import masked, polars_type
from contracts import dtypes, plan, standard
from contracts.dtypes import DType, Schema
from contracts.model import Contract, Field

_TYPES: dict[str, DType] = {
    "string": dtypes.STRING,
    "date": dtypes.DATE,
    "timestamp": dtypes.timestamp("us"),
    "integer": dtypes.INT64,
    "number": dtypes.FLOAT64,
    "boolean": dtypes.BOOLEAN,
    "array": dtypes.LIST,
}
_DIGITS = {"national-id": 18, "phone": 11, "bank-card": 16}
_START = date(1950, 1, 1)


def synthetic(contract: Contract, purpose: str, rows: int) -> pl.DataFrame:
    """`rows` made-up rows as a release for that purpose would show them.

    Raises PLAN_REFUSED when the contract cannot be compiled for the purpose. Columns whose logical
    type has no example (object) are left out.
    """
    schema = {field.name: _TYPES[field.logical_type] for field in contract.fields if field.logical_type in _TYPES}
    terms = plan.terms_for(contract, purpose)
    compiled = plan.compile(terms, contract, schema, standard.load(contract.sharing.standard))
    chance = random.Random(contract.terms_digest)  # noqa: S311 - made-up values, no secret
    frame = _made_up(contract, schema, rows, chance)
    # Pseudonyms of made-up people need no secret: the key is as public as the contract.
    return masked(frame.lazy(), compiled, passing_secrets(chance.randbytes)).collect()


def _made_up(contract: Contract, schema: Schema, rows: int, chance: random.Random) -> pl.DataFrame:
    columns = {
        field.name: [_value(field, chance) for _ in range(rows)] for field in contract.fields if field.name in schema
    }
    return pl.DataFrame(columns, schema={name: polars_type(dtype) for name, dtype in schema.items()})


def _value(field: Field, chance: random.Random) -> object:
    day = timedelta(days=chance.randrange(25_000))
    match field.logical_type:
        case "date":
            return _START + day
        case "timestamp":
            start = datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None)
            return start + timedelta(seconds=chance.randrange(86_400 * 300))
        case "integer":
            return chance.randrange(100, 1_000_000)
        case "number":
            return round(chance.uniform(1, 10_000), 2)
        case "boolean":
            return chance.random() < 0.5
        case "array":
            return [_text(field, chance) for _ in range(chance.randrange(4))]
    return _text(field, chance)


def _text(field: Field, chance: random.Random) -> str:
    if field.category in _DIGITS:
        return "".join(str(chance.randrange(10)) for _ in range(_DIGITS[field.category]))
    if field.category == "medical-code":
        return f"{chance.choice('ABEFIJKMN')}{chance.randrange(10, 100)}.{chance.randrange(10)}"
    if field.category == "address":
        return f"{chance.randrange(100_000, 1_000_000)}"
    return f"{field.name[:12]}-{chance.randrange(1000):03d}"

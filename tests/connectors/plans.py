"""Plans written by hand, for tests and benchmarks of what carries them out."""

from __future__ import annotations

from typing import Any

from contracts import techniques
from contracts.dtypes import DType
from contracts.model import Identifiability, SharingModel, Tier
from contracts.plan import Plan, PlannedField


def planned(name: str, mask: dict[str, Any], source: DType) -> PlannedField:
    """One field under a mask."""
    technique = techniques.parse(mask).resolved(source)
    return PlannedField(
        name=name,
        technique=technique,
        source=source,
        output=technique.produces(source),
        identifiability=Identifiability.QUASI,
        tier=Tier.INTERNAL,
    )


def plan(fields: dict[str, tuple[dict[str, Any], DType]], **changes: Any) -> Plan:
    """A plan of these fields (mask, source type); by default about persons told apart by `id`."""
    sent = tuple(planned(name, mask, dtype) for name, (mask, dtype) in fields.items())
    values: dict[str, Any] = {
        "agreement_digest": "sha256:" + "0" * 64,
        "document_digest": "sha256:" + "1" * 64,
        "terms_digest": "sha256:" + "2" * 64,
        "standard_digest": "sha256:" + "3" * 64,
        "dataset": "people",
        "purpose": "planning",
        "fields": sent,
        "read": tuple(
            dict.fromkeys([*fields, *((changes.get("entity", "id"),) if changes.get("entity", "id") else ())])
        ),
        "entity": "id",
        "quasi_identifiers": (),
        "sensitive": {},
        "entropy": {},
        "t": {},
        "pseudonyms": (),
        "k": 2,
        "tau": 0.2,
        "tolerated": 0.05,
        "max_risk": None,
        "max_suppression": None,
        "on_violation": "refuse",
        "sharing_model": SharingModel.CONTROLLED,
        "rows": {},
        "refresh": "P1D",
        "order": "keyed",
    }
    return Plan(**{**values, **changes})


def thing_plan(fields: dict[str, tuple[dict[str, Any], DType]], **changes: Any) -> Plan:
    """A plan about no person: no bounds, in the source's order."""
    nothing: dict[str, Any] = {"entity": None, "k": None, "tau": None, "sharing_model": None, "order": "source"}
    return plan(fields, **{**nothing, **changes})

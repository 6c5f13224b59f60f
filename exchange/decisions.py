"""Decisions and refusals, as the ledger remembers them."""

from __future__ import annotations

from typing import Any, TypeVar

from contracts.errors import SluicegateError
from contracts.policy.engine import Decision
from contracts.policy.inputs import Subject
from exchange.identity import Principal

T = TypeVar("T")


def subject(principal: Principal) -> Subject:
    """The caller as policy sees it."""
    return Subject(principal.party, principal.kind.value, principal.subject, principal.roles)


def entry(decision: Decision) -> dict[str, Any]:
    """What the ledger keeps of a decision: id, verdict, codes of its reasons, digest of the bundle."""
    return {
        "decision": decision.id,
        "allow": decision.allow,
        "reasons": [reason.code for reason in decision.reasons],
        "policy": decision.bundle_digest,
    }


def refused(error: SluicegateError) -> dict[str, Any]:
    """What the ledger keeps of a refusal that no policy was asked for: the reason, and its findings as
    `place: code`. Messages and the ends of paths are left out: they quote what the caller wrote."""
    return {
        "allow": False,
        "reason": error.reason.value,
        "findings": sorted({f"{found.path.split('.')[0]}: {found.code}" for found in error.violations}),
    }


def settled(outcome: T | SluicegateError) -> T:
    """What a transaction ended with: a value to return, or a refusal to raise now that its entry is
    committed."""
    if isinstance(outcome, SluicegateError):
        raise outcome
    return outcome

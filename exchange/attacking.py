"""`sluicegate attack`: the release of a contract attacked on real data, before anything is published."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl

from connectors import sources
from connectors.reidentification import Outcome, trial
from connectors.sources.base import reading
from contracts.odcs import LoadedContract
from exchange.trying import compiled, opened, purposes_of

# What names a person is judged; what says something about a person of a known class is told beside.
_TOLD_ONLY = ("inference", "homogeneity")
MOST = 0.05  # share of the targets, at the upper end of the interval


@dataclass(frozen=True)
class Attacked:
    """How the attacks on one purpose went. `most`: what an attack that names people may reach."""

    purpose: str
    outcomes: tuple[Outcome, ...]
    most: float

    def holds(self, outcome: Outcome) -> bool | None:
        """Whether an attack stays within the limit; None where none is set for it, or nobody was tried."""
        if not outcome.tried or outcome.attack.startswith(_TOLD_ONLY):
            return None
        return outcome.worst <= self.most

    @property
    def withstands(self) -> bool:
        """Whether every attack that names people stays within the limit."""
        return all(self.holds(outcome) is not False for outcome in self.outcomes)

    def as_json(self) -> dict[str, Any]:
        """Everything, for a program."""
        return {
            "purpose": self.purpose,
            "withstands": self.withstands,
            "most": self.most,
            "attacks": [
                {
                    "attack": outcome.attack,
                    "of": outcome.of,
                    "tried": outcome.tried,
                    "succeeded": round(outcome.succeeded, 3),
                    "rate": round(outcome.rate, 6),
                    "low": round(outcome.interval[0], 6),
                    "high": round(outcome.interval[1], 6),
                    "baseline": round(outcome.baseline, 6),
                    "holds": self.holds(outcome),
                }
                for outcome in self.outcomes
            ],
        }


def attack_contract(
    loaded: LoadedContract,
    settings: sources.SourceSettings,
    *,
    purpose: str | None = None,
    register: sources.SourceSettings | None = None,
    earlier: sources.SourceSettings | None = None,
    points: int = 4,
    most: float = MOST,
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[Attacked, ...]:
    """Attack the release of one purpose, or of all about persons. `register`: what the attacker knows;
    `earlier`: the data as it was at an earlier release.

    Raises INVALID_ARGUMENT for an unknown purpose and settings that lead to no file, PLAN_REFUSED for a
    purpose that breaks other rules, and what `connectors.reidentification.trial` raises.
    """
    contract = loaded.contract
    source = opened(contract, settings)
    known = None if register is None else _whole(opened(contract, register))
    before = None if earlier is None else opened(contract, earlier)
    found = []
    for name in purposes_of(contract, purpose):
        if contract.purposes[name].effectiveness is None:
            continue
        outcomes = trial(
            compiled(contract, name, source),
            source,
            entropy=os.urandom,
            register=known,
            earlier=before,
            points=points,
            tell=lambda stage, name=name: tell(f"purpose {name}: {stage}"),  # type: ignore[misc]
        )
        found.append(Attacked(name, outcomes, most))
    return tuple(found)


def _whole(source: sources.Source) -> pl.DataFrame:
    names = tuple(source.schema())
    with reading(source.name):
        return source.scan(names).collect()

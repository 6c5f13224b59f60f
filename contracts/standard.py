"""The desensitisation standard: the least that every department does to the same kind of data.

A standard is data (`standards/*.yaml`, shipped, never edited once published); this module reads it
into frozen values and answers the questions that lint, plan compiler and approvals put to it. Its
digest is pinned by trust files and written into every agreement and receipt.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from typing import Literal

import msgspec
from msgspec import Struct

from contracts import yaml12
from contracts.canonical import digest
from contracts.errors import Reason, SluicegateError, Violation, nearest
from contracts.model import Field, Identifiability, SharingModel, Tier
from contracts.technique import Family, Technique

_FILES = {"desensitisation/1": "desensitisation-1.yaml"}


class _Rule(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """Base of the values of a standard."""


class TierRule(_Rule, frozen=True, kw_only=True):
    """What a tier means, and how many distinct persons approve a request for a field of it."""

    approvals: int
    meaning: str


class Threshold(_Rule, frozen=True, kw_only=True):
    """Of a sharing model: the fewest people in a class (1/tau)."""

    least_k: int


class Run(_Rule, frozen=True, kw_only=True):
    """A run of characters inside a value of a category, and how many values it can take."""

    length: int
    values: int


class Category(_Rule, frozen=True, kw_only=True):
    """What a column can be: its least tier, what it can be declared as, and its shape."""

    least_tier: Tier
    identifiability: tuple[Identifiability, ...] = tuple(Identifiability)
    shape: tuple[Run, ...] = ()
    check_modulus: int = 1

    @property
    def length(self) -> int:
        """Characters of a value; 0 where the category has no fixed shape."""
        return sum(run.length for run in self.shape)

    def candidates(self, shown_first: int, shown_last: int) -> float:
        """How many values fit what a mask shows; infinite where the category has no fixed shape.

        A run that is partly hidden keeps that share of its possibilities (geometrically): of 10^8
        subscribers with 4 of 8 digits hidden, 10^4. A check character that is shown divides them.
        """
        if not self.shape:
            return math.inf
        hidden = range(min(shown_first, self.length), max(self.length - shown_last, shown_first))
        left, at = 1.0, 0
        for run in self.shape:
            covered = len(range(max(at, hidden.start), min(at + run.length, hidden.stop)))
            left *= run.values ** (covered / run.length)
            at += run.length
        return max(1.0, left / self.check_modulus) if shown_last and self.check_modulus > 1 else left


class Floor(_Rule, frozen=True, kw_only=True):
    """The least that is done to the fields it applies to. Absent conditions apply to any field."""

    id: str
    why: str
    tiers: tuple[Tier, ...] = tuple(Tier)
    identifiability: tuple[Identifiability, ...] = tuple(Identifiability)
    categories: tuple[str, ...] | None = None
    sent: bool = True
    families: tuple[Family, ...] | None = None
    least_strength: int = 0
    keep: Literal["allowed", "justified", "never"] = "allowed"
    irreversible: bool = False
    least_l: int | None = None

    def applies(self, field: Field) -> bool:
        """Whether this floor is about that field."""
        return (
            field.classification in self.tiers
            and field.identifiability in self.identifiability
            and (self.categories is None or field.category in self.categories)
        )

    def breach(self, field: Field, technique: Technique, l_bound: int | None) -> str | None:
        """What is wrong with that technique on that field, and what would be right; None if nothing."""
        if not technique.sent:
            return None
        if not self.sent:
            return f"a {field.classification} field may only be dropped"
        if technique.strength == 0:  # values pass: kept, or kept but for what detectors find in them
            return self._keep_breach(field, technique) or self._l_breach(field, technique, l_bound)
        if self.families is not None and technique.family not in self.families:
            allowed = " or ".join(self.families)
            return f"{technique.id} ({technique.family}) is too weak for a {_kind(field)} field; allowed: {allowed}"
        if self.irreversible and technique.reversible:
            return f"{technique.id} can be undone; a {_kind(field)} field needs an irreversible mask"
        if technique.strength < self.least_strength:
            strength = f"strength {technique.strength}, needed {self.least_strength}"
            return f"{technique.id} is too weak for a {_kind(field)} field: {strength}"
        return self._l_breach(field, technique, l_bound)

    def _keep_breach(self, field: Field, technique: Technique) -> str | None:
        if self.keep == "never":
            return f"{technique.id} is not allowed for a {_kind(field)} field"
        if self.keep == "justified" and not getattr(technique, "justification", None):
            return f"{technique.id} of a {_kind(field)} field needs a `justification`"
        return None

    def _l_breach(self, field: Field, technique: Technique, l_bound: int | None) -> str | None:
        if self.least_l is None or technique.family == Family.SUPPRESSION or (l_bound or 0) >= self.least_l:
            return None
        found = "none is required" if l_bound is None else f"{l_bound} is required"
        return f"a {_kind(field)} field needs an l bound of at least {self.least_l}; {found}"


def _kind(field: Field) -> str:
    return f"{field.classification}, {field.identifiability}"


class Waiver(_Rule, frozen=True, kw_only=True):
    """What supervision may allow although the tier prohibits it. Recorded; no contract can claim it."""

    categories: tuple[str, ...]
    purposes: tuple[str, ...]
    never: tuple[str, ...]
    approvals: int
    supervision: bool
    needs: tuple[str, ...]


class Breach(Struct, frozen=True):
    """One floor that a technique does not reach: what is wrong and what would be right, and why."""

    floor: str
    message: str
    why: str


class Standard(_Rule, frozen=True, kw_only=True):
    """One published standard. Build it with `load`; `digest` is that of its whole document."""

    id: str
    title: str
    digest: str
    tiers: dict[Tier, TierRule]
    thresholds: dict[SharingModel, Threshold]
    risk: float
    categories: dict[str, Category]
    least_candidates: int
    rounding: dict[str, float]
    floors: tuple[Floor, ...]
    waivers: tuple[Waiver, ...]

    def approvals_needed(self, tier: Tier) -> int:
        """How many distinct persons must approve a request whose highest field is of that tier."""
        return self.tiers[tier].approvals

    def least_k(self, model: SharingModel) -> int:
        """The lowest k that a contract may require under that sharing model: 1/tau."""
        return self.thresholds[model].least_k

    def tau(self, model: SharingModel) -> float:
        """The highest re-identification risk of one class that is tolerated under that model."""
        return 1 / self.least_k(model)

    def floors_of(self, field: Field) -> tuple[Floor, ...]:
        """Every floor that applies to that field."""
        return tuple(floor for floor in self.floors if floor.applies(field))

    def breaches(self, field: Field, technique: Technique, *, l_bound: int | None = None) -> tuple[Breach, ...]:
        """Every floor that this technique does not reach on this field. `l_bound` is the l that the
        purpose requires of the field, None if none. Empty: allowed."""
        found = [
            Breach(floor.id, message, floor.why)
            for floor in self.floors_of(field)
            if (message := floor.breach(field, technique, l_bound)) is not None
        ]
        if technique.id == "regex" and self._shaped(field):
            message = f"what a regex leaves of a {field.category} cannot be counted; allowed: partial, prefix"
            found.append(Breach("candidates", message, "whoever knows what a value looks like tries them all"))
        elif (left := self.candidates(field, technique)) < self.least_candidates:
            message = f"{technique.id} leaves about {left:.0f} candidates of a {field.category}"
            message += f"; at least {self.least_candidates} are needed"
            found.append(Breach("candidates", message, "whoever knows what a value looks like tries them all"))
        return tuple(found)

    def _shaped(self, field: Field) -> bool:
        category = self.categories.get(field.category or "")
        return category is not None and bool(category.shape)

    def candidates(self, field: Field, technique: Technique) -> float:
        """How many values fit what a partial mask or a prefix shows of a field whose category has a
        fixed shape; infinite for everything else."""
        category = self.categories.get(field.category or "")
        if category is None or technique.id not in ("partial", "prefix"):
            return math.inf
        if technique.id == "prefix":
            return category.candidates(int(getattr(technique, "length")), 0)  # noqa: B009 - not of the base class
        first, last, least = (int(getattr(technique, name)) for name in ("keep_first", "keep_last", "min_masked"))
        # Too short to hide `min_masked` characters: then the whole value is hidden.
        return (
            category.candidates(first, last) if first + last + least <= category.length else category.candidates(0, 0)
        )

    def coarse_amount(self, field: Field, technique: Technique) -> bool:
        """Whether an amount is sent no finer than the standard's rounding. False for other categories."""
        least = self.rounding.get(field.category or "")
        step = (
            getattr(technique, "base", None) if technique.id in ("round", "noise") else getattr(technique, "size", None)
        )
        if least is None or technique.family == Family.SUPPRESSION:
            return least is not None
        return isinstance(step, int | float) and step >= least

    def fine_amount(self, field: Field, technique: Technique) -> bool:
        """Whether the field is an amount about persons that is sent finer than the standard's
        rounding: then it counts as a quasi-identifier and as sensitive."""
        about_persons = field.identifiability != Identifiability.NONE
        return about_persons and field.category in self.rounding and not self.coarse_amount(field, technique)

    def counts_as_quasi(self, field: Field, technique: Technique) -> bool:
        """Whether what is sent of the field must stand among the quasi-identifiers: it is `quasi`, or
        a masked remnant of a direct or semi-private field, or an amount that is not rounded enough.
        Other sensitive fields are protected by their l bound instead."""
        if not technique.sent or not technique.remnant or field.identifiability == Identifiability.NONE:
            return False
        if field.identifiability == Identifiability.QUASI or self.fine_amount(field, technique):
            return True
        if field.identifiability == Identifiability.SENSITIVE or field.category in self.rounding:
            return False
        return field.identifiability == Identifiability.DIRECT or field.classification == Tier.SEMI_PRIVATE


def ids() -> tuple[str, ...]:
    """The standards that this version ships."""
    return tuple(_FILES)


@lru_cache(maxsize=8)
def load(id: str = "desensitisation/1") -> Standard:
    """The shipped standard of that id. Raises CONTRACT_INVALID for another, naming those there are."""
    name = _FILES.get(id)
    if name is None:
        raise SluicegateError(
            Reason.CONTRACT_INVALID,
            f"there is no desensitisation standard {id[:64]!r}",
            (Violation("standard", f"found {id[:64]!r}", nearest(id, _FILES), code="STANDARD_UNKNOWN"),),
        )
    return parse(resources.files("contracts").joinpath("standards", name).read_bytes(), name=name)


def parse(raw: bytes, *, name: str = "standard") -> Standard:
    """A standard from its YAML. Raises CONTRACT_INVALID when it is not one or contradicts itself."""
    document = yaml12.load(raw, name=name).value
    if not isinstance(document, Mapping) or "digest" in document:
        raise SluicegateError(
            Reason.CONTRACT_INVALID, f"{name}: not a desensitisation standard: expected a map without `digest`"
        )
    try:
        standard = msgspec.convert({**document, "digest": digest(document)}, Standard)
    except msgspec.ValidationError as error:
        raise SluicegateError(Reason.CONTRACT_INVALID, f"{name}: not a desensitisation standard: {error}") from None
    _check(standard, name)
    return standard


def _check(standard: Standard, name: str) -> None:
    """A standard with a gap would let through what nobody thought of."""
    gaps = [f"no rule for the tier {tier}" for tier in Tier if tier not in standard.tiers]
    gaps += [
        f"no threshold for the sharing model {model}" for model in SharingModel if model not in standard.thresholds
    ]
    approvals = [standard.tiers[tier].approvals for tier in Tier if tier in standard.tiers]
    if approvals != sorted(approvals):
        gaps.append("a higher tier needs fewer approvals than a lower one")
    gaps += [
        f"{model}: leastK below 2 protects nobody" for model, found in standard.thresholds.items() if found.least_k < 2
    ]
    named = {word for floor in standard.floors for word in floor.categories or ()} | set(standard.rounding)
    named |= {word for waiver in standard.waivers for word in waiver.categories}
    gaps += [f"the category {word} is used but not listed" for word in sorted(named - standard.categories.keys())]
    if not any(not floor.sent and Tier.PROHIBITED in floor.tiers for floor in standard.floors):
        gaps.append("no floor keeps prohibited data in")
    if gaps:
        raise SluicegateError(
            Reason.CONTRACT_INVALID,
            f"{name}: the standard contradicts itself",
            tuple(Violation(name, gap) for gap in gaps),
        )

"""Differentially private aggregates as a kind of purpose: its terms, its arithmetic, what a receipt says of it.

A purpose with `release: dp-aggregate` sends no row. It sends one small table: groups, and noisy counts, sums
and means of them. Neighbouring tables differ by all rows of one person, added or removed (unbounded adjacency);
for any two of them every table that may be sent is about equally likely: within a factor e^epsilon, but for
a chance of delta. Amounts of epsilon and delta are whole numbers here, of 10^-6 and of 10^-12, so
that a budget is exact.
"""

from __future__ import annotations

import math
from decimal import Decimal, InvalidOperation
from typing import Annotated, Literal

from msgspec import Meta, Struct

MICRO = 10**6  # of epsilon
PICO = 10**12  # of delta
MOST_UNITS = 10**15  # of a bound, in units of the field's rounding: far below what doubles hold exactly
MOST_LISTED = 10_000  # groups that a contract may list

Number = int | float
Amount = str | int | float
Many = Annotated[int, Meta(ge=1, le=10_000)]


class _Value(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """Base of the terms, as they stand in a contract."""


class Contribution(_Value, frozen=True, kw_only=True):
    """How much of one person counts: rows in at most `groups` groups, at most `rows` rows in each. The rest
    of the person's rows is left out, by an order that only the agreement's secret decides."""

    groups: Many
    rows: Many


class Measure(_Value, frozen=True, kw_only=True):
    """One column of figures: the rows or persons of a group, or the sum or mean of a field, each value of
    which is clamped to `lower` .. `upper` first."""

    count: Literal["rows", "persons"] | None = None
    sum: str | None = None
    mean: str | None = None
    lower: Number | None = None
    upper: Number | None = None

    @property
    def kind(self) -> Literal["count", "sum", "mean"]:
        """What is computed."""
        return "count" if self.count is not None else "sum" if self.sum is not None else "mean"

    @property
    def field(self) -> str | None:
        """The field whose values are added up; None for counts."""
        return self.sum if self.sum is not None else self.mean

    @property
    def shares(self) -> int:
        """How many noisy figures it is made of: a mean is a sum and a count."""
        return 2 if self.kind == "mean" else 1


class _Cost(_Value, frozen=True, kw_only=True):
    """What something costs."""

    epsilon: Amount
    delta: Amount = 0

    @property
    def micro_epsilon(self) -> int:
        """Epsilon in millionths."""
        return amount(self.epsilon, MICRO)

    @property
    def pico_delta(self) -> int:
        """Delta in 10^-12."""
        return amount(self.delta, PICO)


class Budget(_Cost, frozen=True, kw_only=True):
    """What one recipient may cost a dataset in all, under whichever agreements and purposes."""


class Aggregate(_Cost, frozen=True, kw_only=True):
    """The terms of such a purpose. `group_by` are fields of the purpose, grouped as their masks leave them.

    With `groups` just those are sent, each combination of the listed values, whoever is in it. Without, the
    groups come from the data: one is sent only if its noisy number of persons reaches a threshold, which
    follows from `delta`. `entity` tells persons apart. `epsilon` is what one release costs."""

    entity: str
    group_by: tuple[str, ...]
    measures: dict[str, Measure]
    contribution: Contribution
    groups: dict[str, tuple[str | int, ...]] | None = None
    budget: Budget

    @property
    def measured(self) -> tuple[str, ...]:
        """The fields whose values are added up, each once."""
        return tuple(dict.fromkeys(name for measure in self.measures.values() if (name := measure.field) is not None))

    @property
    def share(self) -> int:
        """The millionths of epsilon that each noisy figure gets: equal shares, one of them for choosing groups
        where those come from the data. What does not divide is left unused."""
        parts = sum(measure.shares for measure in self.measures.values()) + (self.groups is None)
        return self.micro_epsilon // max(1, parts)

    @property
    def threshold(self) -> int | None:
        """The noisy number of persons from which on a group is sent; None for listed groups."""
        return None if self.groups is not None else threshold(self.contribution.groups, self.share, self.pico_delta)

    @property
    def words(self) -> tuple[str, ...]:
        """The terms as people read them."""
        some = "listed groups" if self.groups is not None else f"groups of about {self.threshold} persons or more"
        return (
            f"no rows: noisy {', '.join(self.measures)} by {', '.join(self.group_by)}",
            f"epsilon {decimal(self.micro_epsilon, MICRO)} a release",
            f"{decimal(self.budget.micro_epsilon, MICRO)} in all",
            some,
        )


def amount(value: Amount, unit: int) -> int:
    """A decimal amount as a whole number of 1/unit. Raises ValueError for what is no number, negative, beyond
    a thousand, or not whole.

    >>> amount("0.5", MICRO), amount(0.1, MICRO), amount(1e-6, PICO)
    (500000, 100000, 1000000)
    """
    try:
        scaled = Decimal(str(value)) * unit
    except InvalidOperation:
        raise ValueError(f"{str(value)[:40]!r} is no number") from None
    if not scaled.is_finite() or not 0 <= scaled <= 1000 * unit:
        raise ValueError(f"{str(value)[:40]} is not between 0 and 1000")
    if scaled != scaled.to_integral_value():
        raise ValueError(f"{str(value)[:40]} is not a whole number of 1/{unit}")
    return int(scaled)


def decimal(value: int, unit: int) -> str:
    """A whole number of 1/unit as a plain decimal.

    >>> decimal(500000, MICRO), decimal(3 * MICRO, MICRO), decimal(1, PICO)
    ('0.5', '3', '0.000000000001')
    """
    return f"{Decimal(value) / unit:f}"


def units(value: Number, base: str) -> int:
    """A bound in units of a field's rounding. Raises ValueError when it is no whole number of them, or too
    many.

    >>> units(600, "1"), units(-2.5, "0.5")
    (600, -5)
    """
    found = Decimal(str(value)) / Decimal(base)
    if not found.is_finite() or abs(found) > MOST_UNITS:
        raise ValueError(f"{value} is beyond what can be counted in steps of {base}")
    if found != found.to_integral_value():
        raise ValueError(f"{value} is not a multiple of {base}, to which the field is rounded")
    return int(found)


def threshold(groups: int, micro_epsilon: int, pico_delta: int) -> int:
    """The least noisy number of persons at which a group of one person alone passes with a chance of at most
    delta, in all of the `groups` that the person may be in.

    With noise of the discrete Laplace distribution of scale s = groups / epsilon, P(Z >= m) is
    exp(-m / s) / (1 + exp(-1 / s)); a person alone passes a threshold of m + 1 that often.

    >>> threshold(1, 1_000_000, 1_000_000)
    15
    """
    if micro_epsilon <= 0 or pico_delta <= 0:
        raise ValueError("groups that come from the data need an epsilon and a delta above 0")
    scale = groups * MICRO / micro_epsilon
    tail = groups / (pico_delta / PICO) / (1 + math.exp(-1 / scale))
    return 1 + max(1, math.ceil(scale * math.log(tail) + 1e-9))

"""Techniques that work on a whole release: which of its rows leave at all."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from contracts.technique import ANY_KIND, Family, Technique
from contracts.technique_random import FieldName


class Sample(Technique, frozen=True, kw_only=True, tag="sample"):
    """A share of the entities, drawn at random: all rows of one that is drawn leave, and none of the others.

    Precondition: text, whole numbers or dates in `entity`, where bounds are required the field that they name.
    Output: the rows of about `rate` of all entities in scope. Who is drawn follows from a secret of recipient
    and dataset and the entity alone: pulled again the same ones are, also under another agreement and whatever else
    changed, and a lower rate draws some of them.
    A row without an entity is in no sample; where bounds are required it refuses the release, as it always does.
    Residual risk: whoever is known to be in the sample is as easy to find as without it, so bounds are counted in
    the sample alone. Two recipients are drawn different ones, and together have more than either.
    Source: ISO/IEC 20889, sampling.

    >>> Sample(rate=0.1, entity="patient").reads
    ('patient',)
    """

    rate: Annotated[float, Meta(gt=0, lt=1, description="a share above 0 and below 1")]
    entity: FieldName

    family: ClassVar[Family] = Family.SUPPRESSION
    strength: ClassVar[int] = 0
    kinds: ClassVar[tuple[str, ...]] = ("string", "integer", "date")
    per_row: ClassVar[bool] = False

    @property
    def reads(self) -> tuple[str, ...]:
        """See the base."""
        return (self.entity,)

    @property
    def words(self) -> str:
        """As people read it."""
        return f"a sample of {self.rate:.6g} of all {self.entity}"


class SuppressSmall(Technique, frozen=True, kw_only=True, tag="suppress_small"):
    """Rows that fewer than `k` rows are like, in the outgoing values of `fields`, do not leave.

    Precondition: data about no person, and fields that are sent under masks without chance in them. Data about
    persons has its bounds instead: `require.k` counts persons, and `onViolation: suppress` leaves out whole classes.
    Output: the other rows, in an order that tells nothing of where some were left out. Where more than
    `max_suppression` of all rows would go, the release is refused.
    Residual risk: that something was left out, and how many rows (the receipt says so). Whoever knows all but one
    of `k` rows finds the last; a total from elsewhere, less the rows that are left, tells what was left out.
    Source: ISO/IEC 20889, suppression (of records); the threshold rule of statistical offices.

    >>> SuppressSmall(k=3, fields=("trade", "district"), max_suppression=0.1).words
    'no rows that fewer than 3 are like, by trade, district'
    """

    k: Annotated[int, Meta(ge=2, le=1_000_000, description="a whole number from 2 to 1000000")]
    fields: Annotated[tuple[FieldName, ...], Meta(min_length=1, max_length=200, description="a list of fields sent")]
    max_suppression: Annotated[float, Meta(gt=0, lt=1, description="a share above 0 and below 1")]

    family: ClassVar[Family] = Family.SUPPRESSION
    strength: ClassVar[int] = 0
    kinds: ClassVar[tuple[str, ...]] = ANY_KIND
    per_row: ClassVar[bool] = False

    @property
    def reads(self) -> tuple[str, ...]:
        """See the base."""
        return self.fields

    @property
    def words(self) -> str:
        """As people read it."""
        return f"no rows that fewer than {self.k} are like, by {', '.join(self.fields)}"

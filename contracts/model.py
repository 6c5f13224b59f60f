"""The contract as frozen values: what a department says may leave, for which purpose, and how masked.

Built by `contracts.odcs.load` from an ODCS document; nothing here reads files. Field by field these
follow the five `sluicegate` properties of the document, in its own words (camelCase there).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Literal

from msgspec import Struct, field

from contracts.aggregate import Aggregate
from contracts.dtypes import DType
from contracts.techniques import AnyTechnique, Sample, SuppressSmall


class Tier(StrEnum):
    """Sensitivity of a field, lowest first. ODCS calls it `classification`."""

    OPEN = "open"
    INTERNAL = "internal"
    SEMI_PRIVATE = "semi-private"
    HIGHLY_PRIVATE = "highly-private"
    PROHIBITED = "prohibited"

    @property
    def rank(self) -> int:
        """0 for open up to 4 for prohibited."""
        return list(Tier).index(self)


class Identifiability(StrEnum):
    """The part a field plays in recognising a person."""

    DIRECT = "direct"
    INDIRECT = "indirect"
    QUASI = "quasi"
    SENSITIVE = "sensitive"
    NONE = "none"


class SharingClass(StrEnum):
    """Whether a dataset is shared at once, after approval, or not at all."""

    UNCONDITIONAL = "unconditional"
    CONDITIONAL = "conditional"
    NOT_SHARED = "not-shared"


class SharingModel(StrEnum):
    """Who can reach the release; decides tau, the highest tolerated re-identification risk."""

    PUBLIC = "public"
    CONTROLLED = "controlled"
    ENCLAVE = "enclave"


class _Value(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """Base of all values of the document."""


class Field(_Value, frozen=True, kw_only=True):
    """One column of the dataset. `logical_type` is the ODCS word; `dtype` of the data may be any
    type that fits it (`odcs.fits`)."""

    name: str
    logical_type: str
    classification: Tier
    identifiability: Identifiability
    category: str | None = None
    required: bool = False
    unique: bool = False
    primary_key: bool = False
    description: str = ""


class Sharing(_Value, frozen=True, kw_only=True):
    """Sharing class and the standard the contract is held to (`desensitisation/1`)."""

    standard: str
    class_: SharingClass = field(name="class")
    legal_basis: str | None = None


class Require(_Value, frozen=True, kw_only=True):
    """Bounds that a release must meet: k distinct entities per class, l distinct values per sensitive
    field, at most this share of rows suppressed (only with `onViolation: suppress`).

    `entropy_l` is l as a class's evenness tells it: the exponential of the entropy of its values. `t` is
    the most by which a class's values may be spread otherwise than the whole release's: the ordered (earth
    mover's) distance where what leaves is a number or a date, else the variational one. `max_risk` is the
    highest overall risk R."""

    k: int
    l: dict[str, int] = {}  # noqa: E741 - the field's own name
    entropy_l: dict[str, float] = {}
    t: dict[str, float] = {}
    max_risk: float | None = None
    max_suppression: float | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """Every bound as people read it, k first."""
        return (
            f"k at least {self.k}",
            *(f"l of {name} at least {least}" for name, least in self.l.items()),
            *(f"entropy l of {name} at least {least:g}" for name, least in self.entropy_l.items()),
            *(f"t of {name} at most {most:g}" for name, most in self.t.items()),
            *((f"R at most {self.max_risk:g}",) if self.max_risk is not None else ()),
        )


class Effectiveness(_Value, frozen=True, kw_only=True):
    """How re-identification is judged for a purpose. `entity` is the field that tells persons apart;
    it is read even when it is not sent."""

    sharing_model: SharingModel
    entity: str
    quasi_identifiers: tuple[str, ...]
    require: Require
    on_violation: Literal["suppress", "refuse", "propose"] = "refuse"


class Geography(_Value, frozen=True, kw_only=True):
    """Where the data may be kept: ISO 3166-2 codes."""

    allowed: tuple[str, ...]
    cross_border: Literal["prohibited", "permitted"] = "prohibited"


class RowCondition(_Value, frozen=True, kw_only=True):
    """Which rows of one field: any of `any_of`, and at or after `from_`, and before `until`."""

    any_of: tuple[str | int, ...] | None = None
    from_: str | int | None = field(default=None, name="from")
    until: str | int | None = None

    @property
    def words(self) -> str:
        """As people read it."""
        parts = [] if self.any_of is None else ["any of " + ", ".join(map(str, self.any_of))]
        parts += [
            f"{word} {bound}" for word, bound in (("from", self.from_), ("until", self.until)) if bound is not None
        ]
        return ", ".join(parts)


class WholeRelease(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Techniques of a whole release, by their ids."""

    sample: Sample | None = None
    suppress_small: SuppressSmall | None = None

    @property
    def techniques(self) -> tuple[Sample | SuppressSmall, ...]:
        """Those that are stated."""
        return tuple(each for each in (self.sample, self.suppress_small) if each is not None)


class Purpose(_Value, frozen=True, kw_only=True):
    """One purpose: its DPV term and legal basis, who may ask, which fields with which mask, the
    bounds (None only for data about no person, and for aggregates), and how long the consumer may keep it.
    `aggregate` goes with the release of that kind: then no row is sent. `rows` and
    `whole_release` say which rows leave at all."""

    term: str
    legal_basis: str
    consumers: tuple[str, ...]
    fields: dict[str, AnyTechnique]
    release: Literal["rows", "dp-aggregate"] = "rows"
    effectiveness: Effectiveness | None = None
    aggregate: Aggregate | None = None
    rows: dict[str, RowCondition] = {}
    whole_release: WholeRelease = WholeRelease()
    refresh: str = "P1D"
    retention: str
    geography: Geography

    @property
    def which_rows(self) -> tuple[str, ...]:
        """Which rows of the dataset leave at all, as people read it; empty where all do."""
        scope = tuple(f"{name} {condition.words}" for name, condition in self.rows.items())
        return (*scope, *(technique.words for technique in self.whole_release.techniques))


class NegativeList(_Value, frozen=True, kw_only=True):
    """What never leaves, whatever else is said: fields, combinations of fields, uses (DPV terms and
    all their descendants)."""

    fields: tuple[str, ...]
    together: tuple[tuple[str, ...], ...]
    uses: tuple[str, ...]


class Obligations(_Value, frozen=True, kw_only=True):
    """Duties of the consumer. Durations ISO 8601."""

    onward_sharing: Literal["prohibited", "permitted", "with-approval"]
    reidentification: Literal["prohibited"]
    deletion_proof: str
    breach_notice: str


class Responsibility(_Value, frozen=True, kw_only=True):
    """Who answers for one duty; `consumer` stands for whoever receives the data."""

    party: str
    person: str | None = None
    manager: str | None = None


class AccessRole(_Value, frozen=True, kw_only=True):
    """ODCS role: the approvers of one purpose."""

    role: str
    first_level_approvers: tuple[str, ...] = ()
    second_level_approvers: tuple[str, ...] = ()

    @property
    def approvers(self) -> tuple[str, ...]:
        """Everyone who may approve, first level first."""
        return (*self.first_level_approvers, *self.second_level_approvers)

    def both_levels(self, people: Collection[str]) -> bool:
        """Whether one of these people is a first- and another one a second-level approver; one person may be
        written in two ways."""
        first, second = (
            set(level) & set(people) for level in (self.first_level_approvers, self.second_level_approvers)
        )
        return bool(first and second) and len({name.casefold() for name in first | second}) > 1


class Contract(_Value, frozen=True, kw_only=True):
    """A sharing contract, as published. `dataset` is the ODCS `name`, `table` the one schema object.

    `provider` is the party that publishes: ODCS `team.name`. Digests: contracts.canonical.
    """

    id: str
    dataset: str
    version: str
    provider: str
    domain: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    table: str
    fields: tuple[Field, ...]
    roles: tuple[AccessRole, ...]
    sharing: Sharing
    purposes: dict[str, Purpose]
    negative_list: NegativeList
    obligations: Obligations
    responsibilities: dict[str, Responsibility]
    document_digest: str
    terms_digest: str

    def field(self, name: str) -> Field | None:
        """The field of that name, or None."""
        return next((field for field in self.fields if field.name == name), None)

    def role(self, purpose: str) -> AccessRole | None:
        """The access role of that purpose, or None."""
        return next((role for role in self.roles if role.role == purpose), None)

    def highest_tier(self, fields: tuple[str, ...]) -> Tier:
        """Highest classification among the named fields; PROHIBITED for an unknown one (fail closed)."""
        tiers = [found.classification if (found := self.field(name)) else Tier.PROHIBITED for name in fields]
        return max(tiers, key=lambda tier: tier.rank, default=Tier.PROHIBITED)


DataSchema = Mapping[str, DType]

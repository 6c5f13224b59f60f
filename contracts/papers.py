"""The signed papers: what parties, gateways and the exchange put their names to.

Values only. `contracts.agreement` makes and verifies those of an agreement, `contracts.receipt` those of
a transfer; each hands them on under its own name.
"""

from __future__ import annotations

from typing import Any, Literal

from contracts.envelope import Envelope, PublicKey
from contracts.model import Contract, SharingModel
from contracts.trust import _Document

Hash = Literal["sha-256", "blake3"]


class Request(_Document, frozen=True):
    """Kind REQUEST, signed by the consumer's requester key. Binds the contract's terms, the purpose,
    the fields, the time wanted, the reason, and the only key that may ever pull."""

    id: str
    provider: str
    dataset: str
    consumer: str
    requester: str
    document_digest: str
    terms_digest: str
    purpose: str
    fields: tuple[str, ...]
    duration: str
    reason: str
    holder: PublicKey
    created: str


class Approval(_Document, frozen=True):
    """Kind APPROVAL, signed by one approver's personal key. Binds the digest of the signed request."""

    request: str
    request_digest: str
    approver: str
    created: str


class Agreement(_Document, frozen=True):
    """Kind AGREEMENT, signed by provider and consumer: one contract version, one purpose, one
    consumer, a fixed list of fields. Under a standing offer (`unconditional`) the provider's
    signature is the one under the contract, and `approvals` is empty."""

    id: str
    provider: str
    dataset: str
    consumer: str
    request_digest: str
    approvals: tuple[str, ...]
    document_digest: str
    terms_digest: str
    purpose: str
    fields: tuple[str, ...]
    holder: PublicKey
    gateway: str
    standard_digest: str
    policy_digest: str
    not_before: str
    not_after: str


class Suspension(_Document, frozen=True):
    """Kind REVOCATION, signed by an approver of the provider: the gateway stops serving this
    agreement at once. `until` None ends it for good (termination); `lifted` true takes it back."""

    agreement: str
    reason: str
    at: str
    until: str | None
    lifted: bool = False


class Destruction(_Document, frozen=True):
    """Kind DESTRUCTION, signed by the gateway: the secret that this agreement's pseudonyms and row order were
    made with is gone, by the order with that digest. Nobody can make or recognise them again."""

    agreement: str
    agreement_digest: str
    gateway: str
    order_digest: str
    at: str


class RevealOrder(_Document, frozen=True):
    """Kind REVEAL, signed by two approvers of the provider, one of each level: open what these values of a field
    stand for. `field` leaves under a technique that can be turned back. The answer is sealed to `answer_key`, an
    X25519 key (raw, base64url) whose other half is with who asked: whoever gets hold of the order learns nothing."""

    agreement: str
    agreement_digest: str
    field: str
    values: tuple[str, ...]
    reason: str
    answer_key: str
    at: str


class Revealed(_Document, frozen=True):
    """Kind REVEALED, signed by the gateway before a value leaves: by the order with that digest, `people` of the
    provider have so many values of a field opened. Never a value nor the reason: both are in the order, which the
    digest holds its department to."""

    agreement: str
    agreement_digest: str
    gateway: str
    field: str
    count: int
    people: tuple[str, ...]
    order_digest: str
    at: str


class AgreementBundle(_Document, frozen=True):
    """Everything needed to check an agreement offline: the signed documents, the contract's bytes as
    published, the key statements and revocations of every party that signed."""

    agreement: Envelope
    request: Envelope
    approvals: tuple[Envelope, ...]
    contract: Envelope
    document: str
    statements: tuple[Envelope, ...]
    revocations: tuple[Envelope, ...]


class ContractStatement(_Document, frozen=True):
    """Kind CONTRACT, signed by an approver of the provider: these bytes are our contract."""

    provider: str
    dataset: str
    version: str
    document_digest: str
    terms_digest: str
    published: str

    @classmethod
    def of(cls, contract: Contract, *, provider: str, published: str) -> ContractStatement:
        """What `provider` states of a contract: version and digests as they are in its document."""
        return cls(
            provider=provider,
            dataset=contract.dataset,
            version=contract.version,
            document_digest=contract.document_digest,
            terms_digest=contract.terms_digest,
            published=published,
        )


class Grant(_Document, frozen=True):
    """Kind GRANT, signed by the exchange's grant key: ten minutes, one gateway instance, each part
    once. `release` and `parts` name what is missing when a transfer is resumed."""

    id: str
    transfer: str
    agreement: str
    agreement_digest: str
    gateway: str
    release: str | None
    parts: tuple[int, ...] | None
    issued: str
    expires: str


class Proof(_Document, frozen=True):
    """Kind PROOF, signed by the holder key: the ticket that a stock Flight client presents."""

    grant: Envelope
    created: str


class PartDigest(_Document, frozen=True):
    """One part of a release: its rows and the digest over its columns."""

    rows: int
    digest: str


class FieldTreatment(_Document, frozen=True):
    """What was done to one field: technique with its parameters (never a key), and the type sent."""

    name: str
    technique: dict[str, Any]
    type: str


class Spread(_Document, frozen=True):
    """How the values of one sensitive field are spread in the classes of a release, in the worst of them.

    `variational` and `ordered` are distances from the whole release, 0 to 1; the latter only for numbers
    and dates. `t_required` bounds the ordered one where there is one, else the variational. `entropy` is
    the exponential of the entropy, 1 and up. A bound that the contract does not set is None."""

    t_required: float | None
    variational: float
    ordered: float | None
    entropy_required: float | None
    entropy: float


class Certificate(_Document, frozen=True):
    """Effectiveness of desensitisation, judged on the rows that were served after GB/T 42460-2023 as it is
    publicly quoted. Figures of the worst grouping where rows were judged in several.

    `dr_a` is the share of classes whose risk exceeds `tau`, `dr_b` the highest risk of a class, `dr_c` the
    mean over classes; a class's risk is 1 / its entities. `risk` is R; the standard calls up to
    `risk_tolerated` acceptable, the contract demands at most `risk_required` (None: no limit of its own).
    `prosecutor_risk` is of whoever knows that a person is in the release, `journalist_risk` of whoever has
    a register (None: measured against none), `marketer_risk` the share that may be matched at all. `uniques`
    is the share of entities that are alone in a class, `average_class` the entities of a class,
    `discernibility` what the metric gives a row: the sum of their squares over all rows, and the rows
    suppressed (None: not counted to the end). `loss` is ARX's Loss, the mean over the quasi-identifiers, of
    large releases by a sample (None: not measured, or a paper from before it was). Where `Bounds.at_least`,
    risks are upper limits, `level` and `average_class` lower ones. Figures have twelve digits
    (`contracts.certificate.figure`)."""

    level: int
    sharing_model: SharingModel
    tau: float
    context_risk: float
    dr_a: float
    dr_b: float
    dr_c: float
    risk: float
    risk_tolerated: float
    risk_required: float | None
    prosecutor_risk: float
    journalist_risk: float | None
    marketer_risk: float
    uniques: float
    suppressed: float
    average_class: float
    discernibility: float | None
    spread: dict[str, Spread]
    loss: float | None = None
    register_columns: tuple[str, ...] = ()


class Bounds(_Document, frozen=True):
    """Bounds as measured on the rows that were served. `k` and `l` are lower limits of what was met:
    with `at_least` true counting stopped at the required value. `certificate` is None in papers from
    before there were any."""

    entity: str
    quasi_identifiers: tuple[str, ...]
    composite: bool
    k_required: int
    k_met: int
    l_required: dict[str, int]
    l_met: dict[str, int]
    at_least: bool
    classes: int
    class_commitment: str
    certificate: Certificate | None = None


class AggregatedMeasure(_Document, frozen=True):
    """One column of figures of an aggregate. Values were rounded to `base` and clamped to `lower` .. `upper`,
    in units of it; a count is of rows or of `persons`."""

    kind: Literal["count", "sum", "mean"]
    persons: bool
    field: str | None
    base: str
    lower: int
    upper: int


class Aggregated(_Document, frozen=True):
    """What an intent and a receipt say of a differentially private aggregate, where others state bounds.

    Epsilon in millionths, delta in 10^-12: of the release, of each noisy figure (`share_micro_epsilon`), and of
    all that this recipient may be given of the dataset. Of one person at most `most_rows` rows in each of
    `most_groups` groups count. `threshold` is the noisy number of persons from which on a group was sent,
    None where the contract lists the groups. The noise is of the discrete Laplace distribution; neighbouring
    tables differ by one person; costs are added up (basic composition)."""

    entity: str
    group_by: tuple[str, ...]
    micro_epsilon: int
    share_micro_epsilon: int
    pico_delta: int
    most_groups: int
    most_rows: int
    threshold: int | None
    budget_micro_epsilon: int
    budget_pico_delta: int
    measures: dict[str, AggregatedMeasure]
    kind: Literal["dp-aggregate"] = "dp-aggregate"
    mechanism: Literal["discrete-laplace"] = "discrete-laplace"
    adjacency: Literal["one-person-added-or-removed"] = "one-person-added-or-removed"
    composition: Literal["basic"] = "basic"


class Intent(_Document, frozen=True):
    """Kind INTENT, signed and stored by the gateway before the first row leaves."""

    transfer: str
    agreement: str
    agreement_digest: str
    gateway: str
    release: str
    plan_digest: str
    content_digest: str
    hash: Hash
    schema: tuple[tuple[str, str], ...]
    parts: tuple[PartDigest, ...]
    rows_in: int
    rows_out: int
    rows_suppressed: int
    bounds: Bounds | None
    created: str
    aggregate: Aggregated | None = None


class Receipt(_Document, frozen=True):
    """Kind RECEIPT, signed by the gateway: what left. `parts_sent` are the indexes that were served
    to the end under this grant or an earlier one of the same release; `complete` when all were.
    `parts_begun` are those that broke off: any of their rows may have left."""

    transfer: str
    agreement: str
    agreement_digest: str
    document_digest: str
    terms_digest: str
    plan_digest: str
    standard_digest: str
    policy_digest: str
    decision: str
    gateway: str
    release: str
    consumer: str
    purpose: str
    fields: tuple[FieldTreatment, ...]
    schema: tuple[tuple[str, str], ...]
    rows_in: int
    rows_out: int
    rows_suppressed: int
    bounds: Bounds | None
    content_digest: str
    hash: Hash
    parts: tuple[PartDigest, ...]
    parts_sent: tuple[int, ...]
    parts_begun: tuple[int, ...]
    complete: bool
    order: Literal["keyed", "source"]
    refresh: str
    intent_digest: str
    started: str
    finished: str
    aggregate: Aggregated | None = None


class Acknowledgement(_Document, frozen=True):
    """Kind ACKNOWLEDGEMENT, signed by the consumer: received, recomputed, the same digest. `recomputed`
    false accepts the receipt as it stands: what arrived was lost before anybody could check it."""

    transfer: str
    receipt_digest: str
    content_digest: str
    created: str
    recomputed: bool = True

"""What the exchange remembers: one frozen record a noun, as the store keeps it.

`name` is the resource name (AIP-122) and the key; `version` counts changes and is the etag. Signed
documents are kept as their canonical bytes. Instants are epoch seconds.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from msgspec import Struct

from contracts.trust import PartyKind

AgreementState = Literal["PENDING", "ACTIVE", "SUSPENDED", "TERMINATED", "EXPIRED"]
RequestState = Literal["SUBMITTED", "APPROVED", "REJECTED", "CANCELLED"]
TransferState = Literal["GRANTED", "SERVING", "COMPLETED", "PARTIAL", "REFUSED", "FAILED", "EXPIRED", "ACKNOWLEDGED"]


class Record(Struct, frozen=True, kw_only=True):
    """Base: `name` is the key, `version` starts at 1, `created` and `updated` are epoch seconds."""

    TABLE: ClassVar[str]

    name: str
    version: int = 1
    created: int
    updated: int

    @property
    def etag(self) -> str:
        """The version as an opaque tag."""
        return f'"{self.version}"'


class Party(Record, frozen=True, kw_only=True):
    """parties/{party}: an organisation, its root key (JWK JSON), its token issuer and JWK set."""

    TABLE = "parties"

    party: str
    kind: PartyKind
    display_name: str = ""
    root_key: str
    issuer: str
    jwks: str = ""


class Person(Record, frozen=True, kw_only=True):
    """parties/{party}/principals/{subject}: who may act for a party, in which roles."""

    TABLE = "principals"

    party: str
    subject: str
    roles: tuple[str, ...]


class Key(Record, frozen=True, kw_only=True):
    """parties/{party}/keys/{kid}: a key statement, and its revocation once there is one."""

    TABLE = "keys"

    party: str
    kid: str
    subject: str
    use: str
    statement: bytes
    revocation: bytes | None = None


class Gateway(Record, frozen=True, kw_only=True):
    """parties/{party}/gateways/{gateway}: where a department's gate can be reached."""

    TABLE = "gateways"

    party: str
    gateway: str
    address: str
    ca_certificate: str


class Contract(Record, frozen=True, kw_only=True):
    """parties/{party}/datasets/{dataset}/contracts/{version}: bytes as published.

    `consumers` is the union over its purposes (`*` for any): who may read this version.
    """

    TABLE = "contracts"

    party: str
    dataset: str
    document: bytes
    statement: bytes
    document_digest: str
    terms_digest: str
    gateway: str
    consumers: tuple[str, ...] = ()


class Dataset(Record, frozen=True, kw_only=True):
    """parties/{party}/datasets/{dataset}: what is shared, pointing to its newest contract.

    `consumers` is the union over purposes (`*` for any): who may learn that it exists; `offers` says
    which purpose is for whom.
    """

    TABLE = "datasets"

    party: str
    dataset: str
    contract: str
    description: str
    sharing_class: str
    purposes: tuple[str, ...]
    columns: tuple[str, ...]
    consumers: tuple[str, ...]
    offers: dict[str, tuple[str, ...]] = {}
    search_text: str = ""


class Request(Record, frozen=True, kw_only=True):
    """requests/{request}: the signed request, the approvals so far."""

    TABLE = "requests"

    provider: str
    consumer: str
    requester: str
    dataset: str
    contract: str
    purpose: str
    fields: tuple[str, ...]
    state: RequestState
    statement: bytes
    approvals: tuple[bytes, ...] = ()
    approvals_needed: int
    approvers: tuple[str, ...] = ()
    reject_reason: str = ""
    agreement: str = ""


class Agreement(Record, frozen=True, kw_only=True):
    """agreements/{agreement}: the document with the signatures so far, and whether it is live.

    `live_key` is provider/dataset/consumer/purpose while not ended: one live agreement per dataset,
    consumer and purpose, kept unique by the store. `mediated` are the seconds of all the coordination party's
    suspensions, a running one counted to its end.
    """

    TABLE = "agreements"

    provider: str
    consumer: str
    dataset: str
    contract: str
    request: str
    purpose: str
    fields: tuple[str, ...]
    state: AgreementState
    statement: bytes
    digest: str
    unsigned_parties: tuple[str, ...]
    state_reason: str = ""
    suspended_by: str = ""
    suspended_until: int | None = None
    mediated: int = 0
    not_before: int
    not_after: int
    gateway: str
    live_key: str | None = None
    key_destruction: bytes = b""


class Transfer(Record, frozen=True, kw_only=True):
    """transfers/{transfer}: grant, papers and state of one run. `resumes` names the first transfer of
    the same release."""

    TABLE = "transfers"

    provider: str
    consumer: str
    agreement: str
    gateway: str
    state: TransferState
    grant: bytes
    grant_expires: int
    decision: str
    resumes: str = ""
    intent: bytes = b""
    receipt: bytes = b""
    acknowledgement: bytes = b""
    failure_reason: str = ""
    failure_detail: str = ""
    ledger_index: int = -1


class Call(Struct, frozen=True):
    """One mutating call, for replay: the same id with the same body returns the same resource."""

    principal: str
    method: str
    request_id: str
    body_digest: str

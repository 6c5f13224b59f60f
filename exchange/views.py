"""What a client of the exchange sees: one frozen value a resource, as the API returns it.

Field names are the API's. Instants are RFC 3339 strings, signed documents `Envelope`s (None while
there is none), so a view can be printed as JSON as it stands (`as_json`).
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from contracts.envelope import Envelope


class View(Struct, frozen=True, kw_only=True):
    """Base: every resource has a name."""

    name: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain values, for `--output json`."""
        value: dict[str, Any] = msgspec.to_builtins(self)
        return value


class Party(View, frozen=True, kw_only=True):
    """An organisation: kind, root key (JWK JSON) and token issuer."""

    kind: str = ""
    display_name: str = ""
    root_key: str = ""
    issuer: str = ""
    create_time: str = ""
    etag: str = ""


class Principal(View, frozen=True, kw_only=True):
    """A person or service of a party, and its roles."""

    roles: tuple[str, ...] = ()
    party_kind: str = ""


class Key(View, frozen=True, kw_only=True):
    """A key statement or a revocation, as signed by the party's root."""

    statement: Envelope | None = None
    revoked: bool = False


class Gateway(View, frozen=True, kw_only=True):
    """A department's Flight server."""

    address: str = ""
    ca_certificate: str = ""


class Contract(View, frozen=True, kw_only=True):
    """One published contract version. `document` is the YAML as published."""

    document: str = ""
    statement: Envelope | None = None
    document_digest: str = ""
    terms_digest: str = ""
    gateway: str = ""
    create_time: str = ""


class Dataset(View, frozen=True, kw_only=True):
    """What a department shares."""

    contract: Contract | None = None
    description: str = ""
    sharing_class: str = ""
    purposes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    create_time: str = ""
    update_time: str = ""
    etag: str = ""


class Request(View, frozen=True, kw_only=True):
    """A wish for data, its approvals so far and who may still approve."""

    dataset: str = ""
    consumer: str = ""
    purpose: str = ""
    fields: tuple[str, ...] = ()
    state: str = ""
    statement: Envelope | None = None
    approvals: tuple[Envelope, ...] = ()
    approvals_needed: int = 0
    approvers: tuple[str, ...] = ()
    reject_reason: str = ""
    agreement: str = ""
    create_time: str = ""
    etag: str = ""


class Agreement(View, frozen=True, kw_only=True):
    """The permission of one consumer for one purpose."""

    request: str = ""
    dataset: str = ""
    consumer: str = ""
    purpose: str = ""
    fields: tuple[str, ...] = ()
    state: str = ""
    statement: Envelope | None = None
    unsigned_parties: tuple[str, ...] = ()
    state_reason: str = ""
    suspended_until: str = ""
    start_time: str = ""
    end_time: str = ""
    gateway: str = ""
    etag: str = ""
    key_destruction: Envelope | None = None

    @property
    def keys_destroyed(self) -> str:
        """When the gateway destroyed its keys, as it states; empty while they live."""
        return "" if self.key_destruction is None else str(self.key_destruction.payload["at"])


class Transfer(View, frozen=True, kw_only=True):
    """One run of an agreement, with its papers."""

    agreement: str = ""
    state: str = ""
    grant: Envelope | None = None
    gateway_address: str = ""
    gateway_ca_certificate: str = ""
    decision: str = ""
    intent: Envelope | None = None
    receipt: Envelope | None = None
    acknowledgement: Envelope | None = None
    failure_reason: str = ""
    failure_detail: str = ""
    ledger_index: int = -1
    create_time: str = ""
    etag: str = ""


class Entry(View, frozen=True, kw_only=True):
    """One leaf of the ledger. `entry` is what was recorded, empty once erased; `salt` and
    `leaf_hash` are hex."""

    index: int = 0
    entry: dict[str, Any] = {}
    salt: str = ""
    leaf_hash: str = ""
    event: str = ""
    resource: str = ""
    create_time: str = ""
    etag: str = ""

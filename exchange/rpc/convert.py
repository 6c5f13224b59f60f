"""Records of the exchange as messages of the API. What a caller may not see is left out here or,
where it depends on state, by the use case."""

from __future__ import annotations

import msgspec
from google.protobuf.timestamp_pb2 import Timestamp

from contracts.agreement import AgreementBundle
from exchange import ledger, records
from exchange.identity import Principal
from exchange.names import dataset_name
from exchange.v1 import (
    agreement_pb2,
    catalog_pb2,
    ledger_pb2,
    party_pb2,
    request_pb2,
    transfer_pb2,
)


def stamp(seconds: int | None) -> Timestamp | None:
    """Epoch seconds as a Timestamp; None stays unset."""
    return Timestamp(seconds=seconds) if seconds else None


def party(record: records.Party) -> party_pb2.Party:
    """A party; its JWK set stays inside."""
    return party_pb2.Party(
        name=record.name,
        kind=record.kind.value,
        display_name=record.display_name,
        root_key=record.root_key,
        issuer=record.issuer,
        create_time=stamp(record.created),
        etag=record.etag,
    )


def person(record: records.Person, kind: str = "") -> party_pb2.Principal:
    """A person and its roles."""
    return party_pb2.Principal(name=record.name, roles=record.roles, party_kind=kind)


def principal(who: Principal) -> party_pb2.Principal:
    """The caller itself."""
    return party_pb2.Principal(name=who.name, roles=who.roles, party_kind=who.kind.value)


def key(record: records.Key) -> party_pb2.Key:
    """A key statement, or its revocation once there is one."""
    return party_pb2.Key(
        name=record.name, statement=record.revocation or record.statement, revoked=record.revocation is not None
    )


def gateway(record: records.Gateway) -> party_pb2.Gateway:
    """A gateway."""
    return party_pb2.Gateway(name=record.name, address=record.address, ca_certificate=record.ca_certificate)


def contract(record: records.Contract, *, whole: bool = True) -> catalog_pb2.Contract:
    """A published contract version; its document, of up to 2 MiB, only where `whole`."""
    return catalog_pb2.Contract(
        name=record.name,
        document=record.document if whole else b"",
        statement=record.statement,
        document_digest=record.document_digest,
        terms_digest=record.terms_digest,
        gateway=record.gateway,
        create_time=stamp(record.created),
    )


def request(record: records.Request) -> request_pb2.Request:
    """A request."""
    return request_pb2.Request(
        name=record.name,
        dataset=dataset_name(f"{record.provider}/{record.dataset}"),
        consumer=f"parties/{record.consumer}",
        purpose=record.purpose,
        fields=record.fields,
        state=record.state,
        statement=record.statement,
        approvals=record.approvals,
        approvals_needed=record.approvals_needed,
        approvers=record.approvers,
        reject_reason=record.reject_reason,
        agreement=record.agreement,
        create_time=stamp(record.created),
        etag=record.etag,
    )


def agreement(record: records.Agreement) -> agreement_pb2.Agreement:
    """An agreement."""
    return agreement_pb2.Agreement(
        name=record.name,
        request=record.request,
        dataset=dataset_name(f"{record.provider}/{record.dataset}"),
        consumer=f"parties/{record.consumer}",
        purpose=record.purpose,
        fields=record.fields,
        state=record.state,
        statement=record.statement,
        unsigned_parties=record.unsigned_parties,
        state_reason=record.state_reason,
        suspended_until=stamp(record.suspended_until),
        start_time=stamp(record.not_before),
        end_time=stamp(record.not_after),
        gateway=record.gateway,
        etag=record.etag,
        key_destruction=record.key_destruction,
    )


def bundle(name: str, value: AgreementBundle) -> agreement_pb2.AgreementBundle:
    """The signed documents behind an agreement."""
    return agreement_pb2.AgreementBundle(name=name, bundle=msgspec.json.encode(value))


def transfer(record: records.Transfer, where: records.Gateway | None = None) -> transfer_pb2.Transfer:
    """A transfer, and where to fetch when it has just been granted."""
    return transfer_pb2.Transfer(
        name=record.name,
        agreement=record.agreement,
        state=record.state,
        grant=record.grant,
        gateway_address=where.address if where else "",
        gateway_ca_certificate=where.ca_certificate if where else "",
        decision=record.decision,
        intent=record.intent,
        receipt=record.receipt,
        acknowledgement=record.acknowledgement,
        failure_reason=record.failure_reason,
        failure_detail=record.failure_detail,
        ledger_index=record.ledger_index,
        create_time=stamp(record.created),
        etag=record.etag,
    )


def entry(leaf: ledger.Entry) -> ledger_pb2.Entry:
    """One leaf of the ledger."""
    return ledger_pb2.Entry(
        name=leaf.name,
        index=leaf.index,
        entry=leaf.entry or b"",
        salt=leaf.salt or b"",
        leaf_hash=leaf.leaf_hash,
        event=leaf.event,
        resource=leaf.resource,
        create_time=stamp(leaf.created),
        etag=leaf.etag,
    )

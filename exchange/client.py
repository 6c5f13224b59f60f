"""The Python client of an exchange: find, request, approve, pull, verify.

    from exchange.client import connect

    with connect("planner") as exchange:
        for dataset in exchange.search("hospital"):
            print(dataset.name, dataset.purposes)
        request = exchange.request("health-bureau/hospital-visits", purpose="transport-planning",
                                   reason="night bus lines", duration="P90D")
        # ... the department approves ...
        agreement = exchange.request_status(request.name).agreement
        pulled = exchange.pull(agreement)            # masked, verified, acknowledged
        print(pulled.frame())                        # Polars; or .reader() for Arrow, or to="visits.parquet"

Every method is an ordinary call of the gRPC API with a deadline and a request id; every failure is a
`contracts.errors.SluicegateError` whose reason, violations and remedy say what to do. What has to be
signed is signed here, with the profile's keys, which never leave this machine.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from contracts.agreement import AgreementBundle, Approval, VerifiedAgreement, verify_bundle
from contracts.envelope import Envelope
from contracts.errors import Reason, SluicegateError
from contracts.instants import epoch
from exchange import evidence, home, signing, views
from exchange.config import Profile
from exchange.connection import Connection
from exchange.names import dataset_name, full, owner
from exchange.pulling import Pulled, pull
from exchange.rpc.wire import bundle, view
from exchange.v1 import (
    agreement_pb2 as ag,
)
from exchange.v1 import (
    agreement_pb2_grpc,
    catalog_pb2_grpc,
    ledger_pb2_grpc,
    party_pb2_grpc,
    request_pb2_grpc,
    transfer_pb2_grpc,
)
from exchange.v1 import catalog_pb2 as ca
from exchange.v1 import ledger_pb2 as le
from exchange.v1 import party_pb2 as pa
from exchange.v1 import request_pb2 as rq
from exchange.v1 import transfer_pb2 as tr

__all__ = ["Exchange", "Pulled", "connect"]

V = TypeVar("V", bound=views.View)


def connect(profile: str | Profile | None = None, *, root: Path | None = None) -> Exchange:
    """Connect as a profile: by name (as `--as`), by value, or the current one."""
    found = profile if isinstance(profile, Profile) else home.Home.find(root).profile(profile)
    return Exchange(found)


def _id() -> str:
    return str(uuid.uuid4())


class Exchange:
    """An exchange, seen by one principal. Use as a context manager, or call `close`."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self._mine = full(profile.party, "parties")
        self.connection = Connection.of(profile)
        self._parties = self.connection.stub(party_pb2_grpc.PartyServiceStub)
        self._catalog = self.connection.stub(catalog_pb2_grpc.CatalogServiceStub)
        self._requests = self.connection.stub(request_pb2_grpc.RequestServiceStub)
        self._agreements = self.connection.stub(agreement_pb2_grpc.AgreementServiceStub)
        self._transfers = self.connection.stub(transfer_pb2_grpc.TransferServiceStub)
        self._ledger = self.connection.stub(ledger_pb2_grpc.LedgerServiceStub)

    def __enter__(self) -> Exchange:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Exchange({self.profile.endpoint!r}, {self.profile.subject!r} of {self.profile.party!r})"

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def _call(self, method: Any, message: Any, kind: type[V]) -> V:
        return view(self.connection.call(method, message), kind)

    def _list(self, method: Any, message: Any, field: str, kind: type[V], limit: int | None) -> Iterator[V]:
        """All items over all pages, at most `limit`."""
        left = limit
        while True:
            if hasattr(message, "page_size"):
                message.page_size = min(left or 100, 100)
            answer = self.connection.call(method, message)
            for item in getattr(answer, field):
                yield view(item, kind)
                left = left - 1 if left is not None else None
                if left == 0:
                    return
            if not answer.next_page_token:
                return
            message.page_token = answer.next_page_token

    # --- parties

    def whoami(self) -> views.Principal:
        """How the exchange knows the caller."""
        return self._call(self._parties.WhoAmI, pa.WhoAmIRequest(), views.Principal)

    def party(self, name: str) -> views.Party:
        """One party, `parties/health-bureau` or just `health-bureau`."""
        return self._call(self._parties.GetParty, pa.GetPartyRequest(name=full(name, "parties")), views.Party)

    def parties(self, limit: int | None = None) -> Iterator[views.Party]:
        """The registered parties."""
        return self._list(self._parties.ListParties, pa.ListPartiesRequest(), "parties", views.Party, limit)

    def create_party(
        self, party: str, *, kind: str, root_key: str, issuer: str, jwks: str, admin: str, display_name: str = ""
    ) -> views.Party:
        """Register an organisation; `admin` is the subject of its first administrator."""
        message = pa.CreatePartyRequest(party_id=party, jwks=jwks, request_id=_id(), admin_subject=admin)
        message.party.CopyFrom(pa.Party(kind=kind, root_key=root_key, issuer=issuer, display_name=display_name))
        return self._call(self._parties.CreateParty, message, views.Party)

    def principals(self, limit: int | None = None) -> Iterator[views.Principal]:
        """The people of the caller's own party."""
        message = pa.ListPrincipalsRequest(parent=self._mine)
        return self._list(self._parties.ListPrincipals, message, "principals", views.Principal, limit)

    def register_principal(self, subject: str, roles: tuple[str, ...]) -> views.Principal:
        """Give a person of the caller's own party its roles; none takes all away."""
        message = pa.RegisterPrincipalRequest(parent=self._mine, subject=subject, roles=roles, request_id=_id())
        return self._call(self._parties.RegisterPrincipal, message, views.Principal)

    def register_key(self, statement: Envelope) -> views.Key:
        """Store a key statement or revocation that the party's root signed."""
        message = pa.RegisterKeyRequest(parent=self._mine, statement=statement.to_bytes(), request_id=_id())
        return self._call(self._parties.RegisterKey, message, views.Key)

    def keys(self, party: str | None = None, limit: int | None = None) -> Iterator[views.Key]:
        """Key statements and revocations of a party, by default the caller's."""
        message = pa.ListKeysRequest(parent=full(party or self.profile.party, "parties"))
        return self._list(self._parties.ListKeys, message, "keys", views.Key, limit)

    def register_gateway(self, gateway: str, *, address: str, ca_certificate: str) -> views.Gateway:
        """Say where a gateway of the caller's department can be reached."""
        message = pa.RegisterGatewayRequest(parent=self._mine, gateway_id=gateway, request_id=_id())
        message.gateway.CopyFrom(pa.Gateway(address=address, ca_certificate=ca_certificate))
        return self._call(self._parties.RegisterGateway, message, views.Gateway)

    def gateways(self, party: str | None = None, limit: int | None = None) -> Iterator[views.Gateway]:
        """Gateways of a department, by default the caller's own."""
        message = pa.ListGatewaysRequest(parent=full(party or self.profile.party, "parties"))
        return self._list(self._parties.ListGateways, message, "gateways", views.Gateway, limit)

    def gateway(self, name: str) -> views.Gateway:
        """One gateway, `parties/health-bureau/gateways/health-bureau-1`. Raises NOT_FOUND."""
        for found in self.gateways(owner(name) or None):
            if found.name == name or found.name.endswith(f"/{name}"):
                return found
        raise SluicegateError(Reason.NOT_FOUND, f"there is no gateway {name[:120]}, or you may not see it")

    # --- catalogue

    def publish(
        self, document: bytes, *, gateway: str, etag: str = "", signed: Envelope | None = None
    ) -> views.Dataset:
        """Sign and publish a contract of the caller's department, served by `gateway`. `signed` is a
        statement that a colleague signed before (`sluicegate contract sign`): a standing offer of highly
        private fields needs two signatures."""
        statement = signing.contract_statement(self.profile, document, signed)
        message = ca.PublishContractRequest(
            parent=self._mine,
            document=document,
            statement=statement.to_bytes(),
            gateway=gateway if "/" in gateway else f"{self._mine}/gateways/{gateway}",
            request_id=_id(),
            etag=etag,
        )
        return self._call(self._catalog.PublishContract, message, views.Dataset)

    def dataset(self, name: str) -> views.Dataset:
        """One dataset with its newest contract: `health-bureau/hospital-visits` or the full name."""
        return self._call(self._catalog.GetDataset, ca.GetDatasetRequest(name=dataset_name(name)), views.Dataset)

    def datasets(self, party: str = "-", limit: int | None = None) -> Iterator[views.Dataset]:
        """The datasets that the caller may see, of one party or all."""
        message = ca.ListDatasetsRequest(parent=full(party, "parties"))
        return self._list(self._catalog.ListDatasets, message, "datasets", views.Dataset, limit)

    def search(self, query: str, limit: int | None = None) -> Iterator[views.Dataset]:
        """Datasets whose name, description, columns or purposes have all the words, best first."""
        message = ca.SearchDatasetsRequest(query=query)
        return self._list(self._catalog.SearchDatasets, message, "datasets", views.Dataset, limit)

    def contract(self, name: str) -> views.Contract:
        """One published contract version, by its full name."""
        return self._call(self._catalog.GetContract, ca.GetContractRequest(name=name), views.Contract)

    def contracts(self, dataset: str, limit: int | None = None) -> Iterator[views.Contract]:
        """All published versions of a dataset's contract, newest first; `contract` has the document too."""
        message = ca.ListContractsRequest(parent=dataset_name(dataset))
        return self._list(self._catalog.ListContracts, message, "contracts", views.Contract, limit)

    # --- requests

    def request(
        self,
        dataset: str,
        *,
        purpose: str,
        reason: str,
        fields: tuple[str, ...] = (),
        duration: str = "P90D",
    ) -> views.Request:
        """Sign and send a request. No `fields` asks for all that the purpose offers; `duration` is ISO
        8601. Raises REQUEST_OUTSIDE_CONTRACT naming what would pass, POLICY_REFUSED, NOT_SHARED."""
        found = self.dataset(dataset)
        statement = signing.request(
            self.profile, found, purpose=purpose, fields=fields, duration=duration, reason=reason
        )
        message = rq.CreateRequestRequest(statement=statement.to_bytes(), request_id=_id())
        return self._call(self._requests.CreateRequest, message, views.Request)

    def request_status(self, name: str) -> views.Request:
        """One request: its state, what is missing, who decides."""
        return self._call(self._requests.GetRequest, rq.GetRequestRequest(name=full(name, "requests")), views.Request)

    def requests(self, state: str = "", limit: int | None = None) -> Iterator[views.Request]:
        """Requests of the caller's party, as consumer or provider, newest first."""
        return self._list(
            self._requests.ListRequests, rq.ListRequestsRequest(state=state), "requests", views.Request, limit
        )

    def approve(self, request: str | views.Request, paper: Approval | None = None) -> views.Request:
        """Sign an approval; the last one needed also signs the agreement for the department.

        Given a request as it was read, just that is approved: should it have changed meanwhile, the
        exchange refuses (ETAG_MISMATCH). `paper` is the approval to sign, as it was shown to a person.
        """
        found = self.request_status(request) if isinstance(request, str) else request
        signed = signing.approval(self.profile, paper or signing.approval_payload(self.profile, found))
        message = rq.ApproveRequestRequest(
            name=found.name,
            approval=signed.to_bytes(),
            etag=found.etag,
            request_id=_id(),
        )
        decided = self._call(self._requests.ApproveRequest, message, views.Request)
        if decided.agreement and self.profile.party in self.agreement(decided.agreement).unsigned_parties:
            self.sign(decided.agreement)
        return decided

    def reject(self, name: str, reason: str) -> views.Request:
        """Refuse a request; the reason is shown to the consumer."""
        found = self.request_status(name)
        message = rq.RejectRequestRequest(name=found.name, reason=reason, etag=found.etag, request_id=_id())
        return self._call(self._requests.RejectRequest, message, views.Request)

    def cancel(self, name: str) -> views.Request:
        """Take an undecided request back."""
        found = self.request_status(name)
        message = rq.CancelRequestRequest(name=found.name, etag=found.etag, request_id=_id())
        return self._call(self._requests.CancelRequest, message, views.Request)

    # --- agreements

    def agreement(self, name: str) -> views.Agreement:
        """One agreement of the caller's party."""
        message = ag.GetAgreementRequest(name=full(name, "agreements"))
        return self._call(self._agreements.GetAgreement, message, views.Agreement)

    def agreements(self, state: str = "", limit: int | None = None) -> Iterator[views.Agreement]:
        """Agreements of the caller's party, newest first."""
        message = ag.ListAgreementsRequest(state=state)
        return self._list(self._agreements.ListAgreements, message, "agreements", views.Agreement, limit)

    def sign(self, name: str) -> views.Agreement:
        """Verify that the agreement follows from signed papers, then add the caller's signature."""
        found = self.agreement(name)
        statement = signing.agreement(self.profile, found, self.bundle(found.name))
        message = ag.SignAgreementRequest(name=found.name, statement=statement.to_bytes(), request_id=_id())
        return self._call(self._agreements.SignAgreement, message, views.Agreement)

    def suspend(self, name: str, *, reason: str, until: str) -> views.Agreement:
        """Stop transfers until an instant (RFC 3339)."""
        message = ag.SuspendAgreementRequest(
            name=full(name, "agreements"), reason=reason, until=Timestamp(seconds=epoch(until)), request_id=_id()
        )
        return self._call(self._agreements.SuspendAgreement, message, views.Agreement)

    def resume(self, name: str, *, reason: str) -> views.Agreement:
        """End a suspension before its time."""
        message = ag.ResumeAgreementRequest(name=full(name, "agreements"), reason=reason, request_id=_id())
        return self._call(self._agreements.ResumeAgreement, message, views.Agreement)

    def terminate(self, name: str, *, reason: str) -> views.Agreement:
        """End an agreement for good."""
        message = ag.TerminateAgreementRequest(name=full(name, "agreements"), reason=reason, request_id=_id())
        return self._call(self._agreements.TerminateAgreement, message, views.Agreement)

    def bundle(self, agreement: str) -> AgreementBundle:
        """All signed documents behind an agreement; verify it before believing it."""
        message = ag.GetAgreementBundleRequest(name=f"{full(agreement, 'agreements')}/bundle")
        return bundle(self.connection.call(self._agreements.GetAgreementBundle, message).bundle)

    def verified(self, agreement: str) -> VerifiedAgreement:
        """The agreement with everything it stands on, verified under the profile's trust file."""
        return verify_bundle(self.bundle(agreement), evidence.trust_of(self.profile), at=int(time.time()))

    # --- transfers

    def create_transfer(
        self, agreement: str, *, resume: str = "", parts: tuple[int, ...] = (), request_id: str = ""
    ) -> views.Transfer:
        """Ask for a grant; `resume` names the transfer whose missing parts are wanted: those that `parts`
        names, else all that were not sent."""
        message = tr.CreateTransferRequest(
            agreement=full(agreement, "agreements"), request_id=request_id or _id(), resume=resume, parts=parts
        )
        return self._call(self._transfers.CreateTransfer, message, views.Transfer)

    def transfer(self, name: str) -> views.Transfer:
        """One transfer with its papers."""
        message = tr.GetTransferRequest(name=full(name, "transfers"))
        return self._call(self._transfers.GetTransfer, message, views.Transfer)

    def transfers(self, agreement: str = "", limit: int | None = None) -> Iterator[views.Transfer]:
        """Transfers of the caller's party, newest first."""
        message = tr.ListTransfersRequest(agreement=full(agreement, "agreements") if agreement else "")
        return self._list(self._transfers.ListTransfers, message, "transfers", views.Transfer, limit)

    def acknowledge(self, transfer: str, *, content_digest: str | None) -> views.Transfer:
        """Sign that what the receipt attests arrived, with the digest recomputed from the data. None
        accepts the receipt as it stands, and says so: what arrived was lost before it could be hashed."""
        found = self.transfer(transfer)
        attested = found.receipt.payload["contentDigest"] if found.receipt else ""
        statement = signing.acknowledgement(
            self.profile, found, content_digest or attested, recomputed=content_digest is not None
        )
        message = tr.AcknowledgeTransferRequest(name=found.name, acknowledgement=statement.to_bytes(), request_id=_id())
        return self._call(self._transfers.AcknowledgeTransfer, message, views.Transfer)

    def ticket(self, agreement: str) -> tuple[views.Transfer, bytes]:
        """A grant and the ticket that any Flight client can present for it during ten minutes."""
        granted = self.create_transfer(self.ready(agreement).name)
        return granted, self.sign_ticket(granted)

    def sign_ticket(self, granted: views.Transfer) -> bytes:
        """The ticket for a grant, signed by the profile's holder key. Raises KEY_UNTRUSTED when the exchange
        names a gateway whose TLS certificate its department did not certify."""
        return signing.ticket(self.profile, granted, self.verified(granted.agreement))

    def ready(self, agreement: str) -> views.Agreement:
        """The agreement, signed by the caller first if only that was missing."""
        found = self.agreement(agreement)
        if found.state == "PENDING" and found.unsigned_parties == (self.profile.party,):
            return self.sign(found.name)
        return found

    def pull(
        self,
        agreement: str,
        *,
        to: str | Path | None = None,
        format: Literal["parquet", "csv", "arrow"] | None = None,
        overwrite: bool = False,
        csv_safe: bool = False,
        progress: Callable[[int, int, int], None] | None = None,
    ) -> Pulled:
        """Fetch, verify and acknowledge one release.

        With `to` it is written there (Parquet, CSV or Arrow IPC by the ending, or `format`) and only
        appears once verified; without, it is kept in memory. `progress(rows, bytes, total_rows)` is
        called as batches arrive. A broken pull is resumed by calling again with the same `to`.
        `overwrite` lets an existing file be replaced, at the very end; `csv_safe` defuses cells that a
        spreadsheet would run as a formula, which changes the data.
        """
        return pull(
            self,
            agreement,
            to=Path(to) if to is not None else None,
            format=format,
            overwrite=overwrite,
            csv_safe=csv_safe,
            progress=progress,
        )

    # --- ledger

    def checkpoint(self) -> Envelope:
        """The newest signed checkpoint of the ledger."""
        answer = self.connection.call(self._ledger.GetCheckpoint, le.GetCheckpointRequest())
        return Envelope.from_bytes(answer.checkpoint)

    def entries(self, resource: str = "", limit: int | None = None) -> Iterator[views.Entry]:
        """Entries that concern the caller's party, newest first."""
        message = le.ListEntriesRequest(resource=resource)
        return self._list(self._ledger.ListEntries, message, "entries", views.Entry, limit)

    def inclusion(self, index: int, tree_size: int) -> list[bytes]:
        """The audit path of a leaf in the tree of that size."""
        message = le.GetInclusionProofRequest(index=index, tree_size=tree_size)
        return list(self.connection.call(self._ledger.GetInclusionProof, message).path)

    def consistency(self, first: int, second: int) -> list[bytes]:
        """The proof that the tree of size `second` extends that of size `first`."""
        message = le.GetConsistencyProofRequest(first_size=first, second_size=second)
        return list(self.connection.call(self._ledger.GetConsistencyProof, message).path)

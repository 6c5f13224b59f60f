"""The calls of the API from Python, one method each: what `exchange.client.Exchange` is built on.

Every call has a deadline and every change a request id; answers come as views (`exchange.views`), failures
as `contracts.errors.SluicegateError`. Whatever has to be signed, verified, or told to a gateway as well is in
`exchange.client`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any, Self, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from contracts.agreement import AgreementBundle
from contracts.envelope import Envelope
from contracts.errors import Reason, SluicegateError
from contracts.instants import epoch
from exchange import views
from exchange.config import Profile
from exchange.connection import Connection
from exchange.names import dataset_name, full, owner
from exchange.rpc.wire import bundle, view
from exchange.v1 import agreement_pb2 as ag
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

V = TypeVar("V", bound=views.View)


def fresh_id() -> str:
    """A fresh id: a call that is repeated with it gets its first answer."""
    return str(uuid.uuid4())


class Calls:
    """A connection of one principal, with a method a call."""

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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.profile.endpoint!r}, {self.profile.subject!r} of {self.profile.party!r})"

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
        message = pa.CreatePartyRequest(party_id=party, jwks=jwks, request_id=fresh_id(), admin_subject=admin)
        message.party.CopyFrom(pa.Party(kind=kind, root_key=root_key, issuer=issuer, display_name=display_name))
        return self._call(self._parties.CreateParty, message, views.Party)

    def principals(self, limit: int | None = None) -> Iterator[views.Principal]:
        """The people of the caller's own party."""
        message = pa.ListPrincipalsRequest(parent=self._mine)
        return self._list(self._parties.ListPrincipals, message, "principals", views.Principal, limit)

    def register_principal(self, subject: str, roles: tuple[str, ...]) -> views.Principal:
        """Give a person of the caller's own party its roles; none takes all away."""
        message = pa.RegisterPrincipalRequest(parent=self._mine, subject=subject, roles=roles, request_id=fresh_id())
        return self._call(self._parties.RegisterPrincipal, message, views.Principal)

    def register_key(self, statement: Envelope) -> views.Key:
        """Store a key statement or revocation that the party's root signed."""
        message = pa.RegisterKeyRequest(parent=self._mine, statement=statement.to_bytes(), request_id=fresh_id())
        return self._call(self._parties.RegisterKey, message, views.Key)

    def keys(self, party: str | None = None, limit: int | None = None) -> Iterator[views.Key]:
        """Key statements and revocations of a party, by default the caller's."""
        message = pa.ListKeysRequest(parent=full(party or self.profile.party, "parties"))
        return self._list(self._parties.ListKeys, message, "keys", views.Key, limit)

    def register_gateway(self, gateway: str, *, address: str, ca_certificate: str) -> views.Gateway:
        """Say where a gateway of the caller's department can be reached."""
        message = pa.RegisterGatewayRequest(parent=self._mine, gateway_id=gateway, request_id=fresh_id())
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

    def request_status(self, name: str) -> views.Request:
        """One request: its state, what is missing, who decides."""
        return self._call(self._requests.GetRequest, rq.GetRequestRequest(name=full(name, "requests")), views.Request)

    def requests(self, state: str = "", limit: int | None = None) -> Iterator[views.Request]:
        """Requests of the caller's party, as consumer or provider, newest first."""
        return self._list(
            self._requests.ListRequests, rq.ListRequestsRequest(state=state), "requests", views.Request, limit
        )

    def reject(self, name: str, reason: str) -> views.Request:
        """Refuse a request; the reason is shown to the consumer."""
        found = self.request_status(name)
        message = rq.RejectRequestRequest(name=found.name, reason=reason, etag=found.etag, request_id=fresh_id())
        return self._call(self._requests.RejectRequest, message, views.Request)

    def cancel(self, name: str) -> views.Request:
        """Take an undecided request back."""
        found = self.request_status(name)
        message = rq.CancelRequestRequest(name=found.name, etag=found.etag, request_id=fresh_id())
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

    def bundle(self, agreement: str) -> AgreementBundle:
        """All signed documents behind an agreement; verify it before believing it."""
        message = ag.GetAgreementBundleRequest(name=f"{full(agreement, 'agreements')}/bundle")
        return bundle(self.connection.call(self._agreements.GetAgreementBundle, message).bundle)

    def suspend_agreement(self, name: str, *, reason: str, until: str) -> views.Agreement:
        """Have the exchange grant nothing until an instant (RFC 3339)."""
        message = ag.SuspendAgreementRequest(
            name=full(name, "agreements"), reason=reason, until=Timestamp(seconds=epoch(until)), request_id=fresh_id()
        )
        return self._call(self._agreements.SuspendAgreement, message, views.Agreement)

    def resume_agreement(self, name: str, *, reason: str) -> views.Agreement:
        """Have the exchange grant again before the time."""
        message = ag.ResumeAgreementRequest(name=full(name, "agreements"), reason=reason, request_id=fresh_id())
        return self._call(self._agreements.ResumeAgreement, message, views.Agreement)

    def terminate_agreement(self, name: str, *, reason: str) -> views.Agreement:
        """Have the exchange grant nothing any more."""
        message = ag.TerminateAgreementRequest(name=full(name, "agreements"), reason=reason, request_id=fresh_id())
        return self._call(self._agreements.TerminateAgreement, message, views.Agreement)

    # --- transfers

    def create_transfer(
        self, agreement: str, *, resume: str = "", parts: tuple[int, ...] = (), request_id: str = ""
    ) -> views.Transfer:
        """Ask for a grant; `resume` names the transfer whose missing parts are wanted: those that `parts`
        names, else all that were not sent."""
        message = tr.CreateTransferRequest(
            agreement=full(agreement, "agreements"), request_id=request_id or fresh_id(), resume=resume, parts=parts
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

    # --- ledger

    def checkpoint(self) -> Envelope:
        """The newest signed checkpoint of the ledger."""
        answer = self.connection.call(self._ledger.GetCheckpoint, le.GetCheckpointRequest())
        return Envelope.from_bytes(answer.checkpoint)

    def entries(self, resource: str = "", limit: int | None = None) -> Iterator[views.Entry]:
        """Entries that concern the caller's party, newest first."""
        message = le.ListEntriesRequest(resource=resource)
        return self._list(self._ledger.ListEntries, message, "entries", views.Entry, limit)

    def entry(self, index: int) -> views.Entry:
        """The entry at a position, if it concerns the caller's party. Raises NOT_FOUND."""
        return self._call(self._ledger.GetEntry, le.GetEntryRequest(name=f"ledger/entries/{index}"), views.Entry)

    def erase_entry(self, index: int, *, reason: str, etag: str = "") -> views.Entry:
        """Erase what an entry says, for good; returns what is left. That it was erased, by whom and why, is
        an entry itself. `etag` is the entry's as it was read; empty erases it unseen. For a dpo of the
        coordination party."""
        message = le.EraseEntryRequest(name=f"ledger/entries/{index}", reason=reason, etag=etag, request_id=fresh_id())
        return self._call(self._ledger.EraseEntry, message, views.Entry)

    def inclusion(self, index: int, tree_size: int) -> list[bytes]:
        """The audit path of a leaf in the tree of that size."""
        message = le.GetInclusionProofRequest(index=index, tree_size=tree_size)
        return list(self.connection.call(self._ledger.GetInclusionProof, message).path)

    def consistency(self, first: int, second: int) -> list[bytes]:
        """The proof that the tree of size `second` extends that of size `first`."""
        message = le.GetConsistencyProofRequest(first_size=first, second_size=second)
        return list(self.connection.call(self._ledger.GetConsistencyProof, message).path)

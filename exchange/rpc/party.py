"""PartyService on the wire."""

from __future__ import annotations

import grpc

from exchange import parties
from exchange.hall import Hall
from exchange.rpc import convert
from exchange.rpc.calls import replayable, signed
from exchange.rpc.interceptors import caller
from exchange.v1 import party_pb2 as pb
from exchange.v1 import party_pb2_grpc


class PartyServicer(party_pb2_grpc.PartyServiceServicer):
    """Registers organisations, people, keys and gateways."""

    def __init__(self, hall: Hall) -> None:
        self._hall = hall

    def WhoAmI(self, request: pb.WhoAmIRequest, context: grpc.ServicerContext) -> pb.Principal:
        """The caller."""
        return convert.principal(caller())

    def GetParty(self, request: pb.GetPartyRequest, context: grpc.ServicerContext) -> pb.Party:
        """One party."""
        return convert.party(parties.get(self._hall, caller(), request.name))

    def ListParties(self, request: pb.ListPartiesRequest, context: grpc.ServicerContext) -> pb.ListPartiesResponse:
        """A page of parties."""
        page = parties.list_(self._hall, caller(), page_size=request.page_size, page_token=request.page_token)
        return pb.ListPartiesResponse(
            parties=[convert.party(item) for item in page.items], next_page_token=page.next_token
        )

    def CreateParty(self, request: pb.CreatePartyRequest, context: grpc.ServicerContext) -> pb.Party:
        """Register an organisation."""
        return convert.party(
            parties.create_party(
                self._hall,
                caller(),
                replayable("CreateParty", request),
                party=request.party_id,
                kind=request.party.kind,
                display_name=request.party.display_name,
                root_key=request.party.root_key,
                issuer=request.party.issuer,
                jwks=request.jwks,
                admin_subject=request.admin_subject,
            )
        )

    def RegisterPrincipal(self, request: pb.RegisterPrincipalRequest, context: grpc.ServicerContext) -> pb.Principal:
        """Give a person roles."""
        return convert.person(
            parties.register_principal(
                self._hall,
                caller(),
                replayable("RegisterPrincipal", request),
                parent=request.parent,
                subject=request.subject,
                roles=tuple(request.roles),
            )
        )

    def ListPrincipals(
        self, request: pb.ListPrincipalsRequest, context: grpc.ServicerContext
    ) -> pb.ListPrincipalsResponse:
        """A page of people."""
        page = parties.list_principals(
            self._hall, caller(), parent=request.parent, page_size=request.page_size, page_token=request.page_token
        )
        return pb.ListPrincipalsResponse(
            principals=[convert.person(item) for item in page.items], next_page_token=page.next_token
        )

    def RegisterKey(self, request: pb.RegisterKeyRequest, context: grpc.ServicerContext) -> pb.Key:
        """Store a key statement or revocation."""
        statement = signed(request.statement, "statement")
        return convert.key(
            parties.register_key(
                self._hall, caller(), replayable("RegisterKey", request), parent=request.parent, statement=statement
            )
        )

    def ListKeys(self, request: pb.ListKeysRequest, context: grpc.ServicerContext) -> pb.ListKeysResponse:
        """A page of keys."""
        page = parties.list_keys(
            self._hall, caller(), parent=request.parent, page_size=request.page_size, page_token=request.page_token
        )
        return pb.ListKeysResponse(keys=[convert.key(item) for item in page.items], next_page_token=page.next_token)

    def RegisterGateway(self, request: pb.RegisterGatewayRequest, context: grpc.ServicerContext) -> pb.Gateway:
        """Say where a gateway is."""
        return convert.gateway(
            parties.register_gateway(
                self._hall,
                caller(),
                replayable("RegisterGateway", request),
                parent=request.parent,
                gateway=request.gateway_id,
                address=request.gateway.address,
                ca_certificate=request.gateway.ca_certificate,
            )
        )

    def ListGateways(self, request: pb.ListGatewaysRequest, context: grpc.ServicerContext) -> pb.ListGatewaysResponse:
        """A page of gateways."""
        page = parties.list_gateways(
            self._hall, caller(), parent=request.parent, page_size=request.page_size, page_token=request.page_token
        )
        return pb.ListGatewaysResponse(
            gateways=[convert.gateway(item) for item in page.items], next_page_token=page.next_token
        )

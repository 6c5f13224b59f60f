"""CatalogService on the wire."""

from __future__ import annotations

import grpc

from exchange import catalog, records
from exchange.hall import Hall
from exchange.paging import Page
from exchange.rpc import convert
from exchange.rpc.calls import replayable, signed
from exchange.rpc.interceptors import caller
from exchange.v1 import catalog_pb2 as pb
from exchange.v1 import catalog_pb2_grpc


class CatalogServicer(catalog_pb2_grpc.CatalogServiceServicer):
    """Publishes contracts and finds datasets."""

    def __init__(self, hall: Hall) -> None:
        self._hall = hall

    def _dataset(self, record: records.Dataset, *, whole: bool) -> pb.Dataset:
        """A dataset; with its newest contract where `whole`."""
        contract = catalog.get_contract(self._hall, caller(), record.contract) if whole else None
        return pb.Dataset(
            name=record.name,
            contract=convert.contract(contract) if contract else pb.Contract(name=record.contract),
            description=record.description,
            sharing_class=record.sharing_class,
            purposes=record.purposes,
            columns=record.columns,
            create_time=convert.stamp(record.created),
            update_time=convert.stamp(record.updated),
            etag=record.etag,
        )

    def _datasets(self, page: Page[records.Dataset]) -> list[pb.Dataset]:
        return [self._dataset(item, whole=False) for item in page.items]

    def PublishContract(self, request: pb.PublishContractRequest, context: grpc.ServicerContext) -> pb.Dataset:
        """Publish a contract."""
        statement = signed(request.statement, "statement")
        published = catalog.publish(
            self._hall,
            caller(),
            replayable("PublishContract", request),
            parent=request.parent,
            document=request.document,
            statement=statement,
            gateway=request.gateway,
            etag=request.etag,
        )
        return self._dataset(published, whole=True)

    def GetDataset(self, request: pb.GetDatasetRequest, context: grpc.ServicerContext) -> pb.Dataset:
        """One dataset."""
        return self._dataset(catalog.get(self._hall, caller(), request.name), whole=True)

    def ListDatasets(self, request: pb.ListDatasetsRequest, context: grpc.ServicerContext) -> pb.ListDatasetsResponse:
        """A page of datasets."""
        page = catalog.list_(
            self._hall, caller(), parent=request.parent, page_size=request.page_size, page_token=request.page_token
        )
        return pb.ListDatasetsResponse(datasets=self._datasets(page), next_page_token=page.next_token)

    def SearchDatasets(
        self, request: pb.SearchDatasetsRequest, context: grpc.ServicerContext
    ) -> pb.SearchDatasetsResponse:
        """A page of what was found."""
        page = catalog.search(
            self._hall, caller(), query=request.query, page_size=request.page_size, page_token=request.page_token
        )
        return pb.SearchDatasetsResponse(datasets=self._datasets(page), next_page_token=page.next_token)

    def GetContract(self, request: pb.GetContractRequest, context: grpc.ServicerContext) -> pb.Contract:
        """One contract version."""
        return convert.contract(catalog.get_contract(self._hall, caller(), request.name))

    def ListContracts(
        self, request: pb.ListContractsRequest, context: grpc.ServicerContext
    ) -> pb.ListContractsResponse:
        """A page of contract versions."""
        page = catalog.list_contracts(
            self._hall, caller(), parent=request.parent, page_size=request.page_size, page_token=request.page_token
        )
        return pb.ListContractsResponse(
            contracts=[convert.contract(item, whole=False) for item in page.items], next_page_token=page.next_token
        )

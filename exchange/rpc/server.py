"""The gRPC server of the exchange: TLS, limits, health, reflection, graceful stop."""

from __future__ import annotations

import logging
import threading
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from connectors.reaching import asking
from contracts.errors import Reason, SluicegateError
from exchange.config import ExchangeSettings, loopback
from exchange.hall import Hall
from exchange.identity import Authenticator
from exchange.keyfiles import check_private
from exchange.rpc.agreement import AgreementServicer
from exchange.rpc.catalog import CatalogServicer
from exchange.rpc.interceptors import REFLECTIONS, Surround
from exchange.rpc.ledger import LedgerServicer
from exchange.rpc.party import PartyServicer
from exchange.rpc.request import RequestServicer
from exchange.rpc.transfer import TransferServicer
from exchange.v1 import (
    agreement_pb2,
    agreement_pb2_grpc,
    catalog_pb2,
    catalog_pb2_grpc,
    ledger_pb2,
    ledger_pb2_grpc,
    party_pb2,
    party_pb2_grpc,
    request_pb2,
    request_pb2_grpc,
    transfer_pb2,
    transfer_pb2_grpc,
)

log = logging.getLogger("sluicegate.rpc")

MAX_MESSAGE = 4 * 1024 * 1024
MAX_METADATA = 16 * 1024

OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_metadata_size", MAX_METADATA),
    ("grpc.absolute_max_metadata_size", MAX_METADATA),
    ("grpc.max_concurrent_streams", 200),
    ("grpc.max_connection_idle_ms", 15 * 60 * 1000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # Whoever went without a word keeps no place: a watch would, until the network gives up after a quarter of an hour.
    *asking(every=15, within=20),
    ("grpc.so_reuseport", 0),
]
SERVICES = [
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in (
        (party_pb2, "PartyService"),
        (catalog_pb2, "CatalogService"),
        (request_pb2, "RequestService"),
        (agreement_pb2, "AgreementService"),
        (transfer_pb2, "TransferService"),
        (ledger_pb2, "LedgerService"),
    )
]


class ExchangeServer:
    """A running exchange. `address` is where it listens; `stop` ends it gracefully."""

    def __init__(self, hall: Hall, settings: ExchangeSettings, authenticator: Authenticator) -> None:
        self._settings, self._store = settings, hall.store
        self._stopping = threading.Event()
        self._health = health.HealthServicer()
        surround = Surround(
            authenticator,
            workers=settings.workers,
            watchers=settings.watchers,
            max_deadline=settings.max_deadline,
            calls_per_minute=settings.calls_per_minute,
            refusals_per_minute=settings.refusals_per_minute,
        )
        # A stream keeps its thread, so streams get threads of their own beside the workers'.
        streams = settings.watchers + REFLECTIONS
        threads = futures.ThreadPoolExecutor(settings.workers + streams, thread_name_prefix="rpc")
        self._server = grpc.server(
            threads,
            interceptors=[surround],
            options=OPTIONS,
            maximum_concurrent_rpcs=4 * settings.workers + streams,
        )
        party_pb2_grpc.add_PartyServiceServicer_to_server(PartyServicer(hall), self._server)
        catalog_pb2_grpc.add_CatalogServiceServicer_to_server(CatalogServicer(hall), self._server)
        request_pb2_grpc.add_RequestServiceServicer_to_server(RequestServicer(hall), self._server)
        agreement_pb2_grpc.add_AgreementServiceServicer_to_server(
            AgreementServicer(hall, heartbeat=settings.heartbeat, watchers=settings.watchers, stopping=self._stopping),
            self._server,
        )
        transfer_pb2_grpc.add_TransferServiceServicer_to_server(TransferServicer(hall), self._server)
        ledger_pb2_grpc.add_LedgerServiceServicer_to_server(LedgerServicer(hall), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection([*SERVICES, reflection.SERVICE_NAME, health.SERVICE_NAME], self._server)
        self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        self.address = self._bind()

    def _bind(self) -> str:
        listen = self._settings.listen
        try:
            if self._settings.unsafe_plaintext:
                if not loopback(listen):
                    raise SluicegateError(Reason.CONFIG_UNSAFE, "plaintext is for loopback only; use TLS")
                port = self._server.add_insecure_port(listen)
            else:
                check_private(self._settings.tls_key)
                pair = (self._settings.tls_key.read_bytes(), self._settings.tls_certificate.read_bytes())
                port = self._server.add_secure_port(listen, grpc.ssl_server_credentials([pair]))
        except OSError as error:
            raise SluicegateError(Reason.CONFIG_INVALID, f"cannot read the TLS certificate: {error.strerror}") from None
        except RuntimeError:
            port = 0
        if port == 0:
            raise SluicegateError(
                Reason.CONFIG_INVALID,
                f"cannot listen on {listen}: another process is there, or the certificate and its key do not match",
            )
        return f"{listen.rsplit(':', 1)[0]}:{port}"

    def _set_health(self, status: int) -> None:
        for name in ("", *SERVICES):
            self._health.set(name, status)

    def start(self) -> str:
        """Serve, and say so to health checks; the address."""
        self._server.start()
        self._set_health(health_pb2.HealthCheckResponse.SERVING)
        threading.Thread(target=self._check, name="check", daemon=True).start()
        return self.address

    def _check(self) -> None:
        """Look through the rest of the store while it serves, for half of the time at most. One that is
        damaged serves no longer."""
        try:
            self._store.check(self._stopping.wait)
        except SluicegateError as error:
            if not self._stopping.is_set():
                log.critical("the store was checked: %s", error)
                self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)

    def stop(self) -> None:
        """Take no new calls, let running ones end within the grace, then stop and close the store."""
        self._health.enter_graceful_shutdown()
        self._stopping.set()
        self._server.stop(self._settings.shutdown_grace).wait()
        self._store.close()

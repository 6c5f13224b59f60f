"""The composition root: how an exchange and a gateway are put together, top to bottom.

    python -m exchange.app exchange HOME/exchange/exchange.toml
    python -m exchange.app gateway  HOME/gateways/NAME/gateway.toml

Each runs in the foreground, prints one line `ready ADDRESS` once it serves, and ends cleanly on
SIGTERM or SIGINT; with `--with-parent` also when its standard input closes, so that it does not
outlive who started it. `sluicegate up` starts them as processes of their own.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from contracts import standard
from contracts.envelope import Envelope, PublicKey
from contracts.errors import Reason, SluicegateError
from contracts.policy.embedded import EmbeddedEngine
from contracts.policy.engine import PolicyEngine
from contracts.trust import TrustedParty, TrustFile, load_trust
from exchange import config, keyfiles
from exchange.config import DatasetSettings, ExchangeSettings, GatewaySettings, PolicySettings

if TYPE_CHECKING:
    from connectors.sources import SourceSettings
    from exchange.rpc.server import ExchangeServer
    from exchange.store import Store

MORSEL = 50_000  # rows that the engine of a gateway takes at once


def clock() -> int:
    """Epoch seconds."""
    return int(time.time())


def policy_engine(settings: PolicySettings) -> PolicyEngine:
    """The engine that the settings name; refuses one whose bundle is not ours."""
    if settings.engine == "embedded":
        return EmbeddedEngine()
    from contracts.policy.opa_server import OpaServerEngine

    if not settings.url:
        raise SluicegateError(Reason.CONFIG_INVALID, "policy.engine is opa, so policy.url is needed")
    return OpaServerEngine(
        settings.url,
        ca=settings.ca,
        token_file=settings.token_file,
        timeout=settings.timeout,
        unsafe_plaintext=settings.unsafe_plaintext,
    )


def registered_trust(store: Store, settings: ExchangeSettings, policy: PolicyEngine) -> Callable[[], TrustFile]:
    """What the exchange itself verifies with: the roots of the parties registered with it.

    Roots never change once registered, so they are read again only when a party was added. Agreements made
    under an earlier standard or policy bundle still count when the configuration names its digest.
    """
    from exchange import records

    bare = TrustFile(
        parties={},
        checkpoint_key=keyfiles.read_key(settings.checkpoint_key).public,
        grant_key=keyfiles.read_key(settings.grant_key).public,
        standards=(standard.load(settings.standard).digest, *settings.earlier_standards),
        policies=(policy.bundle_digest, *settings.earlier_policies),
    )
    known = [(-1, bare)]

    def trust() -> TrustFile:
        with store.read() as tx:
            count = tx.count(records.Party)
            if count != known[0][0]:
                parties = {
                    record.party: TrustedParty(kind=record.kind, root=PublicKey(x=json.loads(record.root_key)["x"]))
                    for record in tx.page(records.Party, limit=100_000)
                }
                known[0] = (count, msgspec.structs.replace(bare, parties=parties))
        return known[0][1]

    return trust


def exchange_server(settings: ExchangeSettings, *, policy: PolicyEngine | None = None) -> ExchangeServer:
    """Store, policy, keys, identity, server: the hall. `policy` in the place of the engine that the settings name:
    exchanges of one process may share one."""
    from exchange.hall import Hall
    from exchange.identity import Authenticator
    from exchange.rpc.server import ExchangeServer
    from exchange.store import Store

    store = Store(settings.database)
    store.migrate()
    checkpoint_key = keyfiles.read_key(settings.checkpoint_key)
    store.demand_sound(checkpoint_key.public)
    policy = policy or policy_engine(settings.policy)
    hall = Hall(
        store=store,
        policy=policy,
        standard=standard.load(settings.standard),
        trust=registered_trust(store, settings, policy),
        clock=clock,
        entropy=os.urandom,
        grant_key=keyfiles.read_key(settings.grant_key),
        checkpoint_key=checkpoint_key,
    )
    return ExchangeServer(hall, settings, Authenticator.of_store(store, settings.audience, clock))


class BoundSources(Mapping[str, "SourceSettings"]):
    """The datasets of a `gateway.toml`, read anew for each transfer: a source is bound without a restart."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _now(self) -> dict[str, DatasetSettings]:
        return config.load(self._path, GatewaySettings).datasets

    def __getitem__(self, dataset: str) -> SourceSettings:
        from connectors.sources import SourceSettings

        found = self._now()[dataset]
        return SourceSettings(
            path=str(found.path),
            format=found.format,
            root=str(found.root) if found.root else None,
            columns=found.columns,
            separator=found.separator,
            null_values=found.null_values,
            register=found.register,
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())


def _little_memory() -> None:
    """Take Arrow's buffers from jemalloc, where Arrow was built with it: of its heaps it gives back soonest what a
    release no longer needs. And have the engine, which works ahead, do so in smaller pieces."""
    import polars as pl
    import pyarrow as pa

    with contextlib.suppress(NotImplementedError):
        pa.set_memory_pool(pa.jemalloc_memory_pool())
    pl.Config.set_streaming_chunk_size(MORSEL)


class RunningGateway:
    """A gateway and its Flight server, started and stopped together."""

    def __init__(self, settings: GatewaySettings, path: Path) -> None:
        from connectors import tls
        from connectors.gateway import gateway as gate
        from connectors.gateway.flight import FlightGateway
        from connectors.gateway.state import GatewayState
        from connectors.keys import KeyRing
        from connectors.masks.masking import self_test
        from exchange.connection import Connection, TokenSource
        from exchange.control_plane import GrpcControlPlane

        self_test()
        _little_memory()
        keyfiles.check_private(settings.tls_key)
        self._state = GatewayState(settings.state, clock=clock, entropy=os.urandom)
        self._connection = Connection(
            settings.exchange,
            ca=settings.exchange_ca,
            token=TokenSource(settings.token, settings.subject),
            timeout=30,
            unsafe_plaintext=settings.unsafe_plaintext,
        )
        name = f"parties/{settings.party}/gateways/{settings.gateway}"
        self._gateway = gate.Gateway(
            gate.GatewaySettings(
                party=settings.party,
                gateway=settings.gateway,
                spool=settings.spool,
                datasets=BoundSources(path),
                content_hash=settings.content_hash,
                max_silence=settings.max_silence,
                stall_after=settings.stall_after,
                slots=settings.slots,
                slots_per_party=settings.slots_per_party,
                spool_limit=settings.spool_limit,
                memory_limit=settings.memory_limit,
                part_bytes=settings.part_bytes,
            ),
            trust=lambda: load_trust(settings.trust.read_bytes()),
            standard=standard.load(settings.standard),
            policy=policy_engine(settings.policy),
            # Given up halfway to where nothing is served any more: the first beat of another one comes at once.
            control_plane=GrpcControlPlane(self._connection, name, patience=settings.max_silence / 2),
            keyring=KeyRing(config.read_master(settings), self._state.salt),
            signing_key=keyfiles.read_key(settings.signing_key),
            state=self._state,
            clock=clock,
            entropy=os.urandom,
            statements=lambda: [
                Envelope.from_bytes(item.read_bytes()) for item in sorted(settings.statements.glob("*.json"))
            ],
        )
        host, port = settings.listen.rsplit(":", 1)
        self._server = FlightGateway(
            self._gateway,
            host.strip("[]"),
            int(port),
            tls=None
            if settings.unsafe_plaintext
            else (settings.tls_certificate.read_bytes(), settings.tls_key.read_bytes()),
            entropy=os.urandom,
            client_ca=tls.read_authority(settings.client_ca),
            unsafe_plaintext=settings.unsafe_plaintext,
        )
        self._host = host

    def start(self) -> str:
        """Settle what an earlier run left open, then serve; the address."""
        self._gateway.start()
        return f"{self._host}:{self._server.port}"

    def stop(self) -> None:
        """End streams with receipts for what left, then the server, then the state."""
        with contextlib.ExitStack() as closing:  # runs all of them, the last one first
            closing.callback(self._state.close)
            closing.callback(self._connection.close)
            closing.callback(self._server.shutdown)
            closing.callback(self._gateway.close)


class Process(Protocol):
    """What a process runs."""

    def start(self) -> str:
        """Serve; the address."""
        ...

    def stop(self) -> None:
        """End cleanly."""
        ...


def run(process: Process, *, with_parent: bool) -> None:
    """Serve until a signal says otherwise, or, `with_parent`, until standard input closes."""
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    if with_parent:
        threading.Thread(target=_until_closed, args=(done,), daemon=True).start()
    print(f"ready {process.start()}", flush=True)  # noqa: T201 - the parent waits for this line
    while not done.wait(1.0):  # a signal that comes just as a wait without end begins would wake nobody
        pass
    process.stop()


def _until_closed(done: threading.Event) -> None:
    # Not by the file object: this thread would hold its lock when the interpreter ends, which crashes it.
    while os.read(sys.stdin.fileno(), 4096):
        pass
    done.set()


def log_to_stderr(level: str) -> None:
    """One line a record on standard error; calls are JSON objects."""
    logging.basicConfig(level=level.upper(), stream=sys.stderr, format="%(message)s")


def process_of(kind: str, path: Path) -> Process:
    """The process that a configuration file describes."""
    if kind == "exchange":
        settings = config.load(path, ExchangeSettings)
        log_to_stderr(settings.log_level)
        return exchange_server(settings)
    gateway = config.load(path, GatewaySettings)
    log_to_stderr(gateway.log_level)
    return RunningGateway(gateway, path)


def main(arguments: list[str]) -> int:
    """Run one process; the exit code."""
    match arguments:
        case ["exchange" | "gateway" as kind, path, *rest] if rest in ([], ["--with-parent"]):
            run(process_of(kind, Path(path)), with_parent=bool(rest))
            return 0
        case _:
            print(__doc__, file=sys.stderr)  # noqa: T201
            return 2


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except SluicegateError as error:
        print(error, file=sys.stderr)  # noqa: T201
        sys.exit(error.traits.exit_code)

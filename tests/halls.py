"""A real hall for tests: store, policy, trust and keys, with the parties of `tests.papers` registered.

city = City(store)                       # clock at NOW, everybody registered
city.hall, city.clock.now
city.who("health-bureau", STEWARD, "steward")
city.call(principal, "PublishContract", body)
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

import pytest

from contracts import standard
from contracts.canonical import digest
from contracts.errors import Reason, SluicegateError
from contracts.trust import PartyKind
from exchange import records
from exchange.hall import Hall
from exchange.identity import Principal, jwk_set
from exchange.store import Store
from tests.engines import shared_engine
from tests.papers import GATEWAY, NOW, PARTIES, PROVIDER, Cast, key

COORDINATION, SUPERVISION = "city-data-office", "audit-office"
KINDS = {**PARTIES, SUPERVISION: PartyKind.SUPERVISION}

POSTGRES = "SLUICEGATE_POSTGRES_URL"
DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.needs_postgres)]


@contextlib.contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    """The URL of an empty database, gone afterwards. PostgreSQL: a schema of its own in the database
    that SLUICEGATE_POSTGRES_URL names; the test is skipped when it names none."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'exchange.db'}"
        return
    url = os.environ.get(POSTGRES)
    if not url:
        pytest.skip(f"set {POSTGRES} to run against PostgreSQL")
    import psycopg

    schema = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
        try:
            yield f"{url}?options=-csearch_path%3D{schema}"
        finally:
            connection.execute(f"DROP SCHEMA {schema} CASCADE")


def migrated(path: Path) -> Store:
    """A migrated store in that file: a copy of one that was migrated before, which costs a tenth."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(_empty())
    store = Store(f"sqlite:///{path}")
    store.migrate()
    return store


@cache
def _empty() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "empty.db"
        store = Store(f"sqlite:///{path}")
        store.migrate()
        with store.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        store.close()
        return path.read_bytes()


def refused(reason: Reason) -> pytest.RaisesExc[SluicegateError]:
    """Expect the refusal with that reason."""
    return pytest.raises(SluicegateError, check=lambda error: error.reason is reason)


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    now: int = NOW

    def __call__(self) -> int:
        return self.now


class Counted:
    """Bytes that never repeat, the same in every run."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def __call__(self, size: int) -> bytes:
        import hashlib

        return hashlib.shake_256(str(next(self._numbers)).encode()).digest(size)


@dataclass
class City:
    """The hall over a store, and its people."""

    store: Store
    clock: Clock = field(default_factory=Clock)
    cast: Cast = field(default_factory=Cast)

    def __post_init__(self) -> None:
        self._calls = itertools.count(1)
        with self.store.transaction() as tx:
            for party, kind in KINDS.items():
                tx.insert(party_record(party, kind))

    @cached_property
    def hall(self) -> Hall:
        """The hall."""
        return Hall(
            store=self.store,
            policy=shared_engine(),
            standard=standard.load(),
            trust=lambda: self.cast.trust,
            clock=self.clock,
            entropy=Counted(),
            grant_key=key("grant"),
            checkpoint_key=key("checkpoint"),
        )

    def register_keys(self) -> None:
        """The key statements of everybody in the cast."""
        with self.store.transaction() as tx:
            for (party, subject, use), statement in zip(self.cast.people, self.cast.statements, strict=True):
                kid = key(subject).kid
                tx.insert(
                    records.Key(
                        name=f"parties/{party}/keys/{kid}",
                        party=party,
                        kid=kid,
                        subject=subject,
                        use=use.value,
                        statement=statement.to_bytes(),
                        created=NOW,
                        updated=NOW,
                    )
                )

    def register_gateway(self, party: str = PROVIDER, gateway: str = GATEWAY) -> str:
        """A gateway; returns its name."""
        name = f"parties/{party}/gateways/{gateway}"
        with self.store.transaction() as tx:
            tx.insert(
                records.Gateway(
                    name=name,
                    party=party,
                    gateway=gateway,
                    address="grpc+tls://localhost:7460",
                    ca_certificate="",
                    created=NOW,
                    updated=NOW,
                )
            )
        return name

    @staticmethod
    def who(party: str, subject: str, *roles: str) -> Principal:
        """Somebody of a party, as authenticated."""
        return Principal(party, KINDS.get(party, PartyKind.COMPANY), subject, roles, f"https://issuer.{party}.example")

    def call(self, principal: Principal, method: str, body: object) -> records.Call:
        """A fresh mutating call."""
        number = next(self._calls)
        return records.Call(principal.name, method, str(uuid.UUID(int=number, version=4)), digest(body))


def party_record(party: str, kind: PartyKind = PartyKind.COMPANY) -> records.Party:
    """A party as registered, its built-in issuer included."""
    return records.Party(
        name=f"parties/{party}",
        party=party,
        kind=kind,
        root_key=json.dumps({"kty": "OKP", "crv": "Ed25519", "x": key(f"root:{party}").public.x}),
        issuer=f"https://issuer.{party}.example",
        jwks=jwk_set(key(f"issuer:{party}").public),
        created=NOW,
        updated=NOW,
    )

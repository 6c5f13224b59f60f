"""Founding a home: keys, certificates, configuration, profiles, trust file, and the first entries of
the ledger. Runs once, offline, before there is anyone to ask for permission; `sluicegate init`.

A home appears whole or not at all. Every party gets a root key, a token issuer and its people, every
person a key for each use that the roles need, every department its gateway.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from connectors import tls
from contracts import standard
from contracts.canonical import digest_bytes
from contracts.envelope import Envelope, Kind, PublicKey, SigningKey, sign
from contracts.errors import Reason, SluicegateError, Violation
from contracts.instants import rfc3339
from contracts.policy import shipped
from contracts.trust import KeyStatement, PartyKind, TrustedParty, TrustFile, Use, dump_trust
from exchange import admission, config, gateways, keyfiles, ledger, records
from exchange.config import DatasetSettings, ExchangeSettings, GatewaySettings, Profile, TokenSettings
from exchange.home import Founder, Home
from exchange.identity import jwk_set
from exchange.names import ID
from exchange.store import Store

KEY_DAYS = 365
DATABASE = "sqlite:///exchange.db"
# What a person of that role signs. A key is certified for one use, so two uses are two keys.
SIGNS_AS = {"steward": Use.APPROVER, "dpo": Use.APPROVER, "requester": Use.REQUESTER}


@dataclass(frozen=True)
class Ports:
    """Loopback ports of the embedded default; gateways count up from `gateway`."""

    exchange: int = 7450
    gateway: int = 7460


def found(
    home: Home,
    founders: Sequence[Founder],
    *,
    now: int,
    entropy: Callable[[int], bytes],
    ports: Ports = Ports(),
    database: str = DATABASE,
) -> tuple[str, ...]:
    """Found a home with these parties; the names of its profiles. `now` is epoch seconds. `database` is
    the exchange's, empty or new: a file beside `exchange.toml`, or PostgreSQL.

    Raises ALREADY_EXISTS when the folder holds anything (a home is never founded twice), and
    INVALID_ARGUMENT with everything that is wrong with the founders.
    """
    admission.refuse(_violations(founders))
    with new_home(home) as staged:
        return _Founding(Home(staged), ports, now, entropy, database).found(founders)


@contextmanager
def new_home(home: Home) -> Iterator[Path]:
    """A folder to prepare a home in; what it holds in the end becomes the home, which must be empty
    or not there yet (ALREADY_EXISTS). Nothing appears when preparing fails."""
    try:
        if home.root.exists() and any(home.root.iterdir()):
            raise SluicegateError(
                Reason.ALREADY_EXISTS, f"{home.root} is not empty; choose another folder, or move it away"
            )
        home.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        home.root.chmod(0o700)
        # Inside, not beside: a home may be a volume of its own.
        with tempfile.TemporaryDirectory(dir=home.root, prefix=".new-") as scratch:
            yield Path(scratch)
            # `exchange` last: it is what makes a folder a home.
            for part in sorted(Path(scratch).iterdir(), key=lambda part: part.name == "exchange"):
                part.rename(home.root / part.name)
    except OSError as error:
        raise SluicegateError(
            Reason.CONFIG_INVALID, f"cannot make a home in {home.root}: {error.strerror or error}"
        ) from None


def _violations(founders: Sequence[Founder]) -> list[Violation]:
    """What is wrong with the parties that are to be founded."""
    found = []
    for item in founders:
        if not ID.fullmatch(item.party):
            found.append(
                Violation(item.party[:80], "an id is 1 to 63 lower-case letters, digits and hyphens, no hyphen first")
            )
        for subject, roles in item.people.items():
            found += [
                Violation(f"{item.party}.{subject}", wrong.message, wrong.hint)
                for wrong in admission.person_violations(item.kind, subject, roles)
            ]
        if item.gateway is not None and (item.kind is not PartyKind.DEPARTMENT or not ID.fullmatch(item.gateway)):
            found.append(Violation(f"{item.party}.gateway", "only a department has one, with an id like its own"))
    names = Counter(item.party for item in founders) + Counter(
        f"gateway {item.gateway}" for item in founders if item.gateway is not None
    )
    return found + [Violation(name[:80], "founded twice") for name, count in names.items() if count > 1]


@dataclass
class _Party:
    """A party as it is founded: its keys, and the statements that its root key signed."""

    founder: Founder
    root: SigningKey
    issuer: SigningKey
    statements: list[tuple[KeyStatement, Envelope]] = field(default_factory=list)


@dataclass
class _Founding:
    home: Home
    ports: Ports
    now: int
    entropy: Callable[[int], bytes]
    database: str
    profiles: list[str] = field(default_factory=list)

    def found(self, founders: Sequence[Founder]) -> tuple[str, ...]:
        settings = self.exchange()
        parties = [
            _Party(
                item,
                self.key(self.home.party(item.party) / "root.jwk"),
                self.key(self.home.party(item.party) / "issuer.jwk"),
            )
            for item in founders
        ]
        self.trust(parties, settings)
        store = Store(settings.database)
        try:
            store.migrate()
            port = self.ports.gateway
            for party in parties:
                for subject, roles in party.founder.people.items():
                    self.person(party, subject, roles)
                gateway = self.gateway(party, party.founder.gateway, port) if party.founder.gateway else None
                port += gateway is not None
                self.register(store, party, gateway)
        finally:
            store.close()
        return tuple(self.profiles)

    def key(self, path: Path) -> SigningKey:
        key = SigningKey.from_seed(self.entropy(32))
        keyfiles.write_key(path, key)
        return key

    def certificate(self, folder: Path) -> bytes:
        certificate, private = tls.self_signed(now=self.now)
        keyfiles.write_private(folder / "key.pem", private)
        (folder / "cert.pem").write_bytes(certificate)
        return certificate

    def exchange(self) -> ExchangeSettings:
        """The exchange's own folder; its certificate is what clients pin."""
        folder = self.home.exchange.parent
        folder.mkdir(mode=0o700)
        (self.home.root / "ca.pem").write_bytes(self.certificate(folder / "tls"))
        self.key(folder / "keys" / "grant.jwk")
        self.key(folder / "keys" / "checkpoint.jwk")
        # Written out even where they are the defaults: these two are what people look for.
        settings = {"listen": f"127.0.0.1:{self.ports.exchange}", "database": self.database}
        self.home.exchange.write_text(tomli_w.dumps(settings))
        return config.load(self.home.exchange, ExchangeSettings)

    def trust(self, parties: Sequence[_Party], settings: ExchangeSettings) -> None:
        trust = TrustFile(
            parties={
                party.founder.party: TrustedParty(kind=party.founder.kind, root=party.root.public) for party in parties
            },
            checkpoint_key=keyfiles.read_key(settings.checkpoint_key).public,
            grant_key=keyfiles.read_key(settings.grant_key).public,
            standards=(standard.load(settings.standard).digest,),
            policies=(shipped.load().digest,),
        )
        self.home.trust.write_bytes(dump_trust(trust))

    def token(self, party: str, here: Path) -> TokenSettings:
        """How the built-in issuer is named in a file of this home."""
        key = self.home.party(party) / "issuer.jwk"
        return TokenSettings(issuer=_issuer(party), issuer_key=Path(os.path.relpath(key, here.parent)))

    def state(
        self, party: _Party, subject: str, use: Use, key: PublicKey, tls_certificate: bytes | None = None
    ) -> None:
        """Certify a key under its party's root."""
        statement = KeyStatement(
            party=party.founder.party,
            subject=subject,
            use=use,
            key=key,
            not_before=rfc3339(self.now),
            not_after=rfc3339(self.now + KEY_DAYS * 86400),
            tls_certificate=digest_bytes(tls_certificate) if tls_certificate is not None else None,
        )
        party.statements.append((statement, sign(Kind.KEY, statement, party.root)))

    def person(self, party: _Party, subject: str, roles: Sequence[str]) -> None:
        """A profile with the keys that the roles need."""
        name = self.free_name(subject, party.founder.party)
        path = self.home.profile_file(name)
        path.parent.mkdir(exist_ok=True, mode=0o700)
        keys: dict[str, Path] = {}

        def made(kind: str) -> SigningKey:
            keys[kind] = Path("keys") / f"{name}.{kind}.jwk"
            return self.key(path.parent / keys[kind])

        uses = sorted({SIGNS_AS[role] for role in roles if role in SIGNS_AS})
        for number, use in enumerate(uses):
            self.state(party, subject, use, made(use.value if number else "signing").public)
        if Use.REQUESTER in uses:
            made("holder")
        profile = Profile(
            party=party.founder.party,
            subject=subject,
            endpoint=f"localhost:{self.ports.exchange}",
            ca=Path("../ca.pem"),
            trust=Path("../trust.yaml"),
            token=self.token(party.founder.party, path),
            signing_key=keys.get("signing"),
            requester_key=keys.get("requester"),
            holder_key=keys.get("holder"),
            checkpoint=Path(f"keys/{name}.checkpoint.json"),
        )
        path.write_text(config.dump(profile))
        self.profiles.append(name)

    def free_name(self, subject: str, party: str) -> str:
        """What to call a profile: the person's name, with the party's, or with a number."""
        local = subject.split("@")[0]
        names = (local, f"{local}-{party}", *(f"{local}-{party}-{number}" for number in range(2, 1000)))
        return next(name for name in names if name not in self.profiles)

    def gateway(self, party: _Party, gateway: str, port: int) -> records.Gateway:
        """A gateway's folder; its registration."""
        path = self.home.gateway(gateway)
        path.parent.mkdir(parents=True, mode=0o700)
        path.parent.parent.chmod(0o700)
        settings = GatewaySettings(
            gateway=gateway,
            party=party.founder.party,
            subject=gateway,
            listen=f"127.0.0.1:{port}",
            exchange=f"localhost:{self.ports.exchange}",
            exchange_ca=Path("../../ca.pem"),
            token=self.token(party.founder.party, path),
        )
        certificate, private = tls.self_signed(now=self.now)
        signing = gateways.prepare(
            path.parent, settings, certificate=certificate, tls_key=private, entropy=self.entropy
        )
        # The gateway knows its department's people before the first agreement, so that they can stop one.
        for statement, envelope in party.statements:
            (path.parent / "statements" / f"{statement.key.kid}.json").write_bytes(envelope.to_bytes())
        self.state(party, gateway, Use.GATEWAY, signing, certificate)
        return records.Gateway(
            name=f"parties/{party.founder.party}/gateways/{gateway}",
            party=party.founder.party,
            gateway=gateway,
            address=f"grpc+tls://localhost:{port}",
            ca_certificate=certificate.decode(),
            created=self.now,
            updated=self.now,
        )

    def register(self, store: Store, party: _Party, gateway: records.Gateway | None) -> None:
        """The party, its people, keys and gateway, and the ledger's entry that says so, in one transaction."""
        item, now = party.founder, self.now
        name = f"parties/{item.party}"
        people = {**item.people, **({item.gateway: ("gateway",)} if item.gateway else {})}
        with store.transaction() as tx:
            tx.insert(
                records.Party(
                    name=name,
                    party=item.party,
                    kind=item.kind,
                    display_name=item.display_name,
                    root_key=json.dumps({"kty": "OKP", "crv": "Ed25519", "x": party.root.public.x}),
                    issuer=_issuer(item.party),
                    jwks=jwk_set(party.issuer.public),
                    created=now,
                    updated=now,
                )
            )
            for subject, roles in people.items():
                person = f"{name}/principals/{subject}"
                tx.insert(
                    records.Person(
                        name=person, party=item.party, subject=subject, roles=tuple(roles), created=now, updated=now
                    )
                )
            for statement, envelope in party.statements:
                tx.insert(
                    records.Key(
                        name=f"{name}/keys/{statement.key.kid}",
                        party=item.party,
                        kid=statement.key.kid,
                        subject=statement.subject,
                        use=statement.use.value,
                        statement=envelope.to_bytes(),
                        created=now,
                        updated=now,
                    )
                )
            if gateway is not None:
                tx.insert(gateway)
            keys = [statement.key.kid for statement, _ in party.statements]
            ledger.found(tx, entropy=self.entropy, now=self.now, party=item.party, keys=keys)


def _issuer(party: str) -> str:
    return f"https://issuer.{party}.example"


def bind(path: Path, dataset: str, source: DatasetSettings) -> None:
    """Bind a dataset to its source in a `gateway.toml`; the gateway reads it at the next transfer.

    Raises INVALID_ARGUMENT for a name that no dataset can have, CONFIG_INVALID.
    """
    if not ID.fullmatch(dataset):
        raise SluicegateError(
            Reason.INVALID_ARGUMENT, f"no dataset is called {dataset[:80]!r}: lower-case letters, digits, hyphens"
        )

    def edit(value: dict[str, Any]) -> None:
        value.setdefault("datasets", {})[dataset] = config.differing(source)

    config.change(path, GatewaySettings, edit)

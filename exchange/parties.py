"""Parties, and what each registers of itself: its people, its keys, its gateways.

The coordination party admits organisations; from then on each speaks for itself. The exchange only
keeps key statements and revocations that the party's own root key signed: it cannot make one up.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from msgspec.structs import replace

from contracts import trust
from contracts.envelope import Envelope, Kind, verify
from contracts.errors import Reason, SluicegateError
from contracts.instants import SKEW, epoch
from contracts.trust import KeyRevocation, KeyStatement, PartyKind
from exchange import access, admission, ledger, paging, papers
from exchange.hall import Hall
from exchange.identity import Principal
from exchange.paging import Page
from exchange.records import Call, Gateway, Key, Party, Person
from exchange.store import Tx

# --- parties


def create_party(
    hall: Hall,
    principal: Principal,
    call: Call | None,
    *,
    party: str,
    kind: str,
    root_key: str,
    issuer: str,
    jwks: str,
    display_name: str = "",
    admin_subject: str = "",
) -> Party:
    """Admit an organisation, and its first admin where named. Role: admin of the coordination party.

    `root_key` is an Ed25519 public JWK, `issuer` the `iss` of its tokens, `jwks` the issuer's keys:
    a JWK set as JSON, or its https URL. Raises ROLE_MISSING, INVALID_ARGUMENT with every violation,
    ALREADY_EXISTS for an id, an issuer or a root key that another party has.
    """
    access.require(principal, "admin")
    if principal.kind is not PartyKind.COORDINATION:
        raise SluicegateError(Reason.ROLE_MISSING, "only an admin of the coordination party admits organisations")
    admission.refuse(admission.party_violations(party, kind, root_key, issuer, jwks, display_name, admin_subject))
    name, now = f"parties/{party}", hall.clock()
    with hall.store.transaction() as tx:
        if tx.replay(call) is not None:
            return _stored(tx, name)
        record = Party(
            name=name,
            party=party,
            kind=PartyKind(kind),
            display_name=display_name,
            root_key=root_key,
            issuer=issuer,
            jwks=jwks,
            created=now,
            updated=now,
        )
        _fresh_root(tx, record)
        tx.insert(record)
        if admin_subject:
            tx.insert(_person(party, admin_subject, ("admin",), now))
        detail = {"kind": kind, "root": admission.public_key(root_key).kid, "issuer": issuer}
        _note(tx, hall, principal, "party.created", name, party, detail)
        tx.remember(call, name)
        return record


def get(hall: Hall, principal: Principal, name: str) -> Party:
    """One party. A company does not see other companies. Raises NOT_FOUND."""
    with hall.store.read() as tx:
        return _visible(tx, principal, name)


def list_(hall: Hall, principal: Principal, *, page_size: int = 0, page_token: str = "") -> Page[Party]:
    """The parties that the caller may see, newest first."""
    either = None
    if principal.kind is PartyKind.COMPANY:
        others = tuple(str(kind) for kind in PartyKind if kind is not PartyKind.COMPANY)
        either = {"kind": others, "party": principal.party}
    with hall.store.read() as tx:
        return paging.page(
            hall, tx, Party, principal, verb="parties.list", page_size=page_size, page_token=page_token, either=either
        )


def _visible(tx: Tx, principal: Principal, name: str) -> Party:
    party = tx.get(Party, name)
    company = PartyKind.COMPANY
    if party is None or (party.kind == company == principal.kind and party.party != principal.party):
        raise access.missing(name)
    return party


def _stored(tx: Tx, name: str) -> Party:
    party = tx.get(Party, name)
    if party is None:
        raise access.missing(name)
    return party


def _roots(tx: Tx) -> set[str]:
    return {admission.public_key(party.root_key).kid for party in papers.every(tx, Party, {})}


def _fresh_root(tx: Tx, party: Party) -> None:
    """One key under two names would let one party speak for the other."""
    kid = admission.public_key(party.root_key).kid
    if kid in _roots(tx) or tx.count(Key, where={"kid": kid}):
        raise SluicegateError(Reason.ALREADY_EXISTS, "that root key is in use already: make a fresh one for this party")


# --- people


def register_principal(
    hall: Hall, principal: Principal, call: Call | None, *, parent: str, subject: str, roles: Sequence[str]
) -> Person:
    """Give a person or service of the caller's own party its roles, in place of earlier ones; an empty
    list takes all away. Role: admin. `subject` is the token's.

    Raises ROLE_MISSING, INVALID_ARGUMENT, STATE_WRONG when the party would be left without an admin.
    """
    party = _own(principal, parent, "register its people")
    wanted = tuple(sorted(set(roles)))
    admission.refuse(admission.person_violations(principal.kind, subject, wanted))
    now = hall.clock()
    person = _person(party, subject, wanted, now)
    with hall.store.transaction() as tx:
        known = tx.get(Person, person.name)
        if tx.replay(call) is not None and known is not None:
            return known
        if known is None:
            person = tx.insert(person)
        else:
            _keep_an_admin(tx, party, subject, wanted)
            person = tx.replace(replace(known, roles=wanted, updated=now), expected_version=known.version)
        _note(tx, hall, principal, "principal.registered", person.name, party, {"roles": list(wanted)})
        tx.remember(call, person.name)
        return person


def list_principals(
    hall: Hall, principal: Principal, *, parent: str, page_size: int = 0, page_token: str = ""
) -> Page[Person]:
    """The people of the caller's own party, newest first. Raises NOT_FOUND for any other."""
    if parent != f"parties/{principal.party}":
        raise access.missing(parent)
    with hall.store.read() as tx:
        return paging.page(
            hall,
            tx,
            Person,
            principal,
            verb="parties.list_principals",
            page_size=page_size,
            page_token=page_token,
            where={"party": principal.party},
        )


def _person(party: str, subject: str, roles: tuple[str, ...], now: int) -> Person:
    name = f"parties/{party}/principals/{subject}"
    return Person(name=name, party=party, subject=subject, roles=roles, created=now, updated=now)


def _keep_an_admin(tx: Tx, party: str, subject: str, roles: Collection[str]) -> None:
    others = papers.every(tx, Person, {"party": party})
    if "admin" not in roles and not any("admin" in other.roles for other in others if other.subject != subject):
        raise SluicegateError(
            Reason.STATE_WRONG, f"{party} would be left without an admin: make somebody else one first"
        )


# --- keys


def register_key(hall: Hall, principal: Principal, call: Call | None, *, parent: str, statement: Envelope) -> Key:
    """Keep a key statement, or the revocation of a key, that the party's root key signed. Role: admin.

    A key is stated once, for one use; a revocation may only ever be moved to an earlier time, and never
    into the past: what was signed before, and relied on, cannot be taken back. Raises
    ROLE_MISSING, SIGNATURE_INVALID, KEY_UNTRUSTED (another root), INVALID_ARGUMENT (another party's, or
    no time), ALREADY_EXISTS, NOT_FOUND (revoking an unknown key), STATE_WRONG (revoked before).
    """
    party = _own(principal, parent, "register its keys")
    with hall.store.transaction() as tx:
        known = tx.replay(call)
        if known is not None:
            return _known_key(tx, known)
        root = admission.public_key(_stored(tx, parent).root_key)
        if "kid" in statement.payload:
            verify(Kind.REVOCATION, statement, [root])
            key = _revoke(tx, hall, party, statement)
        else:
            verify(Kind.KEY, statement, [root])
            key = _certify(tx, hall, party, statement)
        event = "key.registered" if key.revocation is None else "key.revoked"
        _note(tx, hall, principal, event, key.name, party, {"use": key.use, "statement": statement.digest})
        tx.remember(call, key.name)
        return key


def list_keys(hall: Hall, principal: Principal, *, parent: str, page_size: int = 0, page_token: str = "") -> Page[Key]:
    """Key statements and revocations of a party that the caller may see, newest first."""
    with hall.store.read() as tx:
        party = _visible(tx, principal, parent)
        return paging.page(
            hall,
            tx,
            Key,
            principal,
            verb="parties.list_keys",
            arguments={"parent": parent},
            page_size=page_size,
            page_token=page_token,
            where={"party": party.party},
        )


def _certify(tx: Tx, hall: Hall, party: str, statement: Envelope) -> Key:
    stated = trust.read(KeyStatement, statement, Reason.INVALID_ARGUMENT)
    _about(stated.party, party)
    if epoch(stated.not_before) >= epoch(stated.not_after):
        raise SluicegateError(Reason.INVALID_ARGUMENT, "the key's validity ends before it begins")
    kid, now = stated.key.kid, hall.clock()
    roots = _roots(tx)
    if tx.count(Key, where={"kid": kid}) or kid in {*roots, hall.grant_key.kid, hall.checkpoint_key.kid}:
        raise SluicegateError(
            Reason.ALREADY_EXISTS, "that key is in use already: make a fresh key for every person and use"
        )
    return tx.insert(
        Key(
            name=f"parties/{stated.party}/keys/{kid}",
            party=stated.party,
            kid=kid,
            subject=stated.subject,
            use=stated.use.value,
            statement=statement.to_bytes(),
            created=now,
            updated=now,
        )
    )


def _revoke(tx: Tx, hall: Hall, party: str, revocation: Envelope) -> Key:
    stated = trust.read(KeyRevocation, revocation, Reason.INVALID_ARGUMENT)
    _about(stated.party, party)
    at = epoch(stated.at)
    if at < hall.clock() - SKEW:
        raise SluicegateError(
            Reason.INVALID_ARGUMENT,
            f"a key is revoked from now on, not as of {stated.at}: what it signed before and the ledger proves stays",
        )
    key = _known_key(tx, f"parties/{stated.party}/keys/{stated.kid}")
    if key.revocation is not None:
        before = trust.read(KeyRevocation, Envelope.from_bytes(key.revocation))
        if epoch(before.at) <= at:
            raise SluicegateError(Reason.STATE_WRONG, f"the key was revoked before, as of {before.at}")
    changed = replace(key, revocation=revocation.to_bytes(), updated=hall.clock())
    return tx.replace(changed, expected_version=key.version)


def _about(named: str, party: str) -> None:
    if named != party:
        raise SluicegateError(
            Reason.INVALID_ARGUMENT, f"the statement is about a key of another party; this is {party}"
        )


def _known_key(tx: Tx, name: str) -> Key:
    key = tx.get(Key, name)
    if key is None:
        raise access.missing(name)
    return key


# --- gateways


def register_gateway(
    hall: Hall,
    principal: Principal,
    call: Call | None,
    *,
    parent: str,
    gateway: str,
    address: str,
    ca_certificate: str,
) -> Gateway:
    """Say where a gateway of the caller's own department can be reached, in place of what was said
    before. Role: admin.

    `address` is `grpc+tls://host:port`, `ca_certificate` the PEM of the authority behind its TLS
    certificate. On loopback alone, `grpc+tcp://` without a certificate is accepted. Raises
    ROLE_MISSING, INVALID_ARGUMENT with every violation.
    """
    party = _own(principal, parent, "register its gateways")
    if principal.kind is not PartyKind.DEPARTMENT:
        raise SluicegateError(Reason.ROLE_MISSING, "only a department has gateways")
    admission.refuse(admission.gateway_violations(gateway, address, ca_certificate))
    name, now = f"{parent}/gateways/{gateway}", hall.clock()
    with hall.store.transaction() as tx:
        known = tx.get(Gateway, name)
        if tx.replay(call) is not None and known is not None:
            return known
        record = Gateway(
            name=name,
            party=party,
            gateway=gateway,
            address=address,
            ca_certificate=ca_certificate,
            created=now if known is None else known.created,
            updated=now,
        )
        record = tx.insert(record) if known is None else tx.replace(record, expected_version=known.version)
        _note(tx, hall, principal, "gateway.registered", name, party, {"address": address})
        tx.remember(call, name)
        return record


def list_gateways(
    hall: Hall, principal: Principal, *, parent: str, page_size: int = 0, page_token: str = ""
) -> Page[Gateway]:
    """The gateways of a party that the caller may see, newest first."""
    with hall.store.read() as tx:
        party = _visible(tx, principal, parent)
        return paging.page(
            hall,
            tx,
            Gateway,
            principal,
            verb="parties.list_gateways",
            arguments={"parent": parent},
            page_size=page_size,
            page_token=page_token,
            where={"party": party.party},
        )


# --- common


def _own(principal: Principal, parent: str, what: str) -> str:
    """The caller's party, if it is the one named and the caller its admin. Raises ROLE_MISSING."""
    access.require(principal, "admin")
    if parent != f"parties/{principal.party}":
        raise SluicegateError(
            Reason.ROLE_MISSING, f"only an admin of that party may {what}; you act for {principal.party}"
        )
    return principal.party


def _note(
    tx: Tx, hall: Hall, principal: Principal, event: str, name: str, party: str, detail: Mapping[str, object]
) -> None:
    ledger.append(
        tx, hall, event=event, resource=name, actor=principal.name, parties=(principal.party, party), detail=detail
    )

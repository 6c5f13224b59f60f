"""The catalogue: departments publish contracts, others find the datasets behind them.

A published version never changes. A new one replaces it for whoever asks from then on; agreements made
under an earlier one stay with that. Who may read a version is said in the version itself: the
consumers of its purposes, the department, coordination and supervision. For anybody else neither it nor
its dataset is there, in listings, counts, searches and errors alike. A version is one signed document: who
may read it reads all its purposes, and finds it by them; those that are for others are only not offered.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from contracts import lint, model, odcs, trust, vocabulary
from contracts.envelope import Envelope, Kind
from contracts.errors import Reason, SluicegateError, Violation
from contracts.papers import ContractStatement
from contracts.policy import inputs
from contracts.policy.engine import Action, Decision
from contracts.trust import PartyKind, Use
from exchange import access, decisions, ledger, paging, papers
from exchange import search as words
from exchange.hall import Hall
from exchange.identity import Principal
from exchange.paging import Page
from exchange.records import Call, Contract, Dataset, Gateway
from exchange.store import Tx, match_etag

ANY_PARTY = "parties/-"
_DATASET = re.compile(r"parties/([a-z0-9][a-z0-9-]{0,62})/datasets/[a-z0-9][a-z0-9-]{0,62}")
_CONTRACT = re.compile(rf"({_DATASET.pattern})/contracts/[0-9]+\.[0-9]+\.[0-9]+")
_OVERSIGHT = frozenset({PartyKind.COORDINATION, PartyKind.SUPERVISION})


@dataclass(frozen=True)
class _Offer:
    """What somebody wants to publish: checked as far as it can be without the store."""

    principal: Principal
    contract: model.Contract
    document: bytes
    statement: Envelope
    gateway: str

    @property
    def dataset(self) -> str:
        return f"parties/{self.contract.provider}/datasets/{self.contract.dataset}"

    @property
    def name(self) -> str:
        return f"{self.dataset}/contracts/{self.contract.version}"


# --- publishing


def publish(
    hall: Hall,
    principal: Principal,
    call: Call | None,
    *,
    parent: str,
    document: bytes,
    statement: Envelope,
    gateway: str,
    etag: str = "",
) -> Dataset:
    """Publish a version of a contract of the caller's department; returns its dataset. Roles: steward, dpo.

    1. The document is a contract, of this department, and passes every rule of the format and the
       standard (TOO_LARGE, CONTRACT_INVALID with all violations and their lines).
    2. The statement is about exactly these bytes and signed by approvers of the department, whose keys
       count now (SIGNATURE_INVALID, KEY_UNTRUSTED).
    3. The gateway is one that the department registered (NOT_FOUND).
    4. The policy allows it, under a standing offer only with as many signers as the highest tier
       demands (POLICY_REFUSED). The refusal is recorded.
    5. The version is new and follows the newest; `etag` is the dataset's, empty for the first version
       (ALREADY_EXISTS, ETAG_MISMATCH, CONTRACT_INVALID).
    """
    access.require(principal, *access.APPROVERS)
    if parent != f"parties/{principal.party}":
        raise SluicegateError(
            Reason.ROLE_MISSING, f"only its own people publish for a party; you act for {principal.party}"
        )
    with hall.store.read() as tx:
        done = tx.replay(call)
        if done is not None:
            return _dataset(tx, done)
    offer = _offer(hall, principal, document, statement, gateway)
    with hall.store.read() as tx:
        signers = _signers(tx, hall, offer)
    # Outside the writing transaction: while policy thinks, others may write.
    question = inputs.publish(
        _subject(principal), offer.contract, signers=signers, standard=hall.standard, now=hall.clock()
    )
    decision = hall.policy.decide(Action.PUBLISH, question)
    if not decision.allow:
        ledger.refused(hall, principal, "contract.publish", offer.name, decisions.entry(decision))
        raise decision.refusal()
    with hall.store.transaction() as tx:
        done = tx.replay(call)
        if done is not None:
            return _dataset(tx, done)
        _signers(tx, hall, offer)  # again: a key may have been revoked meanwhile
        return _publish(tx, hall, offer, decision, call, etag)


def _subject(principal: Principal) -> inputs.Subject:
    return inputs.Subject(principal.party, principal.kind, principal.subject, principal.roles)


def _offer(hall: Hall, principal: Principal, document: bytes, statement: Envelope, gateway: str) -> _Offer:
    loaded = odcs.load(document)
    contract = loaded.contract
    found = list(loaded.located(lint.lint(contract, hall.standard)))
    if contract.provider != principal.party:
        found += loaded.located(
            [Violation("team.name", f"found {contract.provider!r}; you publish for {principal.party!r}")]
        )
    if found:
        raise SluicegateError(Reason.CONTRACT_INVALID, f"the contract breaks {len(found)} rules", tuple(found))
    stated = papers.read(ContractStatement, statement)
    if stated != ContractStatement.of(contract, provider=contract.provider, published=stated.published):
        raise SluicegateError(
            Reason.SIGNATURE_INVALID,
            "the signed statement is about another contract: digest, provider, dataset or version differs",
        )
    papers.fresh(stated.published, hall.clock(), "contract's statement")
    return _Offer(principal, contract, document, statement, gateway)


def _signers(tx: Tx, hall: Hall, offer: _Offer) -> tuple[str, ...]:
    """Who signed: distinct people, each by a key that the department certified and that counts now."""
    party = offer.principal.party
    gateway = tx.get(Gateway, offer.gateway)
    if gateway is None or gateway.party != party:
        raise access.missing(offer.gateway)
    statements, revocations = papers.key_papers(tx, party)
    keys = trust.Keys(hall.trust(), statements, revocations)
    signed = keys.signers(Kind.CONTRACT, offer.statement, [(party, Use.APPROVER)], hall.clock())
    return tuple(sorted({key.subject for key in signed}))


def _publish(tx: Tx, hall: Hall, offer: _Offer, decision: Decision, call: Call | None, etag: str) -> Dataset:
    before = tx.get(Dataset, offer.dataset)
    newest = None if before is None else tx.get(Contract, before.contract)
    _check_new(tx, offer, newest)
    if before is None and etag:
        raise SluicegateError(Reason.ETAG_MISMATCH, f"{offer.dataset} is not published yet: repeat without an etag")
    expected = 0 if before is None else match_etag(before, etag)
    now = hall.clock()
    tx.insert(_contract_record(offer, now))
    dataset = _dataset_record(offer, now if before is None else before.created, now)
    dataset = tx.insert(dataset) if before is None else tx.replace(dataset, expected_version=expected)
    words.index(tx, dataset.name, **_texts(offer.contract))
    detail = {
        "document": offer.contract.document_digest,
        "terms": offer.contract.terms_digest,
        "termsChanged": newest is None or newest.terms_digest != offer.contract.terms_digest,
        "signers": len(offer.statement.signatures),
        "gateway": offer.gateway,
        **decisions.entry(decision),
    }
    party = offer.principal.party
    ledger.append(
        tx,
        hall,
        event="contract.published",
        resource=offer.name,
        actor=offer.principal.name,
        parties=[party],
        detail=detail,
    )
    tx.remember(call, dataset.name)
    return dataset


def _check_new(tx: Tx, offer: _Offer, newest: Contract | None) -> None:
    """A version is published once, and versions only move forward."""
    version = offer.contract.version
    same = tx.get(Contract, offer.name)
    if same is not None:
        equal = same.document_digest == offer.contract.document_digest
        what = "is published already" if equal else "was published with other content, and a version never changes"
        raise SluicegateError(Reason.ALREADY_EXISTS, f"version {version} of {offer.dataset} {what}: raise the version")
    if newest is not None and _number(newest.name.rsplit("/", 1)[-1]) > _number(version):
        last = newest.name.rsplit("/", 1)[-1]
        violation = Violation("version", f"found {version}; the newest is {last}", "raise the version")
        raise SluicegateError(Reason.CONTRACT_INVALID, "the version goes back", (violation,))


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _consumers(contract: model.Contract) -> tuple[str, ...]:
    return tuple(sorted({consumer for purpose in contract.purposes.values() for consumer in purpose.consumers}))


def _contract_record(offer: _Offer, now: int) -> Contract:
    return Contract(
        name=offer.name,
        party=offer.contract.provider,
        dataset=offer.contract.dataset,
        document=offer.document,
        statement=offer.statement.to_bytes(),
        document_digest=offer.contract.document_digest,
        terms_digest=offer.contract.terms_digest,
        gateway=offer.gateway,
        consumers=_consumers(offer.contract),
        created=now,
        updated=now,
    )


def _dataset_record(offer: _Offer, created: int, now: int) -> Dataset:
    contract = offer.contract
    return Dataset(
        name=offer.dataset,
        party=contract.provider,
        dataset=contract.dataset,
        contract=offer.name,
        description=contract.description,
        sharing_class=contract.sharing.class_.value,
        purposes=tuple(contract.purposes),
        columns=tuple(field.name for field in contract.fields),
        consumers=_consumers(contract),
        offers={name: purpose.consumers for name, purpose in contract.purposes.items()},
        created=created,
        updated=now,
    )


def _texts(contract: model.Contract) -> dict[str, str]:
    """What a search looks through."""
    purposes = [contract.sharing.class_.value]
    for name, purpose in contract.purposes.items():
        term = vocabulary.purpose(purpose.term)
        purposes += [name, purpose.term, term.label if term else ""]
    fields = [word for field in contract.fields for word in (field.name, field.category or "", field.description)]
    return {
        "title": f"{contract.dataset} {contract.provider} {contract.table}",
        "purposes": " ".join(purposes),
        "fields": " ".join(fields),
        "description": " ".join((contract.description, contract.domain, *contract.tags)),
    }


# --- reading


def get(hall: Hall, principal: Principal, name: str) -> Dataset:
    """One dataset, with the purposes that the caller's party may ask for. Raises NOT_FOUND."""
    with hall.store.read() as tx:
        dataset = tx.get(Dataset, name) if _DATASET.fullmatch(name) else None
        if dataset is None or not _may_read(principal, dataset.party, dataset.consumers):
            raise access.missing(name)
        return _as_seen(principal, dataset)


def list_(hall: Hall, principal: Principal, *, parent: str, page_size: int = 0, page_token: str = "") -> Page[Dataset]:
    """The datasets of one party, or of all (`parties/-`), that the caller may see, newest first."""
    where = {} if parent == ANY_PARTY else {"party": parent.removeprefix("parties/")}
    if not parent.startswith("parties/"):
        message = "the parent must be parties/{party}, or parties/- for all"
        raise SluicegateError(Reason.INVALID_ARGUMENT, message, (Violation("parent", message),))
    with hall.store.read() as tx:
        page = paging.page(
            hall,
            tx,
            Dataset,
            principal,
            verb="catalog.list",
            arguments={"parent": parent},
            page_size=page_size,
            page_token=page_token,
            where=where,
            either=_visible(principal),
        )
    return _page_as_seen(principal, page)


def search(hall: Hall, principal: Principal, *, query: str, page_size: int = 0, page_token: str = "") -> Page[Dataset]:
    """The datasets in which all words of the query are found, best first; see `exchange.search`."""
    wanted = words.words(query)

    def fetch(after: str | None, limit: int) -> Sequence[Dataset]:
        return words.search(tx, wanted, visible=_visible(principal), after=after, limit=limit)

    with hall.store.read() as tx:
        page = paging.paged(
            hall,
            tx,
            principal,
            fetch,
            lambda dataset: dataset.name,
            verb="catalog.search",
            arguments={"query": " ".join(wanted)},
            page_size=page_size,
            page_token=page_token,
        )
    return _page_as_seen(principal, page)


def get_contract(hall: Hall, principal: Principal, name: str) -> Contract:
    """One published version, the exact bytes. Raises NOT_FOUND."""
    with hall.store.read() as tx:
        contract = tx.get(Contract, name) if _CONTRACT.fullmatch(name) else None
        if contract is None or not _may_read(principal, contract.party, contract.consumers):
            raise access.missing(name)
        return contract


def list_contracts(
    hall: Hall, principal: Principal, *, parent: str, page_size: int = 0, page_token: str = ""
) -> Page[Contract]:
    """The versions of a dataset's contract that the caller may read, newest first. Raises NOT_FOUND
    when there are none."""
    named = _DATASET.fullmatch(parent)
    with hall.store.read() as tx:
        where = {"party": named[1], "dataset": parent.rsplit("/", 1)[-1]} if named else {"party": ()}
        either = _visible(principal)
        page = paging.page(
            hall,
            tx,
            Contract,
            principal,
            verb="catalog.list_contracts",
            arguments={"parent": parent},
            page_size=page_size,
            page_token=page_token,
            where=where,
            either=either,
        )
        if not page.items and not tx.count(Contract, where=where, either=either):
            raise access.missing(parent)
        return page


# --- who sees what


def _sees_all(principal: Principal) -> bool:
    return principal.kind in _OVERSIGHT


def _may_read(principal: Principal, party: str, consumers: Collection[str]) -> bool:
    return _sees_all(principal) or principal.party == party or bool({"*", principal.party} & set(consumers))


def _visible(principal: Principal) -> Mapping[str, object] | None:
    """`_may_read` as a condition of the store."""
    if _sees_all(principal):
        return None
    return {"party": principal.party, "consumers": ("*", principal.party)}


def _as_seen(principal: Principal, dataset: Dataset) -> Dataset:
    """The dataset with no more purposes and consumers than are for the caller."""
    if _sees_all(principal) or principal.party == dataset.party:
        return dataset
    mine = {"*", principal.party}
    offers = {name: tuple(sorted(mine & set(who))) for name, who in dataset.offers.items() if mine & set(who)}
    consumers = tuple(sorted(mine & set(dataset.consumers)))
    return replace(dataset, purposes=tuple(offers), offers=offers, consumers=consumers)


def _page_as_seen(principal: Principal, page: Page[Dataset]) -> Page[Dataset]:
    return Page(tuple(_as_seen(principal, dataset) for dataset in page.items), page.next_token)


def _dataset(tx: Tx, name: str) -> Dataset:
    dataset = tx.get(Dataset, name)
    if dataset is None:
        raise access.missing(name)
    return dataset
